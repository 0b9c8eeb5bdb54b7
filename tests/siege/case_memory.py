"""Every flood against one seeder that also serves an honest peer."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import trio

from tests.siege.field import Gauge, attackers, battlefield, mib, rate, received, sparse_file
from tests.siege.outcome import Outcome
from tests.support.hostile_connections import CONNECTION_ATTACKS
from tests.support.hostile_streams import LEGAL, STREAM_ATTACKS
from tests.support.processes import Processes
from tests.support.sharing import MIB, Seeder, fetch, share

NAME = "6 memory siege"
FIGURE = "RSS of the seeder <= 256 MiB, attackers gone in 10 s, the honest peer keeps half its clean rate"
LIMIT = 900.0
MOST_RSS = 256 * MIB
MOST_SECONDS = 10.3
"""Ten and what it takes to notice: timers here and there do not start at once."""
LEAST_RATE = 0.5
QUICK_RATE = 0.01
"""The quick form runs beside other tests, where a rate says little: somebody honest must get on, no more."""
LEAST_LEFT = 160 * MIB
UPLINK = "16MiB/s"
FLOODS = (*CONNECTION_ATTACKS, *STREAM_ATTACKS)
QUICK = ("rapid-reset", "empty-data", "pings", "noise", "hoard", "unread-windows")


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        source = sparse_file(folder / "content.bin", (256 if quick else 512) * MIB)
        seeder = share(processes, source, "--piece-size", "256KiB", "--upload-limit", UPLINK)
        gauge = Gauge(seeder.process.pid)
        honest = Honest(processes, seeder, folder)
        clean = honest.rate(3)
        faults: list[str] = []
        kept: dict[str, float] = {}
        if not quick:
            for name in FLOODS:
                faults += alone(processes, seeder, name)
        groups = [QUICK] if quick else [*((name,) for name in FLOODS), FLOODS]
        for group in groups:
            honest.renew()
            running = attackers(processes, group, seeder, count=2 if len(group) > 1 else 8)
            running.event("attacking")
            time.sleep(1)
            kept[group[0] if len(group) == 1 else "all"] = honest.rate(4) / clean
            faults += lingering(running)
            running.stop(1)
        worst = min(kept, key=lambda name: kept[name])
        faults += [
            f"{name} leaves {part:.2f}"
            for name, part in kept.items()
            if part < (QUICK_RATE if quick else LEAST_RATE)
        ]
        if gauge.peak_rss > MOST_RSS:
            faults.append("too much memory")
        if seeder.process.exit_code is not None:
            faults.append("the seeder is dead")
        gauge.stop()
        text = (
            f"{len(QUICK if quick else FLOODS)} floods: peak RSS {mib(gauge.peak_rss)}, "
            f"clean rate {clean / MIB:.1f} MiB/s, kept {kept['all']:.2f} under all at once, "
            f"least {kept[worst]:.2f} ({worst})"
        )
        return Outcome(not faults, "; ".join([text, *faults]))


class Honest:
    """A fetch that never ends: before one is done, another begins."""

    def __init__(self, processes: Processes, seeder: Seeder, folder: Path) -> None:
        self._processes, self._seeder, self._folder = processes, seeder, folder
        self._number = 0
        self._start()

    def _start(self) -> None:
        self._number += 1
        output = self._folder / f"out{self._number}"
        self._leecher = fetch(self._processes, self._seeder.manifest, output, self._seeder.address)
        self._size = self._leecher.event("manifest_ready")["size"]
        self._leecher.event("piece_stored")
        time.sleep(1)

    def renew(self) -> None:
        """Make sure that it goes on for a while."""
        if self._size - received(self._leecher) < LEAST_LEFT:
            self._leecher.stop()
            shutil.rmtree(self._folder / f"out{self._number}")
            self._start()

    def rate(self, seconds: float) -> float:
        """Bytes a second over the next ``seconds``."""
        return rate(self._leecher, seconds)


def alone(processes: Processes, seeder: Seeder, name: str) -> list[str]:
    """One attacker that does not come back: how long does the seeder bear it?"""
    if name in LEGAL:
        return []
    running = attackers(processes, [name], seeder, persist=False)
    began = time.monotonic()
    running.line("attacking")
    while time.monotonic() - began < MOST_SECONDS + 3 and not running.events("cut_off"):
        time.sleep(0.1)
    ended = running.events("cut_off")
    running.stop(1)
    if not ended:
        return [f"{name} was borne for more than {MOST_SECONDS:.0f} s"]
    return [f"{name} was borne for {e['after']:.1f} s" for e in ended if e["after"] > MOST_SECONDS]


def lingering(running: object) -> list[str]:
    """Attackers that were cut off too late."""
    return [
        f"{event['attack']} was borne for {event['after']:.1f} s"
        for event in running.events("cut_off")  # type: ignore[attr-defined]
        if event["after"] > MOST_SECONDS and event["attack"] not in LEGAL
    ]
