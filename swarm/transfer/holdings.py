"""Tells observers how much each connected peer has, without an event for every announcement.

The one writer of that: whoever counts `PeerHas` and whoever waits for `PeerComplete` see the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from swarm.events import PeerComplete, PeerHas
from swarm.ids import PeerId
from swarm.strategy.peer_book import MAX_STRANGERS
from swarm.transfer.performer import Alarm
from swarm.transfer.progress import TransferRecord

HOLDINGS_SECONDS = 1.0
"""Between two events about the same peer."""


class Holdings:
    """Knows whose pieces have changed since observers were last told, and who has all of them.

    ``held`` counts the pieces of a peer, of which there are ``pieces``.
    """

    def __init__(
        self,
        record: TransferRecord,
        held: Callable[[PeerId], int],
        pieces: int,
        now: Callable[[], float],
    ) -> None:
        self._record = record
        self._held = held
        self._pieces = pieces
        self._now = now
        # Whether each peer lacked pieces, and who was told to be complete: once, however often it comes back.
        self._lacking: dict[PeerId, None] = {}
        self._complete: dict[PeerId, None] = {}
        self._changed: dict[PeerId, None] = {}
        self._told: dict[PeerId, int] = {}
        self._next = -math.inf
        self._alarm = Alarm(now)

    def changed(self, peer: PeerId) -> None:
        """The connected peer has said something about its pieces."""
        if self._held(peer) < self._pieces:
            _note(self._lacking, peer)
        elif peer not in self._complete:
            _note(self._complete, peer)
            self._changed.pop(peer, None)
            self._tell(peer)
            self._record.publish(PeerComplete(self._record.transfer, peer, peer in self._lacking))
            return
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


def _note(peers: dict[PeerId, None], peer: PeerId) -> None:
    peers[peer] = None
    # A new peer id costs its owner nothing.
    if len(peers) > MAX_STRANGERS:
        del peers[next(iter(peers))]
