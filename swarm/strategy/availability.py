"""Who has what, and how many have each piece.

The counts are bit-sliced: plane k holds bit k of every piece's count, as one integer per chunk of
pieces. Adding a whole source is a ripple-carry addition over the planes (40 µs at 100,000 pieces where
one counter per piece takes 10 ms), adding one piece touches one chunk of about two planes, and the
rarest of any set is found by going down the planes (see `picker`). Sources with everything are counted
apart: they make no piece rarer than another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from swarm.bits import CHUNK_PIECES, CHUNK_SHIFT, PieceSet
from swarm.ids import SourceId


class Availability:
    """The pieces of each connected source: one bitfield a source, and the counts of all together."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._everything = PieceSet.all(size)
        self._has: dict[SourceId, PieceSet] = {}
        self._held: dict[SourceId, int] = {}
        self._full = 0
        self._not_peers: set[SourceId] = set()
        self.planes: list[list[int]] = []

    def source_joined(self, source: SourceId, *, receives: bool = True) -> None:
        """The source is connected and has said nothing yet; ``receives`` if it is a peer."""
        if not receives:
            self._not_peers.add(source)
        self._has[source] = PieceSet(self._size)
        self._held[source] = 0

    def source_left(self, source: SourceId) -> None:
        """The source's pieces are out of reach."""
        self.replace(source, PieceSet(self._size))
        del self._has[source], self._held[source]
        self._not_peers.discard(source)

    def replace(self, source: SourceId, pieces: PieceSet) -> None:
        """The source has exactly ``pieces``."""
        before = self._has[source]
        if before is self._everything:
            self._full -= 1
        else:
            self._subtract(before)
        self._settle(source, pieces, pieces.count)

    def have(self, source: SourceId, piece: int) -> bool:
        """The source got a piece; says whether that is news."""
        return self.have_many(source, (piece,))

    def have_many(self, source: SourceId, pieces: Iterable[int]) -> bool:
        """The source got pieces; says whether one of them is news."""
        mine = self._has[source]
        if mine is self._everything or not (news := mine.add_many(pieces)):
            return False
        for index, fresh in news:
            self._held[source] += fresh.bit_count()
            self._carry(index, fresh)
        if self._held[source] == self._size:
            self._subtract(mine)
            self._has[source] = self._everything
            self._full += 1
        return True

    def withdraw(self, source: SourceId, piece: int) -> bool:
        """The source lacks a piece that it had; says whether that is news."""
        mine = self._has[source]
        if piece not in mine:
            return False
        if mine is self._everything:
            rest = mine.copy()
            rest.discard(piece)
            self.replace(source, rest)
        else:
            mine.discard(piece)
            self._held[source] -= 1
            self._borrow(piece >> CHUNK_SHIFT, 1 << (piece % CHUNK_PIECES))
            self._trim()
        return True

    def pieces_of(self, source: SourceId) -> PieceSet:
        """What the source has; not to be changed."""
        return self._has[source]

    def pieces_held(self, source: SourceId) -> int:
        """How many pieces the source has; 0 once it has left."""
        return self._held.get(source, 0)

    def has(self, source: SourceId, piece: int) -> bool:
        """Whether the source has the piece."""
        return piece in self._has[source]

    def is_full(self, source: SourceId) -> bool:
        """Whether the source has every piece."""
        return self._has[source] is self._everything

    @property
    def full_sources(self) -> int:
        """How many connected sources have every piece."""
        return self._full

    def spread(self, pieces: Sequence[int]) -> list[int]:
        """How many connected peers have each of ``pieces`` and lack another."""
        counts = [0] * len(pieces)
        for k, plane in enumerate(self.planes):
            for at, piece in enumerate(pieces):
                counts[at] += (plane[piece >> CHUNK_SHIFT] >> piece % CHUNK_PIECES & 1) << k
        for source in self._not_peers:
            if not self.is_full(source):
                for at, piece in enumerate(pieces):
                    counts[at] -= piece in self._has[source]
        return counts

    def unreachable(self, pieces: PieceSet) -> Iterator[int]:
        """Those of ``pieces`` that no connected source has, ascending."""
        rest = pieces.copy()
        if self._full:
            return iter(())
        for plane in self.planes:
            for index, chunk in enumerate(plane):
                rest.chunks[index] &= ~chunk
        return iter(rest)

    def anything_unheld(self, pieces: PieceSet, without: PieceSet) -> bool:
        """Whether one of ``pieces``, and not of ``without``, only full sources have."""
        for index, chunk in enumerate(pieces.chunks):
            rest = chunk & ~without.chunks[index]
            for plane in self.planes:
                if not rest:
                    break
                rest &= ~plane[index]
            if rest:
                return True
        return False

    def reachable(self, pieces: PieceSet) -> bool:
        """Whether some connected source has one of ``pieces``."""
        if self._full:
            return bool(pieces)
        return any(
            chunk and any(plane[i] & chunk for plane in self.planes) for i, chunk in enumerate(pieces.chunks)
        )

    def _settle(self, source: SourceId, pieces: PieceSet, held: int) -> None:
        if held == self._size:
            pieces = self._everything
            self._full += 1
        else:
            self._add(pieces)
        self._has[source] = pieces
        self._held[source] = held

    def _add(self, pieces: PieceSet) -> None:
        for index, chunk in enumerate(pieces.chunks):
            if chunk:
                self._carry(index, chunk)

    def _carry(self, index: int, carry: int) -> None:
        for plane in self.planes:
            chunk = plane[index]
            plane[index] = chunk ^ carry
            carry &= chunk
            if not carry:
                return
        self.planes.append([0] * len(self._everything.chunks))
        self.planes[-1][index] = carry

    def _subtract(self, pieces: PieceSet) -> None:
        for index, chunk in enumerate(pieces.chunks):
            if chunk:
                self._borrow(index, chunk)
        self._trim()

    def _borrow(self, index: int, borrow: int) -> None:
        for plane in self.planes:
            chunk = plane[index]
            plane[index] = chunk ^ borrow
            borrow &= ~chunk
            if not borrow:
                return

    def _trim(self) -> None:
        while self.planes and not any(self.planes[-1]):
            self.planes.pop()
