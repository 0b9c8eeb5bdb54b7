"""Where the bytes of a new version lie in an old file, found from samples.

An old file has a landmark at every ``step`` bytes: the hash of the few bytes there. Content that has moved is
found by hashing at ``step`` positions in a row, one of which must be a landmark. So one sample costs ``step``
hashes, and whole files need not be compared byte by byte. Finding nothing, or a wrong place, costs
compression and no more.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

MARK_BYTES = 24
"""Bytes of one landmark: long enough to be rare, short enough to lie between changed addresses of code."""
MAX_LANDMARKS = 1 << 17
"""Landmarks of one index; they take 2 MiB."""
MIN_STEP = 256
MAX_SCAN = 128 * 1024
"""Positions that one sample looks at. In an old file of more than 16 GiB a sample may miss."""
SEGMENT_SCAN = 512 * 1024
"""Positions that all samples of one segment look at together, in a quarter of a second at most."""
MAX_SAMPLES = 16

_PLACE = MAX_LANDMARKS - 1
"""The bits of a mark that number it; the others are its hash."""
_SEEN_BITS = 20
_SEEN = (1 << _SEEN_BITS) - 1


class Recognition(NamedTuple):
    """The same bytes begin at ``at`` in the new data and at ``where`` in an old file, by its ``number``."""

    at: int
    number: int
    where: int


class Landmarks:
    """The landmarks of some old files of these ``lengths``; each is added once, in any order, then `seal`."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.step = MIN_STEP
        while sum(-(-length // self.step) for length in lengths) > MAX_LANDMARKS:
            self.step *= 2
        counts = (-(-length // self.step) for length in lengths)
        self._first = list(accumulate(counts, initial=0))
        self._marks: array[int] = array("Q")
        self._seen = bytearray(1 << _SEEN_BITS)

    def add(self, number: int, chunks: Iterable[memoryview]) -> None:
        """Add the file with this number in ``lengths``; each chunk but the last is a multiple of ``step``."""
        marks, seen, place = self._marks, self._seen, self._first[number]
        for data in chunks:
            for at in range(0, len(data), self.step):
                if place == self._first[number + 1]:
                    return
                digest = xxh3_64_intdigest(data[at : at + MARK_BYTES])
                seen[digest & _SEEN] = 1
                marks.append(digest & ~_PLACE | place)
                place += 1

    def seal(self) -> None:
        """Make the landmarks ready for `find`."""
        # A quarter at a time: as Python's integers all of them would take 5 MiB.
        ordered: array[int] = array("Q")
        for top in range(4):
            ordered.extend(sorted(mark for mark in self._marks if mark >> 62 == top))
        self._marks = ordered

    def find(self, data: memoryview) -> list[Recognition]:
        """Return where some samples of ``data`` lie in the files that were added."""
        scan = min(self.step, MAX_SCAN)
        samples = max(2, min(MAX_SAMPLES, SEGMENT_SCAN // scan))
        every = max(scan, len(data) // samples)
        found = []
        for first in range(0, len(data) - MARK_BYTES, every):
            one = self._first_in(data, first, min(first + scan, len(data) - MARK_BYTES))
            if one is not None:
                found.append(one)
        return found

    def _first_in(self, data: memoryview, first: int, end: int) -> Recognition | None:
        seen, marks = self._seen, self._marks
        for at in range(first, end):
            digest = xxh3_64_intdigest(data[at : at + MARK_BYTES])
            if seen[digest & _SEEN]:
                mark = digest & ~_PLACE
                where = bisect_left(marks, mark)
                # Bytes that the old files have in many places, such as zeros, say nothing.
                if self._is(where, mark) and not self._is(where + 1, mark):
                    place = marks[where] & _PLACE
                    number = bisect_right(self._first, place) - 1
                    return Recognition(at, number, (place - self._first[number]) * self.step)
        return None

    def _is(self, where: int, mark: int) -> bool:
        return where < len(self._marks) and self._marks[where] & ~_PLACE == mark


def nearest_span(shifts: list[int], length: int, size: int, most: int, margin: int) -> tuple[int, int]:
    """Return offset and bytes of the span of an old file to compare ``length`` bytes with.

    ``shifts`` say how far the start of the old content is from where the new begins, for each sample that was
    found. The span covers as many as fit into ``most`` bytes, with ``margin`` around; ``size`` is the old
    file's.
    """
    ordered = sorted(shifts)
    room = most - length - 2 * margin
    best = (0, 0)
    first = 0
    for last, shift in enumerate(ordered):
        while shift - ordered[first] > room:
            first += 1
        if last - first >= best[1] - best[0]:
            best = (first, last)
    start = max(0, min(ordered[best[0]] - margin, size - length - margin))
    end = min(size, max(ordered[best[1]] + length + margin, start + length))
    return start, end - start
