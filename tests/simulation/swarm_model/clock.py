"""Virtual time: events in the order of their times, equal times in the order in which they were set."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """The one source of time of a run, seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, time: float, call: Callable[..., None], *args: Any) -> None:
        """Call at ``time``."""
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, call, args))

    def later(self, delay: float, call: Callable[..., None], *args: Any) -> None:
        """Call ``delay`` seconds from now."""
        self.at(self.now + delay, call, *args)

    def run(self, until: float, done: Callable[[], bool]) -> None:
        """Let time pass until ``until``, until nothing is left to happen, or until ``done``."""
        heap, pop = self._heap, heapq.heappop
        while heap and not done():
            time, _, call, args = heap[0]
            if time > until:
                self.now = until
                return
            pop(heap)
            self.now = time
            self.events += 1
            call(*args)
