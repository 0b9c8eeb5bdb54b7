"""What a daemon keeps, what it tells has changed, and its ring of events."""

from __future__ import annotations

import json
import random
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from swarm.daemon.change_log import MAX_REMOVED, ChangeLog
from swarm.daemon.event_ring import KEPT_EVENTS, EventRing
from swarm.daemon.transfer_registry import FILE, KeptTransfer, TransferRegistry, transfer_id
from swarm.errors import DiskError
from swarm.events import PieceStored, TransferEnded
from swarm.ids import SourceId, TransferId

ONE = KeptTransfer(transfer_id("share", "/a"), "share", "/a", name="a", added=1.0)
TWO = KeptTransfer(
    transfer_id("fetch", "bafy", "/out"),
    "fetch",
    "swarm:bafy",
    "/out",
    upload_limit=5,
    paused=True,
    only="*.jpg\nx",
    added=2.0,
)


async def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    registry = TransferRegistry(tmp_path / FILE)
    assert await registry.add(TWO, b"manifest")
    assert await registry.add(ONE)
    await registry.change(ONE.id, {"paused": True, "size": 7, "download_limit": None})
    await registry.set_limits(1, None)
    # As after a kill: nothing is closed.
    again = TransferRegistry(tmp_path / FILE)
    assert await again.all() == [replace(ONE, paused=True, size=7), TWO]
    assert await again.envelope(TWO.id) == b"manifest"
    assert await again.envelope(ONE.id) is None
    assert await again.limits() == (1, None)
    for each in (registry, again):
        each.close()


async def test_what_an_older_version_kept_is_taken_over(tmp_path: Path) -> None:
    registry = TransferRegistry(tmp_path / FILE)
    await registry.add(TWO, b"manifest")
    registry.close()
    with sqlite3.connect(tmp_path / FILE) as database:
        # As it was before series were followed.
        database.execute("ALTER TABLE transfers DROP COLUMN release")
        database.execute("PRAGMA user_version = 2")
    database.close()
    registry = TransferRegistry(tmp_path / FILE)
    assert await registry.all() == [TWO]
    await registry.change(TWO.id, {"release": 3})
    assert [each.release for each in await registry.all()] == [3]
    registry.close()


async def test_the_same_is_never_there_twice(tmp_path: Path) -> None:
    registry = TransferRegistry(tmp_path / FILE)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(registry.add, ONE)
    assert not await registry.add(replace(ONE, paused=True), b"other")
    assert await registry.all() == [ONE]
    assert await registry.envelope(ONE.id) is None
    registry.close()


async def test_what_is_removed_takes_its_manifest_along(tmp_path: Path) -> None:
    registry = TransferRegistry(tmp_path / FILE)
    await registry.add(TWO, b"manifest")
    await registry.remove(TWO.id)
    assert await registry.all() == []
    await registry.change(TWO.id, {"paused": False}, b"late")
    assert await registry.envelope(TWO.id) is None
    registry.close()


async def test_the_file_is_the_users_alone(tmp_path: Path) -> None:
    registry = TransferRegistry(tmp_path / FILE)
    await registry.add(ONE)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    registry.close()


def test_a_file_of_a_newer_version_and_a_damaged_one_are_told(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(DiskError, match="newer swarm"):
        TransferRegistry(tmp_path / FILE)
    (tmp_path / "other").write_bytes(b"no database" * 100)
    with pytest.raises(DiskError, match="not a database"):
        TransferRegistry(tmp_path / "other")


async def test_a_name_that_is_not_utf8_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    registry = TransferRegistry(tmp_path / FILE)
    with pytest.raises(DiskError, match=r"caf\\udce9 is not UTF-8"):
        await registry.add(replace(ONE, content="/caf\udce9"))
    await registry.add(ONE)
    with pytest.raises(DiskError, match="not UTF-8"):
        await registry.change(ONE.id, {"name": "caf\udce9", "size": 7})
    assert await registry.all() == [ONE]
    registry.close()


# --- What has changed ---------------------------------------------------------------------------------


def test_a_reader_that_follows_deltas_sees_what_there_is() -> None:
    """Against a model: whoever takes every delta, at whatever moments, has the whole list."""
    rng = random.Random(5)
    log = ChangeLog("run")
    there: dict[str, int] = {}
    readers: list[tuple[str | None, dict[str, int]]] = [(None, {}) for _ in range(3)]
    for step in range(6000):
        name = str(rng.randrange(40))
        if rng.random() < 0.3:
            there.pop(name, None)
            log.remove(name)
        else:
            there[name] = step
            log.touch(name)
        index = rng.randrange(90 if step % 2000 else 3)
        if index < len(readers):
            version, seen = readers[index]
            delta = log.since(version)
            if delta.whole:
                seen.clear()
            for gone in delta.removed:
                seen.pop(gone, None)
            seen.update((each, there[each]) for each in delta.changed)
            readers[index] = delta.version, seen
            assert seen == there


def test_a_delta_is_as_long_as_what_has_changed() -> None:
    log = ChangeLog("run")
    for number in range(1000):
        log.touch(str(number))
    version = log.version
    assert log.since(version).changed == ()
    log.touch("7")
    log.remove("9")
    assert log.since(version).changed == ("7",)
    assert log.since(version).removed == ("9",)


@pytest.mark.parametrize("version", [None, "", "run", "run-", "run-x", "run-99999", "other-3", "run-²", "-1"])
def test_an_unknown_version_gets_everything(version: str | None) -> None:
    log = ChangeLog("run")
    log.touch("a")
    assert log.since(version).whole


def test_a_version_before_forgotten_removals_gets_everything() -> None:
    log = ChangeLog("run")
    log.touch("first")
    version = log.version
    for number in range(MAX_REMOVED + 1):
        log.touch(str(number))
        log.remove(str(number))
    assert log.since(version).whole


# --- Events -------------------------------------------------------------------------------------------


async def test_a_ring_keeps_the_last_events_without_single_pieces(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ring = EventRing()
    ring.put(PieceStored(TransferId(1), 1, 2, SourceId("s")), 0.0)
    assert ring.last == 0
    for number in range(KEPT_EVENTS + 10):
        ring.put(TransferEnded(TransferId(number)), number)
    assert not ring.has_all_since(9)
    assert ring.has_all_since(10)
    assert not ring.has_all_since(ring.last + 1)
    lines = await ring.since(ring.last - 2)
    assert [number for number, _ in lines] == [ring.last - 1, ring.last]
    assert json.loads(lines[0][1])["transfer"] == KEPT_EVENTS + 8
    told = []

    async def read() -> None:
        told.extend(await ring.since(ring.last))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert not told
        ring.put(TransferEnded(TransferId(5)), 1.0)
    assert len(told) == 1
