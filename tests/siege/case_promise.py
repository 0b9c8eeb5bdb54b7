"""The promise on two cores: 128 connections, 50 shared files, 32 active transfers; and attacks on top."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import trio

from tests.siege.field import Gauge, attackers, battlefield, cpu_share, mib
from tests.siege.outcome import Outcome
from tests.support.processes import Running
from tests.support.sharing import MIB, Seeder, random_file

NAME = "promise"
FIGURE = (
    "128 connections x 50 shared files x 32 active transfers: RSS <= 256 MiB under attack, idle CPU < 1 %"
)
LIMIT = 600.0
MOST_RSS = 256 * MIB
MOST_IDLE_CPU = 0.01
CONNECTIONS, FILES, ACTIVE = 128, 50, 32
RATE = 256 * 1024
ATTACKS = ("rapid-reset", "pings", "noise", "hoard", "unread-windows", "tcp-silence", "adverts", "manifests")


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    connections, files, active = (12, 4, 3) if quick else (CONNECTIONS, FILES, ACTIVE)
    with battlefield() as (processes, folder):
        paths = [random_file(folder / f"shared-{n}.bin", 2 * MIB, seed=n) for n in range(files)]
        arguments = ["-m", "tests.support.watched", *map(str, paths), "--piece-size", "65536"]
        node = processes.command([sys.executable, *arguments], name="seeder")
        manifest = Path(str(paths[0]) + ".swarm")
        seeder = Seeder(node, manifest, manifest, "", node.address())
        node.event("ready", within=60)
        gauge = Gauge(node.pid)
        alone = gauge.rss()
        crowd = ("-m", "tests.siege.crowd", seeder.address, folder, connections)
        idle = processes.command([sys.executable, *map(str, crowd), "0", "0"])
        idle.event("gathered", within=120)
        time.sleep(3 if quick else 150)  # pings of peers with which nothing moves grow rare
        rss_idle, cpu_idle = gauge.rss(), cpu_share(gauge, 3 if quick else 120)
        idle.stop()
        busy = processes.command([sys.executable, *map(str, crowd), str(active), str(RATE)])
        busy.event("gathered", within=120)
        began, before = time.monotonic(), drained(busy)
        running = attackers(processes, ATTACKS, seeder, count=1 if quick else 4)
        time.sleep(4 if quick else 20)
        moved = (drained(busy) - before) / (time.monotonic() - began)
        running.stop(1)
        lost = len(busy.events("lost"))
        busy.stop()
        gauge.stop()
        held = gauge.peak_rss <= MOST_RSS and cpu_idle <= MOST_IDLE_CPU * (10 if quick else 1)
        held &= moved >= active * RATE * (0.1 if quick else 0.5)
        return Outcome(
            held and node.exit_code is None and not lost,
            f"RSS {mib(alone)} alone, {mib(rss_idle)} with {connections} idle peers, "
            f"peak {mib(gauge.peak_rss)} with {active} active at {moved / MIB:.1f} of "
            f"{active * RATE / MIB:.1f} MiB/s and {len(ATTACKS)} attacks; "
            f"idle CPU {cpu_idle * 100:.2f} %; {lost} honest peers lost",
        )


def drained(crowd: Running) -> int:
    events = crowd.events("drained")
    return int(events[-1]["size"]) if events else 0
