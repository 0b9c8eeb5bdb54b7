"""The peers that the user named, on the command line or in a link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from swarm.endpoint import PeerAddress, by_peer
from swarm.ids import ManifestId
from swarm.ports import Announcement, FoundPeer
from swarm.strategy.peer_book import NAMED


class NamedPeers:
    """A `PeerSource` that knows all its peers from the start."""

    provenance = NAMED

    def __init__(self, addresses: Iterable[PeerAddress]) -> None:
        self._found = by_peer(addresses)

    def __len__(self) -> int:
        return len(self._found)

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:  # noqa: ARG002 - see the port
        """All of them, and then no more."""
        for peer, endpoints in self._found.items():
            yield FoundPeer(peer, tuple(map(str, endpoints)))

    def announce(self, announcement: Announcement) -> None:
        """Nothing to do: they are told by being dialled."""

    def withdraw(self, manifest: ManifestId) -> None:
        """Nothing to do: they see their sessions end."""
