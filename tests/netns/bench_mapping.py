"""How soon a port of the router leads to a share, and again after its restart, and how soon the end is. Root.

    python -m tests.netns.bench_mapping [--rounds 3]

For each protocol: seconds from the start of the node until it is mapped, from the router's restart until it
is mapped again, and from SIGTERM to the end. Then with a router that answers nobody, by turns with and
without ``--no-map-port``: seconds from the start of the process until the link, and from SIGTERM to the end.
Medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from swarm.node.node import SILENT_ROUTERS
from tests.benchmarks.measuring import table
from tests.netns.test_port_mapping import PROTOCOLS, Home, home


def mapped(here: Home, protocol: str) -> tuple[float, float, float]:
    """One share behind a router that is restarted."""
    router = here.begin_router(protocol)
    share = here.swarm("a", "share", here.content, "--json", name="share")
    first = share.event("port_mapped")["t"] - share.event("node_listening")["t"]
    router.stop()
    here.forget()
    here.restart_router()
    restarted = time.perf_counter()
    here.until_mapped(1)
    again = time.perf_counter() - restarted
    share.terminate()
    ended = time.perf_counter()
    share.expect_exit(143)
    return first, again, time.perf_counter() - ended


def unanswered(here: Home, name: str, *options: str) -> tuple[float, float]:
    """One share behind a router that answers nobody, with the home ``name``."""
    share = here.swarm("a", "share", here.content, *options, name=name)
    share.line("^swarm:")
    began = share.elapsed()
    share.terminate()
    ended = time.perf_counter()
    share.expect_exit(143)
    return began, time.perf_counter() - ended


def prime(here: Home, name: str) -> None:
    """Let a home learn that the router is silent."""
    here.swarm("a", "share", here.content, name=name)
    while not (here.processes.home(name) / SILENT_ROUTERS).exists():
        time.sleep(0.1)
    here.processes.started[-1].stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[str, list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for protocol in PROTOCOLS:
                with home(Path(tempfile.mkdtemp(dir=folder))) as here:
                    found.setdefault(protocol, []).append(mapped(here, protocol))
        with home(Path(tempfile.mkdtemp(dir=folder))) as here:
            prime(here, "known")
            for number in range(rounds):
                ways = {
                    "a silent router": (f"home{number}",),
                    "one that was silent before": ("known",),
                    "--no-map-port": ("known", "--no-map-port"),
                }
                for name, arguments in ways.items():
                    found.setdefault(name, []).append(unanswered(here, *arguments))
    medians = {
        name: [statistics.median(each) for each in zip(*runs, strict=True)] for name, runs in found.items()
    }
    rows = [(name, *(f"{each:.2f}" for each in medians[name])) for name in PROTOCOLS]
    print(table(("router", "mapped s", "again s", "end s"), rows))
    rows = [
        (name, *(f"{each:.2f}" for each in row)) for name, row in medians.items() if name not in PROTOCOLS
    ]
    print(table(("share", "link s", "end s"), rows))


if __name__ == "__main__":
    main()
