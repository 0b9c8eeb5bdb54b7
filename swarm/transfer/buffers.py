"""The memory that pieces are received into and sent from: bounded and shared by many sessions.

Grants of a budget are first come, first served: all that is needed or nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import trio


class Grant:
    """Some bytes of a budget, held or still waited for; `release` ends either, any number of times."""

    __slots__ = ("_budget", "_wake", "granted", "size")

    def __init__(self, budget: ByteBudget, size: int, wake: Callable[[], object]) -> None:
        self._budget: ByteBudget | None = budget
        self._wake = wake
        self.size = size
        self.granted = False

    @property
    def released(self) -> bool:
        """Whether this has ended."""
        return self._budget is None

    def release(self) -> None:
        """Give the bytes back, or stop waiting for them."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._released(self)  # noqa: SLF001 - the two halves of one mechanism

    def shrink(self, size: int) -> None:
        """Give all but ``size`` bytes of what is granted back."""
        if self._budget is not None:
            self._budget._shrunk(self, size)  # noqa: SLF001 - see above

    def _give(self) -> None:
        self.granted = True
        self._wake()


class ByteBudget:
    """At most ``capacity`` bytes are granted at once; a single larger wish is granted alone."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._waiting: deque[Grant] = deque()

    @property
    def used(self) -> int:
        """Bytes granted."""
        return self._used

    @property
    def contended(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def take(self, size: int, wake: Callable[[], object]) -> Grant:
        """Ask for ``size`` bytes: granted on return, or later with a call of ``wake``."""
        grant = Grant(self, size, wake)
        if not self._waiting and self._fits(size):
            self._used += size
            grant.granted = True
        else:
            self._waiting.append(grant)
        return grant

    def take_free(self, size: int) -> Grant | None:
        """Grant ``size`` bytes if they are there and nobody waits."""
        if self._waiting or not self._fits(size):
            return None
        return self.force(size)

    def _fits(self, size: int) -> bool:
        return self._used + size <= self._capacity or self._used == 0

    def force(self, size: int) -> Grant:
        """Grant ``size`` bytes at once, even beyond the capacity; others then wait the longer."""
        grant = Grant(self, size, lambda: None)
        self._used += size
        grant.granted = True
        return grant

    def _released(self, grant: Grant) -> None:
        if grant.granted:
            self._used -= grant.size
        else:
            self._waiting.remove(grant)
        self._serve()

    def _shrunk(self, grant: Grant, size: int) -> None:
        self._used -= grant.size - size
        grant.size = size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0].size):
            first = self._waiting.popleft()
            self._used += first.size
            first._give()  # noqa: SLF001 - see above


POOL_BYTES = 64 * 1024 * 1024
"""All buffers of a pool together. A session has one piece under way (the protocol forbids more), and a
piece being verified keeps its buffer, so this bounds what hostile and slow peers can hold."""

UPLOAD_BYTES = 64 * 1024 * 1024
"""Pieces read and not yet sent, of all sessions together: what peers that do not read can hold. Once half of
it is used, a session keeps what its peer takes soon (`pacing.KeepSizer`), and reads the piece again later."""

LEAST_BYTES = 16 * 1024
"""What a piece on its way to the disk takes at least, with its task: small files may arrive faster
than they are created, and a million of them wait."""
UNSTORED_BYTES = 4 * 1024 * 1024
"""Bytes of whole pieces of one transfer that may wait for the disk before it receives no more: while the disk
is slower than the network, more of them would only take memory."""

IDLE_UPLOAD_BYTES = 4 * 1024 * 1024
"""Free buffers for what is sent that are kept for reuse: most writes take no longer than one step."""

IDLE_BYTES = 16 * 1024 * 1024
"""Free buffers kept for reuse: fresh memory costs a page fault every 4 KiB, a tenth of the time at 1 GB/s."""


class PieceBuffer:
    """A whole piece's worth of memory; ``view`` is exactly as long as the piece."""

    __slots__ = ("_evict", "_grant", "_memory", "_pool", "_share", "_unstored", "view")

    def __init__(self, pool: BufferPool, memory: bytearray, grant: Grant) -> None:
        self._pool = pool
        self._grant = grant
        self._memory = memory
        self._evict: Callable[[], object] | None = None
        self._share: BufferShare | None = None
        self._unstored = False
        self.view = memoryview(memory)

    def abandon(self, evict: Callable[[], object]) -> None:
        """The piece is no longer wanted, but its peer may never finish sending it.

        ``evict`` is called once somebody else needs the memory.
        """
        self._evict = evict
        self._pool._abandoned(self)  # noqa: SLF001 - the two halves of one mechanism

    def release(self, *, reuse: bool = True) -> None:
        """Give the memory back. Pass ``reuse=False`` if something may still read it. May be called twice."""
        self._pool._released(self, self._memory if reuse else None)  # noqa: SLF001 - see above
        self._grant.release()
        share, self._share = self._share, None
        if share is not None:
            share._given_back(len(self._memory), unstored=self._unstored)  # noqa: SLF001 - see above

    def belongs_to(self, share: BufferShare) -> None:
        """Count the memory as that of ``share`` until it is given back."""
        self._share = share

    def whole(self) -> None:
        """All that it holds has come, and waits for the disk."""
        if self._share is not None and not self._unstored:
            self._unstored = True
            self._share.unstored += len(self._memory)

    def stored(self) -> None:
        """Nothing that it holds waits for the disk any more, but it is not given back yet."""
        if self._share is not None and self._unstored:
            self._unstored = False
            self._share._written(len(self._memory))  # noqa: SLF001 - see above

    def wanted(self) -> None:
        """It is needed again, although it was abandoned."""
        if self._evict is not None:
            self._evict = None
            self._pool._wanted(self)  # noqa: SLF001 - see above

    def evicted(self) -> None:
        """Call what `abandon` was given."""
        if self._evict is not None:
            self._evict()


