"""A path that loses one packet in a hundred and has 40 ms."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import trio

from tests.siege.field import battlefield
from tests.siege.lossy import LossyPath, Unavailable
from tests.siege.outcome import Outcome
from tests.support.processes import Processes
from tests.support.sharing import MIB, random_file, sha256

NAME = "13 lossy link"
FIGURE = "1 % loss, 40 ms round trip: >= 80 % of raw TCP over the same relay"
LIMIT = 600.0
LOSS, ROUND_TRIP = 0.01, 0.04
LEAST = 0.8

SEND = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
with open(sys.argv[2], "rb") as file:
    peer.sendfile(file)
peer.shutdown(socket.SHUT_WR)
peer.recv(1)
"""
RECEIVE = """
import socket, sys, time
began = time.monotonic()
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
size = 0
while data := peer.recv(1 << 20):
    size += len(data)
print(size, time.monotonic() - began, flush=True)
"""


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    size = (2 if quick else 64) * MIB
    try:
        with battlefield() as (processes, folder), LossyPath(LOSS, ROUND_TRIP) as path:
            source = random_file(folder / "content.bin", size)
            share = path.inside(0, sys.executable, "-m", "swarm", "share", source, "--listen")
            seeder = processes.command([*share, f"/ip4/{path.addresses[0]}/tcp/0"], name="seeder")
            address = seeder.address()
            seeder.line(r"swarm:\S+")
            manifest = seeder.cwd / seeder.lines()[0]
            raw: list[float] = []
            ours: list[float] = []
            exact = True
            for number in range(1 if quick else 3):
                raw.append(raw_tcp(processes, path, source))
                output = folder / f"out{number}"
                fetch = (
                    "-m",
                    "swarm",
                    "fetch",
                    manifest,
                    address,
                    "--output",
                    output,
                    "--json=pieces",
                    "--listen",
                )
                leecher = processes.command(
                    path.inside(1, sys.executable, *fetch, f"/ip4/{path.addresses[1]}/tcp/0")
                )
                leecher.expect_exit(0, within=120)
                ours.append(float(leecher.event("path_fetched")["seconds"]))
                exact &= sha256(output / source.name) == sha256(source)
            share_of = statistics.median(raw) / statistics.median(ours)
            text = (
                f"{size / statistics.median(ours) / 1000:.0f} kB/s, raw TCP "
                f"{size / statistics.median(raw) / 1000:.0f} kB/s: {share_of * 100:.0f} %; "
                f"{path.lost} of {path.carried + path.lost} packets lost"
            )
            # A short run is mostly its beginning: TCP, Noise, Yamux and greeting take ten round trips.
            return Outcome(exact and share_of >= (0.2 if quick else LEAST), text)
    except Unavailable as error:
        return Outcome(False, f"not measured: {error}")


def raw_tcp(processes: Processes, path: LossyPath, source: Path) -> float:
    """Seconds that one TCP connection needs for the same bytes."""
    sender = processes.command(path.inside(0, sys.executable, "-c", SEND, path.addresses[0], source))
    port = sender.line(r"^(\d+)$").group(1)
    time.sleep(0.1)
    receiver = processes.command(path.inside(1, sys.executable, "-c", RECEIVE, path.addresses[0], port))
    seconds = float(receiver.line(r"^\d+ (\S+)$", within=120).group(1))
    receiver.stop()
    sender.stop()
    return seconds
