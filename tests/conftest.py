"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Processes

# Tests that run side by side are not to meet each other; those of the discovery itself say so.
os.environ.setdefault("SWARM_NO_LAN", "1")
os.environ.setdefault("SWARM_NO_MAP_PORT", "1")

ONE_AT_A_TIME = ("interop", "netns", "siege")
"""Folders of tests that share names of the machine (network namespaces, ports of the mDNS responder), or that
measure: never two of them at the same time."""

PROCESSES = pytest.StashKey[Processes]()


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    """Real processes under the test's folder; all of them are ended with the test."""
    with Processes(tmp_path) as started:
        request.node.stash[PROCESSES] = started
        yield started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (pytest-xdist) the tests of one file run in one of them, in their order."""
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here)
        group = "one at a time" if place.parts[0] in ONE_AT_A_TIME else str(place)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Show what the processes of a failed test said."""
    report = yield
    started = item.stash.get(PROCESSES, None)
    if report.when == "call" and report.failed and started is not None:
        report.sections.append(("Processes of the test", started.describe()))
    return report
