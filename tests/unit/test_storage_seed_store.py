"""Seeding in place: what changed is withdrawn, and nothing else."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarm.errors import ContentAway, DiskError, PieceWithdrawn
from swarm.ports import StoredChange
from swarm.storage.file_identity import FileIdentity
from swarm.storage.file_layer import PosixLayer
from swarm.storage.piece_files import OPEN_FILES
from swarm.storage.presence import LOOK_SECONDS
from swarm.storage.scan import scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.shared_place import SharedPlace
from tests.support.storage import PIECE, FaultyLayer, descriptors, flip, make_tree, noise

PIECES = 6


async def refused(store: SeedStore) -> list[int]:
    """The pieces that the store refuses, after asking for every one twice."""
    gone = []
    for piece in range(store.manifest.piece_count):
        try:
            await store.get(piece)
        except PieceWithdrawn:
            gone.append(piece)
            with pytest.raises(PieceWithdrawn):
                await store.get(piece)
        assert (piece in store.stored) == (piece not in gone)
    return gone


@asynccontextmanager
async def watching(store: SeedStore) -> AsyncIterator[list[StoredChange]]:
    """Watch the files of the store for the block; yields what is told."""
    told: list[StoredChange] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.watch, told.append)
        yield told
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], within: float = 10.0) -> None:
    """Wait, in real time, until the condition holds."""
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(0.02)


async def test_every_piece_of_a_folder_is_served(tmp_path: Path) -> None:
    files = {f"d{number % 7}/f {number}": noise(number * 1000, number) for number in range(60)}
    root = make_tree(tmp_path / "x", files)
    scanned = await scan(root, piece_length=PIECE)
    before = descriptors()
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        assert store.stored.full
        for piece in range(scanned.manifest.piece_count):
            span = scanned.manifest.layout.span(piece)
            data = files["/".join(scanned.manifest.files[span.file].path)]
            assert bytes(await store.get(piece)) == data[span.offset : span.offset + span.length]
            assert descriptors() <= before + OPEN_FILES + 1
    assert descriptors() == before


async def test_pieces_that_are_read_at_once_lie_in_the_room_given_and_end_before_a_changed_one(
    tmp_path: Path,
) -> None:
    data = noise(PIECES * PIECE, 1)
    root = make_tree(tmp_path / "x", {"a": data})
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        room = bytearray(PIECES * PIECE)
        order = [4, 0, 1, 5]
        found = store.get_now(order, memoryview(room))
        assert [bytes(each) for each in found] == [data[at * PIECE : (at + 1) * PIECE] for at in order]
        assert all(each.obj is room for each in found)
        flip(root / "a", 1 * PIECE)
        assert len(store.get_now(order, memoryview(room))) == 2
        (root / "a").rename(root / "b")
        assert store.get_now(order, memoryview(room)) == []


async def test_large_pieces_are_served_from_a_thread(tmp_path: Path) -> None:
    data = noise(5 * 1024 * 1024)
    path = make_tree(tmp_path, {"f": data}) / "f"
    scanned = await scan(path, piece_length=2 * 1024 * 1024)
    with SeedStore(scanned.manifest, path, scanned.checks) as store:
        assert b"".join([bytes(await store.get(piece)) for piece in range(3)]) == data


async def test_what_is_not_cached_is_read_in_a_thread(tmp_path: Path) -> None:
    class ColdLayer(PosixLayer):
        waited = 0

        def read_into(self, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
            if cached:
                raise BlockingIOError
            self.waited += 1
            return super().read_into(fd, buffer, offset)

    data = noise(PIECE * 2)
    path = make_tree(tmp_path, {"f": data}) / "f"
    scanned = await scan(path, piece_length=PIECE)
    layer = ColdLayer()
    with SeedStore(scanned.manifest, path, scanned.checks, layer=layer) as store:
        assert bytes(await store.get(1)) == data[PIECE:]
    assert layer.waited == 1


def edit_two_pieces(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(PIECE - 1)
        file.write(b"ab" if file.read(2) != b"ab" else b"cd")


def truncate(path: Path) -> None:
    os.truncate(path, 4 * PIECE + 1)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(noise(PIECES * PIECE, 9))
    other.rename(path)


def remove(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def become_a_link(path: Path) -> None:
    move(path)
    path.symlink_to("elsewhere")


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def replace_by_equal(path: Path) -> None:
    other = path.with_name("other")
    shutil.copyfile(path, other)
    other.rename(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def put_back(path: Path) -> None:
    """What was moved away comes back; or else a copy does."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    if path.with_name("elsewhere").exists():
        path.with_name("elsewhere").rename(path)
    else:
        path.write_bytes(noise(PIECES * PIECE, 1))


