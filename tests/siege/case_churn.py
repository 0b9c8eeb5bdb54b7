"""Everybody leaves and comes back; nine tenths of a copy, then a whole one."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from tests.siege.field import Gauge, battlefield, cpu_share, hostile_seeders
from tests.siege.outcome import Outcome
from tests.support.processes import Processes
from tests.support.sharing import MIB, fetch, random_file, sha256, share

NAME = "12 churn"
FIGURE = "all gone for 60 s; 0.9 copies, then 1.0: done within 10 s + transfer time of the return; CPU < 5 %"
LIMIT = 400.0
MOST_LATE = 10.0
MOST_CPU = 0.05
RATE_MIB = 4


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        source = random_file(folder / "content.bin", (4 if quick else 48) * MIB)
        gone = vanish(processes, folder, source, 2.5 if quick else 60)
        part = ninety(processes, folder, source, 2 if quick else 20)
        texts, held = [], True
        for name, (late, cpu, exact) in {"all gone": gone, "0.9 copies": part}.items():
            held &= exact and late <= MOST_LATE and cpu <= MOST_CPU * (3 if quick else 1)
            texts.append(
                f"{name}: done {late:.1f} s + transfer time after the return, CPU {cpu * 100:.1f} % while "
                f"waiting{'' if exact else ', NOT exact'}"
            )
        return Outcome(held, "; ".join(texts))


def vanish(processes: Processes, folder: Path, source: Path, away: float) -> tuple[float, float, bool]:
    """The only seeder is killed at half and comes back at its address."""
    limit = ("--upload-limit", f"{RATE_MIB}MiB/s")
    seeder = share(processes, source, *limit, name="seeder")
    port = seeder.address.split("/")[4]
    output = folder / "vanish"
    leecher = fetch(processes, seeder.manifest, output, seeder.address)
    total = leecher.event("manifest_ready")["pieces"]
    leecher.events_until("piece_stored", total // 2, 60)
    seeder.process.kill()
    time.sleep(1)
    gauge = Gauge(leecher.pid)
    cpu = cpu_share(gauge, away - 1)
    gauge.stop()
    share(processes, source, *limit, "--listen", f"/ip4/127.0.0.1/tcp/{port}", name="seeder")
    back = time.monotonic()
    leecher.expect_exit(0, within=120)
    transfer = source.stat().st_size / 2 / (RATE_MIB * MIB)
    late = time.monotonic() - back - transfer
    return late, cpu, sha256(output / source.name) == sha256(source)


def ninety(processes: Processes, folder: Path, source: Path, away: float) -> tuple[float, float, bool]:
    """One peer has nine tenths of the pieces; who has all comes later."""
    whole = share(processes, source, name="whole")
    port = whole.address.split("/")[4]
    whole.process.stop()
    running, found = hostile_seeders(processes, ["partial"], whole, source)
    output = folder / "ninety"
    leecher = fetch(processes, whole.manifest, output, whole.address, *found["partial"])
    total = leecher.event("manifest_ready")["pieces"]
    leecher.events_until("piece_stored", total * 9 // 10, 60)
    time.sleep(1)
    gauge = Gauge(leecher.pid)
    cpu = cpu_share(gauge, away)
    gauge.stop()
    share(processes, source, "--listen", f"/ip4/127.0.0.1/tcp/{port}", name="whole")
    back = time.monotonic()
    leecher.expect_exit(0, within=120)
    late = time.monotonic() - back
    running.stop()
    return late, cpu, sha256(output / source.name) == sha256(source)
