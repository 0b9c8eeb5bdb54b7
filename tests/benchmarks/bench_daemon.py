"""A daemon with many idle transfers: its start, its memory, what it costs while nothing happens, its answers.

    python -m tests.benchmarks.bench_daemon [--transfers 1000] [--seconds 20] [--beside]

Shares that many small files, kills the daemon, starts it again, and prints one line for each figure. With
``--beside`` it also fetches a large file through the daemon, with and without questions for deltas 20 times a
second, by turns. On a machine that does other things, answers mostly wait for a processor: the last line says
how long the daemon's loop ran and how long it waited for one. ``chrt -r 10 python -m …`` shows it without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.daemons import Daemon, start_daemon
from tests.support.processes import Processes
from tests.support.sharing import MIB, random_file, share

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transfers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--beside", action="store_true")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the file that is fetched beside")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, Processes(Path(folder)) as processes:
        idle(processes, Path(folder), arguments.transfers, arguments.seconds)
        if arguments.beside:
            beside(processes, Path(folder), arguments.size)


def idle(processes: Processes, folder: Path, transfers: int, seconds: float) -> None:
    """Figures of a daemon that has much and does nothing."""
    paths = [
        random_file(folder / "files" / f"{number:05}.bin", 20_000, seed=number) for number in range(transfers)
    ]
    # What was written a moment ago is not recognised later: it could have been written to again.
    time.sleep(0.5)
    daemon = start_daemon(processes)
    began = time.monotonic()
    for path in paths:
        assert daemon.ask("POST", "/v1/transfers", {"path": str(path)}).status == 201
    all_seed(daemon, transfers)
    say("added", f"{transfers} in {time.monotonic() - began:.1f} s")
    time.sleep(0.5)
    daemon.process.kill()
    daemon.process.wait()
    began = time.monotonic()
    daemon = start_daemon(processes)
    say("ready again after", f"{time.monotonic() - began:.2f} s")
    found = all_seed(daemon, transfers)
    say("all seed again after", f"{time.monotonic() - began:.2f} s, {cpu(daemon):.2f} s of the processor")
    hashed = sum(each["hashed"] for each in found)
    say("hashed again", f"{hashed} bytes")
    whole = timed(daemon, "/v1/transfers", 10)
    size = len(daemon.ask("GET", "/v1/transfers").body)
    say("the whole list", f"{1000 * statistics.median(whole):.1f} ms, {size} bytes")
    version = daemon.ask("GET", "/v1/transfers").json()["version"]
    times = timed(daemon, f"/v1/transfers?since={version}", 200)
    say("a delta", f"median {1000 * statistics.median(times):.2f} ms, p99 {1000 * p99(times):.2f} ms")
    time.sleep(2)
    before, at = cpu(daemon), time.monotonic()
    time.sleep(seconds)
    used = (cpu(daemon) - before) / (time.monotonic() - at)
    say("idle", f"{100 * used:.2f} % of a processor")
    say("memory", f"{memory(daemon) / MIB:.0f} MiB")
    began = time.monotonic()
    daemon.process.terminate()
    daemon.process.expect_exit(143)
    say("ended after", f"{time.monotonic() - began:.2f} s")


def beside(processes: Processes, folder: Path, size: int) -> None:
    """What questions cost a fetch, and how long their answers take meanwhile."""
    data = random_file(folder / "large.bin", size * MIB)
    seeder = share(processes, data)
    daemon = start_daemon(processes)
    ran, waited = scheduled(daemon)
    rates: dict[bool, list[float]] = {False: [], True: []}
    times: list[float] = []
    for turn in range(6):
        asking = bool(turn % 2)
        version = ""
        began = time.monotonic()
        body = {"link": seeder.link, "output": str(folder / f"out{turn}")}
        added = daemon.ask("POST", "/v1/transfers", body).json()
        # The end is seen in the same way, whether or not anybody asks.
        while not (folder / f"out{turn}" / "large.bin").exists():
            asked = time.monotonic()
            if asking:
                version = daemon.ask("GET", f"/v1/transfers?since={version}").json()["version"]
                times.append(time.monotonic() - asked)
            time.sleep(max(0.0, 0.05 - (time.monotonic() - asked)))
        rates[asking].append(size / (time.monotonic() - began))
        daemon.ask("DELETE", f"/v1/transfers/{added['id']}")
        (folder / f"out{turn}" / "large.bin").unlink()
    without, with_questions = (statistics.median(rates[each]) for each in (False, True))
    say("a fetch", f"{without:.0f} MiB/s; asked 20 times a second: {with_questions:.0f} MiB/s")
    after = scheduled(daemon)
    say(
        "deltas beside it", f"median {1000 * statistics.median(times):.1f} ms, p99 {1000 * p99(times):.1f} ms"
    )
    say("its loop", f"ran {after[0] - ran:.1f} s, waited {after[1] - waited:.1f} s for a processor")


def scheduled(daemon: Daemon) -> tuple[float, float]:
    """Seconds for which the main thread has run, and has waited for a processor."""
    fields = Path(f"/proc/{daemon.process.pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9, int(fields[1]) / 1e9


def all_seed(daemon: Daemon, transfers: int) -> list[dict[str, object]]:
    """Wait until every transfer seeds."""
    version, known = "", {}
    while True:
        delta = daemon.ask("GET", f"/v1/transfers?since={version}&wait=5").json()
        version = delta["version"]
        known.update({each["id"]: each for each in delta["transfers"]})
        if sum(each["state"] == "seeding" for each in known.values()) == transfers:
            return list(known.values())
        time.sleep(0.05)


def timed(daemon: Daemon, path: str, count: int) -> list[float]:
    """Seconds of each of ``count`` answers."""
    times = []
    for _ in range(count):
        began = time.monotonic()
        assert daemon.ask("GET", path).status == 200
        times.append(time.monotonic() - began)
    return times


def p99(times: list[float]) -> float:
    """The time that 99 of 100 are within."""
    return sorted(times)[min(len(times) - 1, len(times) * 99 // 100)]


def cpu(daemon: Daemon) -> float:
    """Seconds of the processor that the daemon has used."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(daemon: Daemon) -> int:
    """Bytes of memory that the daemon has."""
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def say(what: str, figure: str) -> None:
    """Print a figure."""
    print(f"{what:24} {figure}", flush=True)


if __name__ == "__main__":
    main()
