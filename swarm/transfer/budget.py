"""Bytes of memory that many sessions share: first come, first served, all that is needed or nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Grant:
    """Some bytes of a budget, held or still waited for; `release` ends either, any number of times."""

    __slots__ = ("_budget", "_wake", "granted", "size")

    def __init__(self, budget: ByteBudget, size: int, wake: Callable[[], object]) -> None:
        self._budget: ByteBudget | None = budget
        self._wake = wake
        self.size = size
        self.granted = False

    def release(self) -> None:
        """Give the bytes back, or stop waiting for them."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget._released(self)  # noqa: SLF001 - the two halves of one mechanism

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

    def _fits(self, size: int) -> bool:
        return self._used + size <= self._capacity or self._used == 0

    def _released(self, grant: Grant) -> None:
        if grant.granted:
            self._used -= grant.size
        else:
            self._waiting.remove(grant)
        while self._waiting and self._fits(self._waiting[0].size):
            first = self._waiting.popleft()
            self._used += first.size
            first._give()  # noqa: SLF001 - see above
