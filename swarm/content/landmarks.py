"""Where the bytes of a new version lie in an old file, found from samples.

An old file has a landmark at every ``step`` bytes: the hash of the few bytes there. Content that has moved is
found by hashing at ``step`` positions in a row, one of which must be a landmark. So one sample costs ``step``
hashes, and whole files need not be compared byte by byte. Finding nothing, or a wrong place, costs
compression and no more.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from xxhash import xxh3_64_intdigest

MARK_BYTES = 24
"""Bytes of one landmark: long enough to be rare, short enough to lie between two changed addresses of code."""
MAX_LANDMARKS = 1 << 18
"""Landmarks of one index; they take 3 MiB."""
MIN_STEP = 256
MAX_SCAN = 128 * 1024
"""Positions that one sample looks at. In an old file of more than 32 GiB a sample may miss."""
SEGMENT_SCAN = 512 * 1024
"""Positions that all samples of one segment look at together, in a quarter of a second at most."""
MAX_SAMPLES = 16

_PLACE_BITS = 18
_PLACE = (1 << _PLACE_BITS) - 1
_SEEN_BITS = 20
_SEEN = (1 << _SEEN_BITS) - 1


class Landmarks:
    """The landmarks of ``total`` bytes, which are added in order; `seal` ends that."""

    def __init__(self, total: int) -> None:
        self.step = MIN_STEP
        while self.step * MAX_LANDMARKS < total:
            self.step *= 2
        self._marks: array[int] = array("Q")
        self._seen = bytearray(1 << _SEEN_BITS)
        self._count = 0

    def add(self, data: memoryview) -> None:
        """Add the bytes that follow those added before; a multiple of ``step``, but for the last."""
        marks, seen, place = self._marks, self._seen, self._count
        for at in range(0, len(data), self.step):
            digest = xxh3_64_intdigest(data[at : at + MARK_BYTES])
            seen[digest & _SEEN] = 1
            marks.append(digest & ~_PLACE | place)
            place += 1
        self._count = place

    def seal(self) -> None:
        """Make the landmarks ready for `find`."""
        self._marks = array("Q", sorted(self._marks))

    def find(self, data: memoryview) -> list[tuple[int, int]]:
        """Return pairs of positions, in ``data`` and among the bytes added, where the same bytes begin."""
        scan = min(self.step, MAX_SCAN)
        samples = max(2, min(MAX_SAMPLES, SEGMENT_SCAN // scan))
        every = max(scan, len(data) // samples)
        found = []
        for first in range(0, len(data) - MARK_BYTES, every):
            pair = self._first_in(data, first, min(first + scan, len(data) - MARK_BYTES))
            if pair is not None:
                found.append(pair)
        return found

    def _first_in(self, data: memoryview, first: int, end: int) -> tuple[int, int] | None:
        seen, marks = self._seen, self._marks
        for at in range(first, end):
            digest = xxh3_64_intdigest(data[at : at + MARK_BYTES])
            if seen[digest & _SEEN]:
                mark = digest & ~_PLACE
                where = bisect_left(marks, mark)
                # Bytes that the old file has in many places, such as zeros, say nothing.
                if self._is(where, mark) and not self._is(where + 1, mark):
                    return at, (marks[where] & _PLACE) * self.step
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
