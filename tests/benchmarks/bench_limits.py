"""How exactly real processes keep `--upload-limit` and `--download-limit`.

    python -m tests.benchmarks.bench_limits [--rates 1,5,20] [--no-page]

One seeder that may send so many MB/s serves two leechers; one leecher that may receive so many MB/s is served
by two seeders, on loopback. Counted is the payload that the receivers report, over 10 s from the third second
on; the peak is that of the worst full second in it. Exits with 1 if anything is more than 5 % above its limit
or less than 90 % of it is used. The table goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import MB, machine, table, write_random_file, write_section
from tests.support.processes import Processes, Running
from tests.support.sharing import LOOPBACK

SETTLE_SECONDS = 2.0
"""Left out at the beginning: connecting, and what a fresh bucket holds."""
MEASURE_SECONDS = 10.0
SPARE_SECONDS = 3.0
"""The content lasts so much longer, so that no end game is measured."""
MOST, LEAST = 1.05, 0.90
DEADLINE = 90.0
HEAD = ("limit", "MB/s", "measured MB/s", "of the limit", "peak of 1 s", "share of each peer")


@dataclass(frozen=True, slots=True)
class Result:
    """Rates in bytes per second; ``shares`` of each of the two other peers."""

    limit: int
    what: str
    rate: float
    peak: float
    shares: tuple[float, ...]

    @property
    def good(self) -> bool:
        """Whether the limit is kept and used."""
        return LEAST <= self.rate / self.limit <= MOST

    def row(self) -> list[str]:
        """One line of the table."""
        shares = " / ".join(f"{share / self.rate:.0%}" for share in self.shares)
        used, peak = f"{self.rate / self.limit:.1%}", f"{self.peak / self.limit:.1%}"
        return [self.what, f"{self.limit / MB:g}", f"{self.rate / MB:.3f}", used, peak, shares]


class Flow:
    """Bytes that one process reports to have received from ``peers``, in the order of time."""

    def __init__(self, events: Iterable[dict[str, object]], peers: Iterable[str]) -> None:
        self.points: list[tuple[float, int]] = []
        wanted, total = set(peers), 0
        for event in events:
            if event["event"] == "bytes_received" and event["source"] in wanted:
                total += int(str(event["size"]))
                self.points.append((float(str(event["t"])), total))

    def upto(self, t: float) -> float:
        """Bytes until ``t``, between two reports in proportion."""
        before = (0.0, 0)
        for point in self.points:
            if point[0] >= t:
                span = point[0] - before[0]
                return before[1] + (point[1] - before[1]) * ((t - before[0]) / span if span else 1.0)
            before = point
        return float(before[1])

    @property
    def began(self) -> float:
        """When the first report came."""
        return self.points[0][0]

    def between(self, start: float, seconds: float) -> float:
        """Bytes in ``seconds`` from ``start`` on."""
        return self.upto(start + seconds) - self.upto(start)


def measure(what: str, limit: int, flows: list[tuple[Flow, float]]) -> Result:
    """Add up flows, each with the time at which all of them are to be looked at from."""
    shares = tuple(flow.between(start, MEASURE_SECONDS) / MEASURE_SECONDS for flow, start in flows)
    steps = [number / 2 for number in range(int(2 * MEASURE_SECONDS) - 1)]
    peak = max(sum(flow.between(start + step, 1.0) for flow, start in flows) for step in steps)
    return Result(limit, what, sum(shares), peak, shares)


def events(path: Path) -> list[dict[str, object]]:
    """The whole lines of a file of JSON lines."""
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def share(processes: Processes, content: Path, manifest: Path, name: str, *options: str) -> Running:
    """Start a seeder and wait until it seeds."""
    seeder = processes.swarm(
        "share", content, "--manifest", manifest, *LOOPBACK, *options, "--json=pieces", name=name
    )
    seeder.event("path_shared", DEADLINE)
    return seeder


def upload(limit: int, content: Path, folder: Path, processes: Processes) -> Result:
    """One limited seeder, two leechers."""
    manifest = folder / "content.swarm"
    seeder = share(processes, content, manifest, "seeder", "--upload-limit", f"{limit}B/s")
    peer = seeder.address().rpartition("/p2p/")[2]
    told = [folder / f"told{number}" for number in range(2)]
    leechers = []
    for number, path in enumerate(told):
        where = ("--output", folder / f"out{number}", *LOOPBACK, "--json=pieces")
        leechers.append(processes.swarm("fetch", manifest, seeder.address(), *where, stdout=path))
    for leecher in leechers:
        leecher.expect_exit(0, DEADLINE)
    flows = [Flow(events(path), [peer]) for path in told]
    # Both are looked at over the same ten seconds of this machine's clock.
    offsets = [leecher.started for leecher in leechers]
    start = max(flow.began + offset for flow, offset in zip(flows, offsets, strict=True)) + SETTLE_SECONDS
    starts = [start - offset for offset in offsets]
    return measure("--upload-limit", limit, list(zip(flows, starts, strict=True)))


def download(limit: int, content: Path, folder: Path, processes: Processes) -> Result:
    """One limited leecher, two seeders."""
    manifest = folder / "content.swarm"
    seeders = [share(processes, content, manifest.with_suffix(name), name) for name in (".a", ".b")]
    peers = [seeder.address() for seeder in seeders]
    told = folder / "told"
    where = ("--output", folder / "out", *LOOPBACK, "--download-limit", f"{limit}B/s", "--json=pieces")
    leecher = processes.swarm("fetch", manifest.with_suffix(".a"), *peers, *where, stdout=told)
    leecher.expect_exit(0, DEADLINE)
    lines = events(told)
    flows = [Flow(lines, [peer.rpartition("/p2p/")[2]]) for peer in peers]
    start = max(flow.began for flow in flows) + SETTLE_SECONDS
    return measure("--download-limit", limit, [(flow, start) for flow in flows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rates", default="1,5,20", help="MB/s")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    arguments = parser.parse_args()
    results = []
    for rate in arguments.rates.split(","):
        limit = int(float(rate) * MB)
        for kind in (upload, download):
            with tempfile.TemporaryDirectory(prefix="limits") as place, Processes(Path(place)) as processes:
                content = Path(place) / "content.bin"
                write_random_file(content, int(limit * (SETTLE_SECONDS + MEASURE_SECONDS + SPARE_SECONDS)))
                results.append(kind(limit, content, Path(place), processes))
            print(" | ".join(results[-1].row()), file=sys.stderr, flush=True)
    text = table(HEAD, [result.row() for result in results])
    print(text)
    if not arguments.no_page:
        command = f"python -m tests.benchmarks.bench_limits --rates {arguments.rates}"
        write_section("bench_limits", f"`{command}`; {machine()}.\n\n{text}")
    if not all(result.good for result in results):
        sys.exit("a limit is not kept within 5 %, or less than 90 % of it is used")


if __name__ == "__main__":
    main()
