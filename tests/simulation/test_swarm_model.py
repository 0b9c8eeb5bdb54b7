"""Small swarms of real brains in the model: what `make simulate` measures at length must hold here too."""

from __future__ import annotations

from functools import partial
from statistics import median

import pytest

from tests.simulation.swarm_model import scenarios
from tests.simulation.swarm_model.link import Place
from tests.simulation.swarm_model.member import Traits
from tests.simulation.swarm_model.plain import PlainBrain
from tests.simulation.swarm_model.scenarios import Swarm, optimum


def test_sixteen_equal_leechers_are_close_to_the_optimum_and_a_plain_client_is_not() -> None:
    ours = scenarios.even(16, 128, 1)
    plain = scenarios.even(16, 128, 1, PlainBrain)
    assert ours.complete
    assert plain.complete
    assert ours.ratio < 1.09
    assert ours.ratio < 0.9 * plain.ratio
    assert ours.seeder < 1.13
    assert ours.wasted <= 1 / 128


SEEDS = range(5)


@pytest.mark.parametrize(
    ("scenario", "most"),
    [
        (scenarios.even, 1.20),  # measured: 1.176
        (scenarios.mixed, 1.48),  # measured: 1.452
        (scenarios.churn, 1.27),  # measured: 1.217, with other seeds 1.257
        (scenarios.late, 1.22),  # measured: 1.191
        (scenarios.seeder_leaves, 1.22),  # measured: 1.195
        (scenarios.partial, 0.92),  # measured: 0.899
    ],
)
def test_the_median_of_five_swarms_is_as_good_as_it_was(scenario, most: float) -> None:
    outcomes = [scenario(16, 48, seed) for seed in SEEDS]
    assert all(outcome.complete for outcome in outcomes)
    assert median(outcome.ratio for outcome in outcomes) < most
    assert max(outcome.wasted for outcome in outcomes) <= 1.6 / 48


def test_who_takes_and_never_gives_gets_a_third_while_bandwidth_is_scarce_and_everything_in_the_end() -> None:
    outcomes = [scenarios.free_riders(15, 128, seed) for seed in SEEDS]
    assert all(outcome.complete for outcome in outcomes)
    assert median(outcome.extra["share"] for outcome in outcomes) < 0.36  # measured: 0.32
    assert max(outcome.extra["contributors"] for outcome in outcomes) < 0.97  # measured: 0.95


def test_a_site_takes_little_more_than_one_copy_from_afar() -> None:
    nears = [scenarios.sites(16, 64, seed) for seed in SEEDS]
    anyhows = [scenarios.sites(16, 64, seed, near=False) for seed in SEEDS]
    assert all(near.complete for near in nears)
    assert max(near.extra["copies into there"] for near in nears) < 1.6
    assert min(anyhow.extra["copies into there"] for anyhow in anyhows) > 1.8
    # A single seed says little: 1.06 to 1.10 in ten.
    assert median(near.ratio / anyhow.ratio for near, anyhow in zip(nears, anyhows, strict=True)) < 1.1


def test_a_run_is_decided_by_its_seed() -> None:
    outcomes = [scenarios.even(6, 24, seed) for seed in (5, 5, 6)]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].finished != outcomes[2].finished


def test_the_model_moves_bytes_at_the_rate_of_its_links() -> None:
    swarm = Swarm(1, 32, 1, seeder=Traits(up=2e6), traits=lambda _world, _number: Traits(up=1e6, down=8e6))
    outcome = swarm.finish(optimum(1, 32, 2e6))
    assert outcome.seeder == 1.0
    assert 0.95 < outcome.ratio < 1.05
    slow = Swarm(1, 32, 1, seeder=Traits(up=2e6), traits=lambda _world, _number: Traits(up=1e6, down=5e5))
    assert 0.95 < slow.finish(optimum(1, 32, 5e5)).ratio < 1.05


def test_a_gateway_is_shared_by_all_that_cross_it() -> None:
    site = partial(Place, "there", 0.001, 0.02)
    swarm = Swarm(2, 16, 1, traits=lambda _world, _number: Traits(up=1e6, place=site(gateway=2.5e5)))
    outcome = swarm.finish(optimum(1, 16, 2.5e5))
    assert swarm.world.crossed["there"] >= swarm.world.layout.total_length
    assert outcome.ratio > 0.95


def test_a_crash_is_noticed_late_and_a_goodbye_at_once() -> None:
    swarm = Swarm(3, 64, 1)
    world = swarm.world
    world.clock.at(1.0, world.leave, swarm.leechers[0])
    world.clock.at(1.0, world.crash, swarm.leechers[1])
    world.clock.run(2.0, lambda: False)
    assert [peer.name for peer in swarm.leechers if peer.name in swarm.seeder.sessions] == ["p0001", "p0002"]
    world.run(100.0)
    assert swarm.leechers[2].mind.complete
    assert world.left_to_do == 0
