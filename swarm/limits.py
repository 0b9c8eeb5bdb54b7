"""The one token bucket: how many bytes, messages or frames may pass. Pure."""

from __future__ import annotations


class TokenBucket:
    """``rate`` tokens a second on average, at most ``burst`` at once; ``now`` is monotonic seconds.

    A token stands for a byte, a message or a frame. `spend` refuses what is not there; `take` may run into
    debt, which later takes wait for, so that a write larger than the burst is possible and the average
    still holds. Raises ValueError for a rate or a burst that is not positive.
    """

    __slots__ = ("_at", "_burst", "_rate", "tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        if rate <= 0 or burst <= 0:
            raise ValueError(f"a token bucket needs a positive rate and burst, not {rate} and {burst}")
        self._rate = rate
        self._burst = burst
        self._at = now
        self.tokens = float(burst)
        """What is left as of the last call that named a time; negative while in debt."""

    def refill(self, now: float) -> float:
        """Add what was earned since the last call, and return what is left."""
        if now > self._at:
            self.tokens = min(self._burst, self.tokens + (now - self._at) * self._rate)
            self._at = now
        return self.tokens

    def spend(self, now: float, amount: float = 1.0) -> bool:
        """Take ``amount`` if so much is left; says whether it was."""
        if self.refill(now) < amount:
            return False
        self.tokens -= amount
        return True

    def take(self, amount: float, now: float) -> None:
        """Take ``amount`` whether it is there or not."""
        self.refill(now)
        self.tokens -= amount

    def earn(self, amount: float) -> None:
        """Add ``amount`` beside the rate; what exceeds the burst is lost."""
        self.tokens = min(self._burst, self.tokens + amount)

    def delay(self, amount: float, now: float) -> float:
        """Seconds from ``now`` until ``amount``, or a full burst if that is less, is left."""
        lacking = min(amount, self._burst) - self.refill(now)
        return max(0.0, lacking / self._rate)
