"""The peers that the user named, on the command line or in a link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from swarm.endpoint import Circuit, PeerAddress, by_peer
from swarm.ids import ManifestId
from swarm.ports import Announcement, FoundPeer
from swarm.strategy.peer_book import MAX_ADDRESSES, NAMED


class NamedPeers:
    """A `PeerSource` that knows all its peers from the start; each may be met through ``circuits``, too."""

    provenance = NAMED

    def __init__(self, addresses: Iterable[PeerAddress], circuits: Sequence[Circuit] = ()) -> None:
        self._found = by_peer(addresses)
        self._circuits = circuits

    def __len__(self) -> int:
        return len(self._found)

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:  # noqa: ARG002 - see the port
        """All of them, and then no more."""
        for peer, endpoints in self._found.items():
            # Of as many as the book keeps, the ways through meeting points come last.
            direct = endpoints[: MAX_ADDRESSES - len(self._circuits)] if self._circuits else endpoints
            yield FoundPeer(peer, tuple(map(str, (*direct, *self._circuits))))

    def announce(self, announcement: Announcement) -> None:
        """Nothing to do: they are told by being dialled."""

    def withdraw(self, manifest: ManifestId) -> None:
        """Nothing to do: they see their sessions end."""
