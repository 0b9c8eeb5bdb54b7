"""SIGINT and SIGTERM end the program in time and with their exit code, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.running import GRACE_SECONDS
from swarm.ids import ManifestId
from tests.support.cli_fakes import PEER
from tests.support.processes import Processes, Running

LIMIT = 20.0
"""Seconds that an end may take on a busy machine; what holds it up in these tests would take 30 or more."""
LONG_GRACE = "60"
"""So that an end within `LIMIT` is not the work of the watchdog."""
ID = ManifestId(bytes(32))


def start(processes: Processes, script: str, tmp_path: Path, **env: str) -> Running:
    (tmp_path / "file").write_bytes(b"content")
    argv = [sys.executable, "-m", "tests.support.cli_fakes", script, "share", "file"]
    return processes.command(argv, cwd=tmp_path, name="fake", env=env)


def until_exists(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was never reached"
        time.sleep(0.01)


def end(running: Running, send: Callable[[], None]) -> float:
    start = time.monotonic()
    send()
    running.wait(20)
    return time.monotonic() - start


@pytest.mark.parametrize(("name", "code"), [("interrupt", 130), ("terminate", 143)])
def test_a_seeding_command_closes_its_node_and_exits(
    processes: Processes, tmp_path: Path, name: str, code: int
) -> None:
    running = start(processes, "seeds_and_closes_cleanly", tmp_path, FAKE_GRACE=LONG_GRACE)
    running.line("libp2p node address: ")
    assert end(running, getattr(running, name)) < LIMIT
    running.expect_exit(code)
    assert (tmp_path / "closed").exists()
    errors = running.errors()
    assert errors.startswith("others fetch it with: swarm fetch 'swarm:")
    assert len(errors.splitlines()) == 2


def test_an_interrupted_fetch_says_how_to_go_on(processes: Processes, tmp_path: Path) -> None:
    fetch = processes.command(
        [sys.executable, "-m", "tests.support.cli_fakes", "fetches_for_ever", "fetch", str(ID), PEER],
        cwd=tmp_path,
        name="fake",
    )
    until_exists(tmp_path / "fetching")
    fetch.interrupt()
    fetch.expect_exit(130)
    assert fetch.errors().splitlines()[-1] == "interrupted; the same command resumes it"


def test_a_hashing_thread_that_does_not_stop_does_not_hold_up_the_exit(
    processes: Processes, tmp_path: Path
) -> None:
    running = start(processes, "hashes_without_listening", tmp_path)
    until_exists(tmp_path / "hashing")
    took = end(running, running.terminate)
    running.expect_exit(143)
    assert took < LIMIT


def test_a_signal_during_the_start_ends_it_at_once(processes: Processes, tmp_path: Path) -> None:
    running = start(processes, "imports_slowly", tmp_path, FAKE_GRACE=LONG_GRACE)
    until_exists(tmp_path / "loading")
    took = end(running, running.interrupt)
    running.expect_exit(130)
    assert took < LIMIT
    assert running.errors() == ""


def test_a_second_signal_does_not_wait_for_the_clean_up(processes: Processes, tmp_path: Path) -> None:
    running = start(processes, "closes_slowly", tmp_path, FAKE_GRACE=LONG_GRACE)
    running.line("libp2p node address: ")
    running.interrupt()
    until_exists(tmp_path / "closing")
    took = end(running, running.interrupt)
    running.expect_exit(130)
    assert took < LIMIT


def test_a_clean_up_that_takes_too_long_is_cut_short(processes: Processes, tmp_path: Path) -> None:
    running = start(processes, "closes_slowly", tmp_path)
    running.line("libp2p node address: ")
    took = end(running, running.terminate)
    running.expect_exit(143)
    assert GRACE_SECONDS * 0.9 < took < LIMIT
    # The promise.
    assert GRACE_SECONDS < 2


ENDS_SLOWLY = """
import ctypes, sys
libc, at_exit = ctypes.CDLL(None), ctypes.pythonapi.Py_AtExit
at_exit.argtypes = [ctypes.c_void_p]
# In reverse order, when nothing of Python is left: say that we are there, and wait for our input.
for last in (libc.getchar, libc.setsid):
    at_exit(ctypes.cast(last, ctypes.c_void_p))
sys.argv = ["swarm", "--version"]
from cli import main
from cli.runtime import Runtime
main(Runtime())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_is_taken_down_changes_no_exit_code(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDS_SLOWLY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as ending:
        deadline = time.monotonic() + 20
        while os.getsid(ending.pid) != ending.pid:
            assert time.monotonic() < deadline, "Python was never taken down"
            time.sleep(0.01)
        ending.send_signal(number)
        output, _ = ending.communicate(timeout=20)
    assert (ending.returncode, output[:6]) == (0, b"swarm ")
