"""Links, empty folders, names that cannot be shared and what is ignored, with real processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.sharing import LOOPBACK, fetch, random_file, share

pytestmark = pytest.mark.e2e


def test_a_whole_folder_arrives_as_it_is(processes: Processes, tmp_path: Path) -> None:
    root = tmp_path / "shared" / "x"
    for number, name in enumerate(("a", "docs/b", "docs/deep/c"), 1):
        random_file(root / name, 20_000 * number, seed=number)
    (root / "docs" / "none").mkdir()
    (root / "docs" / "to a").symlink_to("../a")
    (root / "dangling").symlink_to("docs/nothing")
    (root / "built.o").write_text("made anew")
    (root / ".swarmignore").write_text("*.o\n")
    seeder = share(processes, root, "--ignore", ".swarmignore")
    leecher = fetch(processes, seeder.link, tmp_path / "out")
    leecher.expect_exit(0)
    (root / "built.o").unlink()
    (root / ".swarmignore").unlink()
    subprocess.run(["diff", "-r", "--no-dereference", root, tmp_path / "out" / "x"], check=True)
    assert os.readlink(tmp_path / "out/x/docs/to a") == "../a"
    processes.swarm("verify", seeder.manifest, tmp_path / "out" / "x").expect_exit(0)
    (tmp_path / "out/x/docs/to a").unlink()
    (tmp_path / "out/x/docs/to a").symlink_to("/etc/passwd")
    wrong = processes.swarm("verify", seeder.manifest, tmp_path / "out" / "x")
    wrong.expect_exit(6)
    assert wrong.lines() == ["docs/to a: leads to /etc/passwd, expected a link to ../a"]
    shown = processes.swarm("inspect", seeder.manifest)
    shown.expect_exit(0)
    assert shown.lines(r"link - \.\./a +x/docs/to a$")


def test_what_cannot_be_shared_is_listed_and_can_be_left_out(processes: Processes, tmp_path: Path) -> None:
    root = tmp_path / "shared" / "x"
    for name in ("fine", "Name", "name", *(f"bad:{number:02}" for number in range(25))):
        random_file(root / name, 10)
    refused = processes.swarm("share", root, *LOOPBACK)
    refused.expect_exit(2)
    lines = refused.errors().splitlines()
    assert len(lines) == 22
    assert "26 files or folders cannot be shared" in lines[-1]
    seeder = share(processes, root, "--skip")
    fetch(processes, seeder.link, tmp_path / "out").expect_exit(0)
    assert sorted(path.name for path in (tmp_path / "out" / "x").iterdir()) == ["Name", "fine"]
