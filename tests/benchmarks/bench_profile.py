"""Where the processor time of a fetch goes: by kind of work, and by step of a piece.

    python -m tests.benchmarks.bench_profile [--other CHECKOUT] [--size 512MiB] [--rounds 3]

By kind: `perf record` of both ends, grouped by the library that runs. What a fetch or share of 1 KiB takes is
taken off, so the start does not count; the sender's hashing does. By step: a fetch whose steps are metered
(`metered_fetch`), in microseconds for each piece. Then the calls of functions for each piece (`counted_end`).
With --other, another version takes turns. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from cli.quantities import parse_size
from swarm.content.manifest import choose_piece_length
from tests.benchmarks.measuring import compile_program, table, write_random_file
from tests.benchmarks.two_ends import HERE, LOOPBACK, End, fresh

HERTZ = 2000
KINDS = ("interpreter", "crypto", "hash", "copies", "kernel", "other")
PERF = ["perf", "record", "-q", "-F", str(HERTZ), "-o"]
Seconds = dict[str, float]


def kind(library: str, symbol: str) -> str:
    """Return what a sample is about."""
    if "kernel" in library or library == "[unknown]":
        return "copies" if "copy" in symbol else "kernel"
    if "python" in Path(library).name and "cpython" not in library:
        return "interpreter"
    if "_rust" in library or "crypto" in library:
        return "crypto"
    if "blake3" in library or "xxhash" in library:
        return "hash"
    return "copies" if "libc" in library and re.search("mem(move|cpy|set)", symbol) else "other"


def by_kind(recorded: Path) -> Seconds:
    """Return the seconds of each kind in what `perf record` has written."""
    command = ["perf", "script", "-i", str(recorded), "-F", "ip,sym,dso"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: Counter[str] = Counter()
    for line in filter(None, map(str.strip, listed.splitlines())):
        symbol, _, library = line.rpartition("(")
        found[kind(library.rstrip(")"), symbol)] += 1
    return {name: found[name] / HERTZ for name in KINDS}


def fetch(checkout: Path, source: Path, folder: Path, *, metered: bool) -> tuple[Seconds, Seconds]:
    """Share and fetch once; return the seconds of the receiver and the sender, or the receiver's steps."""
    fresh(folder)
    recorded = folder / "sender.perf", folder / "receiver.perf"
    told = folder / "steps.json"
    sharing = End(checkout, folder, before=() if metered else [*PERF, str(recorded[0])])
    link = sharing.share(source, *LOOPBACK)
    meter = [sys.executable, str(HERE / "tests/benchmarks/metered_fetch.py"), str(told)]
    if metered:
        End(checkout, folder, instead=meter).fetch(link)
        sharing.stop()
        return json.loads(told.read_text()), {}
    End(checkout, folder, before=[*PERF, str(recorded[1])]).fetch(link)
    child = Path(f"/proc/{sharing.process.pid}/task/{sharing.process.pid}/children").read_text().split()
    os.kill(int(child[0]), signal.SIGTERM)
    sharing.ended()
    return by_kind(recorded[1]), by_kind(recorded[0])


def calls(checkout: Path, source: Path, folder: Path) -> Seconds:
    """Share and fetch once; return how many calls of functions each end made."""
    fresh(folder)
    counter = str(HERE / "tests/benchmarks/counted_end.py")
    told = {end: folder / f"{end}.calls" for end in ("receiver", "sender")}
    sharing = End(checkout, folder, instead=[sys.executable, counter, str(told["sender"])])
    link = sharing.share(source, *LOOPBACK)
    End(checkout, folder, instead=[sys.executable, counter, str(told["receiver"])]).fetch(link)
    sharing.stop()
    return {end: float(path.read_text()) for end, path in told.items()}


def less(whole: Seconds, start: Seconds) -> Seconds:
    return {name: max(0.0, seconds - start.get(name, 0.0)) for name, seconds in whole.items()}


def medians(found: list[Seconds]) -> Seconds:
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--other", type=Path, help="a checkout of another version")
    parser.add_argument("--size", default="512MiB")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    size = parse_size(given.size)
    versions = {"this": HERE} | ({"other": given.other.resolve()} if given.other else {})
    ends: dict[str, list[Seconds]] = {}
    steps: dict[str, list[Seconds]] = {name: [] for name in versions}
    counted: dict[str, list[Seconds]] = {name: [] for name in versions}
    for checkout in versions.values():
        compile_program(checkout)
    with tempfile.TemporaryDirectory() as temporary:
        large, tiny, work = (Path(temporary) / name for name in ("large.bin", "tiny.bin", "work"))
        write_random_file(large, size)
        write_random_file(tiny, 1024)
        for _ in range(given.rounds):
            for name, checkout in versions.items():
                whole = fetch(checkout, large, work, metered=False)
                start = fetch(checkout, tiny, work, metered=False)
                for end, seconds in zip(("receiver", "sender"), map(less, whole, start), strict=True):
                    ends.setdefault(f"{end}, {name}", []).append(seconds)
                whole = fetch(checkout, large, work, metered=True)
                start = fetch(checkout, tiny, work, metered=True)
                steps[name].append(less(whole[0], start[0]))
                counted[name].append(less(calls(checkout, large, work), calls(checkout, tiny, work)))
    print(f"CPU s/GB by kind, the start taken off; {given.size}, medians of {given.rounds}\n")
    rows = {name: medians(found) for name, found in sorted(ends.items())}
    scale = 1e9 / size
    print(
        table(
            ("end", *KINDS, "total"),
            [
                (name, *(f"{row[kind] * scale:.2f}" for kind in KINDS), f"{sum(row.values()) * scale:.2f}")
                for name, row in rows.items()
            ],
        )
    )
    pieces = -(-size // choose_piece_length(size))
    print(f"\nReceiver, microseconds of processor time for each of {pieces} pieces\n")
    each = {name: medians(found) for name, found in steps.items()}
    listed = [
        (step, *(f"{each[name][step] / pieces * 1e6:.0f}" for name in versions)) for step in each["this"]
    ]
    print(table(("step", *versions), listed))
    print("\nCalls of functions for each piece\n")
    per_piece = {name: medians(found) for name, found in counted.items()}
    print(
        table(
            ("end", *versions),
            [
                (end, *(f"{per_piece[name][end] / pieces:.0f}" for name in versions))
                for end in per_piece["this"]
            ],
        )
    )


if __name__ == "__main__":
    main()
