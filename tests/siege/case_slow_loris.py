"""Eighty slow peers, two honest ones."""

from __future__ import annotations

import statistics

import trio

from tests.siege.field import battlefield, hostile_seeders, ratio, timed_fetch
from tests.siege.outcome import Outcome
from tests.support.sharing import MIB, random_file, sha256, share

NAME = "8 slow loris"
FIGURE = "64 silent, 16 at one byte per 5 s, 2 honest: <= 1.3x the clean time"
LIMIT = 600.0
MOST_TIME = 1.3
RATE = "4MiB/s"


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        size = (12 if quick else 96) * MIB
        source = random_file(folder / "content.bin", size)
        honest = [share(processes, source, "--upload-limit", RATE) for _ in range(2)]
        _, silent = hostile_seeders(processes, ["silent"], honest[0], source, 4 if quick else 64)
        _, slow = hostile_seeders(processes, ["dribble"], honest[0], source, 2 if quick else 16)
        bad = silent["silent"] + slow["dribble"]
        good = [seeder.address for seeder in honest]
        clean: list[float] = []
        attacked: list[float] = []
        exact = True
        for number in range(1 if quick else 3):
            _, seconds = timed_fetch(processes, honest[0], good, folder / f"clean{number}", within=120)
            clean.append(seconds)
            _, seconds = timed_fetch(processes, honest[0], bad + good, folder / f"slow{number}", within=240)
            attacked.append(seconds)
            exact &= sha256(folder / f"slow{number}" / "content.bin") == sha256(source)
        times = ratio(attacked, clean)
        text = (
            f"{len(bad)} slow, 2 honest at {RATE}: {statistics.median(attacked):.2f} s, "
            f"without them {statistics.median(clean):.2f} s: {times:.2f}x"
        )
        # A stall is noticed after 5 s, which in a short run is more than 0.3 of it.
        allowed = statistics.median(clean) * MOST_TIME + (5 if quick else 0)
        return Outcome(
            exact and statistics.median(attacked) <= allowed, text + ("" if exact else "; NOT exact")
        )
