"""A fetch from a web server alone on loopback, beside curl to a file from the same nginx, in turns.

    python -m tests.benchmarks.bench_origin [--size 512MiB] [--rounds 3] [--https]

`curl` is timed from its start to its end. A fetch is timed twice: as a whole, and from the event that its
source has joined to its complete file (`transfer`), as the start of a process is another matter. The
number of requests is what nginx has logged.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cli.quantities import parse_size
from swarm.content.envelope import Envelope
from tests.benchmarks.measuring import machine, table, write_random_file
from tests.netns.swarms import events
from tests.support.processes import Processes
from tests.support.web_servers import Nginx, certificate

HEAD = (
    "how",
    "curl s",
    "fetch s",
    "transfer s",
    "curl / fetch",
    "curl / transfer",
    "processor s",
    "requests",
)


def curl(url: str, target: Path, authorities: Path | None) -> float:
    began = time.monotonic()
    trust = ("--cacert", str(authorities)) if authorities else ()
    subprocess.run(["curl", "-sS", "--fail", *trust, "-o", str(target), url], check=True)
    return time.monotonic() - began


def fetch(
    processes: Processes, manifest: Path, url: str, target: Path, authorities: Path | None
) -> tuple[float, float, float]:
    trust = ("--origin-ca", str(authorities)) if authorities else ()
    told = target.with_suffix(".jsonl")
    running = processes.command(
        [
            *(sys.executable, "-m", "swarm", "fetch", str(manifest), "--origin", url, *trust),
            *("--output", str(target), "--listen", "/ip4/127.0.0.1/tcp/0", "--json"),
        ],
        stdout=told,
    )
    running.expect_exit(0, 300)
    whole = running.elapsed()
    times = {event["event"]: event["t"] for event in events(told)}
    usage = running.usage()
    return (
        whole,
        times["transfer_complete"] - times["source_joined"],
        usage.user_seconds + usage.system_seconds,
    )


def measure(place: Path, size: int, rounds: int, *, https: bool) -> list[str]:
    with Processes(place) as processes:
        root = place / "www"
        root.mkdir()
        content = root / "content.bin"
        write_random_file(content, size)
        own = certificate(place) if https else None
        server = Nginx(processes, root, certificate=own)
        authorities = place / "cert.pem" if https else None
        share = processes.swarm(
            *("share", str(content), "--for", "1s", "--listen", "/ip4/127.0.0.1/tcp/0"),
            *("--manifest", str(place / "made.swarm")),
        )
        share.expect_exit(0, 300)
        manifest = place / "content.swarm"
        manifest.write_bytes(Envelope.from_bytes((place / "made.swarm").read_bytes()).plain_bytes())
        curls, wholes, transfers, seconds, requests = [], [], [], [], 0
        for number in range(rounds):
            os.sync()
            curls.append(curl(server.url + "content.bin", place / f"curl-{number}", authorities))
            os.sync()
            before = len(server.served())
            whole, transfer, used = fetch(
                processes, manifest, server.url, place / f"out-{number}", authorities
            )
            requests = len(server.served()) - before
            wholes.append(whole)
            transfers.append(transfer)
            seconds.append(used)
            (place / f"curl-{number}").unlink()
            (place / f"out-{number}" / "content.bin").unlink()
    middle: Callable[[list[float]], float] = statistics.median
    return [
        "https" if https else "http",
        f"{middle(curls):.2f}",
        f"{middle(wholes):.2f}",
        f"{middle(transfers):.2f}",
        f"{middle(curls) / middle(wholes):.2f}",
        f"{middle(curls) / middle(transfers):.2f}",
        f"{middle(seconds):.2f}",
        f"{requests} ({requests * (64 << 20) / size:.1f} per 64 MiB)",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=512 << 20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--https", action="store_true", help="only https (default: both)")
    arguments = parser.parse_args()
    rows = []
    for https in (True,) if arguments.https else (False, True):
        with tempfile.TemporaryDirectory(prefix="swarm-origin") as folder:
            rows.append(measure(Path(folder), arguments.size, arguments.rounds, https=https))
    print(f"`python -m tests.benchmarks.bench_origin --rounds {arguments.rounds}`; {machine()}.\n")
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
