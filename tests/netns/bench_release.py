"""Receivers with an old version on limited uplinks update at once: how many patches does the publisher send?

python -m tests.netns.bench_release [--receivers N] [--bits N] [--new MIB] [--rounds N]     (root, Linux)

Prints one line a round: patches that the publisher sent, as payload and on the wire, what the receivers
received and sent at most and at least, and the seconds until the last of them was done.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.netns.network import Network
from tests.support.processes import Processes, Running

OLD_BYTES = 12 << 20


@dataclass(frozen=True, slots=True)
class Update:
    """One round: bytes of the patch and of what was moved, and seconds until the last receiver was done."""

    patch: int
    publisher_sent: int
    publisher_wire: int
    received: tuple[int, ...]
    patched: tuple[int, ...]
    sent: tuple[int, ...]
    seconds: float

    @property
    def copies(self) -> float:
        """Patches that the publisher sent."""
        return self.publisher_sent / self.patch

    def __str__(self) -> str:
        def span(sizes: tuple[int, ...]) -> str:
            return f"{min(sizes) / self.patch:.2f} to {max(sizes) / self.patch:.2f}"

        return (
            f"patch of {self.patch / (1 << 20):.1f} MiB: the publisher sent {self.copies:.3f} patches, "
            f"{self.publisher_wire / self.patch:.3f} on the wire; each receiver got {span(self.received)} "
            f"and sent {span(self.sent)}; all done after {self.seconds:.1f} s"
        )


def write_versions(folder: Path, new_bytes: int) -> tuple[Path, Path]:
    """Two versions of a folder, the second with ``new_bytes`` that no patch can spare."""
    old = random.Random(1).randbytes(OLD_BYTES)
    new = old[: OLD_BYTES // 3] + random.Random(2).randbytes(new_bytes) + old[OLD_BYTES // 3 :]
    versions = folder / "1", folder / "2"
    for version, content in zip(versions, (old, new), strict=True):
        version.mkdir(parents=True)
        (version / "data.bin").write_bytes(content)
    return versions


def measure(folder: Path, *, receivers: int, bits: int, new_bytes: int) -> Update:
    """Run one round; raises ProcessFailure, AssertionError if something wrong was installed."""
    old, new = write_versions(folder / "builds", new_bytes)
    hosts = range(1, receivers + 1)
    with Network(receivers + 1, bits=bits) as network, Processes(folder) as processes:

        def start(host: int, *arguments: str | Path) -> Running:
            listen = f"/ip4/{network.address(host)}/tcp/4001"
            argv = [sys.executable, "-m", "swarm", *arguments, "--listen", listen, "--json"]
            return processes.command(network.inside(host, *argv), name=f"host{host}")

        publisher = start(0, "release", "game", old)
        series = publisher.event("release_published", within=60)["series"]
        # All of it is at hand: this is how they come to have the old version.
        for running in [start(host, "fetch", series, "-o", "out", "--base", old) for host in hosts]:
            running.expect_exit(0, within=120)
        publisher.terminate()
        publisher.expect_exit(143)
        publisher = start(0, "release", "game", new)
        patch = publisher.event("release_published", within=120)["patch_size"]
        before, began = network.sent(0), time.monotonic()
        updating = [start(host, "fetch", series, "-o", "out", "--update") for host in hosts]
        for running in updating:
            running.expect_exit(0, within=600)
        seconds, wire = time.monotonic() - began, network.sent(0) - before
        publisher.terminate()
        publisher.expect_exit(143)
        for host in hosts:
            content = processes.work(f"host{host}") / "out" / "game" / "data.bin"
            assert content.read_bytes() == (new / "data.bin").read_bytes()
        done = [running.event("transfer_complete") for running in updating]
        return Update(
            patch,
            sent(publisher),
            wire,
            tuple(each["bytes_received"] for each in done),
            tuple(each["bytes_patched"] for each in done),
            tuple(map(sent, updating)),
            seconds,
        )


def sent(running: Running) -> int:
    """Payload bytes that a process has sent, in all its transfers."""
    return sum(event["size"] for event in running.events("bytes_sent"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.netns.bench_release", description=__doc__)
    parser.add_argument("--receivers", type=int, default=5)
    parser.add_argument("--bits", type=int, default=20_000_000)
    parser.add_argument("--new", type=int, default=16, help="MiB that are new (default: 16)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            update = measure(
                Path(folder),
                receivers=arguments.receivers,
                bits=arguments.bits,
                new_bytes=arguments.new << 20,
            )
        print(update, flush=True)


if __name__ == "__main__":
    main()
