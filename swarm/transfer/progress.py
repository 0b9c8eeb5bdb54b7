"""How far one transfer is: exact counts, and rates measured over the last seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import trio

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.events import (
    BytesReceived,
    BytesSent,
    ContentRestored,
    ContentWithdrawn,
    Event,
    PieceLost,
    PieceRefused,
    PieceRequested,
    PiecesReused,
    PieceStored,
    PieceWasted,
    SourceFailed,
)
from swarm.ids import SourceId, TransferId
from swarm.lazy_dataclass import dataclass
from swarm.ports import EventSink
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

    def __init__(self, transfer: TransferId, publish: EventSink, now: Callable[[], float]) -> None:
        self.transfer = transfer
        self._publish = publish
        self._now = now
        self._wanted: PieceSet | None = None
        self._down, self._up = Meter(RATE_SECONDS, now()), Meter(RATE_SECONDS, now())
        self.done = self.total = self.pieces_done = self.pieces = 0
        self.received = self.sent = self.wasted = 0
        self.reused = self.patched = 0
        """Bytes of pieces from files on this machine; of pieces made with patches."""
        self._local: dict[SourceId, bool] = {}
        self._next_stored: trio.Event | None = None
        self.advanced_at: float | None = None
        """When a piece was last verified, or bytes came that may belong to one; None before the first."""
        self._unverified: dict[SourceId, int] = {}
        self._piece_length = 0

    @property
    def next_stored(self) -> trio.Event:
        """Set with the next piece that is stored; made only for who waits, not for every piece."""
        if self._next_stored is None:
            self._next_stored = trio.Event()
        return self._next_stored

    def begin(self, layout: Layout, stored: PieceSet, wanted: PieceSet) -> None:
        """The wanted pieces and those that are stored are known from now on."""
        self._wanted = wanted
        self._piece_length = layout.piece_length
        self.pieces = wanted.count
        self.total = layout.total_length if wanted.full else sum(map(layout.length, wanted))
        have = stored & wanted
        self.pieces_done = have.count
        self.done = self.total if have == wanted else sum(map(layout.length, have))

    def local_joined(self, source: SourceId, *, patched: bool) -> None:
        """What comes from the source is on this machine already; ``patched``: it is made with a patch."""
        self._local[source] = patched

    def received_from(self, source: SourceId, size: int) -> None:
        """Payload of pieces came from a source. What a source on this machine gives was not received."""
        if source not in self._local:
            self.publish(BytesReceived(self.transfer, source, size))

    def publish(self, *events: Event) -> None:
        """Count events of one kind and tell the observers."""
        kind = type(events[0])
        if kind is PieceStored:
            self._count_stored(cast(tuple[PieceStored, ...], events))
        elif kind is not PieceRequested:
            for event in events:
                self._count(event)
        self._publish(*events)

    def _count_stored(self, events: tuple[PieceStored, ...]) -> None:
        for event in events:
            self._count_piece(event.piece, event.size, 1)
            if self._local:
                self._count_local(event.source, event.size)
        self._tell_stored()
        self._unverified.clear()
        self.advanced_at = self._now()

    def _count(self, event: Event) -> None:
        match event:
            case PieceRefused(size=size) | PieceWasted(size=size):
                self.wasted += size
            case SourceFailed(source=source):
                # It could drip for ever.
                self._unverified[source] = self._piece_length
            case PieceLost(piece=piece, size=size):
                self._count_piece(piece, size, -1)
            case ContentWithdrawn(pieces=pieces, size=size):
                self._count_pieces(-pieces, -size)
            case ContentRestored(pieces=pieces, size=size):
                self._count_pieces(pieces, size)
            case PiecesReused(source=source, pieces=pieces, size=size):
                self._count_pieces(pieces, size)
                self._count_local(source, size)
                self._tell_stored()
                self.advanced_at = self._now()
            case BytesReceived(source=source, size=size):
                self.received += size
                self._down.add(size, self._now())
                self._note_unverified(source, size)
            case BytesSent(size=size):
                self.sent += size
                self._up.add(size, self._now())

    def _tell_stored(self) -> None:
        if self._next_stored is not None:
            self._next_stored.set()
            self._next_stored = None

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

    def _note_unverified(self, source: SourceId, size: int) -> None:
        # A source sends one piece at a time. More than one of its pieces without a verified one in between is
        # worth nothing: it never finishes any.
        count = self._unverified.get(source, 0) + size
        self._unverified[source] = count
        if count <= self._piece_length:
            self.advanced_at = self._now()

    def _count_local(self, source: SourceId, size: int) -> None:
        patched = self._local.get(source)
        if patched is not None:
            self.patched += size if patched else 0
            self.reused += 0 if patched else size

    def _count_piece(self, piece: int, size: int, change: int) -> None:
        if self._wanted is not None and piece in self._wanted:
            self._count_pieces(change, change * size)

    def _count_pieces(self, pieces: int, size: int) -> None:
        self.pieces_done += pieces
        self.done += size
