"""How much to have asked of a source at once: rate x (round trip + queue time), found by slow start.

Source: libtorrent's request queue (rate x 3 s, slow start per received block). The queue time here is
shorter: whole pieces are asked for, and control messages overtake payload.
"""

from __future__ import annotations

from swarm.content.manifest import MIN_PIECE_LENGTH
from swarm.protocol.protocol_limits import MAX_REQUESTS

QUEUE_SECONDS = 0.3
"""Work beyond the round trip: covers a late turn of either side's loop. Not more, because what waits at one
source cannot be had from another, and was chosen before the latest news."""

FIRST_BYTES = 256 << 10
"""The first window, the first receive window of a yamux stream."""

MOST_BYTES = 16 << 20
"""Enough for 200 MB/s at 80 ms."""

SLOW_START_SECONDS = 1.0
"""A rate younger than this ends no slow start: it is too rough."""


class PipelineWindow:
    """Bytes that may be outstanding at one source."""

    __slots__ = ("_asked_at", "_bytes", "_resume", "_slow_start")

    def __init__(self) -> None:
        self._bytes = FIRST_BYTES
        self._slow_start = True
        self._asked_at: float | None = None
        self._resume = MAX_REQUESTS

    def asked(self, now: float) -> None:
        """A request goes out."""
        if self._asked_at is None:
            self._asked_at = now

    def delivered(self, length: int, demand: float, now: float) -> None:
        """A whole piece came; ``demand`` is rate x (round trip + queue time).

        The window doubles each round trip until the measured demand is under half of it.
        """
        if not self._slow_start:
            return
        self._bytes = min(MOST_BYTES, self._bytes + length)
        old = self._asked_at is not None and now - self._asked_at >= SLOW_START_SECONDS
        if old and demand * 2 < self._bytes:
            self._slow_start = False

    def fits(self, outstanding: int, requests: int, demand: float) -> bool:
        """Whether one more request may join ``requests`` of which ``outstanding`` bytes are still to come."""
        if not requests:  # however long a piece is
            return True
        window = max(demand, self._bytes) if self._slow_start else demand
        if requests >= MAX_REQUESTS or outstanding >= min(window, MOST_BYTES):
            small = outstanding < requests * MIN_PIECE_LENGTH
            # Small pieces are asked for, sent and stored in batches, not one for one: a quarter is answered
            # before more is asked for.
            self._resume = requests - requests // 4 if small else MAX_REQUESTS
            return False
        return requests <= self._resume


def demand(rate: float, round_trip: float) -> float:
    """Bytes that keep a source busy that delivers ``rate`` bytes per second."""
    return rate * (round_trip + QUEUE_SECONDS)
