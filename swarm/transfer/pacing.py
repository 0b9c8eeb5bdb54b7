"""Rate limits shared by the sessions of a node or a transfer."""

from __future__ import annotations

from collections.abc import Callable

from swarm.strategy.rates import TokenBucket
from swarm.transfer.chunks import CHUNK_BYTES

BURST_SECONDS = 0.2
"""How much of the limit may pass at once after a pause: a process that wakes up late on a busy machine
catches up, and ten seconds hold at most 2 % more than the limit."""

SLICE_SECONDS = 0.02
LEAST_SLICE_BYTES = 4096


class Pacer:
    """Lets ``limit`` bytes a second pass, whoever sends them; turns are given in the order of asking.

    A session asks for one slice at a time, so all get equal shares. Time is not measured by sleeping:
    a turn is a point in time, and a late riser's next turn does not move.
    """

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self._now = now
        self.slice_bytes = max(LEAST_SLICE_BYTES, min(CHUNK_BYTES, int(limit * SLICE_SECONDS)))
        """The most that one turn should be for."""
        self._bucket = TokenBucket(limit, max(limit * BURST_SECONDS, self.slice_bytes), now())

    def turn(self, size: int) -> float:
        """Take ``size`` bytes of the limit; returns the time from which on they may pass."""
        now = self._now()
        delay = self._bucket.delay(size, now)
        self._bucket.take(size, now)
        return now + delay

    def give_back(self, size: int) -> None:
        """``size`` bytes that were taken will not pass after all."""
        self._bucket.take(-size, self._now())
