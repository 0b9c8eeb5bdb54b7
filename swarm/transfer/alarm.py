"""Sleeping until a time that may still move closer."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio


class Alarm:
    """Wakes one task; ``now`` is the clock that times are in, seconds."""

    __slots__ = ("_now", "_scope", "at")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._scope = trio.CancelScope()
        self.at = -math.inf
        """When the sleeper wakes; minus infinity while nobody sleeps."""

    def bring_forward(self, at: float) -> None:
        """Wake the sleeper at ``at``, if that is before it would wake."""
        if at < self.at:
            self.at = at
            self._scope.deadline = self._deadline(at)

    async def sleep_until(self, at: float) -> None:
        """Sleep until ``at`` or what it is brought forward to."""
        self.at = at
        with trio.CancelScope(deadline=self._deadline(at)) as self._scope:
            await trio.sleep_forever()
        self.at = -math.inf

    def _deadline(self, at: float) -> float:
        return trio.current_time() + max(0.0, at - self._now())
