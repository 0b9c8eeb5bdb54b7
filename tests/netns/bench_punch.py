"""How long a punched connection takes beyond a dialled one, and how often it is direct.

python -m tests.netns.bench_punch [--runs N] [--round-trip SECONDS]…      (root)

For each round trip: a share behind a cone is fetched from behind another cone with its link, N times, and a
public share is fetched from there as often. What is compared is the time from the beginning of the transfer
to its manifest, which is the first thing that needs a connection.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from tests.netns.nats import CONE, ROUTERS, Nats
from tests.netns.test_punches import Field
from tests.support.processes import Processes, Running


def seconds_to_manifest(fetch: Running) -> float:
    """From the beginning of the transfer until its manifest is there."""
    fetch.expect_exit(0, within=120)
    return float(fetch.event("manifest_ready")["t"] - fetch.event("transfer_started")["t"])


def measure(runs: int, round_trip: float) -> str:
    """One line for one round trip."""
    with tempfile.TemporaryDirectory() as name, Nats(CONE, CONE, round_trip=round_trip) as nats:
        folder = Path(name)
        with Processes(folder) as processes:
            field = Field(nats, processes, folder)
            _, meeting = field.meet()
            _, link = field.share(meeting)
            public = field.swarm("public", "share", field.content, name="public")
            public_link = public.line(r"^(swarm:\S+)$").group(1)
            punched, dialled, direct = [], [], 0
            for number in range(runs):
                fetch = field.fetch(link, f"punched{number}", "--json")
                punched.append(seconds_to_manifest(fetch))
                where = fetch.event("peer_connected")["address"]
                direct += where.startswith(f"/ip4/{ROUTERS['a']}/tcp/") and "p2p-circuit" not in where
                dialled.append(seconds_to_manifest(field.fetch(public_link, f"dialled{number}", "--json")))
    beyond = statistics.median(punched) - statistics.median(dialled)
    dial = statistics.median(dialled)
    return (
        f"round trip {1000 * round_trip:.0f} ms: {direct} of {runs} direct; "
        f"median {beyond:.2f} s beyond a dial of {dial:.2f} s, slowest {max(punched) - dial:.2f} s"
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.netns.bench_punch", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--round-trip", type=float, action="append", metavar="SECONDS")
    arguments = parser.parse_args()
    for round_trip in arguments.round_trip or (0.0, 0.05, 0.2):
        print(measure(arguments.runs, round_trip), flush=True)


if __name__ == "__main__":
    main()
