"""Shares of 100 GiB and of 200,000 files are killed and begun again: nothing is read but metadata."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from tests.siege.field import battlefield
from tests.siege.outcome import Outcome
from tests.support.processes import Processes, Running
from tests.support.sharing import LOOPBACK

NAME = "remembered"
FIGURE = "restart of a share of 100 GiB and of 200,000 files: link in under 2 s, the same, only metadata read"
LIMIT = 3600.0
SPARSE = {True: 1 << 30, False: 100 << 30}
FILES = {True: 2_000, False: 200_000}
RESTARTS = 3
WANTED_SECONDS = 2.0
READ_SHARE = 256
"""What may be read, for each file and beside `READ_BYTES`: its part of the record."""
READ_BYTES = 48 << 20
"""What an interpreter reads to start, with room."""


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        sparse = folder / "image.bin"
        with sparse.open("wb") as file:
            file.truncate(SPARSE[quick])
        many = folder / "many"
        for number in range(FILES[quick]):
            inner = many / f"{number // 1000:03}"
            if not number % 1000:
                inner.mkdir(parents=True)
            (inner / f"file {number:06}.txt").write_bytes(b"%d\n" % number * 8)
        # Files that were written just before are hashed again.
        time.sleep(0.2)
        results = [
            _restarted(processes, sparse, READ_BYTES),
            _restarted(processes, many, READ_BYTES + READ_SHARE * FILES[quick]),
        ]
        sound = all(result.sound for result in results)
        fast = all(result.seconds < WANTED_SECONDS for result in results)
        return Outcome(sound and (fast or quick), "; ".join(result.line for result in results))


class _Result:
    """The best of several restarts of one share."""

    def __init__(self, name: str, first: float) -> None:
        self._name, self._first = name, first
        self.seconds = float("inf")
        self.sound = True
        self._read = 0

    def add(self, seconds: float, read: int, allowed: int, *, same: bool) -> None:
        self.seconds = min(self.seconds, seconds)
        self._read = max(self._read, read)
        self.sound = self.sound and same and read < allowed

    @property
    def line(self) -> str:
        kept = "" if self.sound else ", NOT as before"
        read = f"{self._read / (1 << 20):.0f} MiB read"
        return f"{self._name}: first {self._first:.1f} s, again {self.seconds:.2f} s, {read}{kept}"


def _restarted(processes: Processes, path: Path, allowed: int) -> _Result:
    running, link, seconds = _share(processes, path)
    result = _Result(path.name, seconds)
    for _ in range(RESTARTS):
        running.kill()
        running.wait()
        running, again, seconds = _share(processes, path)
        fields = dict(line.split(": ") for line in Path(f"/proc/{running.pid}/io").read_text().splitlines())
        result.add(seconds, int(fields["rchar"]), allowed, same=again == link)
    running.kill()
    running.wait()
    return result


def _share(processes: Processes, path: Path) -> tuple[Running, str, float]:
    began = time.monotonic()
    running = processes.swarm("share", path, *LOOPBACK, "--json", name=path.name)
    link = str(running.event("path_shared", within=LIMIT)["link"])
    return running, link, time.monotonic() - began
