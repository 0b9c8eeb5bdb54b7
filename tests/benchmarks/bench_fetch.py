"""How fast a fetch is, against the raw stream of stock py-libp2p and against libtorrent.

    python -m tests.benchmarks.bench_fetch [--size 1GiB] [--rounds 5] [--only swarm,stock] [--no-page]

Sender and receiver are processes of their own on loopback. The contenders take turns in every round, in
another order each time, so that a busy machine slows all of them; the table shows medians. *x bare* is the
median of the ratios to the bare loop of the same round. What is received is compared with what was sent. The
table goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import math
import operator
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS, Content
from tests.benchmarks.measuring import (
    GB,
    MB,
    MIB,
    Transfer,
    compile_program,
    machine,
    parse_size,
    table,
    write_random_file,
    write_section,
)
from tests.support.processes import Processes

HEAD = (
    "transfer",
    "MB/s",
    "(worst to best)",
    "x stock",
    "x bare",
    "MB/s, whole process",
    "receiver CPU s/GB",
    "sender CPU s/GB",
    "receiver RSS MiB",
    "sender RSS MiB",
)


def installed(name: str) -> bool:
    """Return whether a contender can run here, and say so when it cannot."""
    module = CONTENDERS[name].module
    found = find_spec(module) is not None
    if not found:
        print(
            f"{CONTENDERS[name].name} is left out: {module} is not installed (`make bench` does)",
            file=sys.stderr,
        )
    return found


def rounds(names: list[str], content: Content, count: int, folder: Path) -> dict[str, list[Transfer]]:
    """Let every contender run ``count`` times, taking turns."""
    results: dict[str, list[Transfer]] = {name: [] for name in names}
    for number in range(count):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            # What the last one wrote must not be written back at this one's cost.
            os.sync()
            with tempfile.TemporaryDirectory(dir=folder) as place, Processes(Path(place)) as processes:
                transfer = CONTENDERS[name].run(processes, content, Path(place))
            results[name].append(transfer)
            speed = transfer.size / transfer.seconds / MB
            print(f"round {number + 1}: {CONTENDERS[name].name}: {speed:.0f} MB/s", file=sys.stderr)
    return results


def whole_speed(transfer: Transfer) -> float:
    """Return MB/s over the whole life of the receiver's process."""
    return transfer.size / (transfer.whole_seconds or math.nan) / MB


def rounded(speed: float) -> str:
    """Return a speed with a decimal where it is small."""
    return f"{speed:.1f}" if speed < 10 else f"{speed:.0f}"


def speed_of(transfer: Transfer) -> float:
    """Return MB/s of the transfer alone."""
    return transfer.size / transfer.seconds / MB


def label(name: str, transfers: list[Transfer]) -> str:
    """Return the name of a contender, with how many files a second its whole process fetched, if several."""
    found = CONTENDERS[name].name
    if transfers[0].files == 1:
        return found
    rate = statistics.median(each.files / (each.whole_seconds or math.nan) for each in transfers)
    return f"{found}: {rate:,.0f} files/s, whole process"


def row(name: str, transfers: list[Transfer], stock: float | None, bare: list[Transfer]) -> list[str]:
    """Return one line of the table; ``bare`` are the bare loop's runs of the same rounds, if any."""

    def median(read: Callable[[Transfer], float]) -> float:
        return statistics.median(read(transfer) for transfer in transfers)

    speeds = sorted(transfer.size / transfer.seconds / MB for transfer in transfers)
    speed = statistics.median(speeds)
    return [
        label(name, transfers),
        rounded(speed),
        f"{rounded(speeds[0])} to {rounded(speeds[-1])}",
        "" if stock is None else f"{speed / stock:.2f}",
        f"{statistics.median(map(operator.truediv, map(speed_of, transfers), map(speed_of, bare))):.2f}"
        if bare and transfers[0].files == 1
        else "",
        "" if transfers[0].whole_seconds is None else rounded(median(whole_speed)),
        f"{median(lambda t: t.receiver_cpu / t.size * GB):.2f}",
        f"{median(lambda t: t.sender_cpu / t.size * GB):.2f}",
        f"{median(lambda t: t.receiver_rss / MIB):.0f}",
        f"{median(lambda t: t.sender_rss / MIB):.0f}",
    ]


def report(results: dict[str, list[Transfer]]) -> str:
    """Return the table of all contenders."""
    stock = None
    if "stock" in results:
        stock = statistics.median(t.size / t.seconds / MB for t in results["stock"])
    return table(
        HEAD, [row(name, transfers, stock, results.get("bare", [])) for name, transfers in results.items()]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", default="1GiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(CONTENDERS), help="some of " + ",".join(CONTENDERS))
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    arguments = parser.parse_args()
    size = parse_size(arguments.size)
    names = [name for name in arguments.only.split(",") if installed(name)]
    compile_program()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        path = Path(folder) / "content.bin"
        content = Content(path, size, write_random_file(path, size))
        results = rounds(names, content, arguments.rounds, Path(folder))
    text = report(results)
    print(text)
    if not arguments.no_page:
        command = (
            f"python -m tests.benchmarks.bench_fetch --size {arguments.size} --rounds {arguments.rounds}"
        )
        where = f"{arguments.size}, median of {arguments.rounds} rounds; {machine()}."
        write_section("bench_fetch", f"`{command}`: {where}\n\n{text}")


if __name__ == "__main__":
    main()
