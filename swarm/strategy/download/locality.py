"""Which pieces a far source is not asked for, because they come cheaper from near by.

Sources are near or far by the least round trip that was measured: queues make round trips longer, nothing makes
them shorter. There are two sites when the sorted round trips have a gap of `GAP_FACTOR` and `GAP_SECONDS`.

What a near source has is asked of near sources only. What only far sources have is wanted by the whole site, and
one copy is enough for it: the sources of a site take turns, in an order that each of them computes from the
names and the piece (rendezvous hashing, Thaler and Ravishankar 1998). Whoever is first asks at once, the next
`TURN_SECONDS` later if the piece is still nobody's, and so on. A lie about the round trip gains little: a
source that seems near is asked more and served as before, one that seems far is served a little sooner.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

from swarm.bits import PieceSet
from swarm.ids import SourceId
from swarm.strategy.availability import Availability
from swarm.strategy.download.picker import Pick
from swarm.strategy.pieces import Pieces

GAP_FACTOR = 5.0
GAP_SECONDS = 0.03
LEAST_NEAR = 2
"""With fewer sources near by there is nobody to share a copy with."""

TURN_SECONDS = 2.0
MOST_WAIT = 20.0
"""How long each has its turn, and how long a piece that only far sources have is waited for in all."""

FULL_SHARE = 4
"""What near sources with everything have counts only if they are more than one in so many: one seeder of a site
cannot give each of its sources all that the others have.
"""

LAST_SHARE = 20
"""The last pieces, one in so many, are taken from wherever they come soonest."""

TRIES = 16
"""Picks of one source that may turn out to have to wait before it is left alone."""


def _draw(source: SourceId, piece: int) -> int:
    """The same number for everybody, and no order that a source's name could make for all pieces."""
    return zlib.crc32(b"%d" % piece, zlib.crc32(source.encode())) * 0x9E3779B1 & 0xFFFFFFFF


Choose = Callable[[PieceSet], Pick | None]


class Locality:
    """The sites as they seem from here, and the pieces of the near one; unless ``enabled``, nobody is far."""

    def __init__(self, me: SourceId, pieces: Pieces, availability: Availability, *, enabled: bool) -> None:
        self._enabled = enabled
        self._me = me
        self._pieces = pieces
        self._availability = availability
        self._least: dict[SourceId, float] = {}
        self._far: frozenset[SourceId] = frozenset()
        self._here = PieceSet(pieces.size)
        self._sorted = True
        self._not_before: dict[int, float] = {}

    def measured(self, source: SourceId, seconds: float | None) -> None:
        """A round trip to the source took ``seconds``; None if it was lost or never measured."""
        if not self._enabled or seconds is None:
            return
        if seconds < self._least.get(source, float("inf")):
            self._least[source] = seconds
            self._sorted = False

    def source_left(self, source: SourceId) -> None:
        """A session ended."""
        if self._least.pop(source, None) is not None:
            self._sorted = False

    def restated(self) -> None:
        """A source said anew what it has, or no longer has."""
        self._sorted = not self._least

    def has(self, source: SourceId, pieces: Iterable[int]) -> None:
        """The source got pieces."""
        if self._far and source not in self._far:
            for piece in pieces:
                self._here.add(piece)
                self._not_before.pop(piece, None)

    def is_far(self, source: SourceId) -> bool:
        """Whether the source is of another site."""
        if not self._sorted:
            self._sort()
        return source in self._far

    def pick(self, choose: Choose, occupied: PieceSet | None, now: float) -> tuple[Pick | None, float | None]:
        """What to ask a far source for, and when to look again if there is something that waits."""
        if not self._sorted:
            self._sort()
        if self._pieces.lacking_count * LAST_SHARE <= self._pieces.size:
            return choose(occupied or PieceSet(self._pieces.size)), None
        without = self._here.copy()
        for index, chunk in enumerate(occupied.chunks if occupied else ()):
            without.chunks[index] |= chunk
        again: float | None = None
        for _ in range(TRIES):
            pick = choose(without)
            if pick is None:
                break
            at = self._wait(pick.piece, now)
            if at <= now:
                return pick, None
            again = at if again is None else min(again, at)
            without.add(pick.piece)
        return None, again

    def _wait(self, piece: int, now: float) -> float:
        if piece not in self._not_before:
            mine = _draw(self._me, piece)
            turn = sum(_draw(source, piece) < mine for source in self._least if source not in self._far)
            self._not_before[piece] = now + min(turn * TURN_SECONDS, MOST_WAIT)
        return self._not_before[piece]

    def _sort(self) -> None:
        self._sorted = True
        order = sorted(self._least, key=self._least.__getitem__)
        trips = [self._least[source] for source in order]
        self._far = frozenset()
        for place in range(LEAST_NEAR, len(order)):
            before, after = trips[place - 1], trips[place]
            if after > before * GAP_FACTOR and after > before + GAP_SECONDS:
                self._far = frozenset(order[place:])
                break
        self._here = PieceSet(self._pieces.size)
        near = order[: len(order) - len(self._far)] if self._far else []
        full = sum(self._availability.is_full(source) for source in near)
        if full * FULL_SHARE > len(near):
            self._here = PieceSet.all(self._pieces.size)
            return
        for source in near:
            if not self._availability.is_full(source):
                for index, chunk in enumerate(self._availability.pieces_of(source).chunks):
                    self._here.chunks[index] |= chunk
