"""How the sources of peers are used: what one of them does wrong costs nothing but its own peers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from swarm.endpoint import public_only
from swarm.ids import ManifestId
from swarm.ports import Announcement, FoundPeer, PeerSource
from swarm.strategy.peer_book import PUBLIC

logger = logging.getLogger(__name__)


async def peers_of(source: PeerSource, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
    """The peers that the source finds; ends early if it raises.

    A public source can name public addresses only: what a stranger publishes must not send this node to
    machines of a private network.
    """
    try:
        async for found in source.peers(manifest):
            if source.provenance in PUBLIC:
                yield replace(found, addresses=public_only(found.addresses))
            else:
                yield found
    except Exception:
        logger.exception("the source of peers %r failed", source.provenance)


def announce_to(source: PeerSource, announcement: Announcement) -> None:
    """Announce a transfer to the source; a public one is told public addresses only."""
    if source.provenance in PUBLIC:
        announcement = replace(announcement, addresses=public_only(announcement.addresses))
    tell(source, lambda source: source.announce(announcement))


def tell(source: PeerSource, about: Callable[[PeerSource], None]) -> None:
    """Call one of the source's methods; what it raises is logged."""
    try:
        about(source)
    except Exception:
        logger.exception("the source of peers %r failed", source.provenance)
