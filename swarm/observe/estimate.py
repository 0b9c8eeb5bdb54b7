"""How long a transfer will still take. Pure: bytes, and seconds of a monotonic clock."""

from __future__ import annotations

from swarm.strategy.rates import Meter

SETTLING_SECONDS = 2.0
"""Bytes have to arrive for so long before a rate is worth a figure."""
STEADY_SECONDS = 10.0
"""Time constant of the rate behind the figure: it must not jump with every piece."""
STALLED_SECONDS = 5.0
"""Without a byte for so long there is no figure: it would only grow."""
LONGEST_SECONDS = 30 * 86400.0
"""More than this is no figure either."""


class Estimate:
    """The time left, from what arrives; None until that has settled, and when it stops."""

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._last = 0.0

    def add(self, size: int, now: float) -> None:
        """``size`` bytes arrived."""
        if self._meter is None or now - self._last > STALLED_SECONDS:
            # The first bytes took a time that is not known: they only start the clock.
            self._meter = Meter(STEADY_SECONDS, now)
        else:
            self._meter.add(size, now)
        self._last = now

    def seconds_left(self, missing: int, now: float) -> float | None:
        """Return the seconds that ``missing`` bytes will take."""
        meter = self._meter
        if meter is None or meter.age(now) < SETTLING_SECONDS or now - self._last > STALLED_SECONDS:
            return None
        rate = meter.rate(now)
        if rate <= 0 or missing > rate * LONGEST_SECONDS:
            return None
        return missing / rate
