"""When a web server (an origin) is asked beside peers, and for what.

An origin has everything and every member of the swarm may ask it. Alone, it is asked at once, in long runs.
With peers, one copy is enough for all: the content is cut into stretches, and each stretch is the turn of the
member that rendezvous hashing puts first, so that no word about it has to be said. A member takes its own
stretches, gets the rest from peers, and is left out of the reckoning while it brings nothing that nobody else
has: it may have no origin, or be gone. Whoever is done takes over from one that will be long at it, as the
second of its stretches and from their end.

What a peer has comes from peers, unless they are too slow to keep the user waiting: less than ``least_rate``
together, more than ``wait_seconds`` to go, and an origin that is known to be faster, or not known: not
measured for a second yet, or not within ``wait_seconds``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from swarm.bits import CHUNK_PIECES, CHUNK_SHIFT, PieceSet
from swarm.ids import SourceId
from swarm.lazy_dataclass import dataclass
from swarm.strategy.availability import Availability
from swarm.strategy.download.locality import TURN_SECONDS
from swarm.strategy.download.picker import Pick
from swarm.strategy.download.pipeline import MOST_BYTES, SLOW_START_SECONDS
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.rendezvous import draw
from swarm.strategy.download.timeouts import LEAST_RATE, RECHECK_SECONDS, SILENCE_SECONDS
from swarm.strategy.pieces import Pieces
from swarm.strategy.rates import RATE_SECONDS, Meter


@dataclass(slots=True)
class Member:
    """A peer: when it came, when it last brought a piece that nobody else had, and how many it brought."""

    since: float
    brought_at: float
    brought: int = 0
    spoken: bool = False
    """Whether it has said what it has."""


@dataclass(slots=True)
class Run:
    """Pieces in a row of one file that one origin is being asked for: the next one, and what may be added."""

    next: int
    stop: int
    bytes_left: int


@dataclass(frozen=True, slots=True)
class OriginOptions:
    """``fallback``: only when peers deliver nothing. ``sequential``: in order."""

    fallback: bool = False
    sequential: bool = False
    least_rate: int = 500_000
    """Bytes per second of all peers together that need no help: as Windows' delivery optimisation has it."""
    wait_seconds: float = 10.0
    """What peers will have sent by then is left to them however slow they are; also the length of a run, and
    for how long a measured rate of an origin is believed."""
    stretches: int = 256
    """The content is cut into so many stretches or more,"""
    stretch_bytes: int = 4 << 20
    """of at most so many bytes, or else of single pieces: one request."""


