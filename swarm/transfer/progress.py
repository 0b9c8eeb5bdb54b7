"""How far one transfer is: exact counts, and rates measured over the last seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    PieceLost,
    PieceRefused,
    PieceStored,
    PieceWasted,
)
from swarm.ids import TransferId
from swarm.strategy.rates import Meter

RATE_SECONDS = 5.0
"""Time constant of the rates that are reported: steady enough to read, yet recent."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One transfer at one moment: sizes in bytes, rates in bytes per second.

    ``done`` of ``total`` bytes that are wanted are verified and stored. ``received``, ``sent`` and ``wasted``
    are payload bytes since the transfer began. ``peers`` is the number of open sessions.
    """

    done: int
    total: int
    pieces_done: int
    pieces: int
    rate: float
    upload_rate: float
    received: int
    sent: int
    wasted: int
    peers: int
    complete: bool
    paused: bool

    @property
    def seconds_left(self) -> float | None:
        """The time that is left at the present rate; None while nothing arrives."""
        return (self.total - self.done) / self.rate if self.rate >= 1 and not self.complete else None


class TransferRecord:
    """What one transfer has done so far. Every event of the transfer passes here on its way to observers."""

    def __init__(
        self, transfer: TransferId, publish: Callable[[Event], None], now: Callable[[], float]
    ) -> None:
        self.transfer = transfer
        self._publish = publish
        self._now = now
        self._wanted: PieceSet | None = None
        self._down, self._up = Meter(RATE_SECONDS, now()), Meter(RATE_SECONDS, now())
        self.done = self.total = self.pieces_done = self.pieces = 0
        self.received = self.sent = self.wasted = 0
        self.next_stored = trio.Event()
        """Set, and replaced by another one, with the next piece that is stored."""

    def begin(self, layout: Layout, stored: PieceSet, wanted: PieceSet) -> None:
        """The wanted pieces and those that are stored are known from now on."""
        self._wanted = wanted
        self.pieces = wanted.count
        self.total = layout.total_length if wanted.full else sum(map(layout.length, wanted))
        have = stored & wanted
        self.pieces_done = have.count
        self.done = self.total if have == wanted else sum(map(layout.length, have))

    def publish(self, event: Event) -> None:
        """Count the event and tell the observers."""
        match event:
            case PieceStored(piece=piece, size=size):
                self._count_piece(piece, size, 1)
                told, self.next_stored = self.next_stored, trio.Event()
                told.set()
            case PieceRefused(size=size) | PieceWasted(size=size):
                self.wasted += size
            case PieceLost(piece=piece, size=size):
                self._count_piece(piece, size, -1)
            case BytesReceived(size=size):
                self.received += size
                self._down.add(size, self._now())
            case BytesSent(size=size):
                self.sent += size
                self._up.add(size, self._now())
        self._publish(event)

    def progress(self, *, peers: int, complete: bool, paused: bool) -> Progress:
        """How things stand now."""
        now = self._now()
        return Progress(
            done=self.done,
            total=self.total,
            pieces_done=self.pieces_done,
            pieces=self.pieces,
            rate=self._down.rate(now),
            upload_rate=self._up.rate(now),
            received=self.received,
            sent=self.sent,
            wasted=self.wasted,
            peers=peers,
            complete=complete,
            paused=paused,
        )

    def _count_piece(self, piece: int, size: int, change: int) -> None:
        if self._wanted is not None and piece in self._wanted:
            self.pieces_done += change
            self.done += change * size
