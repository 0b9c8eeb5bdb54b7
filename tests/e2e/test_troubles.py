"""Peers that stall, a file that changes under its seeder, peers that come late: with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.sharing import MIB, fetch, random_file, received_from, sha256, share

pytestmark = pytest.mark.e2e


def test_a_stalled_peer_loses_its_requests_to_others(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", 16 * MIB)
    seeders = [share(processes, source, "--upload-limit", "3MiB/s") for _ in range(2)]
    leecher = fetch(processes, seeders[0].manifest, tmp_path / "out", *(s.address for s in seeders))
    leecher.event("piece_stored", source=seeders[0].peer)
    leecher.event("piece_stored", source=seeders[1].peer)
    seeders[0].process.pause()

    leecher.expect_exit(0, within=45)
    assert sha256(tmp_path / "out" / "image.bin") == sha256(source)
    took = received_from(leecher)
    assert took[seeders[1].peer] > took[seeders[0].peer]


def test_a_silent_peer_is_dropped_and_dialled_again(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", 8 * MIB)
    seeder = share(processes, source, "--upload-limit", "400KiB/s")
    leecher = fetch(processes, seeder.manifest, tmp_path / "out", seeder.address, "--patience", "100")
    leecher.events_until("piece_stored", 3)
    seeder.process.pause()
    gone = leecher.event("peer_disconnected", within=60)
    assert gone["peer"] == seeder.peer

    seeder.process.resume()
    leecher.events_until("peer_connected", 2, within=30)
    stored = len(leecher.events("piece_stored"))
    leecher.events_until("piece_stored", stored + 2, within=30)


def test_a_file_that_changes_under_its_seeder_is_never_sent_wrong(
    processes: Processes, tmp_path: Path
) -> None:
    source = random_file(tmp_path / "image.bin", 4 * MIB)
    seeder = share(processes, source, "--piece-size", "64KiB")
    original = source.read_bytes()
    changed = {3, 40}
    with source.open("r+b") as file:
        for piece in changed:
            file.seek(piece * 65536 + 100)
            file.write(b"somebody edits the file")

    leecher = fetch(processes, seeder.link, tmp_path / "out", "--patience", "3")
    leecher.expect_exit(5, within=60)
    assert "2 pieces: 3, 40" in leecher.errors()
    assert leecher.events("piece_refused") == []
    assert leecher.events("source_banned") == []

    source.write_bytes(original)
    honest = share(processes, source, "--piece-size", "64KiB")
    again = fetch(processes, seeder.manifest, tmp_path / "out", honest.address)
    again.expect_exit(0)
    assert {event["piece"] for event in again.events("piece_stored")} == changed
    assert (tmp_path / "out" / "image.bin").read_bytes() == original


def test_the_seeder_may_come_after_the_leecher(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", MIB)
    seeder = share(processes, source, name="seeder")
    port = seeder.address.split("/")[4]
    seeder.process.terminate()
    seeder.process.wait()

    leecher = fetch(processes, seeder.manifest, tmp_path / "out", seeder.address)
    leecher.event("peer_failed")
    processes.swarm("share", str(source), "--listen", f"/ip4/127.0.0.1/tcp/{port}", name="seeder").address()
    leecher.expect_exit(0, within=30)
    assert sha256(tmp_path / "out" / "image.bin") == sha256(source)


def test_fetching_an_unknown_manifest_is_incomplete(processes: Processes, tmp_path: Path) -> None:
    first = share(processes, random_file(tmp_path / "first", 1000))
    other = share(processes, random_file(tmp_path / "other", 1000, seed=8))
    unknown = first.link.removeprefix("swarm:").partition("?")[0]
    leecher = fetch(processes, unknown, tmp_path / "out", other.address, "--patience", "2")
    leecher.expect_exit(5)
    assert "does not have it" in leecher.errors()
