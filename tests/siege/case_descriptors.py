"""A fetch with 64 descriptors and 80 sockets at its door."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress

import trio

from tests.siege.field import ATTACKERS_ADDRESS, Gauge, battlefield
from tests.siege.outcome import Outcome
from tests.support.sharing import LOOPBACK, MIB, random_file, sha256, share

NAME = "10 descriptors"
FIGURE = "ulimit 64, 80 sockets: the running fetch is unaffected, 16 descriptors stay for files"
ULIMIT = 64
SOCKETS = 80
FILES = 16
RATE_MIB = 6
MOST_SLOWER = 1.15


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        size = (12 if quick else 48) * MIB
        source = random_file(folder / "content.bin", size)
        seeder = share(processes, source, "--upload-limit", f"{RATE_MIB}MiB/s")
        times = []
        peak = refused = 0
        for attacked in (False, True):
            output = folder / f"out{attacked}"
            script = f'ulimit -n {ULIMIT}; exec "$0" -m swarm fetch "$@"'
            arguments = (seeder.manifest, seeder.address, "--output", output, *LOOPBACK, "--json=pieces")
            leecher = processes.command(["bash", "-c", script, sys.executable, *map(str, arguments)])
            port = int(leecher.address().split("/")[4])
            gauge = Gauge(leecher.pid)
            sockets = knock(port) if attacked else []
            leecher.expect_exit(0, within=120)
            gauge.stop()
            refused = sum(closed(each) for each in sockets)
            for each in sockets:
                each.close()
            peak = gauge.peak_descriptors
            times.append(float(leecher.event("path_fetched")["seconds"]))
            exact = sha256(output / source.name) == sha256(source)
        clean, under = times
        held = exact and under <= clean * (2 if quick else MOST_SLOWER) and peak <= ULIMIT - FILES + 8
        return Outcome(
            held,
            f"{under:.2f} s with {SOCKETS} sockets, {clean:.2f} s without; at most {peak} of {ULIMIT} open, "
            f"files of the fetch included; {refused} sockets closed by it",
        )


def knock(port: int) -> list[socket.socket]:
    """Open the sockets and say nothing."""
    sockets = []
    for _ in range(SOCKETS):
        each = socket.socket()
        each.bind((ATTACKERS_ADDRESS, 0))
        each.settimeout(2)
        with suppress(OSError):
            each.connect(("127.0.0.1", port))
        sockets.append(each)
        time.sleep(0.01)
    return sockets


def closed(each: socket.socket) -> bool:
    """Whether the other end has closed it."""
    each.settimeout(0.01)
    try:
        return each.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
