"""How the sources of peers are used: what one of them does wrong costs nothing but its own peers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable

from swarm.ids import ManifestId
from swarm.ports import FoundPeer, PeerSource

logger = logging.getLogger(__name__)


async def peers_of(source: PeerSource, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
    """The peers that the source finds; ends early if it raises."""
    try:
        async for found in source.peers(manifest):
            yield found
    except Exception:
        logger.exception("the source of peers %r failed", source.provenance)


def tell(source: PeerSource, about: Callable[[PeerSource], None]) -> None:
    """Call one of the source's methods; what it raises is logged."""
    try:
        about(source)
    except Exception:
        logger.exception("the source of peers %r failed", source.provenance)
