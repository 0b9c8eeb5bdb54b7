"""Who is unchoked: a round every `ROUND_SECONDS`, and free slots given at once in between.

Sources: BEP 3 and Cohen (2003), sections 3.1 to 3.4, for a leecher; libtorrent's round-robin seed choker
for a seeder.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass
from swarm.strategy.rates import Meter
from swarm.strategy.timers import Timers, Wakeup

RECIPROCITY_SECONDS = 20.0
"""Time constant of the rate that earns a regular slot: some pieces long, so that one burst buys little."""

SLOT_SECONDS = 30.0
"""How long a leecher's optimistic slot lasts (BEP 3), and a seeder's slot while others wait."""

TAKEN_BYTES = 1 << 20
"""More than the buffers of a peer that does not read take in; until then it is a stranger to a seeder."""

IDLE_SLOT_SECONDS = 5.0
"""A seeder's slot passes on when its holder took nothing for so long; the next time it comes last."""

ROUND_SECONDS = 2.0
"""Short against the 10 s of BEP 3: an upload is one whole piece, no stream that takes time to speed up."""

SLOTS = 5
"""Four regular ones and the optimistic one (BEP 3), where the upload rate is limited."""

UNLIMITED_SLOTS = 8
"""Where nothing is known about the uplink (libtorrent's default)."""


@dataclass(slots=True)
class UploadSlot:
    """What the choker knows of one peer; ``taken`` counts the bytes that it was sent, ``wasteful`` says that
    it held its last slot to the end without taking anything."""

    peer: PeerId
    rate: Meter
    interested_at: float | None = None
    unchoked_at: float | None = None
    choked_at: float = -math.inf
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
    wanting: Sequence[UploadSlot], snubbing: set[PeerId], now: float, rng: random.Random
) -> list[UploadSlot]:
    """Leecher: those that give most to us first; who lets our requests wait comes last.

    Of those that give nothing, who took least comes first. Among equals a peer that is served stays served,
    and the others follow at random: if all took those that came first, a swarm would serve the same few.
    """

    def place(slot: UploadSlot) -> tuple[bool, float, int, bool, float]:
        rate = slot.rate.rate(now)
        taken = 0 if rate else slot.taken
        return slot.peer in snubbing, -rate, taken, slot.unchoked_at is None, rng.random()

    return sorted(wanting, key=place)


