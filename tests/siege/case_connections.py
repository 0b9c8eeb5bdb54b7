"""What connections cost: idle ones, busy ones, handshakes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import trio

from tests.siege.crowd import shake_hands
from tests.siege.field import Gauge, battlefield, cpu_share, mib
from tests.siege.outcome import Outcome
from tests.support.processes import Processes, Running
from tests.support.sharing import MIB, random_file

NAME = "connections"
FIGURE = (
    "128 idle, then 128 at 1 MiB/s each: RSS <= 256 MiB; handshakes a second and CPU of an idle connection"
)
LIMIT = 400.0
MOST_RSS = 256 * MIB
CONNECTIONS, FILES = 128, 32
RATE = MIB


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    connections = 16 if quick else CONNECTIONS
    with battlefield() as (processes, folder):
        paths = [random_file(folder / f"shared-{n}.bin", 2 * MIB, seed=n) for n in range(FILES)]
        arguments = ["-m", "tests.support.watched", *map(str, paths), "--piece-size", str(MIB // 4)]
        node = processes.command([sys.executable, *arguments], name="seeder")
        address = node.address()
        node.event("ready", within=60)
        gauge = Gauge(node.pid)
        alone = gauge.rss()
        nobody = cpu_share(gauge, 2 if quick else 10)
        hands, cost = handshakes(gauge, address, 20 if quick else 200)
        crowd = gather(processes, address, folder, connections, 0)
        time.sleep(3 if quick else 60)
        idle, rss_idle = cpu_share(gauge, 3 if quick else 40), gauge.rss()
        crowd.stop()
        crowd = gather(processes, address, folder, connections, connections)
        before, began = drained(crowd), time.monotonic()
        busy = cpu_share(gauge, 4 if quick else 20)
        moved = (drained(crowd) - before) / (time.monotonic() - began)
        crowd.stop()
        gauge.stop()
        each = (idle - nobody) / connections
        return Outcome(
            gauge.peak_rss <= MOST_RSS and node.exit_code is None,
            f"RSS {mib(alone)} alone, {mib(rss_idle)} with {connections} idle, "
            f"peak {mib(gauge.peak_rss)} with {connections} at {RATE / MIB:.0f} MiB/s asked "
            f"({moved / MIB:.0f} MiB/s in all, CPU {busy * 100:.0f} %); "
            f"an idle connection costs {each * 1e6:.0f} us of CPU a second; "
            f"{hands:.0f} handshakes a second, {cost * 1000:.1f} ms of CPU each here",
        )


def gather(processes: Processes, address: str, folder: Path, peers: int, active: int) -> Running:
    """A crowd that is there."""
    arguments = ("-m", "tests.siege.crowd", address, str(folder), str(peers), str(active), str(RATE))
    crowd = processes.command([sys.executable, *arguments])
    crowd.event("gathered", within=120)
    return crowd


def drained(crowd: Running) -> int:
    events = crowd.events("drained")
    return int(events[-1]["size"]) if events else 0


def handshakes(gauge: Gauge, address: str, count: int) -> tuple[float, float]:
    """Handshakes a second, one after the other, and CPU seconds of each at the listener."""
    before, began = gauge.cpu(), time.monotonic()
    trio.run(shake_hands, address, count)
    seconds = time.monotonic() - began
    return count / seconds, (gauge.cpu() - before) / count
