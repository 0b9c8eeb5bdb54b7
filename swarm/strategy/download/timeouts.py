"""Which requests a source lets wait too long, and when to look again.

A source that is asked for something and moves less than `LEAST_BYTES` in `SILENCE_SECONDS`, or in
`PROVEN_SILENCE_SECONDS` if it has delivered before, loses all its requests and is snubbed until it delivers a
piece: one request at a time, no regular unchoke (libtorrent's snubbing).

A request moves only if somebody else could take it now: the only source keeps it, however slow it is.
"""

from __future__ import annotations

import math

from swarm.ids import SourceId
from swarm.strategy.availability import Availability
from swarm.strategy.download.requests import DownloadRequests, RequestQueue

SILENCE_SECONDS = 5.0
"""Of a source that has not delivered anything yet."""

PROVEN_SILENCE_SECONDS = 7.0
"""Of a source that has: it may be serving others, one whole piece after another."""

LEAST_RATE = 1024
"""Bytes per second; less than this over `SILENCE_SECONDS` counts as silence."""

LEAST_BYTES = int(LEAST_RATE * SILENCE_SECONDS)
RECHECK_SECONDS = 1.0
"""How soon requests are looked at again that nobody else could take."""

CANCEL_SECONDS = 60.0
"""A source that owes the final reply to a cancelled request for so long is disconnected."""


class Timeouts:
    """Looks at the requests of one source at a time."""

    def __init__(self, availability: Availability, requests: DownloadRequests, *, throttled: bool) -> None:
        self._availability = availability
        self._requests = requests
        # Under a download limit it is we who make sources slow: then any byte breaks the silence.
        self._least_bytes = 1 if throttled else LEAST_BYTES

    def received(self, line: RequestQueue, size: int, now: float) -> None:
        """``size`` bytes of something asked came."""
        if now >= line.counted_at + SILENCE_SECONDS:
            line.counted_at, line.progress_bytes = now, 0
        line.progress_bytes += size
        if line.progress_bytes >= self._least_bytes:
            line.progressed(now)

    def move(self, source: SourceId, now: float) -> list[int]:
        """The pieces to be asked elsewhere; snubs the source if it was silent."""
        line = self._requests.lines[source]
        if not line.asked or now < _silent_at(line):
            return []
        line.snubbed = True
        able = self._able(source, now)
        return [
            piece
            for piece, asked in line.asked.items()
            if asked.live and any(self._availability.has(other, piece) for other in able)
        ]

    def owes(self, source: SourceId, now: float) -> bool:
        """Whether the source has owed the reply to a cancelled request for too long."""
        line = self._requests.lines[source]
        return bool(line.cancelled) and now >= self._owed_until(line)

    def next_look(self, source: SourceId, now: float) -> float:
        """When to look at the source's requests again; infinity if it has none."""
        line = self._requests.lines[source]
        if not line.asked:
            return math.inf
        at = self._owed_until(line) if line.cancelled else math.inf
        if len(line.asked) > line.cancelled or not line.snubbed:
            at = min(at, _silent_at(line))
        return at if at > now else now + RECHECK_SECONDS

    def _owed_until(self, line: RequestQueue) -> float:
        cancelled = (asked.cancelled_at for asked in line.asked.values() if asked.cancelled_at is not None)
        return min(cancelled) + CANCEL_SECONDS

    def _able(self, source: SourceId, now: float) -> list[SourceId]:
        return [
            other
            for other, line in self._requests.lines.items()
            if other != source and not line.choked and not line.snubbed and now >= line.retry_at
        ]


def _silent_at(line: RequestQueue) -> float:
    return line.progress_at + (PROVEN_SILENCE_SECONDS if line.trusted else SILENCE_SECONDS)
