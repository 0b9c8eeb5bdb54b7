"""The last events of the daemon's node, for readers of the API that come and go. Bounded."""

from __future__ import annotations

import secrets
from collections import deque
from itertools import islice
from typing import Final

import trio

from swarm import events
from swarm.events import Event
from swarm.observe.jsonlines import encode

KEPT_EVENTS: Final = 4096
MOST_AT_ONCE: Final = 512
"""Events in one batch."""
PIECES: Final = (events.PieceRequested, events.PieceStored, events.PieceWasted, events.PieceLost)
"""Events about single pieces come by the thousand, and are left out as they are with ``--json``."""


def first_of_a_run() -> int:
    """Where the numbers of a run begin: a number of another run is none of this one.

    At random, since a clock may be wrong after a restart. All are below 2**53, so JavaScript has them.
    """
    return (secrets.randbelow((1 << 21) - 1) << 32) + 1


class EventRing:
    """Numbered events; ``first`` is the number of the first, ``t`` seconds since the daemon started."""

    def __init__(self, first: int = 1) -> None:
        self.first = first
        self._events: deque[tuple[int, float, Event]] = deque(maxlen=KEPT_EVENTS)
        self._last = first - 1
        self._more = trio.Event()

    @property
    def last(self) -> int:
        """The number of the latest event; before the first, the number before that."""
        return self._last

    @property
    def count(self) -> int:
        """How many events there were in this run."""
        return self._last - self.first + 1

    def put(self, event: Event, t: float) -> None:
        """Add an event; the oldest is forgotten if there are too many."""
        if isinstance(event, PIECES):
            return
        self._last += 1
        self._events.append((self._last, t, event))
        if self._more.statistics().tasks_waiting:
            self._more.set()
            self._more = trio.Event()

    def has_all_since(self, number: int) -> bool:
        """Whether no event after ``number`` is forgotten; False for a number that is none of this run."""
        return self._last - len(self._events) <= number <= self._last

    async def since(self, number: int) -> list[tuple[int, str]]:
        """The events after ``number``, each as its number and its JSON; waits until there is one."""
        while self._last <= number:
            await self._more.wait()
        missing = self._last - number
        start = max(0, len(self._events) - missing)
        return [
            (each, encode(event, t)) for each, t, event in islice(self._events, start, start + MOST_AT_ONCE)
        ]
