"""Power cuts at every step of an update: one version is there whole, and so are the files of the user."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.update_states import CASES, enumerate_file, enumerate_updates


async def test_a_power_cut_in_an_update_leaves_the_old_or_the_new_version(tmp_path: Path) -> None:
    assert await enumerate_updates(tmp_path, random.Random(3), 60) == 60 * len(CASES)


async def test_a_power_cut_in_the_update_of_a_file_leaves_the_old_or_the_new_one(tmp_path: Path) -> None:
    assert await enumerate_file(tmp_path, random.Random(4), 60) >= 30
