"""Tells every peer which pieces are stored: at once when they come slowly, in batches when they rush.

The first HAVE goes at once, the next at the earliest `BATCH_SECONDS` later with all that came meanwhile
(as Nagle's algorithm does for bytes). So 10,000 small pieces cost each peer 50 messages a second and not
thousands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from swarm.bits import PieceSet
from swarm.ids import PeerId
from swarm.limits import TokenBucket
from swarm.protocol.messages import Have, HaveAll, HaveBitfield, HaveNone, Message, Restate, Withdraw
from swarm.protocol.protocol_limits import (
    MAX_HAVE_BATCH,
    MAX_WITHDRAWN_SINGLY,
    RESTATE_BURST,
    RESTATE_INTERVAL,
)
from swarm.strategy.commands import Command, Disconnect, Send
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup

BATCH_SECONDS = 0.02
"""Between two HAVEs to a peer: at most 50 messages a second, and far less than a piece takes."""


class Announcer:
    """What each peer was told that this side has; every peer was told the same."""

    def __init__(self, pieces: Pieces, timers: Timers, now: float = 0.0) -> None:
        self._pieces = pieces
        self._timers = timers
        self._pending: dict[int, None] = {}
        self._sent_at = -math.inf
        self._peers: dict[PeerId, bool] = {}
        # Half of what a peer allows.
        self._restatements = TokenBucket(0.5 / RESTATE_INTERVAL, RESTATE_BURST / 2, now)

    def peer_joined(self, peer: PeerId, *, restates: bool = False) -> list[Command]:
        """The first message of a session: everything that is stored and announced.

        ``restates``: the peer understands `Restate`.
        """
        commands = self.flush(self._sent_at)
        self._peers[peer] = restates
        return [*commands, Send(peer, self._everything())]

    def peer_left(self, peer: PeerId) -> None:
        """A session ended."""
        del self._peers[peer]

    def stored(self, pieces: Iterable[int], now: float) -> list[Command]:
        """Pieces are stored."""
        self._pending.update(dict.fromkeys(pieces))
        at = self._sent_at + BATCH_SECONDS
        if now >= at or self._pieces.complete:
            return self.flush(now)
        self._timers.set(Wakeup.HAVES, at)
        return []

    def lost(self, pieces: PieceSet, now: float) -> list[Command]:
        """Stored pieces are no longer served."""
        heard = pieces.copy()
        for piece in [piece for piece in self._pending if piece in pieces]:
            del self._pending[piece]
            heard.discard(piece)
        if heard.count > MAX_WITHDRAWN_SINGLY:
            return self._restate(now)
        return [command for piece in heard for command in self._to_all(Withdraw(piece))]

    def found(self, pieces: PieceSet, now: float) -> list[Command]:
        """Pieces that were lost are served again."""
        if pieces.count > MAX_WITHDRAWN_SINGLY:
            return self._restate(now)
        self._pending.update(dict.fromkeys(pieces))
        return self.flush(now)

    def _restate(self, now: float) -> list[Command]:
        """Tell every peer in one message what is here, or let it hear that in a new session."""
        self._pending.clear()
        self._timers.clear(Wakeup.HAVES)
        affordable = self._restatements.spend(now)
        message = Restate(self._pieces.stored.to_bytes())
        return [
            Send(peer, message) if restates and affordable else Disconnect(peer, "what is served has changed")
            for peer, restates in self._peers.items()
        ]

    def flush(self, now: float) -> list[Command]:
        """Announce what is stored and not announced yet."""
        commands: list[Command] = []
        news = tuple(self._pending)
        self._pending.clear()
        self._timers.clear(Wakeup.HAVES)
        if news:
            self._sent_at = now
        for start in range(0, len(news), MAX_HAVE_BATCH):
            commands += self._to_all(Have(news[start : start + MAX_HAVE_BATCH]))
        return commands

    def _everything(self) -> Message:
        count = self._pieces.stored_count
        if count == self._pieces.size:
            return HaveAll()
        return HaveBitfield(self._pieces.stored.to_bytes()) if count else HaveNone()

    def _to_all(self, message: Message) -> list[Command]:
        return [Send(peer, message) for peer in self._peers]
