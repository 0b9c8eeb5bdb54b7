"""A daemon that is killed at any moment: every transfer is back, none is there twice, none is lost."""

from __future__ import annotations

import http.client
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.daemons import Daemon, kept, start_daemon
from tests.support.processes import Processes
from tests.support.sharing import random_file

ROOT = Path(__file__).parents[2]


def test_a_registry_that_is_killed_has_what_was_answered(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.daemon_kills", tmp_path, "150", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "none lost" in done.stdout


@pytest.mark.e2e
def test_a_daemon_that_is_killed_while_it_is_told_has_everything(
    processes: Processes, tmp_path: Path
) -> None:
    """``SWARM_DAEMON_KILLS`` is how often; it was run a hundred times."""
    rng = random.Random(4)
    kills = int(os.environ.get("SWARM_DAEMON_KILLS", "4"))
    paths = [
        random_file(tmp_path / "files" / f"{number}.bin", 4000, seed=number) for number in range(60 * kills)
    ]
    answered: set[str] = set()
    begun: set[str] = set()
    left = list(paths)
    for _ in range(kills):
        daemon = start_daemon(processes)
        assert answered <= {each["path"] for each in daemon.transfers()} <= begun
        teller = threading.Thread(target=tell, args=(daemon, left, begun, answered))
        teller.start()
        time.sleep(rng.uniform(0.01, 0.6))
        daemon.process.kill()
        daemon.process.wait()
        teller.join()
        ids = kept(daemon.home)
        assert len(ids) == len(set(ids))
    daemon = start_daemon(processes)
    there = [each["path"] for each in daemon.transfers()]
    assert len(there) == len(set(there))
    assert answered <= set(there) <= begun
    assert answered


def tell(daemon: Daemon, left: list[Path], begun: set[str], answered: set[str]) -> None:
    """Add one path after the other, until the daemon is gone; a request without an answer is made again."""
    try:
        while left:
            begun.add(str(left[-1]))
            assert daemon.ask("POST", "/v1/transfers", {"path": str(left[-1])}).status in {200, 201}
            answered.add(str(left.pop()))
    except (OSError, http.client.HTTPException):
        return
