"""Where the work on one piece runs: in the event loop's thread, or in a worker thread.

A hop to a worker thread costs about 50 microseconds and, when every core is busy, a share of the
core that the event loop needs: 1 MiB pieces hashed and written inline came to 1.23 GB/s against
0.97 GB/s through threads. So a piece up to `INLINE_BYTES` is worked on inline, as long as that does
not wait for a disk: a read that the page cache cannot answer is done in a thread, and after a write
that was slow (the system throttles who dirties too many pages) writes hop until one is fast again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")

INLINE_BYTES = 1024 * 1024
"""Pieces up to this size are hashed and copied inline: about 0.4 ms."""
SLOW_SECONDS = 0.01
"""A write that takes longer waited for the disk; the event loop must not."""
HOPS = 4
"""Worker threads of one store, and so the descriptors that they may hold."""


class PieceWork:
    """Runs the blocking work on single pieces of one store."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(HOPS)
        self._slow = False

    async def compute(self, size: int, work: Callable[[], T]) -> T:
        """Run ``work``, which touches no disk: inline if small (without a checkpoint), else in a thread."""
        if size <= INLINE_BYTES:
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._threads)

    async def read(self, size: int, attempt: Callable[[bool], T]) -> T:
        """Run ``attempt(cached)``: inline with True, and in a thread with False if that would block."""
        if size <= INLINE_BYTES:
            await trio.lowlevel.checkpoint()
            try:
                return attempt(True)
            except BlockingIOError:
                pass
        return await trio.to_thread.run_sync(attempt, False, limiter=self._threads)

    async def write(self, size: int, work: Callable[[], T]) -> T:
        """Run ``work`` inline while writes are fast and small, in a thread otherwise."""

        def timed() -> tuple[T, float]:
            started = time.perf_counter()
            return work(), time.perf_counter() - started

        if size <= INLINE_BYTES and not self._slow:
            await trio.lowlevel.checkpoint()
            result, seconds = timed()
        else:
            result, seconds = await trio.to_thread.run_sync(timed, limiter=self._threads)
        self._slow = seconds > SLOW_SECONDS
        return result
