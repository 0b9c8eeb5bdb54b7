"""What is shared changes under its seeder: nothing wrong is sent, and who asked completes elsewhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import trio

from tests.siege.outcome import Outcome
from tests.support.processes import Processes
from tests.support.sharing import MIB, fetch, random_file, received_from, share
from tests.support.storage import flip

NAME = "11 seeder rot"
FIGURE = "bit flip, edit, truncation while seeding: 0 bad bytes sent, completes elsewhere"

PIECE = 64 * 1024
Spoil = Callable[[Path, int], set[int]]
"""Changes a file of so many pieces; returns the pieces that are not what they were."""


async def run(quick: bool) -> Outcome:
    """Three ways to rot, each under a seeder that goes on."""
    return await trio.to_thread.run_sync(_run, MIB if quick else 8 * MIB)


def _run(size: int) -> Outcome:
    figures = []
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        for name, spoil in (("bit flip", _flip), ("edit", _edit), ("truncation", _truncate)):
            figures.append(_one(processes, Path(folder) / name, size, name, spoil))
    return Outcome(True, "; ".join(figures))


def _one(processes: Processes, folder: Path, size: int, name: str, spoil: Spoil) -> str:
    rotten, sound = (random_file(folder / each / "data.bin", size) for each in ("rotten", "sound"))
    first = share(processes, rotten, "--piece-size", "64KiB", name=f"{name} 1")
    second = share(
        processes, sound, "--piece-size", "64KiB", "--upload-limit", f"{size // 2}B/s", name=f"{name} 2"
    )
    bad = spoil(rotten, size // PIECE)
    alone = fetch(
        processes, first.manifest, folder / "alone", first.address, "--patience", "2", name=f"{name} 3"
    )
    alone.expect_exit(5)
    leecher = fetch(
        processes, first.manifest, folder / "out", first.address, second.address, name=f"{name} 4"
    )
    leecher.expect_exit(0)
    for each in (alone, leecher):
        if each.events("piece_refused") or each.events("peer_banned"):
            raise AssertionError(f"{name}: bad bytes were sent")
    if (folder / "out" / "data.bin").read_bytes() != sound.read_bytes():
        raise AssertionError(f"{name}: what was fetched differs")
    stored = {event["piece"]: event["source"] for event in leecher.events("piece_stored")}
    if any(stored[piece] != second.peer for piece in bad):
        raise AssertionError(f"{name}: a spoilt piece came from the rotten seeder")
    got = received_from(leecher)
    return (
        f"{name}: 0 refused, {len(bad)} spoilt pieces from elsewhere, {got[first.peer] // 1024} KiB from it"
    )


def _flip(path: Path, pieces: int) -> set[int]:
    """One bit, as rot does: the time stamps stay."""
    flip(path, (pieces // 2) * PIECE + 17)
    return {pieces // 2}


def _edit(path: Path, pieces: int) -> set[int]:
    """An editor's save: bytes in the middle, a new time stamp."""
    with path.open("r+b") as file:
        file.seek(3 * PIECE - 5)
        file.write(b"edited here")
    return {2, 3}


def _truncate(path: Path, pieces: int) -> set[int]:
    """The last quarter is gone."""
    left = pieces * 3 // 4
    os.truncate(path, left * PIECE)
    return set(range(left, pieces))