class BufferPool:
    """Hands out buffers of any length within ``capacity`` bytes; may serve several transfers.

    A shorter buffer than ``least`` bytes counts as so many.
    """

    def __init__(self, capacity: int = POOL_BYTES, idle: int = IDLE_BYTES, least: int = 1) -> None:
        self._budget = ByteBudget(capacity)
        self._capacity = capacity
        self._least = least
        self._idle_capacity = idle
        self._idle_bytes = 0
        self._idle: dict[int, list[bytearray]] = {}
        self._held: set[PieceBuffer] = set()
        self._unwanted: set[PieceBuffer] = set()

    @property
    def used(self) -> int:
        """Bytes handed out."""
        return self._budget.used

    @property
    def short(self) -> bool:
        """Whether somebody waits, or more than half is handed out."""
        return self._budget.contended or 2 * self._budget.used > self._capacity

    def reserve(self, size: int, wake: Callable[[], object]) -> Grant:
        """As `ByteBudget.take`, for memory that is not of this pool."""
        return self._budget.take(size, wake)

    def share(self) -> BufferShare:
        """The part of one transfer."""
        return BufferShare(self)

    async def take(self, length: int, *, at_once: bool = False) -> PieceBuffer:
        """A buffer of ``length`` bytes; waits (a checkpoint only then) while the pool is used up.

        ``at_once`` takes it beyond the capacity if need be.
        """
        if (buffer := self.take_free(length)) is not None:
            return buffer
        size = max(length, self._least)
        if at_once:
            return self._buffer(length, self._budget.force(size))
        arrived = trio.Event()
        grant = self._budget.take(size, arrived.set)
        try:
            self._make_room()
            await arrived.wait()
        except BaseException:
            grant.release()
            raise
        return self._buffer(length, grant)

    def take_free(self, length: int) -> PieceBuffer | None:
        """As `take`, or None where that would wait."""
        grant = self._budget.take_free(max(length, self._least))
        return None if grant is None else self._buffer(length, grant)

    def take_spare(self, length: int) -> PieceBuffer | None:
        """As `take_free`, but only while half of the pool is unused."""
        return self.take_free(length) if 2 * self._budget.used < self._capacity else None

    def _buffer(self, length: int, grant: Grant) -> PieceBuffer:
        buffer = PieceBuffer(self, self._memory(length), grant)
        self._held.add(buffer)
        return buffer

    def _memory(self, length: int) -> bytearray:
        idle = self._idle.get(length)
        if not idle:
            return bytearray(length)
        self._idle_bytes -= length
        return idle.pop()

    def _abandoned(self, buffer: PieceBuffer) -> None:
        if buffer in self._held:
            self._unwanted.add(buffer)
            if self._budget.contended:
                self._make_room()

    def _wanted(self, buffer: PieceBuffer) -> None:
        self._unwanted.discard(buffer)

    def _make_room(self) -> None:
        for buffer in tuple(self._unwanted):
            self._unwanted.discard(buffer)
            buffer.evicted()

    def _released(self, buffer: PieceBuffer, memory: bytearray | None) -> None:
        if buffer not in self._held:
            return
        self._held.remove(buffer)
        self._unwanted.discard(buffer)
        if memory is None or len(memory) > self._idle_capacity:
            return
        if self._idle_bytes + len(memory) > self._idle_capacity:
            self._idle.clear()
            self._idle_bytes = 0
        self._idle.setdefault(len(memory), []).append(memory)
        self._idle_bytes += len(memory)


