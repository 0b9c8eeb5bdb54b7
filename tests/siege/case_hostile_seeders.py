"""Three of nine seeders lie: with random bytes, with replayed pieces, with an equal XXH3."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import trio

from tests.siege.field import battlefield, hostile_seeders, peer_of, ratio, timed_fetch
from tests.siege.outcome import Outcome
from tests.support.processes import Processes, Running
from tests.support.sharing import MIB, Seeder, random_file, sha256, share

NAME = "2 hostile seeders"
FIGURE = (
    "hash exact; the exact three banned, no honest one; <= 1 piece wasted per strike; <= 1.25x the clean time"
)
LIMIT = 600.0
BAD = ("corrupt", "replay", "forged")
HONEST = 6
MOST_TIME = 1.25
PIECE = 256 * 1024
SIZE = {True: 16 * MIB, False: 512 * MIB}
"""By whether the form is quick. So much that each liar is asked before all is there."""
SLOWLY = ("--download-limit", "4MB/s")
"""In the quick form a fetch takes some seconds, for the same reason."""


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        source = random_file(folder / "content.bin", SIZE[quick])
        if quick:
            first = share(processes, source, "--piece-size", str(PIECE))
            _, found = hostile_seeders(processes, ("honest", *BAD), first, source, 3)
            honest = [first.address, *found["honest"][:3]]
            spare, bad = found["honest"][:3], [found[name][0] for name in BAD]
        else:
            seeders = [share(processes, source, "--piece-size", str(PIECE)) for _ in range(HONEST + 3)]
            first = seeders[0]
            _, found = hostile_seeders(processes, BAD, first, source)
            honest = [seeder.address for seeder in seeders[:HONEST]]
            spare = [seeder.address for seeder in seeders[HONEST:]]
            bad = [found[name][0] for name in BAD]
        options, rounds = (SLOWLY, 1) if quick else ((), 5)
        return compare(processes, folder, first, (honest, spare, bad), rounds=rounds, options=options)


def compare(
    processes: Processes,
    folder: Path,
    first: Seeder,
    peers: tuple[list[str], list[str], list[str]],
    *,
    rounds: int,
    options: tuple[str, ...],
) -> Outcome:
    """Fetch from honest ones alone and with the bad ones, by turns."""
    honest, spare, bad = peers
    true = sha256(folder / "content.bin")
    clean: list[float] = []
    attacked: list[float] = []
    faults: list[str] = []
    strikes, wasted = 0, 0.0
    for number in range(rounds):
        output = folder / f"clean{number}"
        _, seconds = timed_fetch(processes, first, honest + spare, output, *options, within=120)
        clean.append(seconds)
        shutil.rmtree(output)
        # The bad ones are named first: they are dialled first.
        output = folder / f"bad{number}"
        leecher, seconds = timed_fetch(processes, first, bad + honest, output, *options, within=120)
        attacked.append(seconds)
        if sha256(output / "content.bin") != true:
            faults.append("the content differs")
        shutil.rmtree(output)
        banned = {event["source"] for event in leecher.events("source_banned")}
        if banned != {peer_of(address) for address in bad}:
            names = {peer_of(address): address for address in honest + bad}
            faults.append(f"banned {len(banned)}: {sorted(map(names.get, banned), key=str)}")
        strikes += len(banned)
        wasted += pieces_lost(leecher, banned)
        if pieces_lost(leecher, banned) > len(banned):
            faults.append("more pieces wasted than strikes")
    times = ratio(attacked, clean)
    if times > MOST_TIME and rounds > 1:
        faults.append("too slow")
    text = (
        f"{3 * rounds} bad of {9 * rounds}: {strikes} strikes, {wasted:.1f} pieces wasted; "
        f"{statistics.median(attacked):.2f} s with them, {statistics.median(clean):.2f} s without: "
        f"{times:.2f}x"
    )
    return Outcome(not faults, "; ".join([text, *faults]))


def pieces_lost(leecher: Running, banned: set[str]) -> float:
    """Pieces' worth of bytes that came from liars and were thrown away, the refused ones included."""
    refused = [event for event in leecher.events("piece_refused") if event["source"] in banned]
    lost = refused + [event for event in leecher.events("piece_wasted") if event["source"] in banned]
    return sum(event["size"] for event in lost) / PIECE
