"""How fast bytes flow. Bytes and seconds of a monotonic clock."""

from __future__ import annotations

import math

RATE_SECONDS = 2.0
"""The time constant of a rate by which the next piece is chosen: eight pieces at 1 MB/s."""

SHORTEST_SPAN = 0.1
"""A meter this fraction of its time constant old is not believed to be younger: a first burst is no rate."""


class Meter:
    """Bytes per second, exponentially weighted with a time constant in seconds.

    The weight of the time before the meter began is taken out, so the first seconds are not too low.
    """

    __slots__ = ("_at", "_began", "_constant", "_sum")

    def __init__(self, constant: float, now: float) -> None:
        self._constant = constant
        self._began = now
        self._at = now
        self._sum = 0.0

    def add(self, size: int, now: float) -> None:
        """``size`` bytes passed at ``now``."""
        if now > self._at:
            self._sum *= math.exp((self._at - now) / self._constant)
            self._at = now
        self._sum += size

    def rate(self, now: float) -> float:
        """Bytes per second as of ``now``."""
        if not self._sum:
            return 0.0
        span = max((now - self._began) / self._constant, SHORTEST_SPAN)
        faded = self._sum * math.exp(min(self._at - now, 0.0) / self._constant)
        return faded / (self._constant * -math.expm1(-span))

    def age(self, now: float) -> float:
        """Seconds that were measured, without those left out."""
        return now - self._began

    def skip(self, seconds: float) -> None:
        """Leave ``seconds`` out that ended now: nothing was expected to flow in them."""
        self._began += seconds
        self._at += seconds