def by_turns(wanting: Sequence[UploadSlot], now: float, slots: int) -> list[UploadSlot]:
    """Seeder: whoever uses its slot keeps it for `SLOT_SECONDS`, then the longest waiting come, then others.

    A peer that left its slot unused comes after all others: it cannot starve those that would use it. Nor
    can many that come: those that have taken little yet get half of the ``slots``, if others want the rest.
    """

    def place(slot: UploadSlot) -> tuple[int, tuple[float, float]]:
        if slot.unchoked_at is None:
            return (4 if slot.wasteful else 1), slot.waits
        if slot.idles(now):
            return 3, slot.waits
        return (2 if now - slot.unchoked_at >= SLOT_SECONDS else 0), slot.waits

    order = sorted(wanting, key=place)
    strangers = [slot for slot in order if slot.taken < TAKEN_BYTES]
    beyond = {id(slot) for slot in strangers[max(1, slots // 2) :]}
    return sorted(order, key=lambda slot: id(slot) in beyond)


class ChokeChange(NamedTuple):
    """A peer whose choke changes."""

    peer: PeerId
    unchoked: bool


class Choker:
    """Keeps at most ``slots`` interested peers unchoked.

    While no more than that are interested all of them are unchoked at once and no round is due.
    """

    def __init__(self, slots: int, timers: Timers, rng: random.Random) -> None:
        self.slot_count = slots
        self._timers = timers
        self._rng = rng
        self._slots: dict[PeerId, UploadSlot] = {}
        self._optimistic: PeerId | None = None
        self._optimistic_at = 0.0

    def peer_joined(self, peer: PeerId, now: float) -> None:
        """A session begins: choked, not interested."""
        self._slots[peer] = UploadSlot(peer, Meter(RECIPROCITY_SECONDS, now))

    def peer_left(self, peer: PeerId) -> None:
        """A session ended; `give` passes its slot on."""
        del self._slots[peer]

    def interested(self, peer: PeerId, now: float, *, yes: bool) -> list[ChokeChange]:
        """The peer wants to be served, or no longer does."""
        slot = self._slots[peer]
        if yes:
            if slot.interested_at is None:
                slot.interested_at = now
            return []
        slot.interested_at = None
        return self._change(slot, now, unchoke=False)

    def received(self, peer: PeerId, size: int, now: float) -> None:
        """The peer gave us ``size`` bytes."""
        self._slots[peer].rate.add(size, now)

    def sent(self, peer: PeerId, size: int, now: float) -> None:
        """The peer was given ``size`` bytes."""
        slot = self._slots[peer]
        slot.taken += size
        slot.moved_at = now

    def rate(self, peer: PeerId, now: float) -> float:
        """Bytes per second that the peer gives us."""
        return self._slots[peer].rate.rate(now)

    def is_unchoked(self, peer: PeerId) -> bool:
        """Whether the peer's requests are served."""
        return self._slots[peer].unchoked_at is not None

    def give(self, snubbing: set[PeerId], now: float, *, seeding: bool) -> list[ChokeChange]:
        """Give free slots at once, to those that come first in the policy's order."""
        wanting = self._wanting()
        if len(wanting) > self.slot_count:
            self._timers.set(Wakeup.CHOKER, now + ROUND_SECONDS)
        waiting = [slot for slot in wanting if slot.unchoked_at is None]
        free = self.slot_count - (len(wanting) - len(waiting))
        if free <= 0 or not waiting:
            return []
        order = self._order(waiting, snubbing, now, seeding=seeding)
        return [change for slot in order[:free] for change in self._change(slot, now, unchoke=True)]

    def round(self, snubbing: set[PeerId], now: float, *, seeding: bool) -> list[ChokeChange]:
        """Decide anew who is served; those that are choked come before those that are unchoked."""
        wanting = self._wanting()
        if len(wanting) > self.slot_count:
            self._timers.set(Wakeup.CHOKER, now + ROUND_SECONDS)
        order = self._order(wanting, snubbing, now, seeding=seeding)
        served = order[: self.slot_count]
        if not seeding and len(order) > self.slot_count:
            served[-1] = self._next_optimistic(order, now)
        chosen = {slot.peer for slot in served}
        changes = [
            change
            for slot in wanting
            if slot.peer not in chosen
            for change in self._change(slot, now, unchoke=False)
        ]
        for slot in served:
            changes += self._change(slot, now, unchoke=True)
        return changes

    def _wanting(self) -> list[UploadSlot]:
        return [slot for slot in self._slots.values() if slot.interested_at is not None]

    def _order(
        self, slots: list[UploadSlot], snubbing: set[PeerId], now: float, *, seeding: bool
    ) -> list[UploadSlot]:
        if seeding:
            return by_turns(slots, now, self.slot_count)
        return by_reciprocity(slots, snubbing, now, self._rng)

    def _next_optimistic(self, order: list[UploadSlot], now: float) -> UploadSlot:
        """The peer of the last slot: the old one for its time, then a drawn one without a regular slot."""
        rest = order[self.slot_count - 1 :]
        if now < self._optimistic_at + SLOT_SECONDS:
            for slot in rest:
                if slot.peer == self._optimistic:
                    return slot
        drawn = self._rng.choice(rest)
        self._optimistic, self._optimistic_at = drawn.peer, now
        return drawn

    def _change(self, slot: UploadSlot, now: float, *, unchoke: bool) -> list[ChokeChange]:
        if unchoke == (slot.unchoked_at is not None):
            return []
        if unchoke:
            slot.unchoked_at = now
        else:
            slot.wasteful = slot.idles(now)
            slot.unchoked_at = None
            slot.choked_at = now
        return [ChokeChange(slot.peer, unchoke)]
