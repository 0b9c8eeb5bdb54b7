"""No state that a power cut may leave is believed wrongly, and none costs more than what was not synced."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest

from tests.faults.crash_states import HISTORIES, History, Tally, enumerate_states

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
STATES = 120


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.name)
async def test_whatever_a_power_cut_leaves_is_resumed(history: History) -> None:
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        await enumerate_states(
            history, Path(folder), random.Random(5), subsets=12, tears=3, tally=tally, most=STATES
        )
    assert tally.states == STATES
