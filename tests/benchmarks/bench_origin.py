"""A fetch from a web server alone on loopback, beside curl to a file from the same nginx, in turns.

    python -m tests.benchmarks.bench_origin [--size 512MiB] [--rounds 3] [--https] [--in FOLDER]

`curl` is timed from its start to its end; it verifies nothing. *curl, then hash* is the same run of curl and
then a process of its own that reads the file and computes its BLAKE3 in one loop of Python. A fetch, which
verifies every piece, is timed twice: as a whole, and from the event that its source has joined to its
complete file (`transfer`), as the start of a process is another matter. Ratios are medians of those of each
round. The number of requests is what nginx has logged.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cli.quantities import parse_size
from swarm.content.envelope import Envelope
from tests.benchmarks.measuring import compile_program, machine, table, write_random_file
from tests.netns.swarms import events
from tests.support.processes import Processes
from tests.support.web_servers import Nginx, certificate

HEAD = (
    "how",
    "curl s",
    "curl, then hash s",
    "fetch s",
    "transfer s",
    "curl / fetch",
    "curl / transfer",
    "curl, then hash / fetch",
    "processor s",
    "requests",
)
HASH = """
import sys
from blake3 import blake3
whole, memory = blake3(), memoryview(bytearray(1 << 20))
with open(sys.argv[1], "rb", buffering=0) as file:
    while size := file.readinto(memory):
        whole.update(memory[:size])
print(whole.hexdigest())
"""


def curl(url: str, target: Path, authorities: Path | None) -> float:
    began = time.monotonic()
    trust = ("--cacert", str(authorities)) if authorities else ()
    subprocess.run(["curl", "-sS", "--fail", *trust, "-o", str(target), url], check=True)
    return time.monotonic() - began


def hashed(path: Path) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", HASH, str(path)], check=True, stdout=subprocess.DEVNULL)
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
        rounds_of = [
            _round(processes, server, manifest, place / str(number), authorities) for number in range(rounds)
        ]
    curls, hashes, wholes, transfers, seconds, requests = map(list, zip(*rounds_of, strict=True))
    return [
        "https" if https else "http",
        *(f"{statistics.median(times):.2f}" for times in (curls, _sums(curls, hashes), wholes, transfers)),
        f"{_ratio(curls, wholes):.2f}",
        f"{_ratio(curls, transfers):.2f}",
        f"{_ratio(_sums(curls, hashes), wholes):.2f}",
        f"{statistics.median(seconds):.2f}",
        f"{max(requests):.0f} ({max(requests) * (64 << 20) / size:.1f} per 64 MiB)",
    ]


def _round(
    processes: Processes, server: Nginx, manifest: Path, place: Path, authorities: Path | None
) -> tuple[float, float, float, float, float, float]:
    """Seconds of curl, of a hash of its file, of a fetch, of its transfer, of its processor; its requests."""
    os.sync()
    by_curl = place.with_suffix(".curl")
    curled = curl(server.url + "content.bin", by_curl, authorities)
    hashing = hashed(by_curl)
    by_curl.unlink()
    os.sync()
    before = len(server.served())
    whole, transfer, used = fetch(processes, manifest, server.url, place, authorities)
    (place / "content.bin").unlink()
    return curled, hashing, whole, transfer, used, float(len(server.served()) - before)


def _sums(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(some, others, strict=True)]


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=512 << 20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--https", action="store_true", help="only https (default: both)")
    parser.add_argument(
        "--in", dest="folder", help="a folder of the file system to use (default: the system's)"
    )
    arguments = parser.parse_args()
    compile_program()
    rows = []
    for https in (True,) if arguments.https else (False, True):
        with tempfile.TemporaryDirectory(prefix="swarm-origin", dir=arguments.folder) as folder:
            rows.append(measure(Path(folder), arguments.size, arguments.rounds, https=https))
    print(f"`python -m tests.benchmarks.bench_origin --rounds {arguments.rounds}`; {machine()}.\n")
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
