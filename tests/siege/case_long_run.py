"""Thousands of peers come, fetch a little and go, some in the middle; transfers begin and stop."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path

import trio

from tests.siege.field import battlefield
from tests.siege.outcome import Outcome
from tests.support.processes import Processes, Running
from tests.support.sharing import MIB, random_file

NAME = "long run"
FIGURE = (
    "5,000 connect/fetch/cancel cycles, 1,000 transfers begun and stopped: descriptors and tasks as before, "
    "RSS growth < 10 MiB"
)
LIMIT = 1200.0
BESIDE = True
MOST_GROWTH = 10 * MIB
WARM_UP = 200
SETTLE_SECONDS = 15.0


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        source = random_file(folder / "content.bin", 8 * MIB)
        arguments = ["-m", "tests.support.watched", str(source), "--piece-size", "65536"]
        node = processes.command([sys.executable, *arguments], name="seeder")
        address = node.address()
        manifest = Path(node.event("path_shared")["manifest"])
        node.event("ready")
        cycles = 28 if quick else 5000
        come_and_go(processes, address, manifest, 14 if quick else WARM_UP)
        before = settled(node, 1, None)
        began = time.monotonic()
        come_and_go(processes, address, manifest, cycles)
        seconds = time.monotonic() - began
        after = settled(node, 2, before)
        growth = after["rss"] - before["rss"]
        same = after["tasks"] == before["tasks"] and after["descriptors"] == before["descriptors"]
        transfers = 20 if quick else 1000
        code, left = begun_and_stopped(processes, folder, transfers)
        return Outcome(
            same and growth < MOST_GROWTH and code == 0,
            f"{cycles} cycles in {seconds:.0f} s: tasks {before['tasks']} -> {after['tasks']}, descriptors "
            f"{before['descriptors']} -> {after['descriptors']}, RSS {before['rss'] / MIB:.1f} -> "
            f"{after['rss'] / MIB:.1f} MiB, objects {before['objects']} -> {after['objects']}; "
            f"{transfers} transfers begun and stopped: {left['before']} -> {left['after']}, "
            f"{left['blocks']} blocks of memory and {left['growth'] / MIB:.1f} MiB kept",
        )


def come_and_go(processes: Processes, address: str, manifest: Path, cycles: int) -> None:
    """So many cycles, by one process."""
    arguments = ("-m", "tests.siege.visitor", address, str(manifest), str(cycles))
    visitor = processes.command([sys.executable, *arguments], name="visitor")
    visitor.expect_exit(0, within=1000)


def begun_and_stopped(processes: Processes, folder: Path, cycles: int) -> tuple[int, dict]:
    """The same within one process over its own nodes: its exit code, and what it says is left."""
    place = folder / "own nodes"
    place.mkdir()
    command = [sys.executable, "-m", "tests.siege.begin_and_stop", str(place), str(cycles)]
    process = processes.command(command, name="own nodes")
    code = process.wait(within=900)
    return code, json.loads(process.line(r"^\{.*", 1).group(0))


def settled(node: Running, first: int, wanted: dict | None) -> dict:
    """What the node holds once nothing changes any more; waits for as much as ``wanted``, but not long."""
    deadline = time.monotonic() + SETTLE_SECONDS
    number = len(node.events("census"))
    last: dict = {}
    while True:
        node.signal(signal.SIGUSR1)
        number += 1
        census = node.event("census", number=number)
        counts = (census["tasks"], census["descriptors"])
        enough = (
            counts == (last.get("tasks"), last.get("descriptors"))
            if wanted is None
            else counts == (wanted["tasks"], wanted["descriptors"])
        )
        if enough or time.monotonic() > deadline:
            return census
        last = census
        time.sleep(1 + random.random())
