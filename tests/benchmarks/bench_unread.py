"""Does a reader that does not read slow a fetch? ``python -m tests.benchmarks.bench_unread [--size 512MiB]``

The same fetch with ``--json=pieces``, by turns into a pipe that is read and into one that nobody reads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

from cli.quantities import format_rate, parse_size
from tests.siege.field import battlefield
from tests.support.processes import Processes
from tests.support.sharing import LOOPBACK, Seeder, random_file, share
from tests.support.sinks import Sink, start, swarm

WANTED = 0.95


def fetch_rate(processes: Processes, seeder: Seeder, size: int, work: Path, kind: str) -> tuple[float, float]:
    """Bytes per second from the first byte on the disk to the final name, and seconds of processor time."""
    work.mkdir()
    argv = swarm("fetch", seeder.link, "--output", "out", *LOOPBACK, "--json=pieces")
    with Sink(kind) as out, Sink("pipe") as err:
        process = start(argv, out, err, cwd=work, env=processes.environment("receiver"))
        began = until_there(work / "out")
        final = work / "out" / "content"
        ended = until_there(final)
        process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    final.unlink()
    return size / (ended - began), usage.ru_utime + usage.ru_stime


def until_there(path: Path) -> float:
    """Wait for a file; return when it came."""
    deadline = time.monotonic() + 600
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} never came")
        time.sleep(0.002)
    return time.monotonic()


def main() -> int:
    """Measure, print the medians and their ratio; 1 if the unread one is slower than wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=parse_size, default=parse_size("512MiB"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rates: dict[str, list[tuple[float, float]]] = {"pipe": [], "unread": []}
    with battlefield() as (processes, folder):
        content = random_file(folder / "content", arguments.size)
        seeder = share(processes, content, "--piece-size", "256KiB")
        for number in range(arguments.rounds):
            for kind, measured in rates.items():
                place = folder / f"{kind}-{number}"
                measured.append(fetch_rate(processes, seeder, arguments.size, place, kind))
                rate, seconds = measured[-1]
                print(f"{kind:>8}: {format_rate(rate)}, {seconds:.2f} s of a processor", flush=True)
    read, unread = (statistics.median(rate for rate, _ in measured) for measured in rates.values())
    cost = [statistics.median(seconds for _, seconds in measured) for measured in rates.values()]
    print(f"processor time, medians: {cost[0]:.2f} s read, {cost[1]:.2f} s unread")
    ratio = unread / read
    print(f"medians: {format_rate(read)} read, {format_rate(unread)} unread: {ratio:.3f} (wanted {WANTED})")
    return 0 if ratio >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
