"""SIGKILL into a daemon that follows a series: one version stands whole, and the next start goes on."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import trio

from tests.e2e.test_releases import LISTEN, content_of
from tests.siege.outcome import Outcome
from tests.support.daemons import Daemon, start_daemon
from tests.support.processes import Processes, Running

NAME = "19 killed followers"
FIGURE = "20 releases, a kill in each update: the old or the new one whole, the new one after a restart"
LIMIT = 300.0

ROUNDS, QUICK_ROUNDS = 20, 2
SEED: Final = 7
LONGEST_SECONDS: Final = 3.0
"""From the moment a release is published to the kill."""
BIG: Final = 30_000_000
SMALL_FILES: Final = 150


async def run(quick: bool) -> Outcome:
    """One daemon and so many releases of one series."""
    return await trio.to_thread.run_sync(_run, QUICK_ROUNDS if quick else ROUNDS)


def _run(rounds: int) -> Outcome:
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        killed = _Killed(processes, Path(folder))
        for number in range(2, rounds + 2):
            found[killed.release(number)] += 1
    figures = ", ".join(f"{count} with {what}" for what, count in sorted(found.items()))
    return Outcome(True, f"{rounds} kills, {figures} in place; each went on to the new release and seeded it")


class _Killed:
    """A daemon that has the first release, and its publisher."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes = processes
        self._folder = folder
        self._rng = random.Random(SEED)
        self._bytes = self._rng.randbytes(BIG)
        self._out = processes.work("daemon") / "out"
        self._publisher: Running | None = None
        series = self._publish(1)
        self._daemon: Daemon = start_daemon(processes)
        processes.swarm("add", series, "--output", "out", name="daemon").expect_exit(0)
        self._daemon.until("game", lambda each: each["complete"])

    def release(self, number: int) -> str:
        """Publish, and kill the daemon; returns which version stood there, once all is well again."""
        self._publish(number)
        time.sleep(self._rng.uniform(0, LONGEST_SECONDS))
        self._daemon.process.kill()
        self._daemon.process.wait()
        there = content_of(self._out / "game")
        old, new = (content_of(self._version(each)) for each in (number - 1, number))
        if there not in (old, new):
            raise AssertionError(f"release {number}: neither version is whole")
        self._daemon = start_daemon(self._processes)
        self._daemon.until(
            "game", lambda each: each["release"] == number and each["state"] == "seeding", within=60
        )
        left = sorted(path.name for path in self._out.iterdir())
        if content_of(self._out / "game") != new or left != ["game"]:
            raise AssertionError(f"release {number}: {left} is there, or something differs")
        return "the new version" if there == new else "the old version"

    def _version(self, number: int) -> Path:
        return self._folder / f"version-{number}"

    def _publish(self, number: int) -> str:
        """Write a version, and let a new process publish it; returns the link of the series."""
        version, fresh = self._version(number), random.Random(number)
        version.mkdir()
        for small in range(SMALL_FILES):
            data = self._bytes[50_000 * small :][:50_000] if small % 3 else fresh.randbytes(20_000)
            (version / f"{small:03}").write_bytes(data)
        cut = 1000 * number
        (version / "big").write_bytes(self._bytes[:cut] + b"%d" % number + self._bytes[cut:])
        if self._publisher is not None:
            self._publisher.kill()
            self._publisher.wait()
        arguments = ("release", "game", version, *LISTEN, "--json")
        self._publisher = self._processes.swarm(*arguments, name="publisher")
        return str(self._publisher.event("release_published")["series"])
