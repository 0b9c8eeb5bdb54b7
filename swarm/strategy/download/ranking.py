"""How good a source is to ask: smoothed round trip, measured rate and reliability.

The order is the expected time of a piece, ``(round trip + length / rate) / reliability``. A source that has
delivered nothing yet is judged as the average of the others. A round trip only orders requests: a source that
lies about it wins a first place, and its rate then says the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from swarm.ids import SourceId
from swarm.strategy.download.pipeline import SLOW_START_SECONDS
from swarm.strategy.rates import RATE_SECONDS, Meter

UNKNOWN_ROUND_TRIP = 0.1
"""Seconds assumed of a source that was not pinged yet: a long way, so that a measured one goes first."""

UNKNOWN_RATE = 1 << 20
"""Bytes per second assumed while nobody has delivered anything."""

LOST_PINGS = 3
"""Pings lost in a row after which a source is taken for dead."""

GAIN = 1 / 8
"""The weight of the newest of anything that is smoothed (RFC 6298)."""


class RoundTripEstimate:
    """The round trip to one source, seconds: smoothed with its deviation, and the least ever measured, which
    queues do not lengthen; ``lost`` counts the pings lost in a row. Source: RFC 6298, section 2."""

    __slots__ = ("deviation", "least", "lost", "smoothed")

    def __init__(self, first: float | None) -> None:
        self.smoothed = first
        self.deviation = first / 2 if first is not None else 0.0
        self.least = math.inf if first is None else first
        self.lost = 0

    def measured(self, seconds: float | None) -> None:
        """A ping took ``seconds``, or was lost (None)."""
        if seconds is None:
            self.lost += 1
            return
        self.lost = 0
        self.least = min(self.least, seconds)
        if self.smoothed is None:
            self.smoothed, self.deviation = seconds, seconds / 2
            return
        self.deviation += (abs(self.smoothed - seconds) - self.deviation) / 4
        self.smoothed += (seconds - self.smoothed) * GAIN


class SourceScore:
    """What is known of one connected source."""

    __slots__ = ("idle_since", "rate", "reliability", "round_trip")

    def __init__(self, rtt: float | None, now: float) -> None:
        self.round_trip = RoundTripEstimate(rtt)
        self.rate = Meter(RATE_SECONDS, now)
        self.idle_since: float | None = now
        self.reliability = 1.0


class Ranking:
    """Scores of the connected sources and the order that follows from them."""

    def __init__(self, piece_length: int) -> None:
        self._piece_length = piece_length
        self._scores: dict[SourceId, SourceScore] = {}

    def source_joined(self, source: SourceId, rtt: float | None, now: float) -> None:
        """A source is connected; ``rtt`` seconds if it was pinged before."""
        self._scores[source] = SourceScore(rtt, now)

    def source_left(self, source: SourceId) -> None:
        """Forget the source."""
        del self._scores[source]

    def pinged(self, source: SourceId, seconds: float | None) -> bool:
        """A ping ended; says whether the source is still to be taken for alive."""
        round_trip = self._scores[source].round_trip
        round_trip.measured(seconds)
        return round_trip.lost < LOST_PINGS

    def busy(self, source: SourceId, now: float) -> None:
        """The source has requests to answer from now on."""
        score = self._scores[source]
        if score.idle_since is not None:
            score.rate.skip(now - score.idle_since)
            score.idle_since = None

    def idle(self, source: SourceId, now: float) -> None:
        """The source has answered everything."""
        self._scores[source].idle_since = now

    def received(self, source: SourceId, size: int, now: float) -> None:
        """``size`` payload bytes came from the source."""
        self._scores[source].rate.add(size, now)

    def outcome(self, source: SourceId, *, good: bool) -> None:
        """A request ended with the whole piece, or by the source's fault without it."""
        score = self._scores[source]
        score.reliability += ((1.0 if good else 0.0) - score.reliability) * GAIN

    def least_round_trip(self, source: SourceId) -> float:
        """The least seconds ever measured; infinity if the source was never pinged."""
        return self._scores[source].round_trip.least

    def round_trip(self, source: SourceId) -> float:
        """Smoothed seconds, or what is assumed."""
        smoothed = self._scores[source].round_trip.smoothed
        return UNKNOWN_ROUND_TRIP if smoothed is None else smoothed

    def rate(self, source: SourceId, now: float) -> float:
        """Bytes per second while asked; 0 while nothing has come."""
        score = self._scores[source]
        return score.rate.rate(now if score.idle_since is None else score.idle_since)

    def known_rate(self, source: SourceId, now: float, seconds: float) -> float | None:
        """As `rate`; None if it says little: less than a second was measured, in which one short piece or a
        first answer decides, or nothing in the last ``seconds``."""
        score = self._scores[source]
        at = now if score.idle_since is None else score.idle_since
        if score.rate.age(at) < SLOW_START_SECONDS or now >= at + seconds:
            return None
        return score.rate.rate(at)

    def typical_rate(self, now: float) -> float:
        """Mean bytes per second of those from whom something has come, or what is assumed."""
        rates = [rate for source in self._scores if (rate := self.rate(source, now))]
        return sum(rates) / len(rates) if rates else UNKNOWN_RATE

    def seconds_for(self, source: SourceId, length: int, now: float) -> float:
        """Expected time of ``length`` bytes asked of the source while it has nothing else to do."""
        rate = self.rate(source, now) or self.typical_rate(now)
        return (self.round_trip(source) + length / rate) / self._scores[source].reliability

    def order(self, sources: Iterable[SourceId], now: float) -> list[SourceId]:
        """The sources, the best to ask first."""
        typical = self.typical_rate(now)

        def seconds(source: SourceId) -> float:
            rate = self.rate(source, now) or typical
            trip = self.round_trip(source)
            return (trip + self._piece_length / rate) / self._scores[source].reliability

        return sorted(sources, key=seconds)

    def describe(self, source: SourceId, now: float) -> str:
        """What is known of the source, in words."""
        smoothed, rate = self._scores[source].round_trip.smoothed, self.rate(source, now)
        trip = "rtt unknown" if smoothed is None else f"rtt {smoothed * 1e3:.1f} ms"
        return f"{rate / 1e6:.1f} MB/s, {trip}" if rate else f"new source, {trip}"
