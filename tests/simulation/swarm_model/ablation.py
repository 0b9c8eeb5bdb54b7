"""``python -m tests.simulation.swarm_model.ablation``: what each rule of the strategy is worth.

Takes out one rule at a time, or a named group of rules, runs small swarms with each of a number of seeds and
prints a table. A rule is taken out by replacing an attribute of a module or class for one run, so the
program itself has no switches. What is printed for each case is the median of time / least possible; beside
it the worst share of duplicate bytes, the share that free riders get and the copies that cross between sites.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

from swarm.strategy.download import endgame, locality, pipeline, ranking, requests, timeouts
from swarm.strategy.upload import choker, super_seeding, upload, upload_queue
from tests.simulation.swarm_model import scenarios
from tests.simulation.swarm_model.outcome import Outcome


class Patch(NamedTuple):
    """An attribute of a module or class, and what it is replaced by."""

    owner: Any
    attribute: str
    value: Any


def _returns(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


def _window_without_slow_start(self: pipeline.PipelineWindow) -> None:
    self._bytes, self._slow_start, self._asked_at = pipeline.FIRST_BYTES, False, None


def _giving_only(wanting: Any, _snubbing: Any, now: float, rng: random.Random) -> list[choker.UploadSlot]:
    return sorted(wanting, key=lambda one: (-one.rate.rate(now), one.unchoked_at is None, rng.random()))


AS_IT_IS = "as it is"
SAME_SEEDS = 3
"""A rule that changed nothing in so many runs of a case is not tried with more seeds there."""

RULES: dict[str, tuple[Patch, ...]] = {
    AS_IT_IS: (),
    "super-seeding": (Patch(super_seeding.SuperSeeding, "sends_away", _returns(False)),),
    "super-seeding of what waits": (Patch(super_seeding.SuperSeeding, "rivals", _returns([])),),
    "credit": (Patch(upload, "UNGIVING_COPIES", 0),),
    "who took least first": (Patch(choker, "by_reciprocity", _giving_only),),
    "late receivers": (
        Patch(upload_queue.UploadQueue, "look", _returns(None)),
        Patch(upload_queue.UploadQueue, "next_look", _returns(math.inf)),
    ),
    "one piece after another": (Patch(upload_queue, "AHEAD_SECONDS", 10.0),),
    "strangers at a seeder": (Patch(choker, "TAKEN_BYTES", 0),),
    "idle slots": (Patch(choker, "IDLE_SLOT_SECONDS", math.inf),),
    "endgame": (Patch(endgame.Endgame, "pick", _returns(None)),),
    "allowance": (Patch(requests.DownloadRequests, "in_doubt", _returns(-(1 << 50))),),
    "least gain": (Patch(endgame, "LEAST_GAIN", 1.0),),
    "overdue": (Patch(endgame, "OVERDUE_SECONDS", math.inf),),
    "silence": (Patch(timeouts, "SILENCE_SECONDS", 1e6), Patch(timeouts, "PROVEN_SILENCE_SECONDS", 1e6)),
    "two seconds for proven sources": (Patch(timeouts, "PROVEN_SILENCE_SECONDS", 5.0),),
    "one piece on trust": (Patch(requests, "RequestQueue", partial(requests.RequestQueue, trusted=True)),),
    "busy sources": (Patch(requests.DownloadRequests, "unwelcome", _returns(None)),),
    "slow start": (Patch(pipeline.PipelineWindow, "__init__", _window_without_slow_start),),
    "reliability": (Patch(ranking, "GAIN", 0.0),),
    "three strikes": (Patch(requests, "STRIKES", 1 << 30),),
    "back-off": (Patch(requests, "FIRST_BACKOFF", 0.0),),
    "full near peers": (Patch(locality, "FULL_SHARE", 1 << 30),),
    "turns of a site": (Patch(locality, "TURN_SECONDS", 0.0),),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "what is for hostile peers": ("late receivers", "strangers at a seeder", "idle slots", "overdue"),
}


class Small(NamedTuple):
    """A scenario small enough to be run some thousands of times."""

    run: Callable[..., Outcome]
    leechers: int
    pieces: int
    most_seeds: int = 1 << 30


CASES: dict[str, Small] = {
    "even": Small(scenarios.even, 20, 64),
    "mixed": Small(scenarios.mixed, 20, 64),
    "churn": Small(scenarios.churn, 20, 64),
    "late": Small(scenarios.late, 20, 64),
    "flash": Small(scenarios.even, 60, 32, 5),
    "partial": Small(scenarios.partial, 20, 64),
    "riders": Small(scenarios.free_riders, 20, 128),
    "sites": Small(scenarios.sites, 20, 64),
}
COLUMNS = (*CASES, "duplicates, most", "riders' share", "copies between sites", "not complete")
NEEDS = {"full near peers": ("sites",), "turns of a site": ("sites",)}
"""Rules that are off but in these cases."""

Key = tuple[str, str, int]


@contextmanager
def without(rule: str) -> Iterator[None]:
    """The program without the rule, or without each rule of the group."""
    with ExitStack() as stack:
        for name in GROUPS.get(rule, (rule,)):
            for owner, attribute, value in RULES[name]:
                stack.enter_context(mock.patch.object(owner, attribute, value))
        yield


def run_one(key: Key) -> tuple[Key, dict[str, Any]]:
    """One run: its figures."""
    rule, name, seed = key
    case = CASES[name]
    gc.disable()  # a run makes much that is released only together; collecting on the way takes a fifth
    with without(rule):
        out = case.run(case.leechers, case.pieces, seed)
    gc.collect()
    return key, {"ratio": out.ratio, "wasted": out.wasted, "complete": out.complete, "extra": out.extra}


def _unused(key: Key, done: dict[Key, dict[str, Any]]) -> bool:
    """Whether runs with `SAME_SEEDS` seeds came out the same to the last bit without the rule."""
    rule, name, seed = key
    return (
        rule != AS_IT_IS
        and seed >= SAME_SEEDS
        and (AS_IT_IS, name, seed) in done
        and all(done[rule, name, one] == done[AS_IT_IS, name, one] for one in range(SAME_SEEDS))
    )


def row(rule: str, done: dict[Key, dict[str, Any]]) -> tuple[str, ...]:
    """What is printed of one rule."""
    by_case = {name: [out for (r, c, _), out in done.items() if (r, c) == (rule, name)] for name in CASES}
    outs = [out for found in by_case.values() for out in found]
    medians = (f"{median(o['ratio'] for o in found):.3f}" if found else "" for found in by_case.values())
    shares = [out["extra"]["share"] for out in by_case["riders"]]
    copies = [out["extra"]["copies into there"] for out in by_case["sites"]]
    return (
        rule,
        *medians,
        f"{100 * max(out['wasted'] for out in outs):.2f} %",
        f"{median(shares):.2f}" if shares else "",
        f"{median(copies):.2f}" if copies else "",
        str(sum(not out["complete"] for out in outs)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rules", default="", help="comma-separated; all unless given")
    parser.add_argument("--cases", default="", help="comma-separated; all unless given")
    parser.add_argument(
        "--results", type=Path, default=Path("build/ablation.jsonl"), help="runs to go on from"
    )
    given = parser.parse_args()
    rules = given.rules.split(",") if given.rules else [*RULES, *GROUPS]
    cases = given.cases.split(",") if given.cases else list(CASES)
    done: dict[Key, dict[str, Any]] = {}
    if given.results.exists():
        for line in given.results.read_text().splitlines():
            key, out = json.loads(line)
            done[tuple(key)] = out
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a") as log, multiprocessing.Pool(given.processes) as pool:
        for seeds, chosen in [(range(given.seeds), [AS_IT_IS]), *(([s], rules) for s in range(given.seeds))]:
            keys = [
                (rule, name, seed)
                for seed in seeds
                for rule in chosen
                for name in cases
                if seed < CASES[name].most_seeds and name in NEEDS.get(rule, cases)
            ]
            done.update({k: done[AS_IT_IS, k[1], k[2]] for k in keys if k not in done and _unused(k, done)})
            for key, out in pool.imap_unordered(run_one, [key for key in keys if key not in done]):
                done[key] = out
                log.write(json.dumps([key, out]) + "\n")
                log.flush()
    print(f"| without | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for rule in rules:
        print(f"| {' | '.join(row(rule, done))} |")


if __name__ == "__main__":
    main()