class BufferShare:
    """The buffers of one transfer.

    A transfer that holds none gets its first at once, whatever the others hold: slow peers of one transfer
    cannot stop another. While more than `UNSTORED_BYTES` of whole pieces wait for the disk, and more than the
    new buffer has, it gets none. Pieces that are on their way do not count there, so slow peers stop nobody.
    """

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._held = 0
        self.unstored = 0
        """Bytes of whole pieces that wait for the disk."""
        self._stored = trio.lowlevel.ParkingLot()
        self._waiting: dict[trio.CancelScope, None] = {}

    async def take(self, length: int) -> PieceBuffer:
        """A buffer of ``length`` bytes.

        Waits while too much waits for the disk, and, unless this transfer holds none, for the pool.
        """
        while self._behind(length):
            await self._stored.park()
        buffer = self._pool.take_free(length)
        while buffer is None:
            buffer = await self._take(length)
        return self._own(buffer)

    def take_free(self, length: int) -> PieceBuffer | None:
        """As `take`, or None where that would wait."""
        buffer = None if self._behind(length) else self._pool.take_free(length)
        return None if buffer is None else self._own(buffer)

    def take_spare(self, length: int) -> PieceBuffer | None:
        """As `take_free`, but only while half of the pool is unused."""
        buffer = None if self._behind(length) else self._pool.take_spare(length)
        return None if buffer is None else self._own(buffer)

    def _behind(self, length: int) -> bool:
        return self.unstored > max(UNSTORED_BYTES, length)

    def _own(self, buffer: PieceBuffer) -> PieceBuffer:
        self._held += len(buffer.view)
        buffer.belongs_to(self)
        return buffer

    async def _take(self, length: int) -> PieceBuffer | None:
        """A buffer, or None when this transfer has come to hold none."""
        if not self._held:
            return await self._pool.take(length, at_once=True)
        try:
            with trio.CancelScope() as waiting:
                self._waiting[waiting] = None
                try:
                    return await self._pool.take(length)
                finally:
                    del self._waiting[waiting]
        except trio.Cancelled:
            # It may have been about to be served at once.
            self._serve_at_once()
            raise
        return None

    def _given_back(self, size: int, *, unstored: bool) -> None:
        self._held -= size
        if unstored:
            self._written(size)
        self._serve_at_once()

    def _serve_at_once(self) -> None:
        """If nothing is held, serve the first that waits; the others find that something is."""
        if not self._held and self._waiting:
            next(iter(self._waiting)).cancel()

    def _written(self, size: int) -> None:
        self.unstored -= size
        self._stored.unpark_all()


class Holding(Protocol):
    """Memory that whole pieces are in, until it is released."""

    def whole(self) -> None:
        """The pieces wait for the disk."""

    def release(self, *, reuse: bool = True) -> None:
        """Give the memory back. Pass ``reuse=False`` if something may still read it."""


class ArrivedPiece(NamedTuple):
    """A whole piece; ``fresh`` bytes of it were not told of before. ``data`` is None if it was cancelled."""

    piece: int
    fresh: int
    data: memoryview | None


@dataclass(frozen=True, slots=True)
class ArrivedPieces:
    """Whole pieces that came from one source together; ``buffers`` hold the data of all of them."""

    pieces: list[ArrivedPiece]
    buffers: Sequence[Holding]

    def whole(self) -> None:
        """The pieces wait for the disk."""
        for buffer in self.buffers:
            buffer.whole()

    def release(self, *, reuse: bool = True) -> None:
        """Give the memory back. Pass ``reuse=False`` if something may still read it."""
        for buffer in self.buffers:
            buffer.release(reuse=reuse)


class TransferMemory:
    """What all transfers of a node share: the memory for what is received, and that for what is sent."""

    def __init__(self) -> None:
        self.pool = BufferPool(least=LEAST_BYTES)
        self.uploads = BufferPool(UPLOAD_BYTES, idle=IDLE_UPLOAD_BYTES)
