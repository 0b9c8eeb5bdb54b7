"""What came of one simulated run."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

STEPS = 50
"""Steps of a curve in the least possible time."""


@dataclass
class Outcome:
    """What came of one run; bytes are in copies of the whole, times in seconds."""

    ratio: float
    """Makespan by the least possible (what that is, the scenario says)."""
    seeder: float
    """Copies that the seeder sent."""
    wasted: float
    """The most duplicate bytes of one leecher, as a share of the whole."""
    wasted_by_all: float
    """The duplicate bytes of all leechers, as a share of what all of them wanted."""
    complete: bool
    """Whether everybody who stayed got everything that was there."""
    extra: dict[str, float] = field(default_factory=dict)
    progress: list[float] = field(default_factory=list)
    """What share of all pieces was stored after each fiftieth of the least possible time."""
    finished: list[float] = field(default_factory=list)
    """When each leecher was done, by the least possible time, ascending."""
    up_down: list[tuple[float, float]] = field(default_factory=list)
    """Copies sent and received by each leecher."""


def progress(stored_at: list[list[float]], least: float) -> list[float]:
    """See `Outcome.progress`."""
    times = sorted(time for one in stored_at for time in one)
    if not times:
        return []
    steps = range(math.ceil(times[-1] / least * STEPS) + 1)
    return [round(bisect_right(times, step * least / STEPS) / len(times), 4) for step in steps]
