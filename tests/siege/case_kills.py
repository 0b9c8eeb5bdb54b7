"""SIGKILL: thousands into the writing of fetches, and dozens of whole `swarm fetch` processes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from tests.siege.outcome import Outcome
from tests.support.processes import Processes, Running
from tests.support.sharing import MIB, fetch, random_file, share

NAME = "5 kill -9"
FIGURE = "2,000 random kills, every resume exact, at most 40 MiB fetched again for each"
BESIDE = True

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
KILLS = 2000
WHOLE_KILLS = 20
SIZE = 256 * MIB
MOST_AGAIN = 40 * MIB


async def run(quick: bool) -> Outcome:
    """Both kinds; only a few of the first for ``quick``."""
    return await trio.to_thread.run_sync(_run, quick)


def _run(quick: bool) -> Outcome:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        kills = 20 if quick else KILLS
        command = [sys.executable, "-m", "tests.faults.kill_worker", folder, str(kills), str(os.getpid())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        line = done.stdout.strip() or done.stderr.strip().splitlines()[-1]
    if quick or done.returncode:
        return Outcome(not done.returncode, line)
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        again = _kill_whole(processes, Path(folder))
    figures = f"{line}; {WHOLE_KILLS} of `swarm fetch`: at most {again / MIB:.1f} MiB again, bytes equal"
    return Outcome(again <= MOST_AGAIN, figures)


def _kill_whole(processes: Processes, folder: Path) -> int:
    """Kill a fetch again and again until its file is there; returns the most bytes that one kill cost."""
    rng = random.Random(11)
    data = random_file(folder / "data.bin", SIZE)
    seeder = share(processes, data, "--upload-limit", "12MiB/s", name="seeder")
    out = folder / "out"
    expected = worst = 0
    for _ in range(WHOLE_KILLS):
        leecher = fetch(processes, seeder.manifest, out, seeder.address)
        leecher.event("piece_requested")
        time.sleep(rng.random() * 0.4)
        leecher.kill()
        leecher.wait()
        resumed = _resumed(leecher)
        worst = max(worst, expected - resumed)
        expected = resumed + sum(event["size"] for event in leecher.events("piece_stored"))
    last = fetch(processes, seeder.manifest, out, seeder.address)
    last.expect_exit(0, within=120)
    if (out / "data.bin").read_bytes() != data.read_bytes():
        raise AssertionError("what was resumed differs")
    return max(worst, expected - _resumed(last))


def _resumed(leecher: Running) -> int:
    return sum(event["size"] for event in leecher.events("transfer_resumed"))
