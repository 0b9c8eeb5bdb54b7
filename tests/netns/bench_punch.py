"""How much longer a punched connection takes than a dialled one, how often it is direct, and how fast it is.

python -m tests.netns.bench_punch [--runs N] [--round-trip SECONDS]… [--rate MIB] [--uplink MBIT] [--refuse]

Run it as root. A share behind one cone is fetched with its link from behind another cone. *The dial* is the
same fetch where no NAT is in the way: of a share on the public host, whose link names the same meeting point.
Both run by turns, ``--runs`` times for each round trip. What is compared is the time from the start of the
command until its first exchange opens; the start of the interpreter comes before the command's clock.

The rate of both is compared as well, from the opening of the exchange to the last piece; it means little for
less than ``--rate 64``. ``--uplink`` limits what both seeders can send; without it the processors are the
limit, and those also do the work of the routers. With ``--refuse`` routers answer strangers with a reset.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.netns.nats import CONE, DROPS, PUBLIC, REFUSES, ROUTERS, Nats
from tests.netns.test_punches import Field
from tests.support.processes import Processes, Running

MIB = 1 << 20


@dataclass
class Measured:
    """The fetches of one kind."""

    opened: list[float] = field(default_factory=list)
    """Seconds until the first exchange opened."""
    rates: list[float] = field(default_factory=list)
    """Bytes a second."""
    direct: int = 0

    def add(self, fetch: Running, router: str, size: int) -> None:
        """Wait for a fetch to end, and take its times; the seeder is to be met at ``router``."""
        fetch.expect_exit(0, within=300)
        connected = fetch.event("peer_connected")
        self.opened.append(connected["t"])
        self.rates.append(size / (fetch.event("transfer_complete")["t"] - connected["t"]))
        self.direct += connected["address"].startswith(f"/ip4/{router}/tcp/")
        self.direct -= "p2p-circuit" in connected["address"]


@dataclass(frozen=True)
class Case:
    """One network. ``size`` is bytes of content, ``uplink`` bits a second or 0, ``round_trip`` seconds."""

    runs: int
    round_trip: float
    size: int
    uplink: int
    strangers: str


def measure(case: Case) -> str:
    """What one case shows, in a line or two."""
    punched, dialled = Measured(), Measured()
    network = Nats(CONE, CONE, round_trip=case.round_trip, strangers=case.strangers)
    with tempfile.TemporaryDirectory() as name, network as nats, Processes(Path(name)) as processes:
        if case.uplink:
            nats.limit("a", case.uplink)
            nats.limit("public", case.uplink)
        made = Field(nats, processes, Path(name), size=case.size)
        _, meeting = made.meet()
        _, link = made.share(meeting)
        # Other content: who fetches finds everybody at the meeting point who has the same.
        other = made.folder / "other.bin"
        other.write_bytes(os.urandom(case.size))
        public = made.swarm("public", "share", other, "--meet", meeting, name="public")
        public_link = public.line(r"^(swarm:\S+)$").group(1)
        for number in range(case.runs):
            punched.add(made.fetch(link, f"punched{number}", "--json"), ROUTERS["a"], case.size)
            dialled.add(made.fetch(public_link, f"dialled{number}", "--json"), PUBLIC, case.size)
    return report(case, punched, dialled)


def report(case: Case, punched: Measured, dialled: Measured) -> str:
    """The figures of one case."""
    dial = statistics.median(dialled.opened)
    beyond = sorted(seconds - dial for seconds in punched.opened)
    rates = [statistics.median(each.rates) for each in (punched, dialled)]
    return (
        f"round trip {1000 * case.round_trip:.0f} ms: {punched.direct} of {case.runs} direct; "
        f"beyond a dial of {dial:.2f} s (slowest {max(dialled.opened) - dial:.2f} s more): "
        f"median {statistics.median(beyond):.2f} s, slowest {beyond[-1]:.2f} s\n"
        f"  {case.size / MIB:.0f} MiB at {rates[0] / 1e6:.1f} MB/s punched, "
        f"{rates[1] / 1e6:.1f} MB/s dialled, "
        f"ratio {rates[0] / rates[1]:.2f}"
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.netns.bench_punch", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--round-trip", type=float, action="append", metavar="SECONDS")
    parser.add_argument("--rate", type=int, default=2, metavar="MIB")
    parser.add_argument("--uplink", type=int, default=0, metavar="MBIT")
    parser.add_argument("--refuse", action="store_true")
    asked = parser.parse_args()
    for round_trip in asked.round_trip or (0.0, 0.05, 0.2):
        strangers = REFUSES if asked.refuse else DROPS
        case = Case(asked.runs, round_trip, asked.rate * MIB, asked.uplink * 1_000_000, strangers)
        print(measure(case), flush=True)


if __name__ == "__main__":
    main()
