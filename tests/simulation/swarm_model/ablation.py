"""``python -m tests.simulation.swarm_model.ablation``: what each rule of the strategy is worth.

Takes out one rule at a time, or a named group of rules, runs small swarms with each of a number of seeds and
prints a table. A rule is taken out by replacing an attribute of a module or class for one run, so the
program itself has no switches. What is printed for each case is the median of time / least possible; beside
it the worst share of duplicate bytes, the share that free riders get and the copies that cross between sites.
"""

from __future__ import annotations

import argparse
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

from swarm.strategy import (
    choker,
    choking,
    claims,
    depth,
    endgame,
    nearness,
    picker,
    ranking,
    requests,
    serving,
    spreading,
    stalls,
    uploads,
)
from tests.simulation.swarm_model import scenarios
from tests.simulation.swarm_model.outcome import Outcome


class Patch(NamedTuple):
    """An attribute of a module or class, and what it is replaced by."""

    owner: Any
    attribute: str
    value: Any


def _returns(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


def _window_without_slow_start(self: depth.Window) -> None:
    self._bytes, self._slow_start, self._asked_at = depth.FIRST_BYTES, False, None


def _giving_only(wanting: Any, _snubbing: Any, now: float, rng: random.Random) -> list[choking.Standing]:
    return sorted(wanting, key=lambda one: (-one.rate.rate(now), one.unchoked_at is None, rng.random()))


RULES: dict[str, tuple[Patch, ...]] = {
    "as it is": (),
    "take-over": (Patch(stalls.Stalls, "take_over", _returns(None)),),
    "too risky": (Patch(endgame.Endgame, "too_risky", _returns(False)),),
    "on trial": (Patch(requests.Requests, "on_trial", _returns(0)),),
    "trickles": (Patch(endgame.Endgame, "trickles", _returns(False)),),
    "patience": (Patch(endgame.Endgame, "thrifty", _returns(False)),),
    "starvation": (Patch(uploads, "STARVED_SECONDS", math.inf),),
    "late lane": (Patch(uploads.Uploads, "look", _returns(None)),),
    "random first": (Patch(picker, "RANDOM_FIRST", 0),),
    "spreading": (Patch(spreading.Spreading, "sends_away", _returns(False)),),
    "rivals": (Patch(spreading.Spreading, "rivals", _returns([])),),
    "credit": (Patch(serving, "UNGIVING_COPIES", 0),),
    "ungiving wait longer": (Patch(uploads, "UNGIVING_FACTOR", 1),),
    "allowance": (Patch(endgame.Endgame, "_left", _returns(1 << 50)),),
    "endgame": (Patch(endgame.Endgame, "pick", _returns(None)),),
    "endgame not early": (Patch(endgame.Endgame, "_early", _returns(False)),),
    "least gain": (Patch(endgame, "LEAST_GAIN", 1.0), Patch(endgame, "LEAST_GAIN_SECONDS", 0.0)),
    "avoid": (Patch(requests.Requests, "unwelcome", _returns(None)),),
    "turned away": (Patch(requests, "MOST_TURNED_AWAY", 1 << 30),),
    "exploration": (Patch(ranking, "EXPLORATION_SHARE", 0.0),),
    "strangers at a seeder": (Patch(choking, "TAKEN_BYTES", 0),),
    "wasteful": (Patch(choking, "IDLE_SLOT_SECONDS", math.inf),),
    "kept waiting": (Patch(uploads.Uploads, "kept_waiting", _returns([])),),
    "new peers": (Patch(choking, "NEW_WEIGHT", 1),),
    "optimistic": (Patch(choking, "OPTIMISTIC_SECONDS", 0.0),),
    "unproven back-off": (Patch(claims, "UNPROVEN_BACKOFF", 5.0),),
    "slow start": (Patch(depth.Window, "__init__", _window_without_slow_start),),
    "lateness": (Patch(depth.ResponseTimes, "deadline", _returns(math.inf)),),
    "response times": (
        Patch(depth.ResponseTimes, "deadline", _returns(60.0)),
        Patch(depth.ResponseTimes, "usual", _returns(0.0)),
    ),
    "reliability": (Patch(ranking, "LEAST_RELIABILITY", 1.0),),
    "three strikes": (Patch(claims, "STRIKES", 1 << 30),),
    "back-off": (Patch(claims, "FIRST_BACKOFF", 0.0),),
    "moving seconds": (Patch(requests, "MOVING_SECONDS", 60.0),),
    "takers last": (Patch(choker, "by_reciprocity", _giving_only),),
    "quota": (Patch(choking, "QUOTA_LEAST_SECONDS", 0.0), Patch(choking, "QUOTA_MOST_SECONDS", math.inf)),
    "one piece on trust": (Patch(requests, "Line", partial(requests.Line, trusted=True)),),
    "longer silence": (Patch(stalls, "SILENCE_MOST", 5.0),),
    "silence": (Patch(stalls, "SILENCE_SECONDS", 1e6), Patch(stalls, "SILENCE_MOST", 1e6)),
    "assumed rate": (Patch(ranking.Ranking, "_assumed_rate", lambda _self, _peer, typical, _now: typical),),
    "one lane": (Patch(uploads, "AHEAD_SECONDS", 10.0),),
    "far copies": (Patch(serving, "FAR_COPIES", 0.0),),
    "last pieces": (Patch(nearness, "LAST_SHARE", math.inf),),
    "full share": (Patch(nearness, "FULL_SHARE", 1 << 30),),
    "turns": (Patch(nearness, "TURN_SECONDS", 0.0),),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "group: stalls": ("take-over", "too risky", "on trial", "trickles", "patience"),
    "group: queue": ("starvation", "late lane"),
    "group: choker": ("strangers at a seeder", "wasteful", "kept waiting", "new peers"),
    "group: picker": ("random first", "exploration", "avoid", "turned away"),
    "group: all these": (
        *("take-over", "too risky", "on trial", "trickles", "patience", "starvation", "late lane"),
        *("strangers at a seeder", "wasteful", "kept waiting", "new peers", "random first", "exploration"),
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
    "flash": Small(scenarios.even, 100, 32, 5),
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
    with without(rule):
        out = case.run(case.leechers, case.pieces, seed)
    return key, {"ratio": out.ratio, "wasted": out.wasted, "complete": out.complete, "extra": out.extra}


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
    keys = (
        (rule, name, seed)
        for seed in range(given.seeds)
        for rule in rules
        for name in cases
        if seed < CASES[name].most_seeds and name in NEEDS.get(rule, cases)
    )
    jobs = [key for key in keys if key not in done]
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a") as log, multiprocessing.Pool(given.processes) as pool:
        for key, out in pool.imap_unordered(run_one, jobs):
            done[key] = out
            log.write(json.dumps([key, out]) + "\n")
            log.flush()
    print(f"| without | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for rule in rules:
        print(f"| {' | '.join(row(rule, done))} |")


if __name__ == "__main__":
    main()
