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

from swarm.strategy.download import endgame, locality, picker, pipeline, ranking, requests, timeouts
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
    "take-over": (Patch(timeouts.Timeouts, "take_over", _returns(None)),),
    "too risky": (Patch(endgame.Endgame, "too_risky", _returns(False)),),
    "on trial": (Patch(requests.DownloadRequests, "on_trial", _returns(0)),),
    "trickles": (Patch(endgame.Endgame, "trickles", _returns(False)),),
    "patience": (Patch(endgame.Endgame, "thrifty", _returns(False)),),
    "starvation": (Patch(upload_queue, "STARVED_SECONDS", math.inf),),
    "late lane": (
        Patch(upload_queue.UploadQueue, "look", _returns(None)),
        Patch(upload_queue.UploadQueue, "next_look", _returns(math.inf)),
    ),
    "random first": (Patch(picker, "RANDOM_FIRST", 0),),
    "spreading": (Patch(super_seeding.SuperSeeding, "sends_away", _returns(False)),),
    "rivals": (Patch(super_seeding.SuperSeeding, "rivals", _returns([])),),
    "credit": (Patch(upload, "UNGIVING_COPIES", 0),),
    "ungiving wait longer": (Patch(upload_queue, "UNGIVING_FACTOR", 1),),
    "allowance": (Patch(endgame.Endgame, "_left", _returns(1 << 50)),),
    "endgame": (Patch(endgame.Endgame, "pick", _returns(None)),),
    "endgame not early": (Patch(endgame.Endgame, "_early", _returns(False)),),
    "least gain": (Patch(endgame, "LEAST_GAIN", 1.0), Patch(endgame, "LEAST_GAIN_SECONDS", 0.0)),
    "avoid": (Patch(requests.DownloadRequests, "unwelcome", _returns(None)),),
    "turned away": (Patch(requests, "MOST_TURNED_AWAY", 1 << 30),),
    "exploration": (Patch(ranking, "EXPLORATION_SHARE", 0.0),),
    "strangers at a seeder": (Patch(choker, "TAKEN_BYTES", 0),),
    "wasteful": (Patch(choker, "IDLE_SLOT_SECONDS", math.inf),),
    "kept waiting": (Patch(upload_queue.UploadQueue, "kept_waiting", _returns([])),),
    "new peers": (Patch(choker, "NEW_WEIGHT", 1),),
    "optimistic": (Patch(choker, "OPTIMISTIC_SECONDS", 0.0),),
    "unproven back-off": (Patch(requests, "UNPROVEN_BACKOFF", 5.0),),
    "slow start": (Patch(pipeline.PipelineWindow, "__init__", _window_without_slow_start),),
    "lateness": (Patch(pipeline.ResponseTimes, "deadline", _returns(math.inf)),),
    "response times": (
        Patch(pipeline.ResponseTimes, "deadline", _returns(60.0)),
        Patch(pipeline.ResponseTimes, "usual", _returns(0.0)),
    ),
    "reliability": (Patch(ranking, "LEAST_RELIABILITY", 1.0),),
    "three strikes": (Patch(requests, "STRIKES", 1 << 30),),
    "back-off": (Patch(requests, "FIRST_BACKOFF", 0.0),),
    "moving seconds": (Patch(requests, "MOVING_SECONDS", 60.0),),
    "takers last": (Patch(choker, "by_reciprocity", _giving_only),),
    "quota": (Patch(choker, "QUOTA_LEAST_SECONDS", 0.0), Patch(choker, "QUOTA_MOST_SECONDS", math.inf)),
    "one piece on trust": (Patch(requests, "RequestQueue", partial(requests.RequestQueue, trusted=True)),),
    "longer silence": (Patch(timeouts, "SILENCE_MOST", 5.0),),
    "silence": (Patch(timeouts, "SILENCE_SECONDS", 1e6), Patch(timeouts, "SILENCE_MOST", 1e6)),
    "assumed rate": (Patch(ranking.Ranking, "_assumed_rate", lambda _self, _peer, typical, _now: typical),),
    "one lane": (Patch(upload_queue, "AHEAD_SECONDS", 10.0),),
    "far copies": (Patch(upload, "FAR_COPIES", 0.0),),
    "last pieces": (Patch(locality, "LAST_SHARE", math.inf),),
    "full share": (Patch(locality, "FULL_SHARE", 1 << 30),),
    "turns": (Patch(locality, "TURN_SECONDS", 0.0),),
}

_STALLS = ("take-over", "too risky", "on trial", "trickles", "patience")
_TURNS = (*_STALLS, "starvation", "late lane", "random first")
_CHOICE = (
    *(*_TURNS, "exploration", "new peers", "kept waiting", "wasteful", "strangers at a seeder", "rivals"),
    *("ungiving wait longer", "turned away"),
)
GROUPS: dict[str, tuple[str, ...]] = {
    "group: stalls": _STALLS,
    "group: and turns": _TURNS,
    "group: and choices": _CHOICE,
    "group: and times": (
        *(*_CHOICE, "response times", "longer silence", "moving seconds", "endgame not early", "avoid"),
    ),
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
NEEDS = {"far copies": ("sites",), "last pieces": ("sites",), "full share": ("sites",), "turns": ("sites",)}
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
