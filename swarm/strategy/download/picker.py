"""Which piece to ask a source for: rarest first, ties at random.

Source: Cohen, "Incentives build robustness in BitTorrent" (2003), section 2.4. Among equally rare pieces one
is drawn at random, so that leechers do not all want the same one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from swarm.bits import CHUNK_PIECES, CHUNK_SHIFT, Bits, PieceSet, draw
from swarm.ids import SourceId
from swarm.strategy.availability import Availability
from swarm.strategy.pieces import Pieces

IN_ORDER_SHARE = 0.8
"""How many picks of `InOrder` take the first missing piece; the others keep the swarm's pieces diverse."""

WINDOW_CHUNKS = 8
"""Chunks with candidates that one pick looks at: 16,384 pieces. With more, the window begins anywhere."""


class Pick(NamedTuple):
    """The piece to ask for, and by which ``policy``, in its words.

    ``alike`` are pieces that are as good; ``copies``, if it was for that, is how many sources have it.
    """

    piece: int
    policy: str
    alike: list[Bits] | None = None
    copies: int | None = None

    @property
    def why(self) -> str:
        """What observers are told."""
        return self.policy if self.copies is None else f"{self.policy} ({self.copies} have it)"

    def next_alike(self, piece: int) -> bool:
        """Whether ``piece`` is as good as the one picked."""
        index, bit = piece >> CHUNK_SHIFT, piece % CHUNK_PIECES
        return any(at == index and bits >> bit & 1 for at, bits in self.alike or ())


class Picker(Protocol):
    """A picking policy."""

    def pick(self, source: SourceId, without: PieceSet | None = None) -> Pick | None:
        """A MISSING piece that the source has and that is not in ``without``; None if there is none."""

    def picks(self, source: SourceId) -> Iterator[Pick]:
        """One `pick` after another, while nothing changes but that pieces are asked for."""


class RarestFirst:
    """The policy of this module's head; the cost does not grow with the number of sources."""

    def __init__(self, pieces: Pieces, availability: Availability, rng: random.Random) -> None:
        self._pieces = pieces
        self._availability = availability
        self._rng = rng

    def pick(self, source: SourceId, without: PieceSet | None = None) -> Pick | None:
        """See `Picker.pick`."""
        candidates = self._candidates(self._availability.pieces_of(source), without)
        if not candidates:
            return None
        rarest, count = narrow(candidates, self._availability.planes)
        count += self._availability.full_sources
        return Pick(draw(rarest, self._rng), "rarest", rarest, count)

    def picks(self, source: SourceId) -> Iterator[Pick]:
        """See `Picker.picks`; which pieces are the rarest is found once for as long as there are some."""
        wanted = self._pieces.open.chunks
        while (pick := self.pick(source)) is not None:
            yield pick
            rarest = pick.alike or []
            while rarest := [(index, left) for index, bits in rarest if (left := bits & wanted[index])]:
                yield Pick(draw(rarest, self._rng), pick.policy, rarest, pick.copies)

    def _candidates(self, theirs: PieceSet, without: PieceSet | None) -> list[Bits]:
        wanted, have = self._pieces.open.chunks, theirs.chunks
        size = len(wanted)
        if size <= WINDOW_CHUNKS and without is None:
            return [(index, bits) for index in range(size) if (bits := wanted[index] & have[index])]
        start = self._rng.randrange(size) if size > WINDOW_CHUNKS else 0
        candidates: list[Bits] = []
        for index in (*range(start, size), *range(start)):
            bits = wanted[index] & have[index]
            if bits and without is not None:
                bits &= ~without.chunks[index]
            if bits:
                candidates.append((index, bits))
                if len(candidates) == WINDOW_CHUNKS:
                    break
        return candidates


class InOrder:
    """For viewing while fetching: mostly the first missing piece of the source, else as ``otherwise``."""

    def __init__(
        self, otherwise: Picker, pieces: Pieces, availability: Availability, rng: random.Random
    ) -> None:
        self._otherwise = otherwise
        self._pieces = pieces
        self._availability = availability
        self._rng = rng

    def pick(self, source: SourceId, without: PieceSet | None = None) -> Pick | None:
        """See `Picker.pick`."""
        if self._rng.random() >= IN_ORDER_SHARE:
            return self._otherwise.pick(source, without)
        wanted, have = self._pieces.open.chunks, self._availability.pieces_of(source).chunks
        for index, bits in enumerate(wanted):
            both = bits & have[index]
            if both and without is not None:
                both &= ~without.chunks[index]
            if both:
                piece = (index << CHUNK_SHIFT) + (both & -both).bit_length() - 1
                return Pick(piece, "the next in order", [(index, both)])
        return None

    def picks(self, source: SourceId) -> Iterator[Pick]:
        """See `Picker.picks`."""
        while (pick := self.pick(source)) is not None:
            yield pick


class InView:
    """Before all else what readers wait for: the latest reader's window first, each from its beginning.

    Else as ``otherwise``. A window is short, and there is none but while somebody reads.
    """

    def __init__(self, otherwise: Picker, pieces: Pieces, availability: Availability) -> None:
        self._otherwise = otherwise
        self._pieces = pieces
        self._availability = availability
        self._windows: dict[int, range] = {}

    def watch(self, reader: int, window: range) -> None:
        """A reader needs these pieces next, in this order; none: it reads no more."""
        self._windows.pop(reader, None)
        if window:
            self._windows[reader] = window

    def pick(self, source: SourceId, without: PieceSet | None = None) -> Pick | None:
        """See `Picker.pick`."""
        if self._windows:
            theirs, wanted = self._availability.pieces_of(source), self._pieces.open
            for piece in (piece for window in reversed(self._windows.values()) for piece in window):
                if piece in wanted and piece in theirs and not (without and piece in without):
                    return Pick(piece, "a reader waits")
        return self._otherwise.pick(source, without)

    def picks(self, source: SourceId) -> Iterator[Pick]:
        """See `Picker.picks`."""
        while self._windows and (pick := self.pick(source)) is not None:
            yield pick
        yield from self._otherwise.picks(source)


def narrow(candidates: list[Bits], planes: list[list[int]]) -> tuple[list[Bits], int]:
    """The candidates with the least count, and that count.

    From the highest plane down: as long as some candidate has a zero there, those with a one are out.
    """
    count = 0
    for k in range(len(planes) - 1, -1, -1):
        plane = planes[k]
        lower = [(index, rest) for index, bits in candidates if (rest := bits ^ (bits & plane[index]))]
        if lower:
            candidates = lower
        else:
            count |= 1 << k
    return candidates, count
