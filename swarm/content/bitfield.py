"""Which pieces of a manifest somebody has: one bit per piece."""

from __future__ import annotations

from collections.abc import Iterator

_FULL = 0xFF
_SET_BITS = tuple(tuple(bit for bit in range(8) if byte & (0x80 >> bit)) for byte in range(256))


class Bitfield:
    """A set of piece indices below ``size``, kept as bits; the most significant bit comes first.

    An index outside ``range(size)`` raises IndexError when added or removed and is never contained.
    """

    __slots__ = ("_bits", "_count", "_size")

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"a bitfield cannot have {size} bits")
        self._size = size
        self._bits = bytearray((size + 7) // 8)
        self._count = 0

    @classmethod
    def all(cls, size: int) -> Bitfield:
        """A bitfield with every bit set."""
        field = cls(size)
        field._bits = bytearray(b"\xff" * len(field._bits))
        if size % 8:
            field._bits[-1] = _FULL & ~_spare_mask(size)
        field._count = size
        return field

    @classmethod
    def from_bytes(cls, data: bytes, size: int) -> Bitfield:
        """Read what `to_bytes` wrote; raises ValueError for a wrong length or a spare bit set."""
        field = cls(size)
        if len(data) != len(field._bits):
            raise ValueError(f"a bitfield of {size} pieces has {len(field._bits)} bytes, not {len(data)}")
        if data and data[-1] & _spare_mask(size):
            raise ValueError("a bitfield has spare bits set")
        field._bits = bytearray(data)
        field._count = int.from_bytes(data, "big").bit_count()
        return field

    def to_bytes(self) -> bytes:
        """``ceil(size/8)`` bytes, piece 0 in the most significant bit of the first; spare bits zero."""
        return bytes(self._bits)

    @property
    def size(self) -> int:
        """How many pieces there are."""
        return self._size

    @property
    def count(self) -> int:
        """How many pieces are in the set."""
        return self._count

    def full(self) -> bool:
        """Whether every piece is in the set."""
        return self._count == self._size

    def add(self, piece: int) -> bool:
        """Put ``piece`` into the set; says whether it was not there before."""
        self._check(piece)
        mask = 0x80 >> (piece & 7)
        if self._bits[piece >> 3] & mask:
            return False
        self._bits[piece >> 3] |= mask
        self._count += 1
        return True

    def remove(self, piece: int) -> bool:
        """Take ``piece`` out of the set; says whether it was there before."""
        self._check(piece)
        mask = 0x80 >> (piece & 7)
        if not self._bits[piece >> 3] & mask:
            return False
        self._bits[piece >> 3] ^= mask
        self._count -= 1
        return True

    def copy(self) -> Bitfield:
        """An independent copy."""
        twin = Bitfield(0)
        twin._size, twin._bits, twin._count = self._size, bytearray(self._bits), self._count
        return twin

    def missing(self) -> Iterator[int]:
        """The pieces that are not in the set, ascending, as of the first step of the iteration."""
        inverted = bytes(byte ^ _FULL for byte in self._bits)
        for piece in _indices(inverted):
            if piece >= self._size:
                return
            yield piece

    def __iter__(self) -> Iterator[int]:
        """The pieces in the set, ascending, as of the first step of the iteration."""
        return _indices(bytes(self._bits))

    def __contains__(self, piece: int) -> bool:
        return 0 <= piece < self._size and bool(self._bits[piece >> 3] & (0x80 >> (piece & 7)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bitfield):
            return NotImplemented
        return self._size == other._size and self._bits == other._bits

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Bitfield {self._count}/{self._size}>"

    def _check(self, piece: int) -> None:
        if not 0 <= piece < self._size:
            raise IndexError(f"piece {piece} is not in 0..{self._size - 1}")


def _spare_mask(size: int) -> int:
    """The bits of the last byte that stand for no piece."""
    return _FULL >> (size % 8) if size % 8 else 0


def _indices(bits: bytes) -> Iterator[int]:
    for base, byte in enumerate(bits):
        if byte:
            for bit in _SET_BITS[byte]:
                yield base * 8 + bit
