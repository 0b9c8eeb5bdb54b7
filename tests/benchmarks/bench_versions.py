"""One fetch by two versions of swarm, taking turns: is the newer one slower?

``python -m tests.benchmarks.bench_versions --other CHECKOUT [--size 512MiB] [--rounds 5] [--mixed]``

Each round shares and fetches one file with either checkout, as whole processes on loopback; with --mixed also
from the other to this one and back. Printed are the
medians of the fetch's seconds (from the start of the process to its end) and of the CPU seconds of both ends,
and the ratio of the two versions in each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cli.quantities import parse_size
from tests.benchmarks.measuring import compile_program
from tests.benchmarks.two_ends import HERE, LOOPBACK, End, fresh

LABELS = {"seconds": "fetch, whole process", "receiver": "receiver's CPU", "sender": "sender's CPU"}


@dataclass
class Turn:
    seconds: float
    receiver: float
    sender: float


def turn(sharer: Path, fetcher: Path, source: Path, folder: Path) -> Turn:
    sharing = End(sharer, fresh(folder))
    fetched = End(fetcher, folder).fetch(sharing.share(source, *LOOPBACK))
    return Turn(fetched.seconds, fetched.processor, sharing.stop().processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, required=True, help="a checkout of another version")
    parser.add_argument("--size", default="512MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mixed", action="store_true", help="also fetch from one version with the other")
    given = parser.parse_args()
    other = given.other.resolve()
    versions = {"this": (HERE, HERE), "other": (other, other)}
    if given.mixed:
        versions |= {"other to this": (other, HERE), "this to other": (HERE, other)}
    compile_program(HERE)
    compile_program(other)
    turns: dict[str, list[Turn]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source.bin"
        with source.open("wb") as file:
            left = parse_size(given.size)
            while left:
                left -= file.write(os.urandom(min(left, 1 << 20)))
        for number in range(given.rounds):
            order = list(versions) if number % 2 else list(reversed(versions))
            for name in order:
                turns[name].append(turn(*versions[name], source, Path(temporary) / "work"))
                print(f"round {number + 1}, {name}: {turns[name][-1]}", flush=True)
    print(f"\n{given.size}, medians of {given.rounds}; the ratio is to the other version")
    for figure, label in LABELS.items():
        medians = {
            name: statistics.median(getattr(t, figure) for t in found) for name, found in turns.items()
        }
        for name, median in medians.items():
            print(f"{label:22} {name:14} {median:7.2f} s {median / medians['other']:6.2f}x")


if __name__ == "__main__":
    main()
