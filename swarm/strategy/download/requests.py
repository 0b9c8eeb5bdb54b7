"""What is asked of which source and not yet answered: the one owner of that fact, and the only writer.

A request is outstanding from `ask` to `settle` (its one final reply) or to the end of the session. It is
live until it is cancelled; a cancelled one still occupies its place at the source, because the reply, which
may be the whole piece, is still to come.

Invariants:
  - a piece is in ``holders`` exactly when it has a live request, with the sources asked, in that order;
  - ``queue.bytes`` is the length of everything outstanding at that source, ``queue.come`` how much of it has
    come, ``queue.cancelled`` counts the cancelled ones there;
  - ``_doubled`` is the length of the second live requests for a piece;
  - a source has one request for a piece at most, cancelled or not, and no more than the wire's MAX_REQUESTS.

`Claims` counts how often a source failed to deliver what it says it has. Three failures of one piece clear
the claim for a while, so that a source that rejects or stalls cannot hold a piece; it comes back later, so
that one bad minute of the only source ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swarm.bits import PieceSet
from swarm.ids import SourceId
from swarm.lazy_dataclass import dataclass, field
from swarm.protocol.protocol_limits import MAX_REQUESTS
from swarm.strategy.download.pipeline import MOST_BYTES, PipelineWindow

STRIKES = 3
"""Failures of one piece after which the claim to it is cleared: two may be bad luck."""

FIRST_BACKOFF = 0.1
"""Seconds for which a source is left alone after a failure, doubled with each further one in a row."""

MOST_BACKOFF = 30.0
"""The longest back-off, and how long a cleared claim stays cleared."""


@dataclass(slots=True)
class PendingRequest:
    """One outstanding request; ``touched`` is when its last data came, or when it was asked."""

    length: int
    at: float
    touched: float
    received: int = 0
    live: bool = True
    cancelled_at: float = 0.0


@dataclass(slots=True)
class RequestQueue:
    """The requests at one source, in the order in which they were made, and what decides about more.

    ``trusted``: a piece of the source was verified; until then it is asked for one at a time. ``unverified``:
    that one has come. ``snubbed``: it was silent and has not delivered since. ``avoided``: the pieces that it
    refused as busy since it last delivered one. ``local``: it is on this machine. To be read by anyone and
    written by `DownloadRequests`.
    """

    local: bool = False
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

    @property
    def serves(self) -> bool:
        """Whether the source takes requests and answers them."""
        return not (self.choked or self.snubbed)

    def has_room(self, demand: float, now: float) -> bool:
        """Whether the source may be asked for one more piece; ``demand`` bytes keep it busy."""
        if self.choked or now < self.retry_at:
            return False
        if self.local:
            # Enough for it to work in batches.
            return not self.asked or (self.bytes < MOST_BYTES and len(self.asked) < MAX_REQUESTS)
        if self.snubbed or not self.trusted:
            return not self.asked and not self.unverified
        return self.window.fits(self.bytes - self.come, len(self.asked), demand)

    def takes_runs(self, now: float) -> bool:
        """Whether the source may be asked for more than keeps it busy."""
        return self.serves and self.trusted and now >= self.retry_at


class DownloadRequests:
    """The request queues of all connected sources."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.queues: dict[SourceId, RequestQueue] = {}
        self.holders: dict[int, list[SourceId]] = {}
        self._doubled = 0

    # --- Sources ------------------------------------------------------------------------------------

    def source_joined(self, source: SourceId, *, local: bool = False) -> None:
        """The source is connected and chokes us."""
        self.queues[source] = RequestQueue(local=local)

    def source_left(self, source: SourceId) -> list[int]:
        """The source is gone; returns the pieces that nobody is asked for any more."""
        queue = self.queues[source]
        free = [
            piece for piece, asked in queue.asked.items() if asked.live and self._unhold(source, piece, asked)
        ]
        del self.queues[source]
        return free

    def choked(self, source: SourceId, *, yes: bool) -> None:
        """The source takes requests from now on, or no longer does."""
        self.queues[source].choked = yes

    def snub(self, source: SourceId) -> None:
        """The source was silent: it is asked for one piece at a time until it delivers."""
        self.queues[source].snubbed = True

    def back_off(self, source: SourceId, until: float) -> None:
        """The source is asked for nothing before ``until``."""
        self.queues[source].retry_at = until

    def verified(self, source: SourceId) -> bool:
        """A piece of the source was what it should be; says whether it is trusted since."""
        queue = self.queues.get(source)
        if queue is None or queue.trusted:
            return False
        queue.trusted, queue.unverified = True, False
        return True

    def wrong(self, source: SourceId) -> None:
        """A piece of the source was not what it should be, and the source is kept all the same."""
        if source in self.queues:
            self.queues[source].unverified = False

    def avoid(self, source: SourceId, piece: int) -> bool:
        """The source would rather give another piece; says whether it says so of this one for the first time
        since it last delivered."""
        avoided = self.queues[source].avoided
        if piece in avoided:
            return False
        avoided.add(piece)
        return True

    @property
    def anybody_delivers(self) -> bool:
        """Whether a source that has delivered before serves us."""
        return any(queue.trusted and queue.serves and not queue.local for queue in self.queues.values())

    # --- Requests -----------------------------------------------------------------------------------

    def ask(self, source: SourceId, piece: int, length: int, now: float) -> None:
        """The source is asked for a piece that it is not asked for yet."""
        queue = self.queues[source]
        if piece in queue.asked:
            raise ValueError(f"piece {piece} is already asked of {source}")
        queue.asked[piece] = PendingRequest(length, now, now)
        queue.bytes += length
        queue.window.asked(now)
        holders = self.holders.setdefault(piece, [])
        self._doubled += length if holders else 0
        holders.append(source)

    def progress(self, source: SourceId, piece: int, size: int, now: float) -> bool:
        """``size`` bytes of the piece came; says whether it is outstanding."""
        queue = self.queues[source]
        asked = queue.asked.get(piece)
        if asked is None:
            return False
        asked.received += size
        asked.touched = now
        queue.come += size
        return True

    def cancel(self, source: SourceId, piece: int, now: float) -> bool:
        """The piece is no longer wanted from the source; says whether nobody is asked for it any more."""
        queue = self.queues[source]
        asked = queue.asked[piece]
        free = self._unhold(source, piece, asked)
        asked.live, asked.cancelled_at = False, now
        queue.cancelled += 1
        return free

    def settle(self, source: SourceId, piece: int) -> tuple[PendingRequest, bool] | None:
        """The final reply came. Returns the request and whether that left nobody asked for the piece.

        None if nothing was outstanding.
        """
        queue = self.queues[source]
        asked = queue.asked.pop(piece, None)
        if asked is None:
            return None
        queue.bytes -= asked.length
        queue.come -= asked.received
        if not asked.live:
            queue.cancelled -= 1
            return asked, False
        return asked, self._unhold(source, piece, asked)

    def whole(
        self, source: SourceId, arrived: Iterable[tuple[int, int]]
    ) -> tuple[int, list[tuple[int, PendingRequest]]]:
        """Pieces are whole, each with its bytes that `progress` was not told of: their final replies.

        Returns those bytes, and the requests; what was not outstanding is left out.
        """
        queue = self.queues[source]
        come, settled = 0, []
        for piece, size in arrived:
            asked = queue.asked.pop(piece, None)
            if asked is None:
                continue
            come += size
            queue.bytes -= asked.length
            queue.come -= asked.received
            asked.received += size
            if asked.live:
                self._unhold(source, piece, asked)
            else:
                queue.cancelled -= 1
            settled.append((piece, asked))
        return come, settled

    def delivered(self, source: SourceId, length: int, demand: float, now: float) -> None:
        """The final reply was the whole piece; ``demand`` bytes keep the source busy."""
        queue = self.queues[source]
        queue.snubbed = False
        queue.avoided.clear()
        queue.retry_at = now
        queue.window.delivered(length, demand, now)

    def outrun(self, source: SourceId, piece: int, now: float) -> list[SourceId]:
        """The source was the first to deliver the piece, which is now to be verified: cancel it at the
        others, and return those."""
        self.queues[source].unverified = True
        if piece not in self.holders:
            return []
        others = [holder for holder in self.holders[piece] if holder != source]
        for other in others:
            self.cancel(other, piece, now)
        return others

    def begun(self, source: SourceId, piece: int, size: int, now: float) -> list[SourceId]:
        """The last ``size`` bytes of the piece came. If they are its first from a trusted source, cancel it
        where nothing of it has come, and return those sources.

        So a second copy that begins costs no more than what is under way. One byte of a source that has never
        delivered wins nothing: it could be all that will come.
        """
        queue, holders = self.queues[source], self.holders.get(piece, ())
        if len(holders) < 2 or not queue.trusted or source not in holders:
            return []
        if queue.asked[piece].received > size:
            return []
        others = [one for one in holders if one != source and not self.queues[one].asked[piece].received]
        for other in others:
            self.cancel(other, piece, now)
        return others

    # --- What follows from them ---------------------------------------------------------------------

    def in_doubt(self) -> int:
        """Bytes that may still come twice: second copies, and cancelled requests that are not answered."""
        return self._doubled + sum(
            asked.length
            for queue in self.queues.values()
            if queue.cancelled
            for asked in queue.asked.values()
            if not asked.live
        )

    def occupied(self, source: SourceId) -> PieceSet | None:
        """The cancelled pieces whose reply is still to come; None if there is none, as nearly always."""
        queue = self.queues[source]
        if not queue.cancelled:
            return None
        return PieceSet.of(self._size, (piece for piece, asked in queue.asked.items() if not asked.live))

    def unwelcome(self, source: SourceId) -> PieceSet | None:
        """`occupied`, and what the source is busy for; None if there is no such piece."""
        avoided = self.queues[source].avoided
        if not avoided:
            return None
        pieces = PieceSet.of(self._size, avoided)
        if (occupied := self.occupied(source)) is not None:
            pieces |= occupied
        return pieces

    def held_by(self, source: SourceId) -> Iterator[int]:
        """The pieces that are still wanted from the source."""
        return (piece for piece, asked in self.queues[source].asked.items() if asked.live)

    def _unhold(self, source: SourceId, piece: int, asked: PendingRequest) -> bool:
        holders = self.holders[piece]
        holders.remove(source)
        if holders:
            self._doubled -= asked.length
            return False
        del self.holders[piece]
        return True


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
                self._cleared.setdefault(source, {})[piece] = now + MOST_BACKOFF
                cleared.append(piece)
        return cleared

    def delivered(self, source: SourceId, *pieces: int) -> None:
        """The source delivered the pieces."""
        self._row.pop(source, None)
        if strikes := self._strikes.get(source):
            for piece in pieces:
                strikes.pop(piece, None)

    def backoff(self, source: SourceId, first: float = FIRST_BACKOFF) -> float:
        """Seconds to leave the source alone after its last failure; ``first`` after a single one."""
        failures = self._row.get(source, 0)
        return min(first * 2.0 ** min(failures - 1, 10), MOST_BACKOFF) if failures else 0.0

    def restated(self, source: SourceId, *pieces: int) -> None:
        """The source said itself whether it has the pieces: what was held against it is void."""
        for table in (self._cleared.get(source), self._strikes.get(source)):
            if table:
                for piece in pieces:
                    table.pop(piece, None)

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
