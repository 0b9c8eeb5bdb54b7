"""The quick forms of the siege's cases about peers, side by side: most of them wait most of the time.

`make siege` runs the long forms, one at a time, with the figures that are promised.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.siege.__main__ import run_apart
from tests.siege.outcome import Outcome
from tests.support.requirements import require

pytestmark = pytest.mark.e2e

SIDE_BY_SIDE = 4
CASES = (
    "churn",
    "ping",
    "promise",
    "signals",
    "memory",
    "slow_loris",
    "handler_crash",
    "long_run",
    "hostile_seeders",
    "lossy",
    "descriptors",
    "identity",
    "remembered",
    "restarts",
    "outputs",
    "meeting",
    "system_folder",
)


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[Outcome]]]:
    """All of them under way."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        cases = {name: importlib.import_module(f"tests.siege.case_{name}") for name in CASES}
        yield {name: pool.submit(run_apart, case, True) for name, case in cases.items()}


@pytest.mark.parametrize("name", CASES)
def test_it_holds(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[name].result()
    require(not outcome.figures.startswith("not measured"), outcome.figures)
    assert outcome.passed, outcome.figures
