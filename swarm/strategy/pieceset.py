"""A set of pieces as integers of a few hundred bytes: whole swarms are intersected a chunk at a time.

A Bitfield answers for one piece; the picker asks about all pieces of a peer at once. Chunks keep both
cheap: changing one piece copies one chunk, and an intersection of 100,000 pieces takes 49 operations.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

CHUNK_SHIFT = 11
CHUNK_PIECES = 1 << CHUNK_SHIFT
_CHUNK_BYTES = CHUNK_PIECES // 8
_WITHIN = CHUNK_PIECES - 1
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FEW = 8

Bits = tuple[int, int]
"""The index of a chunk and some of its pieces: bit k stands for piece ``index * CHUNK_PIECES + k``."""


class PieceSet:
    """Pieces below ``size``; callers give no others. ``chunks`` may be read, not changed, by anyone."""

    __slots__ = ("chunks", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.chunks = [0] * -(-size // CHUNK_PIECES)

    @classmethod
    def everything(cls, size: int) -> PieceSet:
        """All pieces."""
        full = cls(size)
        for index in range(len(full.chunks)):
            full.chunks[index] = (1 << min(CHUNK_PIECES, size - index * CHUNK_PIECES)) - 1
        return full

    @classmethod
    def from_bytes(cls, data: bytes, size: int) -> PieceSet:
        """Read a bitfield, most significant bit first; spare bits are left out."""
        pieces = cls(size)
        mirrored = data.translate(_MIRRORED)
        for index in range(len(pieces.chunks)):
            part = mirrored[index * _CHUNK_BYTES : (index + 1) * _CHUNK_BYTES]
            pieces.chunks[index] = int.from_bytes(part, "little")
        if pieces.chunks:
            pieces.chunks[-1] &= (1 << (size - (len(pieces.chunks) - 1) * CHUNK_PIECES)) - 1
        return pieces

    def to_bytes(self) -> bytes:
        """The bitfield, most significant bit first, spare bits zero."""
        data = b"".join(chunk.to_bytes(_CHUNK_BYTES, "little") for chunk in self.chunks)
        return data[: (self.size + 7) // 8].translate(_MIRRORED)

    def add(self, piece: int) -> bool:
        """Put the piece in; says whether it was not there before."""
        index, mask = piece >> CHUNK_SHIFT, 1 << (piece & _WITHIN)
        chunk = self.chunks[index]
        if chunk & mask:
            return False
        self.chunks[index] = chunk | mask
        return True

    def discard(self, piece: int) -> bool:
        """Take the piece out; says whether it was there."""
        index, mask = piece >> CHUNK_SHIFT, 1 << (piece & _WITHIN)
        chunk = self.chunks[index]
        if not chunk & mask:
            return False
        self.chunks[index] = chunk ^ mask
        return True

    def count(self) -> int:
        """How many pieces are in the set."""
        return sum(chunk.bit_count() for chunk in self.chunks)

    def meets(self, other: PieceSet) -> bool:
        """Whether the two have a piece in common."""
        return any(map(int.__and__, self.chunks, other.chunks))

    def first_common(self, other: PieceSet) -> int | None:
        """The lowest piece that both have; None if there is none."""
        for index, both in enumerate(map(int.__and__, self.chunks, other.chunks)):
            if both:
                return (index << CHUNK_SHIFT) + (both & -both).bit_length() - 1
        return None

    def copy(self) -> PieceSet:
        """An independent copy."""
        twin = PieceSet(0)
        twin.size, twin.chunks = self.size, self.chunks.copy()
        return twin

    def __contains__(self, piece: int) -> bool:
        return bool(self.chunks[piece >> CHUNK_SHIFT] >> (piece & _WITHIN) & 1)

    def __bool__(self) -> bool:
        return any(self.chunks)

    def __iter__(self) -> Iterator[int]:
        for index, chunk in enumerate(self.chunks):
            rest = chunk
            while rest:
                yield (index << CHUNK_SHIFT) + (rest & -rest).bit_length() - 1
                rest &= rest - 1


def draw(candidates: list[Bits], rng: random.Random) -> int:
    """One piece of the candidates, each equally likely; ``candidates`` has at least one."""
    counts = [bits.bit_count() for _, bits in candidates]
    n = rng.randrange(sum(counts))
    for (index, bits), count in zip(candidates, counts, strict=True):
        if n < count:
            return (index << CHUNK_SHIFT) + _nth(bits, n)
        n -= count
    raise ValueError("a draw needs a candidate")


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
