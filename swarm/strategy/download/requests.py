"""What is asked of whom and not yet answered: the one owner of that fact.

A request is outstanding from `ask` to `settle` (its one final reply) or to the end of the session. It is
live until it is cancelled; a cancelled one still occupies its place at the source, because the reply, which
may be the whole piece, is still to come.

Invariants:
  - a piece is in ``holders`` exactly when it has a live request, with the sources asked, first first;
  - ``line.bytes`` is the length of everything outstanding at that source, ``line.come`` how much of it has
    come, ``line.cancelled`` counts the cancelled ones there;
  - ``_doubled`` is the length of the second live requests for a piece;
  - a source has one request for a piece at most, cancelled or not;
  - ``line.avoided`` has the pieces that the source refused as busy since it last delivered one;
  - no source has more than the wire's MAX_REQUESTS outstanding, as `PipelineWindow.fits` says.

`Claims`: how often a source failed to deliver what it says it has. Three failures of one piece clear the
claim for a while, so that a source that rejects or stalls cannot hold a piece; it comes back later, so that
one bad minute of the only source ends nothing. After failures in a row the source is left alone for longer
and longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from swarm.bits import PieceSet
from swarm.ids import SourceId
from swarm.strategy.download.pipeline import PipelineWindow


@dataclass(slots=True)
class PendingRequest:
    """One outstanding request; ``touched`` is when its last data came, or when it was asked."""

    length: int
    at: float
    touched: float
    received: int = 0
    cancelled_at: float | None = None

    @property
    def live(self) -> bool:
        """Whether the piece is still wanted from this source."""
        return self.cancelled_at is None


@dataclass(slots=True)
class RequestQueue:
    """The requests at one source, in the order in which they were made, and what decides about more.

    ``trusted``: a piece of the source was verified; until then it is asked for one at a time. ``unverified``:
    that one has come.
    ``progress_bytes`` have come since ``counted_at``.
    """

    choked: bool = True
    snubbed: bool = False
    trusted: bool = False
    unverified: bool = False
    retry_at: float = 0.0
    asked: dict[int, PendingRequest] = field(default_factory=dict)
    bytes: int = 0
    come: int = 0
    cancelled: int = 0
    avoided: set[int] = field(default_factory=set)
    window: PipelineWindow = field(default_factory=PipelineWindow)
    progress_at: float = 0.0
    progress_bytes: int = 0
    counted_at: float = 0.0

    def progressed(self, now: float) -> None:
        """The source does what it is asked; its silence begins anew."""
        self.progress_at = self.counted_at = now
        self.progress_bytes = 0


class DownloadRequests:
    """The lines of all connected sources."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.lines: dict[SourceId, RequestQueue] = {}
        self.holders: dict[int, list[SourceId]] = {}
        self._doubled = 0

    def source_joined(self, source: SourceId) -> None:
        """The source is connected and chokes us."""
        self.lines[source] = RequestQueue()

    def source_left(self, source: SourceId) -> list[int]:
        """The source is gone; returns the pieces that nobody is asked for any more."""
        line = self.lines[source]
        free = [
            piece for piece, asked in line.asked.items() if asked.live and self._unhold(source, piece, asked)
        ]
        del self.lines[source]
        return free

    def ask(self, source: SourceId, piece: int, length: int, now: float) -> None:
        """The source is asked for a piece that it is not asked for yet."""
        line = self.lines[source]
        if piece in line.asked:
            raise ValueError(f"piece {piece} is already asked of {source}")
        if not line.asked:
            line.progressed(now)
        line.asked[piece] = PendingRequest(length, now, now)
        line.bytes += length
        line.window.asked(now)
        holders = self.holders.setdefault(piece, [])
        self._doubled += length if holders else 0
        holders.append(source)

    def progress(self, source: SourceId, piece: int, size: int, now: float) -> PendingRequest | None:
        """``size`` bytes of the piece came; None if it is not outstanding."""
        asked = self.lines[source].asked.get(piece)
        if asked is not None:
            asked.received += size
            self.lines[source].come += size
            asked.touched = now
        return asked

    def cancel(self, source: SourceId, piece: int, now: float) -> bool:
        """The piece is no longer wanted from the source; says whether nobody is asked for it any more."""
        asked = self.lines[source].asked[piece]
        free = self._unhold(source, piece, asked)
        asked.cancelled_at = now
        self.lines[source].cancelled += 1
        return free

    def settle(self, source: SourceId, piece: int) -> tuple[PendingRequest, bool] | None:
        """The final reply came. Returns the request and whether that left nobody asked for the piece.

        None if nothing was outstanding.
        """
        line = self.lines[source]
        asked = line.asked.pop(piece, None)
        if asked is None:
            return None
        line.bytes -= asked.length
        line.come -= asked.received
        if not asked.live:
            line.cancelled -= 1
            return asked, False
        return asked, self._unhold(source, piece, asked)

    @property
    def anybody_delivers(self) -> bool:
        """Whether a source that has delivered before serves us."""
        return any(line.trusted and not (line.choked or line.snubbed) for line in self.lines.values())

    def in_doubt(self) -> int:
        """Bytes that may still come in vain: second copies, and cancelled ones that are not answered."""
        return self._doubled + sum(
            asked.length
            for line in self.lines.values()
            if line.cancelled
            for asked in line.asked.values()
            if not asked.live
        )

    def occupied(self, source: SourceId) -> PieceSet | None:
        """The cancelled pieces whose reply is still to come; None if there is none, as nearly always."""
        line = self.lines[source]
        if not line.cancelled:
            return None
        pieces = PieceSet(self._size)
        for piece, asked in line.asked.items():
            if not asked.live:
                pieces.add(piece)
        return pieces

    def avoid(self, source: SourceId, piece: int) -> bool:
        """The source would rather give another piece; says whether it says so of this one for the first time
        since it last delivered."""
        avoided = self.lines[source].avoided
        if piece in avoided:
            return False
        avoided.add(piece)
        return True

    def unwelcome(self, source: SourceId) -> PieceSet | None:
        """`occupied`, and what is better not asked of the source just now; None if there is no such piece."""
        avoided = self.lines[source].avoided
        if not avoided:
            return None
        pieces = self.occupied(source) or PieceSet(self._size)
        for piece in avoided:
            pieces.add(piece)
        return pieces

    def outrun(self, source: SourceId, piece: int, now: float) -> list[SourceId]:
        """The source was the first to deliver the piece: cancel it at the others, and return those."""
        others = list(self.others(source, piece))
        for other in others:
            self.cancel(other, piece, now)
        return others

    def others(self, source: SourceId, piece: int) -> Iterator[SourceId]:
        """Who else is asked for the piece, as of now."""
        return (holder for holder in tuple(self.holders.get(piece, ())) if holder != source)

    def _unhold(self, source: SourceId, piece: int, asked: PendingRequest) -> bool:
        holders = self.holders[piece]
        holders.remove(source)
        if holders:
            self._doubled -= asked.length
            return False
        del self.holders[piece]
        return True


