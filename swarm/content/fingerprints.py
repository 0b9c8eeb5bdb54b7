"""XXH3-128 fingerprints of stored pieces: a cheap check that a piece is still what this machine wrote.

XXH3 is not a cryptographic hash; a collision takes milliseconds to forge. Never use it on data from a peer.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

import xxhash

from swarm.bits import PieceSet

FINGERPRINT_BYTES = 16


def fingerprint(data: bytes | bytearray | memoryview) -> bytes:
    """Return the XXH3-128 of ``data``: 16 bytes, most significant first."""
    return xxhash.xxh3_128_digest(data)


class Fingerprints(MutableMapping[int, bytes]):
    """Maps each piece below ``size`` to its fingerprint, in a fixed 17 bytes a piece.

    Setting raises IndexError for a piece outside ``range(size)`` and ValueError for a wrong length.
    """

    __slots__ = ("_digests", "_stored")

    def __init__(self, size: int) -> None:
        self._stored = PieceSet(size)
        self._digests = bytearray(size * FINGERPRINT_BYTES)

    def stored(self) -> PieceSet:
        """Return a copy of the set of pieces that have a fingerprint."""
        return self._stored.copy()

    def packed(self) -> bytes:
        """Return the fingerprints of all pieces, one after the other; zeros where there is none."""
        return bytes(self._digests)

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
