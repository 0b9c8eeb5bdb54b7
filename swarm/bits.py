"""Sets of pieces, as integers of a few hundred bytes each.

A set answers for one piece, and whole swarms are intersected a chunk at a time: changing one piece copies one
chunk, and an intersection of 100,000 pieces takes 49 operations.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from operator import and_, or_

CHUNK_SHIFT = 11
CHUNK_PIECES = 1 << CHUNK_SHIFT
_CHUNK_BYTES = CHUNK_PIECES // 8
_WITHIN = CHUNK_PIECES - 1
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FEW = 8
_DENSE = 4
"""Where one bit of so many is set, some drawn position soon is one of them."""

Bits = tuple[int, int]
"""The index of a chunk and some of its pieces: bit k stands for piece ``index * CHUNK_PIECES + k``."""


class PieceSet:
    """Pieces below ``size``.

    A piece outside ``range(size)`` raises IndexError when added or discarded and is never contained. Sets
    of one operation have the same size. ``chunks`` may be read, not changed, by anyone. Raises ValueError
    for a negative size.
    """

    __slots__ = ("chunks", "size")

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"a set of pieces cannot have a size of {size}")
        self.size = size
        self.chunks = [0] * -(-size // CHUNK_PIECES)

    @classmethod
    def all(cls, size: int) -> PieceSet:
        """All pieces."""
        full = cls(size)
        for index in range(len(full.chunks)):
            full.chunks[index] = (1 << min(CHUNK_PIECES, size - index * CHUNK_PIECES)) - 1
        return full

    @classmethod
    def of(cls, size: int, pieces: Iterable[int]) -> PieceSet:
        """These pieces."""
        made = cls(size)
        for piece in pieces:
            made.add(piece)
        return made

    @classmethod
    def between(cls, size: int, start: int, stop: int) -> PieceSet:
        """The pieces from ``start`` up to, and without, ``stop``; both are cut to what there is."""
        made = cls(size)
        start, stop = max(0, start), min(stop, size)
        for index in range(start >> CHUNK_SHIFT, -(-stop // CHUNK_PIECES)):
            base = index << CHUNK_SHIFT
            low, high = max(start - base, 0), min(stop - base, CHUNK_PIECES)
            made.chunks[index] = (1 << high) - (1 << low)
        return made

    @classmethod
    def from_bytes(cls, data: bytes, size: int) -> PieceSet:
        """Read what `to_bytes` wrote; raises ValueError for a wrong length or a spare bit set."""
        made = cls(size)
        if len(data) != (size + 7) // 8:
            raise ValueError(f"a bitfield of {size} pieces has {(size + 7) // 8} bytes, not {len(data)}")
        mirrored = data.translate(_MIRRORED)
        for index in range(len(made.chunks)):
            part = mirrored[index * _CHUNK_BYTES : (index + 1) * _CHUNK_BYTES]
            made.chunks[index] = int.from_bytes(part, "little")
        if made.chunks and made.chunks[-1] >> (size - (len(made.chunks) - 1) * CHUNK_PIECES):
            raise ValueError("a bitfield has spare bits set")
        return made

    def to_bytes(self) -> bytes:
        """The bitfield: ``ceil(size/8)`` bytes, most significant bit first, spare bits zero."""
        data = b"".join(chunk.to_bytes(_CHUNK_BYTES, "little") for chunk in self.chunks)
        return data[: (self.size + 7) // 8].translate(_MIRRORED)

    # --- One piece ----------------------------------------------------------------------------------

    def add(self, piece: int) -> bool:
        """Put the piece in; says whether it was not there before."""
        if not 0 <= piece < self.size:
            raise IndexError(f"piece {piece} is not in 0..{self.size - 1}")
        index, mask = piece >> CHUNK_SHIFT, 1 << (piece & _WITHIN)
        chunk = self.chunks[index]
        if chunk & mask:
            return False
        self.chunks[index] = chunk | mask
        return True

    def add_many(self, pieces: Iterable[int]) -> list[Bits]:
        """Put pieces in; returns those that were not there before. Puts none in if it raises."""
        masks: dict[int, int] = {}
        for piece in pieces:
            if not 0 <= piece < self.size:
                raise IndexError(f"piece {piece} is not in 0..{self.size - 1}")
            index = piece >> CHUNK_SHIFT
            masks[index] = masks.get(index, 0) | 1 << (piece & _WITHIN)
        news: list[Bits] = []
        for index, mask in masks.items():
            chunk = self.chunks[index]
            if fresh := mask & ~chunk:
                self.chunks[index] = chunk | fresh
                news.append((index, fresh))
        return news

    def discard(self, piece: int) -> bool:
        """Take the piece out; says whether it was there."""
        if not 0 <= piece < self.size:
            raise IndexError(f"piece {piece} is not in 0..{self.size - 1}")
        index, mask = piece >> CHUNK_SHIFT, 1 << (piece & _WITHIN)
        chunk = self.chunks[index]
        if not chunk & mask:
            return False
        self.chunks[index] = chunk ^ mask
        return True

    def __contains__(self, piece: int) -> bool:
        if not 0 <= piece < self.size:
            return False
        return bool(self.chunks[piece >> CHUNK_SHIFT] >> (piece & _WITHIN) & 1)

    # --- The whole set ------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many pieces are in the set."""
        return sum(map(int.bit_count, self.chunks))

    @property
    def full(self) -> bool:
        """Whether every piece is in the set."""
        return self.count == self.size

    def copy(self) -> PieceSet:
        """An independent copy."""
        return self._with(self.chunks.copy())

    def missing(self) -> PieceSet:
        """The pieces that are not in the set."""
        return PieceSet.all(self.size) - self

    def __bool__(self) -> bool:
        return any(self.chunks)

    def __iter__(self) -> Iterator[int]:
        """The pieces, ascending, as of the first step of the iteration."""
        for index, chunk in enumerate(tuple(self.chunks)):
            rest = chunk
            while rest:
                yield (index << CHUNK_SHIFT) + (rest & -rest).bit_length() - 1
                rest &= rest - 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PieceSet):
            return NotImplemented
        return self.size == other.size and self.chunks == other.chunks

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<PieceSet {self.count}/{self.size}>"

    # --- Two sets -----------------------------------------------------------------------------------

    def __and__(self, other: PieceSet) -> PieceSet:
        return self._combined(and_, other)

    def __or__(self, other: PieceSet) -> PieceSet:
        return self._combined(or_, other)

    def __sub__(self, other: PieceSet) -> PieceSet:
        return self._with([mine & ~theirs for mine, theirs in zip(self.chunks, other.chunks, strict=True)])

    def __ior__(self, other: PieceSet) -> PieceSet:
        self.chunks[:] = map(or_, self.chunks, other.chunks)
        return self

    def __isub__(self, other: PieceSet) -> PieceSet:
        self.chunks[:] = [mine & ~theirs for mine, theirs in zip(self.chunks, other.chunks, strict=True)]
        return self

    def meets(self, other: PieceSet) -> bool:
        """Whether the two have a piece in common."""
        return any(map(and_, self.chunks, other.chunks))

    def first_common(self, other: PieceSet) -> int | None:
        """The lowest piece that both have; None if there is none."""
        for index, chunk in enumerate(self.chunks):
            if both := chunk & other.chunks[index]:
                return (index << CHUNK_SHIFT) + (both & -both).bit_length() - 1
        return None

    def _combined(self, operation: Callable[[int, int], int], other: PieceSet) -> PieceSet:
        return self._with(list(map(operation, self.chunks, other.chunks)))

    def _with(self, chunks: list[int]) -> PieceSet:
        twin = PieceSet(0)
        twin.size, twin.chunks = self.size, chunks
        return twin