STRIKES = 3
CLEARED_SECONDS = 30.0
"""How long a cleared claim stays cleared."""

FIRST_BACKOFF, MOST_BACKOFF = 0.1, 8.0
"""Seconds after one failure, doubled with each further one in a row."""

FIRST_SNUB, MOST_SNUB = 5.0, 30.0
"""The same after a silence: it cost as many seconds to notice."""

UNPROVEN_BACKOFF = 60.0
"""… of a source that never delivered anything, where others do."""


class Claims:
    """Failures by source and piece; bounded by the pieces of the manifest for each connected source."""

    def __init__(self) -> None:
        self._strikes: dict[SourceId, dict[int, int]] = {}
        self._cleared: dict[SourceId, dict[int, float]] = {}
        self._row: dict[SourceId, int] = {}

    def failed(
        self, source: SourceId, pieces: Iterable[int], now: float, *, denied: bool = False
    ) -> list[int]:
        """The source rejected the pieces, or let them wait; returns those whose claim is to be cleared.

        ``denied``: it said that it does not have them, which clears the claim at once.
        """
        self._row[source] = self._row.get(source, 0) + 1
        strikes = self._strikes.setdefault(source, {})
        cleared = []
        for piece in pieces:
            strikes[piece] = strikes.get(piece, 0) + 1
            if denied or strikes[piece] >= STRIKES:
                del strikes[piece]
                self._cleared.setdefault(source, {})[piece] = now + CLEARED_SECONDS
                cleared.append(piece)
        return cleared

    def delivered(self, source: SourceId, piece: int) -> None:
        """The source delivered the piece."""
        self._row.pop(source, None)
        if strikes := self._strikes.get(source):
            strikes.pop(piece, None)

    def backoff(self, source: SourceId, *, silent: bool = False, spare: bool = False) -> float:
        """Seconds to leave the source alone after its last failure, which was a silence or not.

        ``spare``: it has not delivered anything yet, and others do.
        """
        failures = self._row.get(source, 0)
        if not failures:
            return 0.0
        if silent and spare:
            return UNPROVEN_BACKOFF
        first, most = (FIRST_SNUB, MOST_SNUB) if silent else (FIRST_BACKOFF, MOST_BACKOFF)
        return min(first * 2.0 ** min(failures - 1, 10), most)

    def restated(self, source: SourceId, piece: int) -> None:
        """The source said itself whether it has the piece: what was held against it is void."""
        if cleared := self._cleared.get(source):
            cleared.pop(piece, None)
        if strikes := self._strikes.get(source):
            strikes.pop(piece, None)

    def source_left(self, source: SourceId) -> None:
        """Forget the source."""
        for table in (self._strikes, self._cleared, self._row):
            table.pop(source, None)

    def due(self, source: SourceId, now: float) -> list[int]:
        """Take the pieces whose claim gets another chance."""
        cleared = self._cleared.get(source, {})
        back = [piece for piece, at in cleared.items() if at <= now]
        for piece in back:
            del cleared[piece]
        return back

    def next_due(self, source: SourceId) -> float | None:
        """When `due` has the next piece of the source; None if it has none to come."""
        return min(self._cleared.get(source, {}).values(), default=None)
