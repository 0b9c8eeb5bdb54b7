"""What compressed payload saves on a slow uplink: one sharer, one fetcher, whole programs.

    python -m tests.netns.packing [--bits 20000000] [--mib 16] [--rounds 3] [--other CHECKOUT]

Prints seconds of the whole fetch and bytes on the wire for a tar of Python's sources and for random bytes,
as shares of what the file alone would take. With --other, a checkout of a version that does not compress
fetches too, by turns: the ratio of the two is what compressing gains. Needs root.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import table
from tests.netns.network import Network, payload_rate
from tests.netns.swarms import PORT
from tests.support.processes import Processes

READY_SECONDS = 60.0
MIB = 1 << 20


@dataclass(frozen=True)
class Run:
    """Seconds of the fetch's process and bytes that left the sharer's interface."""

    seconds: float
    wire: int


def tar_of_sources(size: int) -> bytes:
    """The first ``size`` bytes of a tar of the standard library's sources."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in _sources():
            tar.add(path, arcname=path.name)
            if out.tell() >= size:
                break
    found = out.getvalue()
    if len(found) < size:
        raise SystemExit(f"the standard library's sources are only {len(found)} bytes")
    return found[:size]


def _sources() -> Iterator[Path]:
    return iter(sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")))


def fetch(
    network: Network, processes: Processes, link: str, content: Path, *, checkout: Path | None = None
) -> Run:
    """Fetch once, with the program of another checkout if one is named; the file must be the same."""
    into = Path(tempfile.mkdtemp(prefix="into-", dir=processes.folder))
    environment = {} if checkout is None else {"PYTHONPATH": str(checkout)}
    argv = [sys.executable, "-m", "swarm", "fetch", link, "--output", str(into)]
    before, began = network.sent(0), time.monotonic()
    running = processes.command(
        network.inside(1, *argv),
        env={"SWARM_HOME": str(into / "home"), **environment},
        cwd=into,
        name="fetch",
    )
    running.expect_exit(0)
    took = time.monotonic() - began
    if (into / content.name).read_bytes() != content.read_bytes():
        raise SystemExit(f"{content.name} arrived changed")
    return Run(took, network.sent(0) - before)


def share(network: Network, processes: Processes, content: Path, *, checkout: Path | None = None) -> str:
    """Share a file on the first host; returns its link."""
    environment = {} if checkout is None else {"PYTHONPATH": str(checkout)}
    listen = f"/ip4/{network.address(0)}/tcp/{PORT}"
    running = processes.command(
        network.inside(0, sys.executable, "-m", "swarm", "share", content, "--listen", listen),
        env={"SWARM_HOME": str(processes.folder / f"home-{content.name}"), **environment},
        cwd=processes.folder,
        name="share",
    )
    return running.line(r"(?m)^(swarm:\S+)$", READY_SECONDS).group(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bits", type=int, default=20_000_000)
    parser.add_argument("--mib", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", type=Path)
    options = parser.parse_args()
    size = options.mib * MIB
    contents = {"tar of sources": tar_of_sources(size), "random bytes": random.Random(1).randbytes(size)}
    rows = []
    for name, data in contents.items():
        with (
            tempfile.TemporaryDirectory(prefix="packing") as folder,
            Network(2, bits=options.bits) as network,
            Processes(Path(folder)) as processes,
        ):
            content = Path(folder) / "content.bin"
            content.write_bytes(data)
            link = share(network, processes, content)
            who: dict[str, Path | None] = {"this": None}
            if options.other is not None:
                who["other"] = options.other.resolve()
            runs: dict[str, list[Run]] = {each: [] for each in who}
            for _ in range(options.rounds):
                for each, checkout in who.items():
                    runs[each].append(fetch(network, processes, link, content, checkout=checkout))
            rows += [_row(name, each, found, size, options.bits) for each, found in runs.items()]
    print(table(("content", "fetched by", "seconds", "x the bare link", "wire bytes, x the file"), rows))


def _row(name: str, who: str, runs: list[Run], size: int, bits: int) -> list[str]:
    seconds = statistics.median(run.seconds for run in runs)
    wire = statistics.median(run.wire for run in runs)
    bare = size / payload_rate(bits)
    return [name, who, f"{seconds:.2f}", f"{seconds / bare:.2f}", f"{wire / size:.3f}"]


if __name__ == "__main__":
    if os.geteuid():
        raise SystemExit("network namespaces need root")
    main()
