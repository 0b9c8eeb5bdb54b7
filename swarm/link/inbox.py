"""Bytes received and not yet read, of one stream.

A part is kept as it came when it fills most of the buffer that it is a view of; a smaller one is
copied to the end of a growing buffer. So what is held in memory stays within about twice the bytes
that wait, whatever sizes the peer chooses.
"""

from __future__ import annotations

from collections import deque

COPY_BELOW = 16 * 1024
"""A part smaller than this is copied: it must not pin the record it is a view of."""


class Inbox:
    """A queue of bytes with whole-buffer input and any-size output."""

    __slots__ = ("_offset", "_parts", "size")

    def __init__(self) -> None:
        self._parts: deque[memoryview | bytearray] = deque()
        self._offset = 0
        self.size = 0

    def append(self, part: memoryview) -> None:
        """Add ``part``; the memory behind it must not change from now on."""
        size = len(part)
        self.size += size
        if size >= COPY_BELOW and 2 * size >= len(part.obj):  # type: ignore[arg-type]
            self._parts.append(part)
            return
        last = self._parts[-1] if self._parts else None
        if isinstance(last, bytearray) and len(last) < 2 * COPY_BELOW:
            last += part
        else:
            self._parts.append(bytearray(part))

    def take(self, size: int) -> bytes:
        """Remove and return the first ``size`` bytes, or all if there are fewer."""
        if self._offset == 0 and self._parts and len(self._parts[0]) == min(size, self.size):
            part = self._parts.popleft()
            self.size -= len(part)
            return bytes(part)
        out = bytearray(min(size, self.size))
        self.take_into(memoryview(out))
        return bytes(out)

    def take_into(self, out: memoryview) -> int:
        """Move bytes from the front into ``out`` until one of the two is exhausted; return how many."""
        filled, wanted = 0, min(len(out), self.size)
        while filled < wanted:
            part = self._parts[0]
            size = min(len(part) - self._offset, wanted - filled)
            out[filled : filled + size] = part[self._offset : self._offset + size]
            filled += size
            self._offset += size
            if self._offset == len(part):
                self._parts.popleft()
                self._offset = 0
        self.size -= filled
        return filled

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()
        self._offset = 0
        self.size = 0
