"""``swarm demo`` as a user runs it."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import Processes

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
KIB = 1024
UNITS = {"B": 1, "KiB": KIB, "MiB": KIB * KIB}


def size(text: str) -> float:
    """The bytes that a cell of the table says."""
    found = re.fullmatch(r"([\d.]+)(B|KiB|MiB)", text)
    return float(found[1]) * UNITS[found[2]] if found else 0.0


def running_under(folder: Path) -> list[str]:
    """Processes whose current folder is below ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = os.readlink(entry / "cwd")
            except OSError:
                continue
            if where.startswith(str(folder)):
                found.append(entry.name)
    return found


def test_the_demo_shows_a_swarm_and_leaves_nothing_behind(processes: Processes, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    demo = processes.swarm("demo", env={"TMPDIR": str(temporary)})
    demo.expect_exit(0, within=110)
    rows = [
        re.split(r" {2,}", line) for line in demo.lines() if re.match(r"(seeder|leecher \d|received) ", line)
    ]
    table = {row[0]: [size(cell) for cell in row[1:]] for row in rows}
    content = sum(path.stat().st_size for path in (ROOT / "sample_data").rglob("*") if path.is_file())
    assert list(table) == ["seeder", "leecher 1", "leecher 2", "leecher 3", "leecher 4", "received"]
    for received in table["received"][:4]:
        assert content * 0.97 < received < content * 1.2
    assert table["seeder"][4] < 3 * content, "the leechers help each other"
    between = sum(table[f"leecher {number}"][4] for number in range(1, 5))
    assert between > content
    assert "every hash checked: 4 times sample_data is right" in demo.lines()
    assert list(temporary.iterdir()) == []


def test_an_interrupted_demo_takes_its_processes_along(processes: Processes, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    demo = processes.swarm("demo", env={"TMPDIR": str(temporary)})
    deadline = time.monotonic() + 60
    while len(running_under(temporary)) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    demo.interrupt()
    demo.expect_exit(130, within=20)
    assert running_under(temporary) == []
    assert list(temporary.iterdir()) == []


def test_an_installed_demo_says_what_it_lacks(processes: Processes, tmp_path: Path) -> None:
    for package in ("cli", "swarm"):
        shutil.copytree(ROOT / package, tmp_path / "installed" / package)
    installed = {"PYTHONPATH": str(tmp_path / "installed")}
    demo = processes.command([sys.executable, "-m", "swarm", "demo"], env=installed)
    demo.expect_exit(2)
    assert demo.errors() == (
        "swarm: there is no folder sample_data here: run the demo in a checkout of the project"
    )


def test_a_process_of_the_demo_that_fails_ends_the_demo(processes: Processes, tmp_path: Path) -> None:
    # A share of a file whose name no manifest may hold.
    work = tmp_path / "work"
    (work / "sample_data").mkdir(parents=True)
    (work / "sample_data" / "a\x01b").write_bytes(b"x")
    for package in ("cli", "swarm"):
        shutil.copytree(ROOT / package, tmp_path / "installed" / package)
    installed = {"PYTHONPATH": str(tmp_path / "installed")}
    demo = processes.command([sys.executable, "-m", "swarm", "demo"], env=installed, cwd=work)
    demo.expect_exit(1)
    last = demo.errors().splitlines()[-1]
    assert last.startswith("swarm: the demo's seeder ended early with exit code ")
    assert "U+0001" in last
