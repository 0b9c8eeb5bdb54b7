"""Which sources are silent, and when to look again.

A source that is asked for something and moves less than `LEAST_RATE` for `SILENCE_SECONDS`, or for
`PROVEN_SILENCE_SECONDS` if it has delivered before, is silent: it loses its requests and is snubbed until it
delivers a piece (libtorrent's snubbing). A request moves only if somebody else could take it now: the only
source keeps it, however slow it is.

A source that is given up may begin to send just then, and what is under way comes twice. So once the
allowance for duplicate bytes is spent, a ping that a source answers breaks its silence, too, until the
request is overdue; but only if it has delivered before. One that crashed is given up as soon as ever.
"""

from __future__ import annotations

import math

from swarm.ids import SourceId
from swarm.lazy_dataclass import dataclass
from swarm.strategy.availability import Availability
from swarm.strategy.download.endgame import OVERDUE_SECONDS
from swarm.strategy.download.requests import DownloadRequests, RequestQueue

SILENCE_SECONDS = 5.0
"""Of a source that has not delivered anything yet; also its first back-off: it cost as long to notice."""

PROVEN_SILENCE_SECONDS = 7.0
"""Of a source that has: it may be serving others, one whole piece after another."""

LEAST_RATE = 1024
"""Bytes per second; a source that sends less is silent, or it could hold a piece for hours."""

LEAST_BYTES = int(LEAST_RATE * SILENCE_SECONDS)

RECHECK_SECONDS = 0.5
"""How soon requests are looked at again that nobody else could take so far."""

CANCEL_SECONDS = 60.0
"""A source that owes the final reply to a cancelled request for so long is disconnected."""


@dataclass(slots=True)
class SilenceClock:
    """``moved_at`` is when the source last did enough; ``size`` bytes have come since ``counted_at``."""

    moved_at: float
    counted_at: float
    size: int = 0


class Timeouts:
    """How long each source has been silent; looks at the requests of one source at a time."""

    def __init__(self, availability: Availability, requests: DownloadRequests, *, throttled: bool) -> None:
        self._availability = availability
        self._requests = requests
        self._clocks: dict[SourceId, SilenceClock] = {}
        self._answered: dict[SourceId, float] = {}
        self._patient = False
        self._least_bytes = 0
        self.limits_changed(throttled=throttled)

    def limits_changed(self, *, throttled: bool) -> None:
        """Under a download limit it is we who make sources slow: then any byte breaks the silence."""
        self._least_bytes = 1 if throttled else LEAST_BYTES

    def source_left(self, source: SourceId) -> None:
        """Forget the source."""
        self._clocks.pop(source, None)
        self._answered.pop(source, None)

    def allowance_is(self, *, spent: bool) -> None:
        """Whether the allowance for duplicate bytes is spent."""
        self._patient = spent

    def answered(self, source: SourceId, now: float) -> None:
        """The source answered a ping."""
        self._answered[source] = now

    def moved(self, source: SourceId, now: float) -> None:
        """The source has something to do from now on, or delivered a piece: its silence begins anew."""
        self._clocks[source] = SilenceClock(now, now)

    def received(self, source: SourceId, size: int, now: float) -> None:
        """``size`` bytes of something asked came."""
        clock = self._clocks[source]
        if now >= clock.counted_at + SILENCE_SECONDS:
            clock.counted_at, clock.size = now, 0
        clock.size += size
        if clock.size >= self._least_bytes:
            self.moved(source, now)

    def is_silent(self, source: SourceId, now: float) -> bool:
        """Whether the source has been asked for something and was silent about it for too long."""
        return bool(self._requests.queues[source].asked) and now >= self._silent_at(source)

    def movable(self, source: SourceId, now: float) -> list[int]:
        """The pieces asked of the source that somebody else could be asked for now."""
        able = [
            other
            for other, queue in self._requests.queues.items()
            if other != source and queue.serves and now >= queue.retry_at
        ]
        return [
            piece
            for piece in self._requests.held_by(source)
            if any(self._availability.has(other, piece) for other in able)
        ]

    def owes(self, source: SourceId, now: float) -> bool:
        """Whether the source has owed the reply to a cancelled request for too long."""
        return now >= _owed_until(self._requests.queues[source])

    def next_look(self, source: SourceId, now: float) -> float:
        """When to look at the source's requests again; infinity if it has none."""
        queue = self._requests.queues[source]
        if not queue.asked:
            return math.inf
        at = _owed_until(queue)
        if len(queue.asked) > queue.cancelled or not queue.snubbed:
            at = min(at, self._silent_at(source))
        return at if at > now else now + RECHECK_SECONDS

    def _silent_at(self, source: SourceId) -> float:
        proven = self._requests.queues[source].trusted
        silence = PROVEN_SILENCE_SECONDS if proven else SILENCE_SECONDS
        moved_at = self._clocks[source].moved_at
        if not (proven and self._patient):
            return moved_at + silence
        heard_at = max(moved_at, self._answered.get(source, moved_at))
        return min(heard_at + silence, moved_at + OVERDUE_SECONDS)


def _owed_until(queue: RequestQueue) -> float:
    if not queue.cancelled:
        return math.inf
    return min(asked.cancelled_at for asked in queue.asked.values() if not asked.live) + CANCEL_SECONDS
