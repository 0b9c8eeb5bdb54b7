"""Tells observers how much each connected peer has, without an event for every announcement."""

from __future__ import annotations

import math
from collections.abc import Callable

from swarm.events import PeerHas
from swarm.ids import PeerId
from swarm.transfer.performer import Alarm
from swarm.transfer.progress import TransferRecord

HOLDINGS_SECONDS = 1.0
"""Between two events about the same peer."""


class Holdings:
    """Knows whose pieces have changed since observers were last told; ``held`` counts those of a peer."""

    def __init__(
        self, record: TransferRecord, held: Callable[[PeerId], int], now: Callable[[], float]
    ) -> None:
        self._record = record
        self._held = held
        self._now = now
        self._changed: dict[PeerId, None] = {}
        self._told: dict[PeerId, int] = {}
        self._next = -math.inf
        self._alarm = Alarm(now)

    def changed(self, peer: PeerId) -> None:
        """The connected peer has said something about its pieces."""
        self._changed[peer] = None
        self._alarm.bring_forward(max(self._next, self._now()))

    def leaves(self, peer: PeerId) -> None:
        """The session with the peer is about to end: tell the last of it."""
        if peer in self._changed:
            del self._changed[peer]
            self._tell(peer)
        self._told.pop(peer, None)

    async def run(self) -> None:
        """Tell observers until cancelled."""
        while True:
            await self._alarm.sleep_until(max(self._next, self._now()) if self._changed else math.inf)
            self._next = self._now() + HOLDINGS_SECONDS
            changed, self._changed = self._changed, {}
            for peer in changed:
                self._tell(peer)

    def _tell(self, peer: PeerId) -> None:
        held = self._held(peer)
        if held != self._told.get(peer):
            self._told[peer] = held
            self._record.publish(PeerHas(self._record.transfer, peer, held))
