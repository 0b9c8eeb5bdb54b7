"""Sources on this machine, such as an older version or a patch: what one offers, nobody else is asked for.

It costs nobody's bandwidth, so it is asked for as much as it can do, in ascending order, which suits disks
and patches. What it refuses is free for peers at once, and not asked of it again. One that has just joined
may offer everything, so nobody else is asked for anything until it says what it has, for as long as a source
may be silent. Without such a source nothing here has an effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swarm.bits import CHUNK_SHIFT, PieceSet
from swarm.ids import SourceId
from swarm.strategy.availability import Availability
from swarm.strategy.pieces import Pieces


class LocalSources:
    """The local ones among the sources, and what they keep from the others."""

    def __init__(self, pieces: Pieces, availability: Availability) -> None:
        self._pieces = pieces
        self._availability = availability
        self._sources: set[SourceId] = set()
        self._silent: set[SourceId] = set()

    def joined(self, source: SourceId) -> None:
        """A local source has come, and has not said yet what it has."""
        self._sources.add(source)
        self._silent.add(source)
        self._reserve()

    def left(self, source: SourceId) -> None:
        """A source is gone; the availability knows it no more."""
        if source in self._sources:
            self._sources.discard(source)
            self._silent.discard(source)
            self._reserve()

    def __contains__(self, source: SourceId) -> bool:
        return source in self._sources

    def offered(self, source: SourceId) -> None:
        """A local source has said anew what it has, or nobody waits for that any longer."""
        self._silent.discard(source)
        self._reserve()

    def _reserve(self) -> None:
        if self._silent:
            self._pieces.reserve(PieceSet.all(self._pieces.size))
            return
        offer = PieceSet(self._pieces.size)
        for source in self._sources:
            offer |= self._availability.pieces_of(source)
        self._pieces.reserve(offer)

    def denied(self, source: SourceId, pieces: Iterable[int]) -> None:
        """The source does not have these pieces after all."""
        for piece in pieces:
            self._availability.withdraw(source, piece)
            if not any(self._availability.has(other, piece) for other in self._sources):
                self._pieces.unreserve(piece)

    def next_pieces(self, source: SourceId) -> Iterator[int]:
        """The missing pieces of the source, ascending; what is asked for meanwhile may still come."""
        theirs = self._availability.pieces_of(source).chunks
        for index, chunk in enumerate(self._pieces.kept.chunks):
            rest = chunk & theirs[index]
            while rest:
                yield (index << CHUNK_SHIFT) + (rest & -rest).bit_length() - 1
                rest &= rest - 1
