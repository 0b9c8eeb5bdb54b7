"""Two peers with a half each complete each other: both ways at once, against one way of stock py-libp2p.

    python -m tests.benchmarks.bench_halves [--size 1GiB] [--rounds 3]

A folder of two files of half of ``size``; each `swarm fetch` begins with one of them in place. The figure is
both directions together, from the connection of the peers until the later one has everything; the raw stream
of stock py-libp2p (nothing hashed or stored) takes turns with it. Medians; MB are 10^6 bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS, START_DEADLINE, TRANSFER_DEADLINE, Content
from tests.benchmarks.measuring import MB, parse_size, sha256, write_random_file
from tests.support.processes import Processes, Running
from tests.support.sharing import fetch, share

SIDES = ("left", "right")


def make_halves(folder: Path, size: int) -> dict[str, str]:
    """Write the two files; return their SHA-256 by name."""
    folder.mkdir()
    hashes = {}
    for side in SIDES:
        path = folder / f"{side}.bin"
        write_random_file(path, size // 2)
        with path.open("r+b") as file:
            file.write(side.encode())
        hashes[path.name] = sha256(path)
    return hashes


def exchange(processes: Processes, source: Path, hashes: dict[str, str], place: Path) -> float:
    """Let two peers exchange their halves once; return the seconds that the slower one took."""
    seeder = share(processes, source, name="origin")
    seeder.process.kill()
    running: list[Running] = []
    for side in SIDES:
        target = place / side / source.name / f"{side}.bin"
        target.parent.mkdir(parents=True)
        os.link(source / target.name, target)
        known = [each.address(START_DEADLINE) for each in running]
        running.append(fetch(processes, seeder.manifest, place / side, *known, "--seed", name=side))
    seconds = 0.0
    for each in running:
        begun = each.event("peer_connected", START_DEADLINE)["t"]
        seconds = max(seconds, each.event("transfer_complete", TRANSFER_DEADLINE)["t"] - begun)
    for side in SIDES:
        for name, wanted in hashes.items():
            if sha256(place / side / source.name / name) != wanted:
                raise ValueError(f"{name} of {side} is not what was shared")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", default="1GiB")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    size = parse_size(arguments.size)
    both, stock = [], []
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        source = Path(folder) / "pair"
        hashes = make_halves(source, size)
        content = Content(source / "left.bin", size // 2, hashes["left.bin"])
        for number in range(arguments.rounds):
            os.sync()
            with tempfile.TemporaryDirectory(dir=folder) as place, Processes(Path(place)) as processes:
                both.append(size / exchange(processes, source, hashes, Path(place)) / MB)
            with tempfile.TemporaryDirectory(dir=folder) as place, Processes(Path(place)) as processes:
                transfer = CONTENDERS["stock"].run(processes, content, Path(place))
                stock.append(transfer.size / transfer.seconds / MB)
            print(f"round {number + 1}: {both[-1]:.0f} and {stock[-1]:.0f} MB/s", file=sys.stderr)
    together, one_way = statistics.median(both), statistics.median(stock)
    print(f"halves exchanged by swarm fetch, both ways together: {together:.0f} MB/s")
    print(
        f"stock py-libp2p, one raw stream, one way:            {one_way:.0f} MB/s ({together / one_way:.2f}x)"
    )


if __name__ == "__main__":
    main()
