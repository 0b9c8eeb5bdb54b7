"""Power cuts in updates by enumeration: whatever is left, one version and the user's files are there."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from tests.faults.update_states import enumerate_file, enumerate_updates
from tests.siege.outcome import Outcome

NAME = "18 power cuts in updates"
FIGURE = (
    "at least 2,000 states: the old or the new version whole, the user's files there, the next run ends it"
)
LIMIT = 300.0
BESIDE = True

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
WANTED = 4_000
MOST, QUICK_MOST = 600, 20
"""States of each kind of update in a round; those of the next round are drawn anew."""


async def run(quick: bool) -> Outcome:
    """Updates of folders and of a single file; few states of each for ``quick``."""
    rng, most = random.Random(7), QUICK_MOST if quick else MOST
    states = 0
    while states < (1 if quick else WANTED):
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            states += await enumerate_updates(Path(folder), rng, most)
            states += await enumerate_file(Path(folder), rng, most)
    figures = f"{states:,} states: one version whole in each, all completed, no file of the user lost"
    return Outcome(quick or states >= WANTED, figures)
