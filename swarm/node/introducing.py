"""Coordination of punches between two peers that this node has sessions with, for the same manifest.

It is what a meeting point's relay does, without places, names or pieces: circuits that end after 16 KiB or
20 s, and that nobody but two members of one swarm gets (docs/reach.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from swarm.ids import PeerId
from swarm.net.host import Host
from swarm.net.streams import NegotiatedStream
from swarm.reach import reach_limits as limits
from swarm.reach.relay_protocols import HOP_PROTOCOL

if TYPE_CHECKING:
    from swarm.net.relay_service import RelayService


class PunchIntroductions:
    """Answers the hop protocol on ``host``; ``together`` says whether two peers may meet here."""

    def __init__(self, host: Host, together: Callable[[PeerId, PeerId], bool]) -> None:
        self._host = host
        self._together = together
        self._service: RelayService | None = None
        host.serve(HOP_PROTOCOL, self._first, most=limits.MAX_CIRCUITS_PER_PEER)

    async def _first(self, stream: NegotiatedStream) -> None:
        """The first question: the relay is loaded now, and answers those that follow itself."""
        if self._service is None:
            from swarm.net.relay_service import RelayService
            from swarm.reach.relay_messages import CircuitLimit
            from swarm.reach.reservations import SessionPlaces

            limit = CircuitLimit(limits.COORDINATED_SECONDS, limits.COORDINATED_BYTES)
            self._service = RelayService(self._host, limit, SessionPlaces(self._together))
        await self._service.answer(stream)