class Origins:
    """The origins among the sources, and what the peers bring; without origins every call is cheap."""

    def __init__(
        self,
        me: SourceId,
        pieces: Pieces,
        availability: Availability,
        ranking: Ranking,
        rng: random.Random,
        options: OriginOptions,
    ) -> None:
        self._me = me
        self._pieces = pieces
        self._availability = availability
        self._ranking = ranking
        self._rng = rng
        self._options = options
        self.expected = False
        """Whether peers are named, so that somebody may come in a moment."""
        self._throttled = False
        self._cursors: dict[SourceId, int] = {}
        self._runs: dict[SourceId, Run] = {}
        self._joined = 0
        self._began: float | None = None
        self._members: dict[SourceId, Member] = {}
        self._met = False
        self._meter: Meter | None = None
        self._since = -math.inf
        self._slow_since = math.inf
        layout = pieces.layout
        most = max(1, options.stretch_bytes // layout.piece_length)
        self._looked_at = 2 * options.stretches
        self._stretch = max(1, min(pieces.size // options.stretches, most))
        self._order: dict[int, tuple[SourceId, ...]] = {}
        self._active: tuple[SourceId, ...] = ()

    # --- Sources ------------------------------------------------------------------------------------

    def origin_joined(self, source: SourceId, now: float) -> None:
        """An origin can be asked from now on."""
        if self._began is None:
            self._began = self._since = now
        self._cursors[source] = self._start(self._joined)
        self._joined += 1

    def _start(self, number: int) -> int:
        size = self._pieces.size
        if self.expected and size:
            return self._rng.randrange(size)
        # 0, 1/2, 1/4, 3/4, …: several origins begin far from each other.
        at, step = 0.0, 0.5
        while number:
            at, step, number = at + step * (number & 1), step / 2, number >> 1
        return int(at * size)

    def peer_joined(self, peer: SourceId, now: float) -> None:
        """A session with a peer begins."""
        if not self._members:
            self._meter, self._since = Meter(RATE_SECONDS, now), now
        self._members[peer] = Member(now, now)
        self._met = True
        self._order.clear()

    def source_left(self, source: SourceId, now: float) -> None:
        """A peer or an origin is gone."""
        self._cursors.pop(source, None)
        self._runs.pop(source, None)
        if self._members.pop(source, None) is not None:
            self._order.clear()
            if not self._members:
                self._since = now

    def is_origin(self, source: SourceId) -> bool:
        """Whether the source is an origin."""
        return source in self._cursors

    def limits_changed(self, *, throttled: bool) -> None:
        """Under a download limit of ours it is we who make peers slow."""
        self._throttled = throttled

    def has(self, peer: SourceId, pieces: Sequence[int], now: float) -> None:
        """A peer says that it got pieces; `Availability` does not know yet."""
        if not self._cursors:
            return
        member = self._members.get(peer)
        if member is None:
            return
        for piece in pieces:
            bit = self._held(piece >> CHUNK_SHIFT) >> piece % CHUNK_PIECES & 1
            if not (bit or self._pieces.is_stored(piece) or self._somebody_has_all()):
                member.brought_at = now
                member.brought += 1

    def spoke(self, peer: SourceId) -> None:
        """A peer says what it has."""
        if (member := self._members.get(peer)) is not None:
            member.spoken = True

    def received(self, source: SourceId, size: int, now: float) -> None:
        """Bytes of a piece came from any source."""
        if self._cursors and self._meter is not None and source in self._members:
            self._meter.add(size, now)

    def may_double(self, now: float) -> bool:
        """Whether an origin may be asked for what a peer is asked for already."""
        return self._wait(now) is None and (not self._members or self._is_slow(now))

    # --- Picking ------------------------------------------------------------------------------------

    def more_of_run(self, source: SourceId) -> Pick | None:
        """The next piece of the run that the source is being asked for, if it goes on."""
        run = self._runs.get(source)
        if run is None or run.next >= run.stop or run.next not in self._pieces.open:
            return None
        length = self._pieces.layout.length(run.next)
        if length > run.bytes_left or not self._availability.has(source, run.next):
            return None
        piece, run.next, run.bytes_left = run.next, run.next + 1, run.bytes_left - length
        return Pick(piece, "origin, in a run")

    def pick(
        self, source: SourceId, without: PieceSet | None, now: float
    ) -> tuple[Pick | None, float | None]:
        """What to ask an origin for, and when to look again if it has to wait for its turn."""
        self._runs.pop(source, None)
        if not self._pieces.open:
            return None, None
        if (wait := self._wait(now)) is not None:
            return None, wait
        if not self._members or self._is_slow(now):
            why = "peers are slow" if self._members else "nobody else is here"
            return self._anything(source, without, why, now), None
        return self._turn(source, without, now), now + RECHECK_SECONDS

    def _wait(self, now: float) -> float | None:
        """Until when no origin is asked at all."""
        began = self._began if self._began is not None else now
        if self._options.fallback:
            if self._members:
                silent = self._meter is None or self._meter.rate(now) < LEAST_RATE
                return None if silent and now >= self._since + SILENCE_SECONDS else now + RECHECK_SECONDS
            until = self._since + (SILENCE_SECONDS if self.expected or self._met else 0.0)
        else:
            until = began + SLOW_START_SECONDS if self.expected and not self._met else -math.inf
        return until if until > now else None

    def _is_slow(self, now: float) -> bool:
        """Whether peers have been too slow for a while: a busy machine makes everybody slow for a moment."""
        if self._options.fallback:
            return True
        if not self._seems_slow(now):
            self._slow_since = math.inf
            return False
        self._slow_since = min(self._slow_since, now)
        return now >= self._slow_since + TURN_SECONDS

    def _seems_slow(self, now: float) -> bool:
        if self._meter is None or now < self._since + TURN_SECONDS:
            return False
        rate = self._meter.rate(now)
        if rate >= (LEAST_RATE if self._throttled else self._options.least_rate):
            return False
        if self._pieces.lacking_count * self._pieces.layout.piece_length < rate * self._options.wait_seconds:
            return False
        return any(self._may_be_faster(origin, rate, now) for origin in self._cursors)

    def _may_be_faster(self, origin: SourceId, rate: float, now: float) -> bool:
        """Whether the origin is much faster than ``rate``, or not known to be slower.

        One that was slow once is tried again.
        """
        known = self._ranking.known_rate(origin, now, self._options.wait_seconds)
        return known is None or known > 2 * rate

    def _anything(self, source: SourceId, without: PieceSet | None, why: str, now: float) -> Pick | None:
        start = 0 if self._options.sequential else self._cursors[source]
        piece = self._first_from(source, start, without)
        if piece is None:
            return None
        # What is asked for in advance cannot be had from peers that have become faster meanwhile.
        alone = not self._members
        self._begin_run(source, piece, self._pieces.size, now, self._options.wait_seconds if alone else 0.0)
        return Pick(piece, f"origin, {why}")

    def _first_from(self, source: SourceId, start: int, without: PieceSet | None) -> int | None:
        wanted, theirs = self._pieces.open.chunks, self._availability.pieces_of(source).chunks
        first, count = start >> CHUNK_SHIFT, len(wanted)
        for step in range(count + 1):
            index = (first + step) % count
            bits = wanted[index] & theirs[index]
            if without is not None:
                bits &= ~without.chunks[index]
            if step == 0:
                bits = bits >> start % CHUNK_PIECES << start % CHUNK_PIECES
            if bits:
                return (index << CHUNK_SHIFT) + (bits & -bits).bit_length() - 1
        return None

    def _begin_run(self, source: SourceId, piece: int, stop: int, now: float, seconds: float) -> None:
        layout = self._pieces.layout
        stop = min(stop, layout.pieces_of(layout.span(piece).file).stop)
        most = min(MOST_BYTES, int(self._ranking.rate(source, now) * seconds))
        self._runs[source] = Run(piece + 1, stop, most - layout.length(piece))
        self._cursors[source] = piece

    # --- Turns --------------------------------------------------------------------------------------

    def _turn(self, source: SourceId, without: PieceSet | None, now: float) -> Pick | None:
        if self._somebody_has_all() or not self._all_have_spoken(now):
            return None
        self._reckon(source, now)
        first = self._cursors[source] // self._stretch
        for stretch in self._stretches(first, 1):
            if self._order_of(stretch)[0] != self._me:
                continue
            if (piece := self._open_in(source, stretch, without)) is not None:
                self._begin_run(source, piece, (stretch + 1) * self._stretch, now, 1.0)
                return Pick(piece, "origin, our turn")
            # Nothing of it is left: the next look begins behind it.
            self._cursors[source] = stretch * self._stretch
        return self._take_over(source, without, now)

    def _take_over(self, source: SourceId, without: PieceSet | None, now: float) -> Pick | None:
        left = sum(
            (chunk & ~self._held(index)).bit_count() for index, chunk in enumerate(self._pieces.open.chunks)
        )
        if not left:
            return None
        for stretch in self._stretches(self._last_stretch, -1):
            order = self._order_of(stretch)
            if len(order) < 2 or order[1] != self._me:
                continue
            member = self._members.get(order[0])
            if member is None or self._soon_done(member, left, now):
                continue
            if (piece := self._open_in(source, stretch, without)) is not None:
                return Pick(piece, "origin, in place of a slow peer")
        return None

    def _soon_done(self, member: Member, left: int, now: float) -> bool:
        if not member.brought:
            return now < member.since + SILENCE_SECONDS
        each = (now - member.since) / member.brought
        return left / len(self._active) * each < TURN_SECONDS

    @property
    def _last_stretch(self) -> int:
        return (self._pieces.size - 1) // self._stretch

    def _stretches(self, first: int, step: int) -> Iterator[int]:
        """Stretches in a circle; whole chunks with nothing open are passed over."""
        count = self._last_stretch + 1
        looked = 0
        for number in range(count):
            stretch = (first + step * number) % count
            index = stretch * self._stretch >> CHUNK_SHIFT
            after = (stretch + 1) * self._stretch - 1 >> CHUNK_SHIFT
            opened = self._pieces.open.chunks
            if opened[index] or (after != index and after < len(opened) and opened[after]):
                looked += 1
                yield stretch
            if looked >= self._looked_at:
                return

    def _open_in(self, source: SourceId, stretch: int, without: PieceSet | None) -> int | None:
        """The first piece of the stretch that is to be had from the origin alone."""
        stop = min((stretch + 1) * self._stretch, self._pieces.size)
        for piece in range(stretch * self._stretch, stop):
            if piece not in self._pieces.open or not self._availability.has(source, piece):
                continue
            if without is not None and piece in without:
                continue
            if not self._held(piece >> CHUNK_SHIFT) >> piece % CHUNK_PIECES & 1:
                return piece
        return None

    def _all_have_spoken(self, now: float) -> bool:
        """Whether every peer had the time to say what it has."""
        return all(each.spoken or now >= each.since + SLOW_START_SECONDS for each in self._members.values())

    def _somebody_has_all(self) -> bool:
        return any(self._availability.is_full(peer) for peer in self._members)

    def _held(self, index: int) -> int:
        """The pieces of one chunk that some peer has, of those that lack another."""
        bits = 0
        for plane in self._availability.planes:
            bits |= plane[index]
        return bits

    def _reckon(self, source: SourceId, now: float) -> None:
        """Find out who has turns."""
        rate = self._ranking.rate(source, now)
        stretch = self._stretch * self._pieces.layout.piece_length
        patience = max(SILENCE_SECONDS, 3 * stretch / rate if rate else 0.0)
        active = tuple(peer for peer, each in self._members.items() if now < each.brought_at + patience)
        if (self._me, *active) != self._active:
            self._active = (self._me, *active)
            self._order.clear()

    def _order_of(self, stretch: int) -> Sequence[SourceId]:
        """The first two members for a stretch."""
        order = self._order.get(stretch)
        if order is None:
            ranked = sorted(self._active, key=lambda name: draw(name, stretch))
            order = self._order[stretch] = tuple(ranked[:2])
        return order