def draw(candidates: list[Bits], rng: random.Random) -> int:
    """One piece of the candidates, each equally likely; ``candidates`` has at least one."""
    if len(candidates) == 1:
        ((index, bits),) = candidates
        return (index << CHUNK_SHIFT) + _any(bits, rng)
    n = rng.randrange(sum(bits.bit_count() for _, bits in candidates))
    for index, bits in candidates:
        n -= bits.bit_count()
        if n < 0:
            return (index << CHUNK_SHIFT) + _any(bits, rng)
    raise ValueError("a draw needs a candidate")


def _any(bits: int, rng: random.Random) -> int:
    """The position of one set bit, each equally likely."""
    width, count = bits.bit_length(), bits.bit_count()
    if count * _DENSE < width:
        return _nth(bits, rng.randrange(count))
    # Of positions drawn until one is set, each set one is equally likely to be the last.
    size = (width - 1).bit_length()
    while True:
        position = rng.getrandbits(size)
        if bits >> position & 1:
            return position


def _nth(bits: int, n: int) -> int:
    """The position of the n-th lowest set bit."""
    base, width = 0, bits.bit_length()
    while n >= _FEW:
        half = width >> 1
        lower = bits & ((1 << half) - 1)
        below = lower.bit_count()
        if n < below:
            bits, width = lower, half
        else:
            bits, width, base, n = bits >> half, width - half, base + half, n - below
    for _ in range(n):
        bits &= bits - 1
    return base + (bits & -bits).bit_length() - 1
