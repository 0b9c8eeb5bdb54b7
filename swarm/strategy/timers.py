"""When something has to be looked at again; the one source of a brain's ``next_wakeup``."""

from __future__ import annotations

import heapq
import math
from enum import IntEnum, auto

from swarm.ids import SourceId


class Wakeup(IntEnum):
    """What is looked at when the time comes."""

    CHOKER = auto()
    """The next round of the choker."""
    HAVES = auto()
    """Stored pieces wait to be announced."""
    REQUESTS = auto()
    """The oldest requests at one source may be late."""
    RETRY = auto()
    """The back-off of one source ends."""
    CLAIMS = auto()
    """A cleared claim of one source gets another chance."""
    SILENCE = auto()
    """A source on this machine has not said what it has."""
    UPLOADS = auto()
    """A receiver may be later than the uplink can be blamed for."""
    IDLE = auto()
    """Idle sources may duplicate a request in the endgame."""


Key = tuple[Wakeup, SourceId | None]


class Timers:
    """Wake-ups by kind and source. Setting one that is set keeps the earlier time.

    So a deadline that moves with every byte costs nothing: the wake-up comes at the old time, its
    handler looks at the facts and sets it again.
    """

    __slots__ = ("_at", "_heap", "_sequence")

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._sequence = 0

    def set(self, wakeup: Wakeup, at: float, source: SourceId | None = None) -> None:
        """Wake up at ``at``, unless that is due earlier already; infinity sets nothing."""
        key = (wakeup, source)
        if at == math.inf or self._at.get(key, math.inf) <= at:
            return
        self._at[key] = at
        self._sequence += 1
        heapq.heappush(self._heap, (at, self._sequence, key))

    def clear(self, wakeup: Wakeup, source: SourceId | None = None) -> None:
        """Do not wake up for this."""
        self._at.pop((wakeup, source), None)

    def forget(self, source: SourceId) -> None:
        """Do not wake up for the source."""
        for wakeup in Wakeup:
            self._at.pop((wakeup, source), None)

    def due(self, now: float) -> list[Key]:
        """Take what is due at ``now``, earliest first."""
        due = []
        while self.next() <= now:
            key = heapq.heappop(self._heap)[2]
            del self._at[key]
            due.append(key)
        return due

    def next(self) -> float:
        """The time of the next wake-up, or infinity."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return math.inf
