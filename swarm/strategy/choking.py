"""The choker's policies: who of those that want to be served are served, as pure functions.

Sources: BEP 3 and Cohen (2003), sections 3.1 to 3.4, for a leecher; libtorrent's round-robin seed choker
for a seeder.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.ids import PeerId
from swarm.strategy.rates import Meter

RECIPROCITY_SECONDS = 20.0
"""Time constant of the rate that earns a regular slot."""

OPTIMISTIC_SECONDS = 30.0
NEW_SECONDS = 60.0
"""A peer is new for so long after it joined."""

NEW_WEIGHT = 3
"""A new peer is this many times as likely to become the optimistic one (BEP 3)."""

QUOTA_PIECES = 20
QUOTA_BYTES = 1 << 20
"""A seeder's slot passes on when its holder was sent 20 pieces, at least this many bytes …"""

QUOTA_LEAST_SECONDS = 10.0
"""… and held the slot for so long,"""

QUOTA_MOST_SECONDS = 60.0
"""or held it for so long, whatever it was sent."""

TAKEN_BYTES = 1 << 20
"""More than the buffers of a peer that does not read take in; until then it is a stranger to a seeder."""

IDLE_SLOT_SECONDS = 5.0
"""A seeder's slot passes on when its holder took nothing for so long; the next time it comes last."""


@dataclass(slots=True)
class Standing:
    """What the choker knows of one peer; ``sent`` counts the bytes since it was unchoked.

    ``taken`` counts those since it joined; ``wasteful`` says that it held its last slot to the end without
    taking anything.
    """

    peer: PeerId
    joined_at: float
    rate: Meter
    interested_at: float | None = None
    unchoked_at: float | None = None
    choked_at: float = -math.inf
    sent: int = 0
    taken: int = 0
    moved_at: float = -math.inf
    wasteful: bool = False

    def idles(self, now: float) -> bool:
        """Whether it holds a slot and has taken nothing for a while."""
        since = self.unchoked_at
        return since is not None and now - max(since, self.moved_at) >= IDLE_SLOT_SECONDS

    @property
    def waits(self) -> tuple[float, float]:
        """Sorts by who was served least recently, then by who asked first."""
        return self.choked_at, self.interested_at or 0.0


def by_reciprocity(
    wanting: Sequence[Standing], snubbing: set[PeerId], now: float, rng: random.Random
) -> list[Standing]:
    """Leecher: those that give most to us first; who lets our requests wait comes last.

    Among equals whoever is served stays served, the others follow at random: if all took those that came
    first, a swarm would serve the same few.
    """

    def place(standing: Standing) -> tuple[bool, float, int, bool, float]:
        rate = standing.rate.rate(now)
        taken = 0 if rate else standing.taken
        return standing.peer in snubbing, -rate, taken, standing.unchoked_at is None, rng.random()

    return sorted(wanting, key=place)


def by_quota(wanting: Sequence[Standing], quota: int, now: float, slots: int) -> list[Standing]:
    """Seeder: whoever uses a slot and has not used it up keeps it, then the longest waiting, then the rest.

    A peer that left its slot unused comes after all others: it cannot starve those that would use it. Nor
    can many that come: those that have taken little yet get half of the ``slots``, if others want the rest.
    """

    def place(standing: Standing) -> tuple[int, tuple[float, float]]:
        if standing.unchoked_at is None:
            return (4 if standing.wasteful else 1), standing.waits
        if standing.idles(now):
            return 3, standing.waits
        held = now - standing.unchoked_at
        used = (standing.sent >= quota and held >= QUOTA_LEAST_SECONDS) or held >= QUOTA_MOST_SECONDS
        return (2 if used else 0), standing.waits

    order = sorted(wanting, key=place)
    strangers = [standing for standing in order if standing.taken < TAKEN_BYTES]
    beyond = {id(standing) for standing in strangers[max(1, slots // 2) :]}
    return sorted(order, key=lambda standing: id(standing) in beyond)


def draw_optimistic(candidates: Sequence[Standing], now: float, rng: random.Random) -> Standing:
    """Leecher: somebody gets a chance whatever it gave; a new peer more likely."""
    weights = [NEW_WEIGHT if now - each.joined_at < NEW_SECONDS else 1 for each in candidates]
    return rng.choices(candidates, weights)[0]
