"""The quick forms of the siege's cases about manifests and disks; crashes and kills are tests/faults'."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.siege import case_disk_faults, case_manifest_zoo, case_seeder_rot
from tests.siege.__main__ import run_apart
from tests.siege.outcome import Outcome

pytestmark = pytest.mark.e2e
CASES = {"zoo": case_manifest_zoo, "disk faults": case_disk_faults, "rot": case_seeder_rot}


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[Outcome]]]:
    with ThreadPoolExecutor(len(CASES)) as pool:
        yield {name: pool.submit(run_apart, case, True) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_it_holds(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[name].result()
    assert outcome.passed, outcome.figures
