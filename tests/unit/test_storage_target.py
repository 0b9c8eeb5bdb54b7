"""Fetch targets: round trips, the final name, what exists already."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from swarm.content.manifest import FileEntry, Manifest
from swarm.errors import DiskError, Incomplete, Locked, PieceMismatch, PieceWithdrawn
from swarm.ports import StoredChange
from swarm.storage import piece_writer, syncer
from swarm.storage.file_layer import PosixLayer
from swarm.storage.piece_files import OPEN_FILES
from swarm.storage.scan import Scanned, scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import open_target
from tests.support.frozen_heap import frozen_heap
from tests.support.storage import (
    PIECE,
    copy,
    descriptors,
    flip,
    make_tree,
    names,
    noise,
    read_tree,
)

FILES = {
    "a file": noise(3 * PIECE + 5, 1),
    "run.sh": b"#!/bin/sh\n",
    "deep/er/ü 日本": noise(PIECE, 2),
    "deep/empty": b"",
    "hollow/empty too": b"",
    "one": b"1",
}
EXECUTABLE = ["run.sh", "deep/empty"]


async def shared_folder(tmp_path: Path) -> tuple[Scanned, SeedStore]:
    root = make_tree(tmp_path / "shared" / "x", FILES, EXECUTABLE)
    scanned = await scan(root, piece_length=PIECE)
    return scanned, SeedStore(scanned.manifest, root, scanned.checks)


async def shared_file(tmp_path: Path, data: bytes, name: str = "f") -> tuple[Scanned, SeedStore]:
    path = make_tree(tmp_path / "shared", {name: data}) / name
    scanned = await scan(path, piece_length=PIECE)
    return scanned, SeedStore(scanned.manifest, path, scanned.checks)


async def fetch(source: SeedStore, output: Path) -> Path:
    async with open_target(source.manifest, output) as target:
        await copy(source, target)
        return await target.finish()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("f", noise(5 * PIECE + 1)),
        ("with space", noise(PIECE)),
        ("ünïcode 日本", noise(PIECE - 1)),
        ("1", b"1"),
        ("empty", b""),
    ],
)
async def test_a_file_arrives_as_it_was(tmp_path: Path, name: str, data: bytes) -> None:
    _, source = await shared_file(tmp_path, data, name)
    with source:
        assert await fetch(source, tmp_path / "new" / "out") == tmp_path / "new" / "out" / name
    assert names(tmp_path / "new" / "out") == {name}
    assert (tmp_path / "new" / "out" / name).read_bytes() == data


async def test_a_folder_arrives_as_it_was(tmp_path: Path) -> None:
    _, source = await shared_folder(tmp_path)
    before = descriptors()
    with source:
        await fetch(source, tmp_path / "out")
    assert names(tmp_path / "out") == {"x"}
    assert read_tree(tmp_path / "out" / "x") == read_tree(tmp_path / "shared" / "x")
    assert descriptors() == before - 1


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: creating files there costs the tests less."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


async def test_ten_thousand_small_files_flow(memory_folder: Path) -> None:
    files = {f"d{number % 100}/{number}": noise(1024, number) for number in range(10_000)}
    root = make_tree(memory_folder / "shared" / "x", files)
    scanned = await scan(root)
    out = memory_folder / "out"
    before = descriptors()
    with SeedStore(scanned.manifest, root, scanned.checks) as source:
        async with open_target(scanned.manifest, out) as target, trio.open_nursery() as nursery:
            nursery.start_soon(target.run_syncer)
            await copy(source, target)
            assert descriptors() <= before + 2 * OPEN_FILES + 8
            await target.finish()
            assert bytes(await target.get(9_999)) == bytes(await source.get(9_999))
            nursery.cancel_scope.cancel()
    assert read_tree(out / "x") == read_tree(root)


async def test_executable_bits_follow_the_manifest_for_whoever_may_read(tmp_path: Path) -> None:
    _, source = await shared_folder(tmp_path)
    old = os.umask(0o027)
    try:
        with source:
            await fetch(source, tmp_path / "out")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out/x/run.sh").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "out/x/one").stat().st_mode) == 0o640


async def test_until_it_is_complete_the_final_name_does_not_exist(tmp_path: Path) -> None:
    _, source = await shared_file(tmp_path, noise(3 * PIECE))
    out = tmp_path / "out"
    async with open_target(source.manifest, out) as target:
        assert names(out) == {"f.swarm-journal"}
        with pytest.raises(PieceWithdrawn, match="piece 0 is not stored"):
            await target.get(0)
        await copy(source, target, [0, 2])
        assert not target.complete
        with pytest.raises(PieceWithdrawn, match="piece 1 is not stored"):
            await target.get(1)
        assert names(out) == {"f.swarm-journal", "f.swarm-part"}
        with pytest.raises(Incomplete, match="1 of 3 pieces"):
            await target.finish()
        await copy(source, target, [1])
        assert target.complete
        assert names(out) == {"f.swarm-journal", "f.swarm-part"}
        await target.finish()
        assert names(out) == {"f"}
        assert await target.finish() == out / "f"


async def test_the_partial_file_is_sparse(tmp_path: Path) -> None:
    _, source = await shared_file(tmp_path, noise(64 * PIECE))
    async with open_target(source.manifest, tmp_path / "out") as target:
        await copy(source, target, [60])
        await target.sync()
        about = (tmp_path / "out" / "f.swarm-part").stat()
    assert about.st_size == 64 * PIECE
    assert about.st_blocks * 512 < 4 * PIECE


async def test_a_fetch_that_got_nothing_leaves_nothing(tmp_path: Path) -> None:
    for share in (shared_file(tmp_path, b"1"), shared_folder(tmp_path)):
        _, source = await share
        async with open_target(source.manifest, tmp_path / "out"):
            pass
        assert names(tmp_path / "out") == set()


async def test_a_wrong_piece_is_refused_with_nothing_written(tmp_path: Path) -> None:
    data = noise(2 * PIECE)
    _, source = await shared_file(tmp_path, data)
    async with open_target(source.manifest, tmp_path / "out") as target:
        for wrong in (data[PIECE:], data[: PIECE - 1], data[: PIECE + 1], b""):
            with pytest.raises(PieceMismatch):
                await target.put(0, memoryview(wrong))
        assert not target.stored.count
        assert names(tmp_path / "out") == {"f.swarm-journal"}
        await target.put(0, memoryview(data)[:PIECE])
        with pytest.raises(PieceMismatch):
            await target.put(0, memoryview(data)[PIECE:])
        await target.put(0, memoryview(data)[:PIECE])
        assert bytes(await target.get(0)) == data[:PIECE]


async def test_large_pieces_are_written_from_a_thread(tmp_path: Path) -> None:
    data = noise(5 * 1024 * 1024)
    path = make_tree(tmp_path / "shared", {"f": data}) / "f"
    scanned = await scan(path, piece_length=2 * 1024 * 1024)
    with SeedStore(scanned.manifest, path, scanned.checks) as source:
        async with open_target(scanned.manifest, tmp_path / "out") as target:
            async with trio.open_nursery() as nursery:
                for piece in (0, 1, 2, 1, 0):
                    nursery.start_soon(target.put, piece, await source.get(piece))
            await target.finish()
    assert (tmp_path / "out" / "f").read_bytes() == data


async def test_pieces_are_served_before_while_and_after_finishing(tmp_path: Path) -> None:
    for share in (shared_file(tmp_path, noise(40 * PIECE)), shared_folder(tmp_path)):
        scanned, source = await share
        every = range(scanned.manifest.piece_count)
        wanted = [bytes(await source.get(piece)) for piece in every]
        async with open_target(scanned.manifest, tmp_path / "out") as target:
            await copy(source, target)
            assert [bytes(await target.get(piece)) for piece in every] == wanted
            async with trio.open_nursery() as nursery:
                nursery.start_soon(target.finish)
                for _ in range(200):
                    for piece in every:
                        assert bytes(await target.get(piece)) == wanted[piece]
            assert [bytes(await target.get(piece)) for piece in every] == wanted
            with pytest.raises(DiskError, match="complete already"):
                target.stored.discard(0)
                await target.put(0, memoryview(wanted[0]))


async def test_an_edit_after_finishing_withdraws_the_file(tmp_path: Path) -> None:
    _, source = await shared_file(tmp_path, noise(3 * PIECE))
    async with open_target(source.manifest, tmp_path / "out") as target:
        await copy(source, target)
        await target.finish()
        flip(tmp_path / "out" / "f", PIECE)
        with pytest.raises(PieceWithdrawn, match="was edited"):
            await target.get(1)
        assert not target.stored
        async with trio.open_nursery() as nursery:
            changes: list[StoredChange] = []
            nursery.start_soon(target.watch, changes.append)
            with trio.fail_after(10):
                while not target.stored:
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
        for piece in (0, 2):
            assert bytes(await target.get(piece)) == bytes(await source.get(piece))
        assert list(target.stored.missing()) == [1]


async def test_what_takes_the_final_name_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    for share in (shared_file(tmp_path, noise(2 * PIECE)), shared_folder(tmp_path)):
        scanned, source = await share
        final = tmp_path / "out" / scanned.manifest.name
        async with open_target(scanned.manifest, tmp_path / "out") as target:
            await copy(source, target)
            final.write_bytes(b"precious")
            with pytest.raises(DiskError, match="already exists"):
                await target.finish()
        assert final.read_bytes() == b"precious"
        final.unlink()
        async with open_target(scanned.manifest, tmp_path / "out") as target:
            assert target.complete
            await target.finish()


async def test_a_second_fetch_of_the_same_target_is_refused(tmp_path: Path) -> None:
    _, source = await shared_file(tmp_path, noise(2 * PIECE))
    out = tmp_path / "out"
    async with open_target(source.manifest, out) as target:
        await copy(source, target, [0])
        with pytest.raises(Locked, match="another process"):
            async with open_target(source.manifest, out):
                pass
        lock = (
            f"import fcntl; fcntl.flock(open({str(out / 'f.swarm-journal')!r}), fcntl.LOCK_EX|fcntl.LOCK_NB)"
        )
        other = await trio.run_process([sys.executable, "-c", lock], check=False, capture_stderr=True)
        assert b"BlockingIOError" in other.stderr
        assert bytes(await target.get(0)) == bytes(await source.get(0))
    async with open_target(source.manifest, out) as target:
        assert target.resumed_pieces == 1


async def test_a_lock_on_a_journal_that_was_just_removed_does_not_count(tmp_path: Path) -> None:
    out = tmp_path / "out"

    class OwnerFinishes(PosixLayer):
        """Between the opening and the locking the owner removes its journal, twice."""

        races = 0

        def stat(self, folder: int, name: str) -> os.stat_result:
            if name.endswith(".swarm-journal") and self.races < 2:
                self.races += 1
                (out / name).unlink()
                if self.races == 2:
                    (out / name).touch()
            return super().stat(folder, name)

    _, source = await shared_file(tmp_path, noise(PIECE))
    held = descriptors()
    async with open_target(source.manifest, out, layer=OwnerFinishes()):
        with pytest.raises(Locked):
            async with open_target(source.manifest, out):
                pass
    assert descriptors() == held


async def test_a_journal_of_other_content_beside_what_is_complete_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _, other = await shared_file(tmp_path / "other", noise(2 * PIECE, 3))
    _, source = await shared_file(tmp_path, noise(2 * PIECE))
    async with open_target(other.manifest, out) as target:
        await copy(other, target, [1])
    make_tree(out, {"f": noise(2 * PIECE)})
    before = read_tree(out)
    async with open_target(source.manifest, out) as target:
        assert target.complete
        await target.finish()
    assert read_tree(out) == before
    (out / "f").unlink()
    async with open_target(other.manifest, out) as target:
        assert list(target.stored) == [1]


async def test_putting_waits_for_the_disk_while_much_is_unsynced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncer, "UNSYNCED_BYTES", 3 * PIECE)
    _, source = await shared_file(tmp_path, noise(5 * PIECE))
    journal = tmp_path / "out" / "f.swarm-journal"
    async with open_target(source.manifest, tmp_path / "out") as target:
        await copy(source, target, [0, 1])
        unclaimed = journal.stat().st_size
        await copy(source, target, [2])
        claimed = journal.stat().st_size
        assert claimed > unclaimed
        await copy(source, target, [3, 4])
        assert journal.stat().st_size == claimed


class Begun(PosixLayer):
    """Counts how often the disk is told to begin, and may refuse that."""

    def __init__(self, refusal: int = 0) -> None:
        self.times = 0
        self._refusal = refusal

    def begin_sync(self, fd: int) -> None:
        self.times += 1
        if self._refusal:
            raise OSError(self._refusal, os.strerror(self._refusal))
        super().begin_sync(fd)


async def test_the_disk_begins_before_a_sync_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piece_writer, "BEGIN_BYTES", 2 * PIECE)
    _, source = await shared_file(tmp_path, noise(5 * PIECE))
    layer = Begun()
    async with open_target(source.manifest, tmp_path / "out", layer=layer) as target:
        for piece, times in enumerate([0, 1, 1, 2, 2]):
            await copy(source, target, [piece])
            assert layer.times == times


async def test_a_disk_that_cannot_begin_refuses_the_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piece_writer, "BEGIN_BYTES", PIECE)
    _, source = await shared_file(tmp_path, noise(2 * PIECE))
    async with open_target(source.manifest, tmp_path / "out", layer=Begun(errno.EIO)) as target:
        with pytest.raises(DiskError, match=r"f\.swarm-part: the device reports an I/O error"):
            await copy(source, target, [0])
        assert not target.stored


async def test_putting_waits_for_no_more_than_the_sync_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowDisk(PosixLayer):
        reached, allowed = threading.Event(), threading.Event()

        def sync_data(self, fd: int) -> None:
            if os.fstat(fd).st_size >= PIECE:
                self.reached.set()
                self.allowed.wait(20)
            super().sync_data(fd)

    monkeypatch.setattr(syncer, "UNSYNCED_BYTES", 3 * PIECE)
    _, source = await shared_file(tmp_path, noise(5 * PIECE))
    journal = tmp_path / "out" / "f.swarm-journal"
    async with open_target(source.manifest, tmp_path / "out", layer=SlowDisk()) as target:
        await copy(source, target, [0, 1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(target.sync)
            await trio.to_thread.run_sync(SlowDisk.reached.wait, 20)
            nursery.start_soon(copy, source, target, [2])
            while 2 not in target.stored:
                await trio.sleep(0.001)
            unclaimed = journal.stat().st_size
            SlowDisk.allowed.set()
        claimed = journal.stat().st_size
        assert claimed > unclaimed
        await target.sync()
        assert journal.stat().st_size > claimed, "the third piece was claimed before"


async def test_an_existing_complete_file_is_recognised(tmp_path: Path) -> None:
    data = noise(5 * PIECE + 3)
    _, source = await shared_file(tmp_path, data)
    make_tree(tmp_path / "out", {"f": data})
    checked: list[tuple[int, int]] = []
    async with open_target(
        source.manifest, tmp_path / "out", progress=lambda *seen: checked.append(seen)
    ) as target:
        assert target.complete
        assert (target.resumed_pieces, target.resumed_bytes) == (6, len(data))
        assert bytes(await target.get(5)) == data[-3:]
        assert await target.finish() == tmp_path / "out" / "f"
        assert bytes(await target.get(5)) == data[-3:]
    assert checked[-1] == (len(data), len(data))
    assert names(tmp_path / "out") == {"f"}


async def test_an_existing_file_gets_its_executable_bit(tmp_path: Path) -> None:
    path = make_tree(tmp_path / "shared", {"f": b"#!"}, ["f"]) / "f"
    scanned = await scan(path)
    make_tree(tmp_path / "out", {"f": b"#!"})
    async with open_target(scanned.manifest, tmp_path / "out") as target:
        await target.finish()
    assert (tmp_path / "out" / "f").stat().st_mode & 0o100


def another_content(path: Path) -> None:
    path.write_bytes(noise(3 * PIECE, 99))


def another_length(path: Path) -> None:
    path.write_bytes(b"short")


def a_folder(path: Path) -> None:
    make_tree(path, {"inner": b"1"})


def a_link_to_the_same(path: Path) -> None:
    path.symlink_to(path.parent.parent / "shared" / "f")


@pytest.mark.parametrize("existing", [another_content, another_length, a_folder, a_link_to_the_same])
async def test_an_existing_file_that_differs_is_refused_and_untouched(
    tmp_path: Path, existing: Callable[[Path], None]
) -> None:
    _, source = await shared_file(tmp_path, noise(3 * PIECE))
    out = tmp_path / "out"
    out.mkdir()
    existing(out / "f")
    before = read_tree(out), (out / "f").lstat()
    with pytest.raises(
        DiskError, match=r"f: already exists with other content.*move it away or choose another --output"
    ):
        async with open_target(source.manifest, out):
            pass
    after = read_tree(out), (out / "f").lstat()
    assert names(out) == {"f"}
    assert after[0] == before[0]
    assert after[1].st_mtime_ns == before[1].st_mtime_ns


async def test_files_of_an_existing_folder_are_kept_and_the_rest_is_moved_in(tmp_path: Path) -> None:
    scanned, source = await shared_folder(tmp_path)
    out = tmp_path / "out"
    make_tree(out / "x", {"a file": FILES["a file"], "deep/own": b"mine", "hollow/empty too": b""})
    kept = (out / "x" / "a file").stat().st_ino
    async with open_target(scanned.manifest, out) as target:
        assert target.resumed_pieces == 4
        assert sorted(target.stored.missing()) == [4, 5, 6]
        assert bytes(await target.get(3)) == FILES["a file"][3 * PIECE :]
        await copy(source, target)
        assert read_tree(out / "x").keys() == {"a file", "deep/own", "hollow/empty too"}
        await target.finish()
        for piece in range(scanned.manifest.piece_count):
            assert bytes(await target.get(piece)) == bytes(await source.get(piece))
    assert names(out) == {"x"}
    arrived = read_tree(out / "x")
    assert arrived.pop("deep/own") == (b"mine", False)
    assert arrived == read_tree(tmp_path / "shared" / "x")
    assert (out / "x" / "a file").stat().st_ino == kept


async def test_a_complete_folder_is_recognised(tmp_path: Path) -> None:
    scanned, source = await shared_folder(tmp_path)
    with source:
        await fetch(source, tmp_path / "out")
        async with open_target(scanned.manifest, tmp_path / "out") as target:
            assert target.complete
            assert target.resumed_pieces == scanned.manifest.piece_count
            await target.finish()
    assert names(tmp_path / "out") == {"x"}


async def test_a_missing_empty_file_is_added_to_a_folder(tmp_path: Path) -> None:
    scanned, source = await shared_folder(tmp_path)
    with source:
        await fetch(source, tmp_path / "out")
        (tmp_path / "out/x/hollow/empty too").unlink()
        (tmp_path / "out/x/hollow").rmdir()
        await fetch(source, tmp_path / "out")
    assert names(tmp_path / "out") == {"x"}
    assert read_tree(tmp_path / "out" / "x") == read_tree(tmp_path / "shared" / "x")
    assert scanned.manifest.piece_count == 7


@pytest.mark.parametrize("name", ["one", "deep/empty", "deep"])
async def test_a_folder_with_a_file_that_differs_is_refused_and_untouched(tmp_path: Path, name: str) -> None:
    scanned, _ = await shared_folder(tmp_path)
    out = tmp_path / "out"
    make_tree(out / "x", {"a file": FILES["a file"], name: b"2"})
    before = read_tree(out)
    with pytest.raises(DiskError, match=r"already exists with other|in the way"):
        async with open_target(scanned.manifest, out):
            pass
    assert read_tree(out) == before
    assert names(out) == {"x"}


async def test_a_complete_file_is_shared_from_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    _, source = await shared_file(tmp_path, noise(PIECE))
    make_tree(tmp_path / "out", {"f": noise(PIECE)})
    # Root passes any permission, but nobody opens a folder as a journal.
    (tmp_path / "out" / "f.swarm-journal").mkdir()
    async with open_target(source.manifest, tmp_path / "out") as target:
        assert target.complete
        assert bytes(await target.get(0)) == noise(PIECE)
        await target.finish()
    (tmp_path / "out" / "f").unlink()
    with pytest.raises(DiskError, match=r"f\.swarm-journal: a folder is where a file should be"):
        async with open_target(source.manifest, tmp_path / "out"):
            pass


async def test_a_length_beyond_the_disk_is_refused_with_nothing_written(tmp_path: Path) -> None:
    piece = 16 * 1024 * 1024
    entry = FileEntry(("f",), 400_000 * piece, False, bytes(32), bytes(32 * 400_000))
    manifest = Manifest("f", False, piece, [entry])
    used: list[float] = []
    for _ in range(3):
        with frozen_heap():
            began = time.process_time()
            with pytest.raises(DiskError, match=r"f needs 6\.1TiB, .* more than is free"):
                async with open_target(manifest, tmp_path / "new" / "out"):
                    pass
            used.append(time.process_time() - began)
        assert names(tmp_path) == set()
    # The machine only ever adds to it.
    assert min(used) < 0.1


async def test_a_cancelled_fetch_saves_what_it_has(tmp_path: Path) -> None:
    _, source = await shared_file(tmp_path, noise(8 * PIECE))
    with trio.CancelScope() as scope:
        async with open_target(source.manifest, tmp_path / "out") as target:
            await copy(source, target, [1, 4, 6])
            scope.cancel()
            await trio.sleep_forever()
    async with open_target(source.manifest, tmp_path / "out") as target:
        assert list(target.stored) == [1, 4, 6]


async def test_the_syncer_claims_after_two_seconds_and_sleeps_when_idle(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    _, source = await shared_file(tmp_path, noise(3 * PIECE))
    journal = tmp_path / "out" / "f.swarm-journal"
    async with open_target(source.manifest, tmp_path / "out") as target, trio.open_nursery() as nursery:
        nursery.start_soon(target.run_syncer)
        await trio.sleep(3600)
        assert journal.stat().st_size == 0
        autojump_clock.autojump_threshold = float("inf")
        await copy(source, target, [0])
        empty = journal.stat().st_size
        await trio.testing.wait_all_tasks_blocked(0.05)
        autojump_clock.jump(1.9)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert journal.stat().st_size == empty
        autojump_clock.jump(0.2)
        while journal.stat().st_size == empty:
            await trio.to_thread.run_sync(os.sched_yield)
        nursery.cancel_scope.cancel()


async def test_the_syncer_claims_at_once_when_much_is_unsynced(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    piece = 16 * 1024 * 1024
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.truncate(3 * piece)
    scanned = await scan(path, piece_length=piece)
    journal = tmp_path / "out" / "f.swarm-journal"
    with SeedStore(scanned.manifest, path, scanned.checks) as source:
        async with open_target(scanned.manifest, tmp_path / "out") as target, trio.open_nursery() as nursery:
            nursery.start_soon(target.run_syncer)
            # The two seconds do not pass: the clock stands still.
            autojump_clock.autojump_threshold = float("inf")
            await copy(source, target)
            empty = 78
            while journal.stat().st_size <= empty:
                await trio.to_thread.run_sync(os.sched_yield)
            nursery.cancel_scope.cancel()
