"""What `make simulate` measures: the cases, how they are run, side by side where there are processors."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from swarm.strategy.brain import Brain
from tests.simulation.swarm_model import scenarios
from tests.simulation.swarm_model.outcome import Outcome
from tests.simulation.swarm_model.plain import PlainBrain

MINDS = {"swarm": Brain, "plain": PlainBrain}


@dataclass(frozen=True)
class Case:
    """A scenario at one size, run with each of ``seeds`` seeds; ``plain`` with the other client too."""

    name: str
    run: Callable[..., Outcome]
    leechers: int
    pieces: int
    seeds: int = 20
    plain: bool = True
    plain_seeds: int | None = None

    def jobs(self, most: int) -> Iterator[tuple[str, str, int]]:
        """Each run by case, client and seed."""
        for client in MINDS if self.plain else ("swarm",):
            seeds = self.plain_seeds if client == "plain" and self.plain_seeds is not None else self.seeds
            for seed in range(min(seeds, most)):
                yield self.name, client, seed


FULL = (
    Case("100 equal leechers", scenarios.even, 100, 256, plain_seeds=5),
    Case("1,000 equal leechers", scenarios.even, 1000, 256, seeds=3, plain_seeds=1),
    Case("40 equal leechers", scenarios.even, 40, 128, seeds=5, plain_seeds=1),
    Case("40 equal leechers, in order", scenarios.in_order, 40, 128, seeds=5, plain=False),
    Case("mixed uplinks, 1 to 10", scenarios.mixed, 40, 128, plain_seeds=5),
    Case("churn", scenarios.churn, 40, 128, plain_seeds=5),
    Case("late joiners", scenarios.late, 40, 128, plain_seeds=5),
    Case("flash crowd of 500", scenarios.even, 500, 128, plain_seeds=1),
    Case("the seeder leaves after 1.05 copies", scenarios.seeder_leaves, 40, 128, plain_seeds=5),
    Case("less than one copy", scenarios.partial, 40, 128, plain_seeds=5),
    Case("one in five takes only", scenarios.free_riders, 40, 256, plain_seeds=5),
    Case(
        "takers and a lone seeder", partial(scenarios.free_riders, begin=0.0), 40, 256, seeds=5, plain_seeds=2
    ),
    Case("two sites", scenarios.sites, 20, 256, plain_seeds=5),
    Case("two sites, no preference", partial(scenarios.sites, near=False), 20, 256, plain=False),
    Case("two sites, two liars", partial(scenarios.sites, liars=2), 20, 256, plain=False),
    Case(
        "two sites, two that seem far",
        partial(scenarios.sites, liars=2, remote=False),
        20,
        256,
        plain=False,
    ),
)

QUICK = (
    Case("20 equal leechers", scenarios.even, 20, 128, seeds=3),
    Case("mixed uplinks, 1 to 10", scenarios.mixed, 20, 64, seeds=2),
    Case("churn", scenarios.churn, 20, 64, seeds=2),
    Case("late joiners", scenarios.late, 20, 64, seeds=2),
    Case("the seeder leaves after 1.05 copies", scenarios.seeder_leaves, 20, 64, seeds=2),
    Case("less than one copy", scenarios.partial, 20, 64, seeds=2),
    Case("one in five takes only", scenarios.free_riders, 20, 128, seeds=2),
    Case("two sites", scenarios.sites, 20, 96, seeds=2),
)

Key = tuple[str, str, int]


def _run(job: tuple[bool, Key]) -> tuple[Key, dict[str, Any], float]:
    quick, (name, client, seed) = job
    case = next(case for case in (QUICK if quick else FULL) if case.name == name)
    began = time.process_time()
    outcome = case.run(case.leechers, case.pieces, seed, MINDS[client])
    return (name, client, seed), asdict(outcome), time.process_time() - began


def run_all(
    results: Path, *, quick: bool, seeds: int, processes: int, only: str
) -> dict[Key, dict[str, Any]]:
    """Run what ``results`` does not have yet; what is done is kept there, a JSON line each."""
    done: dict[Key, dict[str, Any]] = {}
    if results.exists():
        for line in results.read_text().splitlines():
            entry = json.loads(line)
            done[entry["case"], entry["client"], entry["seed"]] = entry["outcome"]
    cases = [case for case in (QUICK if quick else FULL) if only in case.name]
    jobs = [(quick, key) for case in cases for key in case.jobs(seeds) if key not in done]
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as log, multiprocessing.Pool(processes) as pool:
        for number, (key, outcome, seconds) in enumerate(pool.imap_unordered(_run, jobs), 1):
            done[key] = outcome
            entry = {"case": key[0], "client": key[1], "seed": key[2], "outcome": outcome}
            log.write(json.dumps(entry) + "\n")
            log.flush()
            print(
                f"{number}/{len(jobs)} {key[0]}, {key[1]}, seed {key[2]}: "
                f"{outcome['ratio']:.3f} in {seconds:.0f} s of CPU",
                flush=True,
            )
    return done
