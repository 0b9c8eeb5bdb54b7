"""Receivers that also send: the seeder is helped, and is not needed once a full copy is out."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.processes import Processes, Running
from tests.support.sharing import MIB, fetch, random_file, received_from, sha256, share

pytestmark = pytest.mark.e2e


def start_leechers(
    processes: Processes, link: str, tmp_path: Path, count: int, *options: str
) -> list[Running]:
    return [
        fetch(processes, link, tmp_path / f"out-{number}", *options, name=f"leecher-{number}")
        for number in range(count)
    ]


def test_five_leechers_that_know_only_the_seeder_help_each_other(
    processes: Processes, tmp_path: Path
) -> None:
    source = random_file(tmp_path / "image.bin", 16 * MIB)
    seeder = share(processes, source, "--piece-size", "64KiB", "--upload-limit", "4MiB/s")

    # With --seed each stays to send what the others still need, as a good peer would.
    leechers = start_leechers(processes, seeder.link, tmp_path, 5, "--seed")
    for leecher in leechers:
        leecher.event("transfer_complete", within=60)

    for number in range(5):
        assert sha256(tmp_path / f"out-{number}" / "image.bin") == sha256(source)
    from_seeder = sum(received_from(leecher)[seeder.peer] for leecher in leechers)
    assert from_seeder < 3 * source.stat().st_size
    between = sum(sum(received_from(leecher).values()) for leecher in leechers) - from_seeder
    assert between > 2 * source.stat().st_size


def test_the_seeder_may_die_once_a_full_copy_is_out(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", 8 * MIB)
    seeder = share(processes, source, "--piece-size", "64KiB", "--upload-limit", "3MiB/s")
    # Limited, or all are complete a moment after the first full copy is out.
    leechers = start_leechers(processes, seeder.link, tmp_path, 5, "--seed", "--upload-limit", "1MiB/s")

    pieces = source.stat().st_size // 65536
    copies: set[int] = set()
    while len(copies) < pieces:
        copies = {event["piece"] for leecher in leechers for event in leecher.events("piece_stored")}
        threading.Event().wait(0.02)
    unfinished = [leecher for leecher in leechers if not leecher.events("transfer_complete")]
    assert unfinished, "the seeder should die while somebody still needs pieces"
    seeder.process.kill()

    for number, leecher in enumerate(leechers):
        leecher.event("transfer_complete", within=60)
        assert sha256(tmp_path / f"out-{number}" / "image.bin") == sha256(source)


def test_a_receiver_that_seeds_replaces_the_seeder(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", 8 * MIB)
    first = share(processes, source)
    second = fetch(processes, first.link, tmp_path / "a", "--seed")
    second.event("transfer_complete")
    address = second.address()
    first.process.kill()

    third = fetch(processes, first.manifest, tmp_path / "c", address)
    third.expect_exit(0)
    assert sha256(tmp_path / "c" / "image.bin") == sha256(source)
    assert set(received_from(third)) == {address.rpartition("/p2p/")[2]}


def test_two_halves_complete_each_other(processes: Processes, tmp_path: Path) -> None:
    """Each of two peers holds one file of a folder; each gets the other's, both ways at once."""
    whole = tmp_path / "pair"
    random_file(whole / "left.bin", 24 * MIB, seed=1)
    random_file(whole / "right.bin", 24 * MIB, seed=2)
    manifest = share(processes, whole, name="origin")
    manifest.process.kill()

    sides = {"left": tmp_path / "l", "right": tmp_path / "r"}
    for side, where in sides.items():
        target = where / "pair" / f"{side}.bin"
        target.parent.mkdir(parents=True)
        target.write_bytes((whole / f"{side}.bin").read_bytes())

    left = fetch(processes, manifest.manifest, sides["left"], "--seed", name="left")
    # The first side knows nobody yet and waits for the second to come.
    right = fetch(processes, manifest.manifest, sides["right"], left.address(), "--seed", name="right")
    left.event("transfer_complete")
    right.event("transfer_complete")

    for where in sides.values():
        for name in ("left.bin", "right.bin"):
            assert sha256(where / "pair" / name) == sha256(whole / name)
    assert sum(received_from(left).values()) == 24 * MIB
    assert sum(received_from(right).values()) == 24 * MIB
