"""How good a peer is to ask: smoothed round trip, measured rate and reliability.

The order is the expected time of a piece, ``(round trip + length / rate) / reliability``. A peer that has
delivered nothing yet is judged as the average of the others, but as no faster than one piece in the time
that it has been asked. In `EXPLORATION_SHARE` of the orders fresh peers go first, so that a better newcomer
is found (epsilon-greedy, Sutton and Barto, chapter 2). A round trip only orders requests: a peer that lies
about it wins a first place, and its rate then says the truth.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

from swarm.ids import PeerId
from swarm.strategy.rates import Meter

RATE_SECONDS = 2.0
"""Time constant of the rate at which a peer delivers while it is asked."""

UNKNOWN_ROUND_TRIP = 0.1
"""Seconds assumed of a peer that was not pinged yet."""

UNKNOWN_RATE = 1 << 20
"""Bytes per second assumed while nobody has delivered anything."""

EXPLORATION_SHARE = 0.2
LOST_PINGS = 3
"""Pings lost in a row after which a peer is taken for dead."""

LEAST_RELIABILITY = 0.05
DESCRIBE_SECONDS = 1.0
"""Places and rates named to observers are at most this old."""

_GAIN = 1 / 8


class RoundTripEstimate:
    """Smoothed round trip and its deviation, seconds. Source: RFC 6298, section 2."""

    __slots__ = ("deviation", "lost", "smoothed")

    def __init__(self, first: float | None) -> None:
        self.smoothed = first
        self.deviation = first / 2 if first is not None else 0.0
        self.lost = 0

    def measured(self, seconds: float | None) -> None:
        """A ping took ``seconds``, or was lost (None)."""
        if seconds is None:
            self.lost += 1
            return
        self.lost = 0
        if self.smoothed is None:
            self.smoothed, self.deviation = seconds, seconds / 2
            return
        self.deviation += (abs(self.smoothed - seconds) - self.deviation) / 4
        self.smoothed += (seconds - self.smoothed) * _GAIN


class SourceScore:
    """What is known of one connected peer as a source."""

    __slots__ = ("delivered", "idle_since", "rate", "reliability", "round_trip")

    def __init__(self, rtt: float | None, now: float) -> None:
        self.round_trip = RoundTripEstimate(rtt)
        self.rate = Meter(RATE_SECONDS, now)
        self.idle_since: float | None = now
        self.reliability = 1.0
        self.delivered = 0

    @property
    def fresh(self) -> bool:
        """Whether no request to the peer has ended yet."""
        return not self.delivered and self.reliability == 1.0

    def outcome(self, *, good: bool) -> None:
        """A request ended with the whole piece, or by the peer's fault without it."""
        self.delivered += good
        target = 1.0 if good else 0.0
        self.reliability = max(LEAST_RELIABILITY, self.reliability + (target - self.reliability) * _GAIN)