AWAY = [
    (remove, "is gone (deleted, moved or unmounted)"),
    (move, "is gone (deleted, moved or unmounted)"),
    (truncate, f"was truncated to {4 * PIECE + 1} of {6 * PIECE} bytes"),
    (replace, "was replaced by another file"),
    (edit_two_pieces, "was edited"),
    (become_a_link, "was replaced by a symbolic link, which is not followed"),
    (become_a_pipe, "is not a regular file any more"),
    (become_a_folder, "is not a regular file any more"),
]


@pytest.mark.parametrize("opened_before", [True, False])
@pytest.mark.parametrize(("change", "reason"), AWAY)
async def test_a_file_that_is_gone_or_changed_is_withdrawn_at_once_and_comes_back(
    tmp_path: Path, change: Callable[[Path], None], reason: str, opened_before: bool
) -> None:
    root = make_tree(tmp_path / "x", {"a": noise(PIECES * PIECE, 1), "b": noise(PIECE, 2)})
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        async with watching(store) as told:
            if opened_before:
                await store.get(0)
            change(root / "a")
            with pytest.raises(ContentAway, match=re.escape(reason)):
                for piece in range(PIECES):
                    await store.get(piece)
            assert list(store.stored) == [PIECES]
            assert bytes(await store.get(PIECES)) == noise(PIECE, 2)
            await until(lambda: told)
            assert told == [StoredChange(str(root / "a"), PIECES, PIECES * PIECE, reason)]
            put_back(root / "a")
            await until(lambda: store.stored.full, within=5.0)
            assert await refused(store) == []
            assert sum(change.pieces for change in told[1:] if change.reason is None) == PIECES


@pytest.mark.parametrize("change", [touch, replace_by_equal, append])
async def test_a_change_that_changes_no_piece_withdraws_nothing(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = make_tree(tmp_path / "x", {"a": noise(PIECES * PIECE, 1), "b": noise(PIECE, 2)})
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        change(root / "a")
        assert await refused(store) == []


async def test_an_edited_file_is_hashed_and_its_other_pieces_are_offered_again(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {"a": noise(PIECES * PIECE, 1), "b": noise(PIECE, 2)})
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        async with watching(store) as told:
            edit_two_pieces(root / "a")
            with pytest.raises(ContentAway):
                await store.get(1)
            await until(lambda: len(told) == 2)
            assert told[1] == StoredChange(str(root / "a"), PIECES - 1, (PIECES - 1) * PIECE, None)
            assert await refused(store) == [1]
            put_back(root / "a")
            await until(lambda: store.stored.full)


async def test_what_comes_back_with_other_bytes_is_not_offered(tmp_path: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(PIECES * PIECE, 1)}) / "f"
    scanned = await scan(path, piece_length=PIECE)
    with SeedStore(scanned.manifest, path, scanned.checks) as store:
        async with watching(store) as told:
            path.unlink()
            with pytest.raises(ContentAway):
                await store.get(3)
            path.write_bytes(noise(3 * PIECE, 1)[: 3 * PIECE] + noise(3 * PIECE, 5))
            await until(lambda: store.stored)
            assert list(store.stored) == [0, 1, 2]
            assert await refused(store) == [3, 4, 5]
            assert [change.reason is None for change in told] == [False, True]


