"""SIGKILL at random moments of updates: one version stands whole, and every update completes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import trio

from tests.siege.outcome import Outcome

NAME = "17 killed updates"
FIGURE = "500 random kills of updates: the old or the new version whole after each, no file of the user lost"
LIMIT = 300.0
BESIDE = True

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
KILLS, QUICK_KILLS = 500, 20
SEED = 11


async def run(quick: bool) -> Outcome:
    """Kill so many updates; only a few for ``quick``."""
    kills = QUICK_KILLS if quick else KILLS
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        command = [sys.executable, "-m", "tests.faults.update_kills", str(kills), str(SEED), folder]
        done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    line = done.stdout.decode().strip().splitlines()[-1]
    return Outcome(done.returncode == 0 and line.startswith(f"{kills} kills"), line)
