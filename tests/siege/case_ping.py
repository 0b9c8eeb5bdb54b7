"""Peers that lie to `swarm ping`, and a wall clock that jumps."""

from __future__ import annotations

import statistics
from pathlib import Path

import trio

from tests.siege.field import battlefield, hostile
from tests.siege.outcome import Outcome
from tests.support.processes import Processes, Running

NAME = "15 ping truth"
FIGURE = (
    "lying, late, duplicate answers fail; clock jumps change nothing; error <= 1 ms against a known delay"
)
MOST_ERROR = 0.001
QUICK_ERROR = 0.1
"""Where much else runs beside it."""
LIES = ("wrong", "ahead", "late", "hang-up")
JUMPING_CLOCK = '''
"""A wall clock that jumps by up to a day with every look at it."""
import random, time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + random.uniform(-86400, 86400)
time.time_ns = lambda: _time_ns() + random.randrange(-86400 * 10**9, 86400 * 10**9)
'''


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        lies = tuple(name for name in LIES if not quick or name in ("wrong", "ahead"))
        names = ("truthful", "delayed", "duplicate", *lies)
        peers = hostile(processes, "ping", *names)
        where = {e["behaviour"]: e["addresses"][0] for e in peers.events_until("node_listening", len(names))}
        faults = believed(processes, where, lies)
        answers = pings(processes, where["duplicate"], 6)
        # The first is right; what is left over of it must not answer the next: that one is lost, or right.
        right = [seconds for seconds in answers if seconds is not None]
        if not right or len(right) == len(answers):
            faults.append(f"duplicates: {answers}")
        errors: list[float] = []
        paths: list[float] = []
        for jumps in (False, True):
            already = len(peers.events("answered"))
            count = 5 if quick else 60
            env = clock(folder) if jumps else None
            # What the path and both ends take without the delay is no error of the measurement.
            path = statistics.median(filter(None, pings(processes, where["truthful"], count, env)))
            answers = pings(processes, where["delayed"], count, env)
            true = [event["after"] for event in peers.events_until("answered", already + count)[already:]]
            if None in answers:
                faults.append("a true answer was not believed")
                continue
            found = [mine - other for mine, other in zip(answers, true, strict=True)]  # type: ignore[operator]
            errors.append(abs(statistics.median(found) - path))
            paths.append(path)
            if min(found) < 0:
                faults.append("shorter than the truth")
        if len(errors) < 2 or max(errors) > (QUICK_ERROR if quick else MOST_ERROR):
            faults.append("too inexact")
        text = (
            f"{len(lies)} kinds of lies believed 0 times; error against a known delay of 20 ms: median "
            f"{' and with a jumping clock '.join(f'{error * 1000:.2f} ms' for error in errors)} "
            f"(the same path without it: {min(paths, default=0) * 1000:.2f} ms)"
        )
        return Outcome(not faults, "; ".join([text, *faults]))


def believed(processes: Processes, where: dict[str, str], lies: tuple[str, ...]) -> list[str]:
    """Pings of liars that were counted as answered."""
    running = {name: start(processes, where[name], 2) for name in lies}
    faults = []
    for name, each in running.items():
        each.wait(within=40)
        answers = [event["seconds"] for event in each.events("peer_pinged")]
        # Whoever answers ahead is truthful afterwards: on a new stream it may be believed.
        if any(seconds is not None for seconds in answers):
            faults.append(f"{name}: {answers} believed")
    return faults


def start(processes: Processes, address: str, count: int, env: dict[str, str] | None = None) -> Running:
    return processes.swarm("ping", address, "--count", str(count), "--json", env=env)


def pings(
    processes: Processes, address: str, count: int, env: dict[str, str] | None = None
) -> list[float | None]:
    """The round trips that `swarm ping` reports."""
    running = start(processes, address, count, env)
    running.wait(within=60)
    return [event["seconds"] for event in running.events("peer_pinged")]


def clock(folder: Path) -> dict[str, str]:
    """An environment in which every Python has a clock that jumps."""
    place = folder / "clock"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(JUMPING_CLOCK)
    return {"PYTHONPATH": f"{place}:{Path(__file__).parents[2]}"}
