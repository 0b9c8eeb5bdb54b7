"""Power cuts by enumeration: whatever one leaves is resumed, soundly and to the end."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from tests.faults.crash_states import HISTORIES, Tally, enumerate_states
from tests.siege.outcome import Outcome

NAME = "4 crash states"
FIGURE = "at least 10,000 enumerated, no false have, nothing lost that was synced, every fetch finishes"
BESIDE = True

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
WANTED = 10_000


async def run(quick: bool) -> Outcome:
    """Every history's states; a short form of each for ``quick``."""
    tally = Tally()
    most = 20 if quick else 2 * WANTED
    subsets, tears = (2, 1) if quick else (240, 5)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        for number, history in enumerate(HISTORIES):
            rng = random.Random(number)
            await enumerate_states(
                history, Path(folder), rng, subsets=subsets, tears=tears, tally=tally, most=most
            )
    figures = f"{tally.states:,} states: 0 false haves, 0 promised pieces lost, all finished"
    return Outcome(quick or tally.states >= WANTED, figures)