async def test_a_piece_that_rots_is_withdrawn_alone_and_for_good(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {"a": noise(PIECES * PIECE, 1), "b": noise(PIECE, 2)})
    scanned = await scan(root, piece_length=PIECE)
    flip(root / "a", 2 * PIECE + 7)
    # Rot leaves no trace in the times of a file.
    scanned.checks.files[0] = FileIdentity.of((root / "a").stat())
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        async with watching(store) as told:
            assert await refused(store) == [2]
            await trio.sleep(2 * LOOK_SECONDS)
            assert await refused(store) == [2]
            assert told == []


async def test_a_folder_that_is_moved_or_unmounted_takes_everything_away(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {f"d/{number}": noise(PIECE, number) for number in range(50)})
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        async with watching(store) as told:
            await store.get(0)
            root.rename(tmp_path / "y")
            with pytest.raises(ContentAway, match="is gone"):
                await store.get(1)
            assert not store.stored
            await until(lambda: told)
            root.mkdir()
            await trio.sleep(2 * LOOK_SECONDS)
            assert not store.stored
            root.rmdir()
            (tmp_path / "y").rename(root)
            await until(lambda: store.stored.full, within=5.0)
            gone = "is gone (deleted, moved or unmounted)"
            assert told == [
                StoredChange(str(root), 50, 50 * PIECE, gone),
                StoredChange(str(root), 50, 50 * PIECE, None),
            ]
            assert await refused(store) == []


async def test_a_file_that_is_hashed_while_its_folder_goes_away_is_not_offered(tmp_path: Path) -> None:
    class Halting(PosixLayer):
        """Reads begin while ``go`` is set."""

        def __init__(self) -> None:
            self.go, self.waits = threading.Event(), threading.Event()
            self.go.set()

        def read_into(self, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
            if not self.go.is_set():
                self.waits.set()
                self.go.wait(30)
            return super().read_into(fd, buffer, offset, cached=cached)

    root = make_tree(tmp_path / "x", {"a": noise(PIECES * PIECE, 1), "b": noise(PIECE, 2)})
    scanned = await scan(root, piece_length=PIECE)
    layer = Halting()
    with SeedStore(scanned.manifest, root, scanned.checks, layer=layer) as store:
        async with watching(store) as told:
            edit_two_pieces(root / "a")
            with pytest.raises(ContentAway):
                await store.get(1)
            layer.go.clear()
            await trio.to_thread.run_sync(layer.waits.wait, 10)
            root.rename(tmp_path / "y")
            with pytest.raises(ContentAway):
                await store.get(PIECES)
            layer.go.set()
            await trio.sleep(2 * LOOK_SECONDS)
            assert not store.stored
            (tmp_path / "y").rename(root)
            await until(lambda: store.stored.count == PIECES)
            assert await refused(store) == [1]
        assert [change.reason is None for change in told] == [False, False, True, True]


async def test_a_folder_that_goes_and_returns_while_a_file_is_looked_at_has_all_others_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, gone = threading.Event(), threading.Event()
    examine = SharedPlace.examine

    def slowly(place: SharedPlace, files: Iterable[int]) -> Iterator[tuple[int, FileIdentity | str]]:
        yield from examine(place, files)
        looked.set()
        gone.wait(30)

    root = make_tree(tmp_path / "x", {"a": noise(PIECE, 1), "b": noise(PIECE, 2)})
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        async with watching(store) as told:
            (root / "a").unlink()
            with pytest.raises(ContentAway):
                await store.get(0)
            await until(lambda: told)
            with monkeypatch.context() as patch:
                patch.setattr(SharedPlace, "examine", slowly)
                await trio.to_thread.run_sync(looked.wait, 10)
                root.rename(tmp_path / "y")
                with pytest.raises(ContentAway):
                    await store.get(1)
                (tmp_path / "y").rename(root)
            gone.set()
            await until(lambda: store.stored.count == 1)
            assert await refused(store) == [0]


async def test_many_files_that_are_gone_are_told_of_once(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {f"{number:03}": noise(PIECE, number) for number in range(100)})
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        async with watching(store) as told:
            for number in range(0, 100, 2):
                (root / f"{number:03}").unlink()
            with pytest.raises(ContentAway):
                await store.get(4)
            await until(lambda: told)
            assert list(store.stored) == list(range(1, 100, 2))
            (change,) = told
            assert (change.path, change.pieces) == (str(root), 50)
            assert change.reason is not None
            assert "50 of its files" in change.reason
            assert "004 is gone" in change.reason


async def test_a_folder_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {"sub/a": noise(PIECE), "b": b"b"})
    scanned = await scan(root, piece_length=PIECE)
    (root / "sub").rename(tmp_path / "outside")
    (root / "sub").symlink_to(tmp_path / "outside")
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        assert await refused(store) == [1]


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ENODEV])
@pytest.mark.parametrize("operation", ["open", "read_into"])
async def test_an_error_of_the_disk_is_temporary(tmp_path: Path, operation: str, error: int) -> None:
    path = make_tree(tmp_path, {"f": noise(PIECES * PIECE)}) / "f"
    scanned = await scan(path, piece_length=PIECE)
    layer = FaultyLayer(operation, error=error)
    layer.broken = False
    with SeedStore(scanned.manifest, path, scanned.checks, layer=layer) as store:
        async with watching(store) as told:
            layer.broken = True
            with pytest.raises(ContentAway, match="cannot be read"):
                await store.get(2)
            assert not store.stored
            await trio.sleep(2 * LOOK_SECONDS)
            assert not store.stored
            layer.broken = False
            await until(lambda: store.stored.full, within=5.0)
            assert await refused(store) == []
            assert [change.reason is None for change in told] == [False, True]