class Ranking:
    """Scores of the connected peers and the order that follows from them."""

    def __init__(self, piece_length: int, rng: random.Random) -> None:
        self._piece_length = piece_length
        self._rng = rng
        self._scores: dict[PeerId, SourceScore] = {}
        self._described: dict[PeerId, str] = {}
        self._described_at = -math.inf
        self._rates: dict[PeerId, float] = {}
        self._places: list[float] = []

    def source_joined(self, peer: PeerId, rtt: float | None, now: float) -> None:
        """A peer is connected; ``rtt`` seconds if it was pinged before."""
        self._scores[peer] = SourceScore(rtt, now)

    def source_left(self, peer: PeerId) -> None:
        """Forget the peer."""
        del self._scores[peer]
        self._described.pop(peer, None)
        self._rates.pop(peer, None)

    def pinged(self, peer: PeerId, seconds: float | None) -> bool:
        """A ping ended; says whether the peer is still to be taken for alive."""
        round_trip = self._scores[peer].round_trip
        round_trip.measured(seconds)
        return round_trip.lost < LOST_PINGS

    def busy(self, peer: PeerId, now: float) -> None:
        """The peer has requests to answer from now on."""
        score = self._scores[peer]
        if score.idle_since is not None:
            score.rate.skip(now - score.idle_since)
            score.idle_since = None

    def idle(self, peer: PeerId, now: float) -> None:
        """The peer has answered everything."""
        self._scores[peer].idle_since = now

    def received(self, peer: PeerId, size: int, now: float) -> None:
        """``size`` payload bytes came from the peer."""
        self._scores[peer].rate.add(size, now)

    def outcome(self, peer: PeerId, *, good: bool) -> None:
        """A request ended with the whole piece, or by the peer's fault without it."""
        self._scores[peer].outcome(good=good)

    def round_trip(self, peer: PeerId) -> float:
        """Smoothed seconds, or what is assumed."""
        smoothed = self._scores[peer].round_trip.smoothed
        return UNKNOWN_ROUND_TRIP if smoothed is None else smoothed

    def rate(self, peer: PeerId, now: float) -> float:
        """Bytes per second while asked; 0 while nothing has come."""
        score = self._scores[peer]
        return score.rate.rate(now if score.idle_since is None else score.idle_since)

    def proven(self, peer: PeerId) -> bool:
        """Whether the peer has delivered a piece."""
        return self._scores[peer].delivered > 0

    def seconds_for(self, peer: PeerId, length: int, now: float) -> float:
        """Expected time of ``length`` bytes asked of the peer while it has nothing else to do."""
        rate = self.rate(peer, now) or self._assumed_rate(peer, self.typical_rate(now), now)
        return (self.round_trip(peer) + length / rate) / self._scores[peer].reliability

    def order(self, peers: Iterable[PeerId], now: float) -> list[PeerId]:
        """The peers, the best to ask first."""
        explore = self._rng.random() < EXPLORATION_SHARE
        typical = self.typical_rate(now)

        def place(peer: PeerId) -> tuple[bool, float]:
            score = self._scores[peer]
            rate = self.rate(peer, now) or self._assumed_rate(peer, typical, now)
            seconds = (self.round_trip(peer) + self._piece_length / rate) / score.reliability
            return not (explore and score.fresh), seconds

        return sorted(peers, key=place)

    def describe(self, peer: PeerId, now: float) -> str:
        """The peer's place in words; at most `DESCRIBE_SECONDS` old, so that it costs a request nothing."""
        if now - self._described_at >= DESCRIBE_SECONDS:
            self._described_at = now
            self._described.clear()
            self._rates = {other: self.rate(other, now) for other in self._scores}
            self._places = sorted(self._rates.values(), reverse=True)
        if peer not in self._described:
            self._described[peer] = self._words(peer)
        return self._described[peer]

    def _words(self, peer: PeerId) -> str:
        smoothed, rate = self._scores[peer].round_trip.smoothed, self._rates.get(peer)
        trip = "rtt unknown" if smoothed is None else f"rtt {smoothed * 1e3:.1f} ms"
        if not rate:
            return f"new peer, {trip}"
        place = self._places.index(rate)
        rank = "fastest" if not place else f"number {place + 1}"
        return f"{rank} of {len(self._places)}: {rate / 1e6:.1f} MB/s, {trip}"

    def _assumed_rate(self, peer: PeerId, typical: float, now: float) -> float:
        score = self._scores[peer]
        asked_for = score.rate.age(now if score.idle_since is None else score.idle_since)
        return min(typical, self._piece_length / asked_for) if asked_for > 0 else typical

    def typical_rate(self, now: float) -> float:
        """Mean bytes per second of those from whom something has come, or what is assumed."""
        rates = [rate for peer in self._scores if (rate := self.rate(peer, now))]
        return sum(rates) / len(rates) if rates else UNKNOWN_RATE
