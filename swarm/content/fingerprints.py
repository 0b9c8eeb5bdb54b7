"""XXH3-128 of stored pieces: what this machine wrote, to be recognised cheaply later.

Never proof against a peer: XXH3 is not a cryptographic hash, and pieces are forged in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

import xxhash

from swarm.bits import PieceSet

FINGERPRINT_BYTES = 16


def fingerprint(data: bytes | bytearray | memoryview) -> bytes:
    """The XXH3-128 of ``data``, 16 bytes, most significant first."""
    return xxhash.xxh3_128_digest(data)


class Fingerprints(MutableMapping[int, bytes]):
    """Fingerprint by piece, for pieces below ``size``; 17 bytes a piece whatever is stored.

    A piece outside ``range(size)`` raises IndexError when set, another length than 16 ValueError.
    """

    __slots__ = ("_digests", "_stored")

    def __init__(self, size: int) -> None:
        self._stored = PieceSet(size)
        self._digests = bytearray(size * FINGERPRINT_BYTES)

    def stored(self) -> PieceSet:
        """A copy of which pieces have a fingerprint."""
        return self._stored.copy()

    def __getitem__(self, piece: int) -> bytes:
        if piece not in self._stored:
            raise KeyError(piece)
        start = piece * FINGERPRINT_BYTES
        return bytes(self._digests[start : start + FINGERPRINT_BYTES])

    def __setitem__(self, piece: int, digest: bytes) -> None:
        if len(digest) != FINGERPRINT_BYTES:
            raise ValueError(f"a fingerprint has {FINGERPRINT_BYTES} bytes, not {len(digest)}")
        self._stored.add(piece)
        start = piece * FINGERPRINT_BYTES
        self._digests[start : start + FINGERPRINT_BYTES] = digest

    def __delitem__(self, piece: int) -> None:
        if piece not in self._stored:
            raise KeyError(piece)
        self._stored.discard(piece)

    def __contains__(self, piece: object) -> bool:
        return isinstance(piece, int) and piece in self._stored

    def __iter__(self) -> Iterator[int]:
        return iter(self._stored)

    def __len__(self) -> int:
        return self._stored.count