async def test_a_bad_sector_costs_its_piece_alone(tmp_path: Path) -> None:
    class BadSector(PosixLayer):
        bad = True

        def read_into(self, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
            if self.bad and offset == 2 * PIECE:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read_into(fd, buffer, offset, cached=cached)

    path = make_tree(tmp_path, {"f": noise(PIECES * PIECE)}) / "f"
    scanned = await scan(path, piece_length=PIECE)
    layer = BadSector()
    with SeedStore(scanned.manifest, path, scanned.checks, layer=layer) as store:
        async with watching(store) as told:
            assert await refused(store) == [2]
            await until(lambda: told)
            assert told[0].pieces == 1
            layer.bad = False
            await until(lambda: store.stored.full)


async def test_a_lack_of_descriptors_withdraws_nothing(tmp_path: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(2 * PIECE)}) / "f"
    scanned = await scan(path, piece_length=PIECE)
    short = FaultyLayer("open", error=errno.EMFILE)
    with SeedStore(scanned.manifest, path, scanned.checks, layer=short) as store:
        with pytest.raises(DiskError, match="too many open files"):
            await store.get(0)
        short.broken = False
        assert bytes(await store.get(0)) == path.read_bytes()[:PIECE]


async def test_a_store_that_is_not_read_from_holds_no_descriptor(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {"a": noise(PIECE)})
    scanned = await scan(root, piece_length=PIECE)
    before = descriptors()
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        async with watching(store):
            await store.get(0)
            assert descriptors() > before
            await until(lambda: descriptors() == before)
            assert bytes(await store.get(0)) == noise(PIECE)


async def test_nothing_is_ever_written(tmp_path: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(PIECE)}) / "f"
    scanned = await scan(path)
    with SeedStore(scanned.manifest, path, scanned.checks) as store:
        data = await store.get(0)
        with pytest.raises(DiskError, match="never written"):
            await store.put(0, data)
    with pytest.raises(DiskError, match="no such file"):
        SeedStore(scanned.manifest, tmp_path / "gone" / "f", scanned.checks)
