"""SIGKILL at random moments: nothing that was stored is fetched again, nothing false is believed."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.sharing import MIB, fetch, random_file, sha256, share

pytestmark = pytest.mark.e2e

KILLS = 20


@pytest.mark.timeout(300)
def test_twenty_kills_lose_nothing_that_was_stored(processes: Processes, tmp_path: Path) -> None:
    # More than is sent in all the time until the last kill, on a busy machine too.
    source = random_file(tmp_path / "image.bin", 192 * MIB)
    seeder = share(processes, source, "--upload-limit", "8MiB/s", name="seeder")
    chance = random.Random(20)
    stored_before = 0

    for _ in range(KILLS):
        leecher = fetch(processes, seeder.link, tmp_path / "out", name="victim")
        # What is there has been checked by then.
        leecher.event("peer_dialing")
        resumed = sum(event["size"] for event in leecher.events("transfer_resumed"))
        # A kill is no power failure: what was written is there, synced or not.
        assert resumed >= stored_before
        threading.Event().wait(chance.uniform(0.0, 0.5))
        leecher.kill()
        leecher.wait()
        got = sum(event["size"] for event in leecher.events("piece_stored"))
        resumed = sum(event["size"] for event in leecher.events("transfer_resumed"))
        assert not (tmp_path / "out" / "image.bin").exists() or leecher.events("transfer_complete")
        stored_before = resumed + got

    seeder.process.stop()
    seeder = share(processes, source, name="seeder")
    last = fetch(processes, seeder.link, tmp_path / "out", name="victim")
    last.expect_exit(0)
    assert sha256(tmp_path / "out" / "image.bin") == sha256(source)


@pytest.mark.parametrize(("stop", "code"), [("interrupt", 130), ("terminate", 143)])
def test_a_stopped_fetch_exits_soon_and_loses_nothing(
    processes: Processes, tmp_path: Path, stop: str, code: int
) -> None:
    source = random_file(tmp_path / "image.bin", 24 * MIB)
    seeder = share(processes, source, "--upload-limit", "8MiB/s")
    first = fetch(processes, seeder.link, tmp_path / "out", name="victim")
    first.events_until("piece_stored", 10)
    getattr(first, stop)()
    first.expect_exit(code, within=20)
    stored = {event["piece"] for event in first.events("piece_stored")}

    second = fetch(processes, seeder.link, tmp_path / "out", name="victim")
    second.expect_exit(0)
    assert stored.isdisjoint(event["piece"] for event in second.events("piece_stored"))
    assert sha256(tmp_path / "out" / "image.bin") == sha256(source)
