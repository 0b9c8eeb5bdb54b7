"""SIGKILL at any moment of an update; the whole number is `make siege`'s."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tests.support.requirements import require

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
KILLS = 20


def test_whatever_moment_an_update_is_killed_at_one_version_stands_whole() -> None:
    require(hasattr(os, "fork"), "os.fork, by which the worker makes its victims")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        command = [sys.executable, "-m", "tests.faults.update_kills", str(KILLS), "5", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.startswith(f"{KILLS} kills")
