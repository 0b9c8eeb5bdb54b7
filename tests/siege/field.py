"""Words of the siege: real peers, hostile peers, and what they cost, watched from outside."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.processes import Processes, Running
from tests.support.sharing import MIB, Seeder, fetch

ATTACKERS_ADDRESS = "127.0.0.66"
"""Attackers come from an address of their own, as they would: limits are kept for each address."""
SAMPLE_SECONDS = 0.05


@contextmanager
def battlefield() -> Iterator[tuple[Processes, Path]]:
    """A folder for files and for the homes of processes; all of it is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="siege-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with Processes(folder / "nodes") as processes:
            yield processes, folder


def sparse_file(path: Path, size: int) -> Path:
    """A file of ``size`` zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def hostile_seeders(
    processes: Processes, names: Iterable[str], seeder: Seeder, file: Path, count: int = 1
) -> tuple[Running, dict[str, list[str]]]:
    """Start ``count`` hostile seeders of each name in one process; return it and their addresses."""
    names = list(names)
    options = ("--manifest", seeder.manifest, "--file", file, "--count", str(count))
    running = hostile(processes, "seed", *names, *options)
    events = running.events_until("node_listening", len(names) * count, 60)
    found: dict[str, list[str]] = {name: [] for name in names}
    for event in events:
        found[event["behaviour"]].append(event["addresses"][0])
    return running, found


def attackers(
    processes: Processes,
    names: Iterable[str],
    seeder: Seeder,
    *,
    count: int = 1,
    persist: bool = True,
    address: str = ATTACKERS_ADDRESS,
) -> Running:
    """Start ``count`` attackers of each name in one process."""
    options = ["--target", seeder.address, "--manifest", seeder.manifest, "--count", str(count)]
    options += ["--from", address] + ["--persist"] * persist
    return hostile(processes, "attack", *names, *options)


def hostile(processes: Processes, *arguments: object) -> Running:
    """Start the hostile peer with these arguments."""
    return processes.command([sys.executable, "-m", "tests.support.hostile", *map(str, arguments)])


def peer_of(address: str) -> str:
    return address.rpartition("/p2p/")[2]


def timed_fetch(
    processes: Processes, seeder: Seeder, addresses: Iterable[str], output: Path, *options: str, within: float
) -> tuple[Running, float]:
    """Fetch to the end; return the process and the seconds that the transfer took."""
    leecher = fetch(processes, seeder.manifest, output, *addresses, *options)
    leecher.expect_exit(0, within=within)
    return leecher, float(leecher.event("path_fetched")["seconds"])


class Gauge:
    """Watches one process: peak of its resident memory and descriptors, its CPU seconds."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak_rss = 0
        self.peak_descriptors = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            while not self._stop.wait(SAMPLE_SECONDS):
                self.peak_rss = max(self.peak_rss, self._process.memory_info().rss)
                self.peak_descriptors = max(self.peak_descriptors, self._process.num_fds())

    def rss(self) -> int:
        return int(self._process.memory_info().rss)

    def descriptors(self) -> int:
        return int(self._process.num_fds())

    def cpu(self) -> float:
        """CPU seconds so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def cpu_share(gauge: Gauge, seconds: float) -> float:
    """What part of one core the process uses over the next ``seconds``."""
    before, began = gauge.cpu(), time.monotonic()
    time.sleep(seconds)
    return (gauge.cpu() - before) / (time.monotonic() - began)


def rate(leecher: Running, seconds: float) -> float:
    """Bytes a second that a fetch receives over the next ``seconds``; sums come twice a second."""
    before, began = received(leecher), time.monotonic()
    time.sleep(seconds)
    return (received(leecher) - before) / (time.monotonic() - began)


def received(leecher: Running) -> int:
    return sum(event["size"] for event in leecher.events("bytes_received"))


def mib(size: float) -> str:
    return f"{size / MIB:.0f} MiB"


def ratio(values: list[float], to: list[float]) -> float:
    """Of the medians."""
    return statistics.median(values) / statistics.median(to)
