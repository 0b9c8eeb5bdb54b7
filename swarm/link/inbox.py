"""Bytes received and not yet read, of one stream.

A part that fills most of its block is kept as it came, and the block given back once it is read; a
smaller one is copied to the end of a growing buffer. So what is held in memory stays within about
half as much again as the bytes that wait, whatever sizes the peer chooses.
"""

from __future__ import annotations

from collections import deque

from swarm.link.blocks import BLOCK_BYTES, Blocks

KEEP_FROM = BLOCK_BYTES * 3 // 4
"""A part of at least this size keeps its block, which then has room for no other such part."""
COPIES_BYTES = 32 * 1024
"""A buffer of copied parts grows no further than this and one more part."""


class Inbox:
    """A queue of bytes with whole-part input and any-size output."""

    __slots__ = ("_blocks", "_offset", "_parts", "size")

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._parts: deque[memoryview | bytearray] = deque()
        self._offset = 0
        self.size = 0

    def append(self, part: memoryview) -> bool:
        """Add ``part``, a view of a block; return whether the block now belongs to this inbox."""
        size = len(part)
        self.size += size
        if size >= KEEP_FROM:
            self._parts.append(part)
            return True
        last = self._parts[-1] if self._parts else None
        if isinstance(last, bytearray) and len(last) < COPIES_BYTES:
            last += part
        else:
            self._parts.append(bytearray(part))
        return False

    def take(self, size: int) -> bytes:
        """Remove and return the first ``size`` bytes, or all if there are fewer."""
        size = min(size, self.size)
        self.size -= size
        pieces: list[memoryview | bytearray] = []
        spent: list[memoryview | bytearray] = []
        while size:
            part = self._parts[0]
            piece = part[self._offset : self._offset + size]
            pieces.append(piece)
            size -= len(piece)
            self._offset += len(piece)
            if self._offset == len(part):
                spent.append(self._parts.popleft())
                self._offset = 0
        data = b"".join(pieces)
        for part in spent:
            self._give_back(part)
        return data

    def take_into(self, out: memoryview) -> int:
        """Move bytes from the front into ``out`` until one of the two is exhausted; return how many."""
        filled, wanted = 0, min(len(out), self.size)
        while filled < wanted:
            part = self._parts[0]
            size = min(len(part) - self._offset, wanted - filled)
            out[filled : filled + size] = memoryview(part)[self._offset : self._offset + size]
            filled += size
            self._offset += size
            if self._offset == len(part):
                self._offset = 0
                self._give_back(self._parts.popleft())
        self.size -= filled
        return filled

    def clear(self) -> None:
        """Forget everything."""
        while self._parts:
            self._give_back(self._parts.popleft())
        self._offset = 0
        self.size = 0

    def _give_back(self, part: memoryview | bytearray) -> None:
        if isinstance(part, memoryview):
            self._blocks.give(part.obj)  # type: ignore[arg-type]
