"""Who is unchoked: a round every `ROUND_SECONDS`, and free slots given at once in between."""

from __future__ import annotations

import random
from typing import NamedTuple

from swarm.ids import PeerId
from swarm.strategy.choking import (
    OPTIMISTIC_SECONDS,
    QUOTA_BYTES,
    QUOTA_PIECES,
    RECIPROCITY_SECONDS,
    Standing,
    by_quota,
    by_reciprocity,
    draw_optimistic,
)
from swarm.strategy.rates import Meter
from swarm.strategy.timers import Alarm, Timers

ROUND_SECONDS = 2.0
"""Short against the 10 s of BEP 3: an upload is one whole piece, no stream that takes time to speed up."""

SLOTS = 5
"""Four regular ones and the optimistic one (BEP 3), where the upload rate is limited."""

UNLIMITED_SLOTS = 8
"""Where nothing is known about the uplink (libtorrent's default)."""


class Verdict(NamedTuple):
    """A peer whose choke changes."""

    peer: PeerId
    unchoked: bool


class Choker:
    """Keeps at most ``slots`` interested peers unchoked.

    While no more than that are interested all of them are unchoked at once and no round is due.
    """

    def __init__(self, slots: int, piece_length: int, timers: Timers, rng: random.Random) -> None:
        self._slots = slots
        self._quota = max(QUOTA_PIECES * piece_length, QUOTA_BYTES)
        self._timers = timers
        self._rng = rng
        self._standings: dict[PeerId, Standing] = {}
        self._optimistic: PeerId | None = None
        self._optimistic_at = 0.0

    def joined(self, peer: PeerId, now: float) -> None:
        """A session begins: choked, not interested."""
        self._standings[peer] = Standing(peer, now, Meter(RECIPROCITY_SECONDS, now))

    def left(self, peer: PeerId) -> None:
        """A session ended; `give` passes its slot on."""
        del self._standings[peer]

    def interested(self, peer: PeerId, now: float, *, yes: bool) -> list[Verdict]:
        """The peer wants to be served, or no longer does."""
        standing = self._standings[peer]
        if yes:
            if standing.interested_at is None:
                standing.interested_at = now
            return []
        standing.interested_at = None
        return self._change(standing, now, unchoke=False)

    def received(self, peer: PeerId, size: int, now: float) -> None:
        """The peer gave us ``size`` bytes."""
        self._standings[peer].rate.add(size, now)

    def sent(self, peer: PeerId, size: int, now: float) -> None:
        """The peer was given ``size`` bytes."""
        standing = self._standings[peer]
        standing.sent += size
        standing.taken += size
        standing.moved_at = now

    def is_unchoked(self, peer: PeerId) -> bool:
        """Whether the peer's requests are served."""
        return self._standings[peer].unchoked_at is not None

    def give(self, snubbing: set[PeerId], now: float, *, seeding: bool) -> list[Verdict]:
        """Give free slots at once, to those that come first in the policy's order."""
        wanting = self._wanting()
        if len(wanting) > self._slots:
            self._timers.set(Alarm.CHOKER, now + ROUND_SECONDS)
        waiting = [standing for standing in wanting if standing.unchoked_at is None]
        free = self._slots - (len(wanting) - len(waiting))
        if free <= 0 or not waiting:
            return []
        order = self._order(waiting, snubbing, now, seeding=seeding)
        return [verdict for standing in order[:free] for verdict in self._change(standing, now, unchoke=True)]

    def round(self, snubbing: set[PeerId], now: float, *, seeding: bool) -> list[Verdict]:
        """Decide anew who is served; those that are choked come before those that are unchoked."""
        wanting = self._wanting()
        if len(wanting) > self._slots:
            self._timers.set(Alarm.CHOKER, now + ROUND_SECONDS)
        order = self._order(wanting, snubbing, now, seeding=seeding)
        served = order[: self._slots]
        if not seeding and len(order) > self._slots:
            served[-1] = self._next_optimistic(order, now)
        chosen = {standing.peer for standing in served}
        verdicts = [
            verdict
            for standing in wanting
            if standing.peer not in chosen
            for verdict in self._change(standing, now, unchoke=False)
        ]
        for standing in served:
            verdicts += self._change(standing, now, unchoke=True)
        return verdicts

    def _wanting(self) -> list[Standing]:
        return [standing for standing in self._standings.values() if standing.interested_at is not None]

    def _order(
        self, standings: list[Standing], snubbing: set[PeerId], now: float, *, seeding: bool
    ) -> list[Standing]:
        if seeding:
            return by_quota(standings, self._quota, now, self._slots)
        return by_reciprocity(standings, snubbing, now, self._rng)

    def _next_optimistic(self, order: list[Standing], now: float) -> Standing:
        """The peer of the last slot: the old one for its time, then a drawn one without a regular slot."""
        rest = order[self._slots - 1 :]
        if now < self._optimistic_at + OPTIMISTIC_SECONDS:
            for standing in rest:
                if standing.peer == self._optimistic:
                    return standing
        drawn = draw_optimistic(rest, now, self._rng)
        self._optimistic, self._optimistic_at = drawn.peer, now
        return drawn

    def _change(self, standing: Standing, now: float, *, unchoke: bool) -> list[Verdict]:
        if unchoke == (standing.unchoked_at is not None):
            return []
        if unchoke:
            standing.unchoked_at = now
            standing.sent = 0
        else:
            standing.wasteful = standing.idles(now)
            standing.unchoked_at = None
            standing.choked_at = now
        return [Verdict(standing.peer, unchoke)]
