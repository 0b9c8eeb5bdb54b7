"""How much a session moves at once, and when: chunk sizes and rate limits.

A chunk is small enough that a control message waits little behind it, and large enough to be fast. A rate
limit belongs to a node or to one transfer; a session obeys all that apply to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from swarm.limits import TokenBucket
from swarm.protocol.protocol_limits import MAX_DATA_BYTES

CHUNK_BYTES = MAX_DATA_BYTES
"""The largest chunk: most pieces are sent and read in one step where the peer is fast."""

LEAST_CHUNK_BYTES = 16 * 1024
FIRST_CHUNK_BYTES = 64 * 1024

CHUNK_SECONDS = 0.05
"""What one chunk may take at the measured rate: what a control message waits behind it."""

_MEMORY = 0.8

BURST_SECONDS = 0.2
"""How much of the limit may pass at once after a pause: a process that wakes up late on a busy machine
catches up, and ten seconds hold at most 2 % more than the limit."""

SLICE_SECONDS = 0.02
LEAST_SLICE_BYTES = 4096

KEEP_SECONDS = 2.0
"""While memory is short, a session keeps what its peer takes in so long, and then reads the piece again."""

LEAST_KEPT_BYTES = 128 * 1024
"""So much is kept for the slowest peer: a small part of a budget, and not much to read a piece for."""

_KEEP_GROWTH = 2


class ChunkSizer:
    """Follows the rate at which one direction of one session moves bytes. Without a clock."""

    __slots__ = ("_bytes", "_seconds", "size")

    def __init__(self, first: int = FIRST_CHUNK_BYTES) -> None:
        self._bytes = 0.0
        self._seconds = 0.0
        self.size = first
        """Bytes of the next chunk."""

    @property
    def rate(self) -> float:
        """The measured bytes per second; infinite before anything took time."""
        return self._bytes / self._seconds if self._seconds else math.inf

    def moved(self, size: int, seconds: float) -> None:
        """``size`` bytes took ``seconds``."""
        self._bytes = self._bytes * _MEMORY + size
        self._seconds = self._seconds * _MEMORY + seconds
        # What buffers took at once proves no rate: doubled at most, a chunk outgrows them in small steps.
        most = min(CHUNK_BYTES, 2 * self.size)
        if self._bytes * CHUNK_SECONDS >= most * self._seconds:
            self.size = most
        else:
            self.size = max(LEAST_CHUNK_BYTES, int(self._bytes * CHUNK_SECONDS / self._seconds))


class KeepSizer:
    """How much of a piece one session may keep while memory is short. Without a clock.

    What buffers took at once proves no rate, so it is at most twice what was taken before.
    """

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = LEAST_KEPT_BYTES
        """Bytes that the peer takes in `KEEP_SECONDS`, as far as it has shown."""

    def taken(self, size: int, seconds: float) -> None:
        """``size`` bytes were taken within ``seconds``, waits for limits included; a few show nothing."""
        if size < LEAST_KEPT_BYTES and seconds < KEEP_SECONDS:
            return
        most = max(self.size, _KEEP_GROWTH * size)
        shown = most if size * KEEP_SECONDS >= most * seconds else int(size * KEEP_SECONDS / seconds)
        self.size = max(LEAST_KEPT_BYTES, shown)


class RateLimit:
    """One limit in bytes per second that many sessions share; ``rate`` None is no limit.

    Time is not measured by sleeping: a turn is a point in time, and a late riser's next turn does not move.
    """

    def __init__(self, rate: int | None, now: Callable[[], float]) -> None:
        self._now = now
        self._bucket: TokenBucket | None = None
        self.watchers: set[trio.Event] = set()
        """Set when the limit changes."""
        self.slice_bytes = self.burst_bytes = CHUNK_BYTES
        """The most that one turn should be for, and what may pass at once."""
        self.change(rate)

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._bucket is not None

    def change(self, rate: int | None) -> None:
        """Set another rate from now on; None takes the limit away. Nobody waits for the old rate."""
        for watcher in self.watchers:
            watcher.set()
        if rate is None:
            self._bucket = None
            self.slice_bytes = self.burst_bytes = CHUNK_BYTES
            return
        self.slice_bytes = max(LEAST_SLICE_BYTES, min(CHUNK_BYTES, int(rate * SLICE_SECONDS)))
        self.burst_bytes = max(int(rate * BURST_SECONDS), self.slice_bytes)
        self._bucket = TokenBucket(rate, self.burst_bytes, self._now())

    def take(self, size: int, now: float) -> float:
        """Take ``size`` bytes, or give back as many if it is negative; returns seconds to wait."""
        if self._bucket is None:
            return 0.0
        delay = self._bucket.delay(size, now) if size > 0 else 0.0
        self._bucket.take(size, now)
        return delay


class Pacer:
    """Lets bytes pass at the pace of all ``limits``; turns are given in the order of asking.

    A session asks for one slice at a time, so all get equal shares.
    """

    def __init__(self, *limits: RateLimit, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now

    @property
    def limited(self) -> bool:
        """Whether any limit applies."""
        # Asked with every chunk, and a generator costs more than the limits of a node and of a transfer.
        for limit in self._limits:  # noqa: SIM110
            if limit.limited:
                return True
        return False

    @property
    def slice_bytes(self) -> int:
        """The most that one turn should be for.

        Turns at the widest limit are equal for all who share it, so a narrower limit makes them smaller only
        where one would pass its burst: smaller turns would be a smaller share.
        """
        limited = [limit for limit in self._limits if limit.limited]
        if not limited:
            return CHUNK_BYTES
        widest = max(limit.slice_bytes for limit in limited)
        return min(widest, *(limit.burst_bytes for limit in limited))

    @property
    def rate(self) -> float:
        """Bytes per second that the limits let pass, as their slices show; infinite without a limit."""
        slices = (each.slice_bytes for each in self._limits if each.limited)
        return min(slices, default=math.inf) / SLICE_SECONDS

    def turn(self, size: int) -> float:
        """Take ``size`` bytes of every limit; returns the time from which on they may pass."""
        now = self._now()
        return now + max((limit.take(size, now) for limit in self._limits), default=0.0)

    async def wait(self, size: int) -> float:
        """Take ``size`` bytes and wait until they may pass, or until a limit changes.

        Returns the seconds waited; a checkpoint only if there is something to wait for.
        """
        at = self.turn(size)
        began = self._now()
        delay = at - began
        if delay <= 0:
            return 0.0
        changed = trio.Event()
        for limit in self._limits:
            limit.watchers.add(changed)
        try:
            with trio.move_on_after(delay):
                await changed.wait()
        finally:
            for limit in self._limits:
                limit.watchers.discard(changed)
        return self._now() - began

    def give_back(self, size: int) -> None:
        """``size`` bytes that were taken will not pass after all."""
        now = self._now()
        for limit in self._limits:
            limit.take(-size, now)
