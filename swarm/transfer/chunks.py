"""How many bytes to move in one go: few enough that control waits little, enough to be fast."""

from __future__ import annotations

CHUNK_BYTES = 256 * 1024
"""The most: above it nothing gets faster."""

LEAST_CHUNK_BYTES = 16 * 1024
FIRST_CHUNK_BYTES = 64 * 1024

CHUNK_SECONDS = 0.05
"""What one chunk may take at the measured rate: what a control message waits behind it."""

_MEMORY = 0.8


class ChunkSizer:
    """Follows the rate at which one direction of one session moves bytes. Without a clock."""

    __slots__ = ("_bytes", "_seconds", "size")

    def __init__(self, first: int = FIRST_CHUNK_BYTES) -> None:
        self._bytes = 0.0
        self._seconds = 0.0
        self.size = first
        """Bytes of the next chunk."""

    def moved(self, size: int, seconds: float) -> None:
        """``size`` bytes took ``seconds``."""
        self._bytes = self._bytes * _MEMORY + size
        self._seconds = self._seconds * _MEMORY + seconds
        if self._bytes * CHUNK_SECONDS >= CHUNK_BYTES * self._seconds:
            self.size = CHUNK_BYTES
        else:
            self.size = max(LEAST_CHUNK_BYTES, int(self._bytes * CHUNK_SECONDS / self._seconds))
