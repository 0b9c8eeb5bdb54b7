"""Real processes for tests: start them, read them against deadlines, never leave one behind.

Synchronous (threads read the pipes), so it serves plain test functions and benchmarks alike::

    def test_ping(processes):                          # the fixture is in tests/conftest.py
        node = processes.swarm("listen", "--listen", "/ip4/127.0.0.1/tcp/0", name="node")
        address = node.address()                       # waits for `libp2p node address: …`
        ping = processes.swarm("ping", address)        # a home and a folder of its own
        ping.expect_exit(0, within=30)
        assert len(ping.lines(r"pinged .* in ")) == 5
        node.terminate()
        node.expect_exit(143)

`Processes(folder)` is a context manager (`with Processes(tmp_path) as processes`); leaving it kills
every process that still runs, with its children.

processes.swarm(*arguments, name=None, env=None, cwd=None, stdout=None) -> Running
    `python -m swarm ARGUMENTS`. ``name`` chooses SWARM_HOME (folder/name/home) and the working folder
    (folder/name/work): the same name again is the same node restarted; without it a new node.
processes.command(argv, name=None, env=None, cwd=None, stdout=None) -> Running
    any other program. ``stdout`` is a file that its output goes to unread, as measurements want it: a
    reader that wakes for every line slows what it watches.
processes.home(name) / processes.work(name) -> Path
    the two folders of a node, made when missing.

Running
    .pid .cwd .exit_code (None while it runs; -N when signal N ended it) .started (monotonic seconds)
    .line(regex, within=30, stderr=False) -> re.Match        the first line that matches, from the start
    .event(name, within=30, **fields) -> dict    the first JSON event so named whose fields are equal
    .events_until(name, count, within=30) -> list[dict]      the first ``count`` such events
    .address(within=30) -> str                   from `libp2p node address: …` or the JSON event
    .lines(regex=None) -> list[str], .events(name=None) -> list[dict], .errors() -> str    so far
    .wait(within=60) -> int                      the exit code, when all output has been read
    .expect_exit(code, within=60)                the same, failing with all output unless equal
    .kill() .terminate() .interrupt() .pause() .resume() .signal(number)
    .stop(within=5)                              SIGTERM, then SIGKILL to it and all its children
    .usage() -> Usage                            after its end: user_seconds, system_seconds, peak_rss bytes
    .elapsed() -> float                          seconds from start to end (or to now)

Whatever is not seen in time, and an end of the output before it, raises `ProcessFailure` (an
AssertionError) that shows the command, its exit code and the tails of stdout and stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.running import ProcessFailure, Running, Usage

__all__ = ["ProcessFailure", "Processes", "Running", "Usage"]


class Processes:
    """The processes of one test under one folder; see the module's text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Running] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def home(self, name: str) -> Path:
        """Return SWARM_HOME of the node ``name``."""
        return self._folder(name, "home")

    def work(self, name: str) -> Path:
        """Return the working folder of the node ``name``."""
        return self._folder(name, "work")

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of the node ``name``."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        # Compiling swarm anew in every process costs a start some 0.3 s.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # Processes of tests that run side by side are not to meet each other.
        environment.setdefault("SWARM_NO_LAN", "1")
        environment.setdefault("SWARM_NO_MAP_PORT", "1")
        environment["SWARM_HOME"] = str(self.home(name))
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        return environment

    def _folder(self, name: str, part: str) -> Path:
        folder = self.folder / name / part
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def swarm(
        self,
        *arguments: str | Path,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: Path | None = None,
    ) -> Running:
        """Start ``swarm ARGUMENTS`` with this interpreter (and its ``-O``)."""
        optimize = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
        argv = [sys.executable, *optimize, "-m", "swarm", *map(str, arguments)]
        return self.command(argv, name=name or f"node{len(self.started)}", env=env, cwd=cwd, stdout=stdout)

    def command(
        self,
        argv: Sequence[str | Path],
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: Path | None = None,
    ) -> Running:
        """Start any program; ``env`` is added to this process's environment."""
        name = name or f"process{len(self.started)}"
        environment = self.environment(name)
        running = Running(
            [str(part) for part in argv],
            name=name,
            cwd=cwd or self.work(name),
            env={**environment, **(env or {})},
            stdout=stdout,
        )
        self.started.append(running)
        return running

    def describe(self) -> str:
        """What every process said, for a failed test."""
        return "\n\n".join(running.describe() for running in self.started)

    def stop(self) -> None:
        """End every process that still runs, the last started first."""
        for running in reversed(self.started):
            running.stop()
