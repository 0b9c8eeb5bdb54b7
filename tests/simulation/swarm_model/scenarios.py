"""The swarms that are measured: each builds a world from its seed, runs it and returns what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import mean

from swarm.content.layout import Layout
from swarm.strategy.brain import Brain
from tests.simulation.swarm_model.link import Place
from tests.simulation.swarm_model.member import Member, Traits
from tests.simulation.swarm_model.outcome import Outcome, progress
from tests.simulation.swarm_model.world import MindMaker, World

PIECE = 256 << 10
RATE = 1e6
"""Bytes per second of an ordinary uplink."""

NEIGHBOURS = 40
"""Peers that a member of a large swarm knows, on average; in a small one everybody knows everybody."""

SMALL = 50
PATIENCE = 20.0
"""A run is given up after so many times the optimum."""


def optimum(leechers: int, pieces: int, rate: float = RATE) -> float:
    """Least seconds to bring pieces from one seeder to equal leechers (Mundinger, Weber, Weiss 2008)."""
    return pieces * PIECE / rate * (1 + math.ceil(math.log2(leechers + 1)) / pieces)


class Swarm:
    """One seeder and leechers who come at once, not knowing each other better than ``NEIGHBOURS``."""

    def __init__(
        self,
        leechers: int,
        pieces: int,
        seed: int,
        minds: MindMaker = Brain,
        *,
        traits: Callable[[World, int], Traits] = lambda _world, _number: Traits(up=RATE),
        seeder: Traits | None = None,
        begin: float = 0.0,
        **config: bool,
    ) -> None:
        self.world = World(Layout(PIECE, [PIECE * pieces]), seed, minds=minds)
        self.seeder = self.world.add("seed", None, seeder or Traits(up=RATE), **config)
        self.leechers: list[Member] = []
        self._traits, self._config, self._begin = traits, config, begin
        for _ in range(leechers):
            self.join(leechers, meet=False)
        for leecher in self.leechers:
            self.meet(leecher, leechers)

    def join(self, expected: int, *, meet: bool = True) -> Member:
        """One more leecher, in a swarm of about ``expected``."""
        number = len(self.leechers)
        pieces = self.world.layout.piece_count
        held = self.world.rng.sample(range(pieces), int(self._begin * pieces))
        leecher = self.world.add(f"p{number:04}", held, self._traits(self.world, number), **self._config)
        self.leechers.append(leecher)
        if meet:
            self.meet(leecher, expected)
        return leecher

    def meet(self, leecher: Member, expected: int) -> None:
        """The leecher dials the seeder and its share of the others."""
        if self.seeder.alive:
            self.world.connect(leecher, self.seeder)
        others = [other for other in self.leechers if other is not leecher and other.alive]
        self.world.introduce(leecher, others, len(others) if expected <= SMALL else NEIGHBOURS // 2)

    def finish(self, least: float, *, complete: Callable[[Member], bool] | None = None) -> Outcome:
        """Run to the end; ``least`` is the least possible makespan, ``complete`` who counts as served."""
        self.world.run(PATIENCE * least)
        whole = self.world.layout.total_length
        stayed = [one for one in self.leechers if one.alive or one.done_at < math.inf]
        served = complete or (lambda one: one.done_at < math.inf)
        last = max((one.done_at for one in stayed), default=math.inf)
        return Outcome(
            last / least,
            self.seeder.uplink.sent / whole,
            max(one.wasted for one in self.leechers) / whole,
            mean(one.wasted for one in self.leechers) / whole,
            all(served(one) for one in stayed),
            progress=progress([one.stored_at for one in self.leechers], least),
            finished=sorted(round(one.done_at / least, 4) for one in stayed if one.done_at < math.inf),
            up_down=[(round(o.uplink.sent / whole, 3), round(o.received / whole, 3)) for o in self.leechers],
        )


def even(leechers: int, pieces: int, seed: int, minds: MindMaker = Brain) -> Outcome:
    """Equal uplinks, everybody there from the start."""
    return Swarm(leechers, pieces, seed, minds).finish(optimum(leechers, pieces))


def in_order(leechers: int, pieces: int, seed: int, minds: MindMaker = Brain) -> Outcome:
    """As `even`, and everybody fetches from the beginning to the end."""
    return Swarm(leechers, pieces, seed, minds, sequential=True).finish(optimum(leechers, pieces))


def mixed(leechers: int, pieces: int, seed: int, minds: MindMaker = Brain) -> Outcome:
    """Uplinks from 1 to 10, evenly spread on a logarithmic scale; the seeder has 4.

    The least possible is that of a fluid: the seeder's uplink, or all uplinks together (Kumar and Ross 2006).
    """
    swarm = Swarm(
        leechers,
        pieces,
        seed,
        minds,
        traits=lambda world, _: Traits(up=RATE / 4 * 10 ** world.rng.random(), down=10 * RATE),
    )
    whole = swarm.world.layout.total_length
    uplinks = RATE + sum(one.traits.up for one in swarm.leechers)
    return swarm.finish(max(whole / RATE, leechers * whole / uplinks))


def churn(leechers: int, pieces: int, seed: int, minds: MindMaker = Brain) -> Outcome:
    """Half leave as soon as they are complete, one in ten crashes on the way."""
    swarm = Swarm(leechers, pieces, seed, minds)
    world, least = swarm.world, optimum(leechers, pieces)
    leaving = {one.name for one in world.rng.sample(swarm.leechers, leechers // 2)}
    world.when_complete(lambda one: world.leave(one) if one.name in leaving else None)
    stay = [one for one in swarm.leechers if one.name not in leaving]
    for one in world.rng.sample(stay, leechers // 10):
        world.clock.at(world.rng.uniform(0, least), world.crash, one)
    return swarm.finish(least)


def late(leechers: int, pieces: int, seed: int, minds: MindMaker = Brain) -> Outcome:
    """Half are there from the start, the others come at any time of the optimum.

    The ratio is that of the slowest leecher, from when it came.
    """
    swarm = Swarm(leechers // 2, pieces, seed, minds)
    world, least = swarm.world, optimum(leechers, pieces)
    world.left_to_do += leechers - leechers // 2

    def come() -> None:
        world.left_to_do -= 1
        swarm.join(leechers)

    for _ in range(leechers - leechers // 2):
        world.clock.at(world.rng.uniform(0, least), come)
    outcome = swarm.finish(least)
    outcome.ratio = max(one.done_at - one.joined_at for one in swarm.leechers) / least
    return outcome


def seeder_leaves(leechers: int, pieces: int, seed: int, minds: MindMaker = Brain) -> Outcome:
    """The only seeder leaves once it has sent 1.05 copies."""
    swarm = Swarm(leechers, pieces, seed, minds)
    world, enough = swarm.world, int(1.05 * pieces * PIECE)

    def look(_member: Member, _piece: int) -> None:
        if swarm.seeder.uplink.sent >= enough:
            world.leave(swarm.seeder)

    world.on_stored = look
    return swarm.finish(optimum(leechers, pieces))


def partial(leechers: int, pieces: int, seed: int, minds: MindMaker = Brain) -> Outcome:
    """Nobody has everything: 0.9 copies are spread over the leechers, and everybody is to get them."""
    world = World(Layout(PIECE, [PIECE * pieces]), seed, minds=minds)
    there = world.rng.sample(range(pieces), int(0.9 * pieces))
    gone = sorted(set(range(pieces)) - set(there))
    members = []
    for number in range(leechers):
        members.append(world.add(f"p{number:04}", there[number::leechers], Traits(up=RATE)))
    for member in members:
        world.introduce(member, members, leechers if leechers <= SMALL else NEIGHBOURS // 2)
    least = optimum(leechers, len(there))
    times: list[float] = []

    def look(_member: Member, _piece: int) -> None:
        if all(member.stored == len(there) for member in members):
            times.append(world.clock.now)
            world.left_to_do = 0

    world.on_stored = look
    world.run(PATIENCE * least)
    told = all(sorted(member.mind.missing()) == gone for member in members)
    whole = world.layout.total_length
    return Outcome(
        times[0] / least if times else math.inf,
        0.0,
        max(member.wasted for member in members) / whole,
        mean(member.wasted for member in members) / whole,
        bool(times) and told,
    )


def free_riders(
    leechers: int, pieces: int, seed: int, minds: MindMaker = Brain, *, begin: float = 0.2
) -> Outcome:
    """One leecher in five takes and never serves.

    Everybody begins with a fifth of the pieces, drawn at random, so that it is the uplinks that are scarce
    and not the pieces (with ``begin`` 0 it is the pieces). Contended is the time until the first of those
    that serve is done.
    """
    swarm = Swarm(
        leechers,
        pieces,
        seed,
        minds,
        traits=lambda _, number: Traits(up=RATE, free_rider=number % 5 == 0),
        begin=begin,
    )
    riders = [one for one in swarm.leechers if one.traits.free_rider]
    others = [one for one in swarm.leechers if not one.traits.free_rider]
    shares: list[float] = []

    def look(_member: Member) -> None:
        if not shares and any(one.done_at < math.inf for one in others):
            theirs = sum(one.received - one.wasted for one in riders) / len(riders)
            ours = sum(one.received - one.wasted for one in others) / len(others)
            shares.append(theirs / ours)

    swarm.world.when_complete(look)
    outcome = swarm.finish(optimum(leechers, pieces))
    done = max(one.done_at for one in others)
    outcome.extra = {
        "share": shares[0] if shares else math.inf,
        "contributors": done / optimum(leechers, pieces),
    }
    return outcome


NEAR, FAR = 0.0005, 0.04
"""Seconds one way inside a site and between sites."""


def sites(
    leechers: int,
    pieces: int,
    seed: int,
    minds: MindMaker = Brain,
    *,
    near: bool = True,
    liars: int = 0,
    remote: bool = True,
) -> Outcome:
    """Two sites of equal size, the seeder in one; ``liars`` of the remote one seem near to everybody, or
    with ``remote`` false such of the seeder's site far."""
    here, there = Place("here", NEAR, FAR), Place("there", NEAR, FAR)

    def traits(_world: World, number: int) -> Traits:
        lies = number % 2 == remote and number // 2 < liars
        said = 2 * (NEAR if remote else FAR)
        return Traits(RATE, place=there if number % 2 else here, said_rtt=said if lies else None)

    swarm = Swarm(
        leechers,
        pieces,
        seed,
        minds,
        traits=traits,
        seeder=Traits(RATE, place=here),
        prefer_near=near,
    )
    outcome = swarm.finish(optimum(leechers, pieces))
    whole = swarm.world.layout.total_length
    outcome.extra = {
        f"copies into {name}": size / whole for name, size in sorted(swarm.world.crossed.items())
    }
    if liars:
        site = swarm.leechers[int(remote) :: 2]
        lying = [one.done_at for one in site[:liars]]
        honest = [one.done_at for one in site[liars:]]
        outcome.extra["gain"] = 1 - (sum(lying) / len(lying)) / (sum(honest) / len(honest))
    return outcome
