"""Receive windows that follow bandwidth x round trip, within one budget of memory.

Yamux gives every stream `INITIAL_WINDOW` unasked; whatever a window grows beyond that is taken
from a `Budget` that all connections of a process share. The same budget counts what is received
and unread, so that streams which nobody reads cannot fill the memory.
"""

from __future__ import annotations

from collections.abc import Hashable

from swarm.errors import RemoteError
from swarm.link.limits import (
    GROWTH_BUDGET,
    GROWTH_RTTS,
    GROWTH_SHARE,
    INITIAL_WINDOW,
    LOCAL_GROWTH_SECONDS,
    LOCAL_WINDOW,
    MAX_WINDOW,
    MEMORY_BUDGET,
)


class Budget:
    """Memory of all windows together: what they may grow by, and what is unread in them."""

    def __init__(self, held_limit: int = MEMORY_BUDGET, growth_limit: int = GROWTH_BUDGET) -> None:
        self._held_limit = held_limit
        self._growth_left = growth_limit
        self._unread: dict[Hashable, int] = {}
        self.held = 0

    @property
    def growth_left(self) -> int:
        """Bytes that windows may still grow by."""
        return self._growth_left

    def grow(self, size: int) -> bool:
        """Take ``size`` bytes of growth; False, with nothing taken, where that is more than a fair share."""
        if size * GROWTH_SHARE > self._growth_left:
            return False
        self._growth_left -= size
        return True

    def give_back(self, size: int) -> None:
        """Return growth of a stream that has ended."""
        self._growth_left += size

    def note(self, stream: Hashable, unread: int, *, consumed: bool) -> None:
        """Record that ``stream`` now holds ``unread`` bytes; ``consumed`` when its owner has just read."""
        before = self._unread.pop(stream, 0) if consumed or not unread else self._unread.get(stream, 0)
        if unread:
            self._unread[stream] = unread
        self.held += unread - before

    def stalest(self) -> Hashable | None:
        """Return the stream read longest ago when more is held than the budget allows, else None."""
        if self.held <= self._held_limit:
            return None
        return next(iter(self._unread))


class ReceiveWindow:
    """What one stream's peer may still send, and when it is told of more.

    Invariant: ``credit`` plus the unread bytes never exceed ``target``.
    """

    __slots__ = ("_budget", "_grown", "_maximum", "_updated", "credit", "target")

    def __init__(self, budget: Budget, maximum: int = MAX_WINDOW) -> None:
        self._budget = budget
        self._maximum = maximum
        self._grown = 0
        self._updated: float | None = None
        self.credit = INITIAL_WINDOW
        self.target = INITIAL_WINDOW

    def spend(self, size: int) -> None:
        """Account for ``size`` bytes that the peer sends; RemoteError when it was not allowed that many."""
        if size > self.credit:
            raise RemoteError(f"the peer sent {size} bytes into a window of {self.credit}")
        self.credit -= size

    def replenish(self, unread: int, now: float, rtt: float) -> int:
        """Return how many bytes to allow the peer on top, 0 while less than half the target is due.

        The target doubles when the last update was so short ago that the window held the peer up.
        Source: go-yamux `sendWindowUpdate`, with a budget for the process instead of one per session.
        """
        due = self.target - self.credit - unread
        if 2 * due < self.target:
            return 0
        if self._updated is not None:
            due += self._grow(now - self._updated, rtt)
        self._updated = now
        self.credit += due
        return due

    def _grow(self, age: float, rtt: float) -> int:
        if age <= GROWTH_RTTS * rtt:
            most = self._maximum
        elif age <= LOCAL_GROWTH_SECONDS:
            most = min(LOCAL_WINDOW, self._maximum)
        else:
            return 0
        step = min(self.target, most - self.target)
        if step <= 0 or not self._budget.grow(step):
            return 0
        self._grown += step
        self.target += step
        return step

    def release(self) -> None:
        """Give the growth back to the budget; the stream takes no more data."""
        self._budget.give_back(self._grown)
        self._grown = 0
