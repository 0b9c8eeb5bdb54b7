"""The memory that a fast peer's stream is read into; its whole pieces stay there until they are stored.

So a batch of pieces is one read, and none of them is copied but the one that its end cuts.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from swarm.transfer.buffers import PieceBuffer

HANDED_BYTES = 2 * 1024 * 1024
"""The most pieces that are handed over together. After each batch the processor's cache is full of payload,
and the code that follows runs slowly at first: the fewer batches, the faster."""

ARENA_BYTES = HANDED_BYTES + 64 * 1024
"""A batch with its heads, and the beginning of what comes next."""

LONGEST_PIECE = HANDED_BYTES // 4
"""A longer piece is read into a buffer of its own: the one that is cut would be copied too often."""


class Arena:
    """A buffer that is filled from its front, and lent to whoever stores the pieces in it.

    While it is lent the bytes before `unread` must not change, so it is not restarted.
    """

    __slots__ = ("_buffer", "_closed", "_end", "_lent", "_returned", "_spoilt")

    def __init__(self, buffer: PieceBuffer) -> None:
        self._buffer = buffer
        self._end = 0
        self._lent = 0
        self._spoilt = self._closed = False
        self._returned = trio.lowlevel.ParkingLot()

    @property
    def room(self) -> memoryview:
        """Where the next bytes belong."""
        return self._buffer.view[self._end :]

    @property
    def free(self) -> bool:
        """Whether nobody else looks at it."""
        return not self._lent and not self._spoilt

    @property
    def lent(self) -> bool:
        """Whether it will be given back."""
        return self._lent > 0

    def came(self, size: int, unread: int) -> memoryview:
        """``size`` bytes are in the room, behind ``unread`` ones; returns all that are unread."""
        self._end += size
        return self._buffer.view[self._end - size - unread : self._end]

    def restart(self, unread: memoryview) -> memoryview:
        """Begin again with the unread bytes; returns where they are now."""
        size = self._end = len(unread)
        view = self._buffer.view[:size]
        if size:
            view[:] = unread
        return view

    def lend(self) -> ArenaLoan:
        """Let somebody else look at what is read, until the loan is released."""
        self._lent += 1
        return ArenaLoan(self)

    async def returned(self) -> None:
        """Wait until all loans are over."""
        while self._lent:
            await self._returned.park()

    def abandon(self, evict: Callable[[], object]) -> None:
        """The piece whose bytes come next is no longer wanted: as `PieceBuffer.abandon`."""
        self._buffer.abandon(evict)

    def wanted(self) -> None:
        """That piece is over."""
        self._buffer.wanted()

    def close(self) -> None:
        """Nothing more is read: give the memory back as soon as nobody looks at it."""
        self._closed = True
        if not self._lent:
            self._buffer.release(reuse=not self._spoilt)

    def _waits(self) -> None:
        self._buffer.whole()

    def _over(self, *, reuse: bool) -> None:
        self._lent -= 1
        self._spoilt |= not reuse
        if not self._lent:
            self._buffer.stored()
            self._returned.unpark_all()
            if self._closed:
                self._buffer.release(reuse=not self._spoilt)


class ArenaLoan:
    """A look at the pieces in an arena: a `Holding` of `ArrivedPieces`."""

    __slots__ = ("_arena",)

    def __init__(self, arena: Arena) -> None:
        self._arena: Arena | None = arena

    def whole(self) -> None:
        """The pieces wait for the disk."""
        if self._arena is not None:
            self._arena._waits()  # noqa: SLF001 - the two halves of one mechanism

    def release(self, *, reuse: bool = True) -> None:
        """Nobody looks any more, or with ``reuse=False`` perhaps somebody does. May be called twice."""
        arena, self._arena = self._arena, None
        if arena is not None:
            arena._over(reuse=reuse)  # noqa: SLF001 - see above
