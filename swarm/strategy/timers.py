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
    UPLOADS = auto()
    """A receiver may be later than the uplink can be blamed for."""
    IDLE = auto()
    """Idle sources may duplicate a request in the endgame."""


Key = tuple[Wakeup, SourceId | None]


class Timers:
    """Alarms by kind and source. Setting one that is set keeps the earlier time.

    So a deadline that moves with every byte costs nothing: the alarm rings at the old time, its
    handler looks at the facts and sets it again.
    """

    __slots__ = ("_at", "_heap", "_sequence")

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._sequence = 0

    def set(self, alarm: Wakeup, at: float, source: SourceId | None = None) -> None:
        """Ring at ``at`` unless the alarm already rings earlier; infinity sets nothing."""
        key = (alarm, source)
        if at == math.inf or self._at.get(key, math.inf) <= at:
            return
        self._at[key] = at
        self._sequence += 1
        heapq.heappush(self._heap, (at, self._sequence, key))

    def clear(self, alarm: Wakeup, source: SourceId | None = None) -> None:
        """Let the alarm not ring."""
        self._at.pop((alarm, source), None)

    def forget(self, source: SourceId) -> None:
        """Let no alarm of the source ring."""
        for alarm in Wakeup:
            self._at.pop((alarm, source), None)

    def due(self, now: float) -> list[Key]:
        """Take the alarms that ring at ``now`` or rang before, earliest first."""
        ringing = []
        while self.next() <= now:
            key = heapq.heappop(self._heap)[2]
            del self._at[key]
            ringing.append(key)
        return ringing

    def next(self) -> float:
        """The time of the next alarm, or infinity."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return math.inf
