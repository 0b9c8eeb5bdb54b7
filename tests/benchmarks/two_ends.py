"""One share and one fetch as whole processes, of any checkout of swarm: begun, and what they have used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
LOOPBACK = ("--listen", "/ip4/127.0.0.1/tcp/0")


@dataclass(frozen=True)
class Spent:
    """What a process has used: seconds since its start and of the processor, and its peak memory in bytes."""

    seconds: float
    processor: float
    peak: int


def program(checkout: Path) -> list[str]:
    """The command of a checkout."""
    module = "swarm" if (checkout / "swarm" / "__main__.py").exists() else "cli"
    return [sys.executable, "-m", module]


def environment(checkout: Path, home: Path) -> dict[str, str]:
    """The environment in which that command finds its modules and its keys."""
    return {**os.environ, "PYTHONPATH": str(checkout), "SWARM_HOME": str(home)}


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@dataclass
class End:
    """A process of one checkout in ``folder``.

    ``before`` is what its command line begins with, such as `perf`; ``instead`` is in the program's place.
    """

    checkout: Path
    folder: Path
    before: Sequence[str] = ()
    instead: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def share(self, source: Path, *options: str) -> str:
        """Begin to share; returns the link once it is there."""
        self._begin("sharer", ["share", str(source), *options], subprocess.PIPE)
        assert self.process.stdout is not None
        link = ""
        while not link.startswith("swarm:"):
            line = self.process.stdout.readline().decode()
            if not line:
                raise SystemExit(f"the share of {self.checkout} ended without a link")
            link = line.strip()
        return link

    def fetch(self, link: str, *options: str) -> Spent:
        """Fetch into ``out``, and what that has used; SystemExit if it fails."""
        self._begin("fetcher", ["fetch", link, "--output", "out", *options], subprocess.DEVNULL)
        spent = self.ended()
        if self.process.returncode != 0:
            raise SystemExit(f"the fetch of {self.checkout} ended with {self.process.returncode}")
        return spent

    def stop(self) -> Spent:
        """End it with SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> Spent:
        """Wait for its end; what it has used in all."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - self._began
        return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)

    def so_far(self) -> Spent:
        """What a running process has used; its threads that have ended are not counted."""
        seconds = time.perf_counter() - self._began
        place = Path(f"/proc/{self.process.pid}")
        nanoseconds = [
            int((task / "schedstat").read_text().split()[0]) for task in (place / "task").iterdir()
        ]
        status = (place / "status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        return Spent(seconds, sum(nanoseconds) / 1e9, peak)

    def _begin(self, home: str, arguments: Sequence[str], output: int) -> None:
        self._began = time.perf_counter()
        self.process = subprocess.Popen(
            [*self.before, *(self.instead or program(self.checkout)), *arguments],
            cwd=self.folder,
            env={**environment(self.checkout, self.folder / home), **self.variables},
            stdout=output,
            stderr=subprocess.DEVNULL,
        )
