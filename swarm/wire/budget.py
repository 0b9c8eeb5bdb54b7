"""How many messages a peer may send: a token bucket without a clock."""

from __future__ import annotations


class MessageBudget:
    """``rate`` messages a second for ever, ``burst`` at once; ``now`` is monotonic seconds.

    What is earned beside the rate is kept up to ``burst`` as well.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def spend(self, now: float) -> bool:
        """Take one message; says whether there was one left."""
        if now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def earn(self, messages: float) -> None:
        """Allow ``messages`` more."""
        self._left = min(self._burst, self._left + messages)
