"""Round trips to a seeder whose uplink is full: over the connection that fills it, and over another one."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import write_random_file
from tests.netns.network import Network, payload_rate
from tests.netns.swarms import PORT, Swarm
from tests.support.processes import Processes

BITS = 20_000_000
SECONDS = 15.0
WARM_SECONDS = 3.0
INTERVAL = 0.1
START_SECONDS = 30.0
LIMIT = 0.150
"""What the median has to stay below."""


@dataclass(frozen=True, slots=True)
class Pings:
    """Answered round trips in seconds, and how many were lost."""

    where: str
    seconds: tuple[float, ...]
    lost: int

    @classmethod
    def of(cls, where: str, told: Sequence[float | None]) -> Pings:
        return cls(where, tuple(each for each in told if each is not None), told.count(None))

    @property
    def median(self) -> float:
        """The median round trip in seconds."""
        return statistics.median(self.seconds)

    def row(self) -> list[str]:
        """One line of the table."""
        worst = statistics.quantiles(self.seconds, n=20)[-1]
        figures = (min(self.seconds), self.median, worst, max(self.seconds))
        count = f"{len(self.seconds) + self.lost}, {self.lost} lost"
        return [self.where, count, *(f"{figure * 1000:.1f}" for figure in figures)]


HEAD = ("pings", "sent", "min ms", "median ms", "95 % ms", "max ms")


def measure(folder: Path) -> list[Pings]:
    """A leecher takes all that the seeder's uplink carries, and pings; so does a third host beside it."""
    content = folder / "bulk.bin"
    write_random_file(content, int(payload_rate(BITS) * (START_SECONDS + SECONDS)))
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        Network(3, bits=BITS) as network,
        Processes(Path(place)) as processes,
    ):
        swarm = Swarm()
        swarm.prepare(processes, network, content)
        address, output = swarm.address(0), Path(place) / "out"
        listen = f"/ip4/{network.address(1)}/tcp/{PORT}"
        program = [sys.executable, "-m", "tests.netns.ping_peer", swarm.manifest, address, output]
        options = ("--listen", listen, "--warm", str(WARM_SECONDS), "--seconds", str(SECONDS))
        leecher = processes.command(network.inside(1, *program, *options), name="host1")
        # The third host's pings begin when the uplink is full.
        leecher.line("^pinging$", START_SECONDS)
        count = ("--count", str(int(SECONDS / INTERVAL)), "--interval", str(INTERVAL), "--json")
        ping = [sys.executable, "-m", "swarm", "ping", address, *count]
        third = processes.command(network.inside(2, *ping), name="host2")
        same = json.loads(leecher.line(r"^\[.*$", 3 * SECONDS).group(0))
        third.expect_exit(0, 3 * SECONDS)
        other = [event["seconds"] for event in third.events("peer_pinged")]
    return [Pings.of("over the connection that is full", same), Pings.of("from a third host", other)]
