"""Transfers that begin and stop a thousand times leave tasks, descriptors and memory where they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.siege.begin_and_stop import begin_and_stop


@pytest.mark.parametrize(
    "cycles", [200, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
async def test_cycles_leave_nothing_behind(tmp_path: Path, cycles: int) -> None:
    left = await begin_and_stop(tmp_path, cycles)
    assert left.nothing, left
