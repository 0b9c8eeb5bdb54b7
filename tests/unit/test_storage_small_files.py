"""Pieces that are stored and read together: each is checked on its own, and costs few calls."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from swarm.errors import ContentAway, DiskError, PieceWithdrawn
from swarm.storage.file_layer import PosixLayer
from swarm.storage.piece_reader import SLOW_SECONDS
from swarm.storage.scan import scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import Target, open_target
from tests.support.contents import folder_manifest
from tests.support.storage import PIECE, FaultyLayer, flip, make_tree, noise, read_tree

FILES = {
    **{f"a/{number}": noise(100 + number, number) for number in range(40)},
    "big": noise(2 * PIECE + 7, 50),
    "empty": b"",
    **{f"z/y/{number}": noise(PIECE, 60 + number) for number in range(3)},
}
MANIFEST = folder_manifest("x", FILES)
PIECES = range(MANIFEST.piece_count)


def pieces_of(target: Target) -> list[tuple[int, memoryview]]:
    data = b"".join(FILES["/".join(entry.path)] for entry in target.manifest.files)
    found, at = [], 0
    for piece in PIECES:
        length = target.manifest.layout.length(piece)
        found.append((piece, memoryview(data[at : at + length])))
        at += length
    return found


class Counting(PosixLayer):
    """Counts what is opened, and refuses to create files once ``left`` were created."""

    def __init__(self, left: int = 1 << 30) -> None:
        self.opened = 0
        self.left = left

    def open(self, folder: int, name: str, flags: int, mode: int = 0o666) -> int:
        self.opened += 1
        if flags & os.O_EXCL:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().open(folder, name, flags, mode)


Put = Callable[[Target, list[tuple[int, memoryview]]], Awaitable[list[int]]]


async def put_waiting(target: Target, pieces: list[tuple[int, memoryview]]) -> list[int]:
    return await target.put_many(pieces)


async def put_at_once(target: Target, pieces: list[tuple[int, memoryview]]) -> list[int]:
    """In one step, but for the first that is missing: the journal comes into being with it."""
    first = next(each for each in pieces if each[0] not in target.stored)
    wrong = await target.put_many([first])
    rest = target.put_now([each for each in pieces if each is not first])
    assert rest is not None
    return wrong + rest


@pytest.mark.parametrize("put", [put_waiting, put_at_once])
async def test_everything_put_together_is_there_in_the_end(tmp_path: Path, put: Put) -> None:
    layer = Counting()
    async with open_target(MANIFEST, tmp_path, layer=layer) as target:
        assert await put(target, pieces_of(target)[:40]) == []
        assert layer.opened <= 40 + 10
        assert await put(target, pieces_of(target)[20:]) == []
        assert target.complete
        await target.finish()
        found = await target.get_many(list(PIECES)[:40])
        assert [bytes(each) for each in found] == [bytes(data) for _, data in pieces_of(target)[:40]]
    assert {name: data for name, (data, _) in read_tree(tmp_path / "x").items()} == FILES


class OneStepBehind(PosixLayer):
    """Whatever folder it makes, a thread that writes a neighbour has made it just before."""

    def make_folder(self, folder: int, name: str) -> None:
        if not name.endswith(".swarm-part"):
            super().make_folder(folder, name)
        super().make_folder(folder, name)


async def test_a_folder_that_another_thread_makes_at_the_same_moment_is_no_obstacle(tmp_path: Path) -> None:
    async with open_target(MANIFEST, tmp_path, layer=OneStepBehind()) as target:
        alone, *others = pieces_of(target)
        await target.put(*alone)
        assert await target.put_many(others) == []
        await target.finish()
    assert {name: data for name, (data, _) in read_tree(tmp_path / "x").items()} == FILES


@pytest.mark.parametrize("put", [put_waiting, put_at_once])
async def test_a_wrong_piece_is_named_and_the_others_are_stored(tmp_path: Path, put: Put) -> None:
    async with open_target(MANIFEST, tmp_path) as target:
        pieces = pieces_of(target)
        for wrong in (3, 41, 44):
            pieces[wrong] = wrong, memoryview(bytes(len(pieces[wrong][1])))
        assert await put(target, pieces) == [3, 41, 44]
        assert list(target.stored.missing()) == [3, 41, 44]
        path = MANIFEST.path(MANIFEST.layout.span(3).file)
        assert not (tmp_path / "x.swarm-part").joinpath(*path).exists()


@pytest.mark.parametrize("put", [put_waiting, put_at_once])
async def test_a_file_that_is_there_already_is_written_to_as_ever(tmp_path: Path, put: Put) -> None:
    async with open_target(MANIFEST, tmp_path) as target:
        await put(target, pieces_of(target)[:5])
    (tmp_path / "x.swarm-part" / "a" / "7").write_bytes(b"a longer file that nobody knows" * 10)
    async with open_target(MANIFEST, tmp_path) as target:
        assert list(target.stored) == [0, 1, 2, 3, 4]
        assert await put(target, pieces_of(target)) == []
        await target.finish()
    assert {name: data for name, (data, _) in read_tree(tmp_path / "x").items()} == FILES


@pytest.mark.parametrize("put", [put_waiting, put_at_once])
async def test_a_full_disk_keeps_what_was_written_before(tmp_path: Path, put: Put) -> None:
    layer = Counting(left=10)
    with pytest.raises(DiskError, match="the disk is full"):
        async with open_target(MANIFEST, tmp_path, layer=layer) as target:
            try:
                await put(target, pieces_of(target)[:40])
            finally:
                assert 0 < target.stored.count <= 10
                stored = list(target.stored)
    async with open_target(MANIFEST, tmp_path) as target:
        assert list(target.stored) == stored


async def test_a_read_together_ends_with_the_first_piece_that_is_not_as_it_was(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", FILES)
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        good = await store.get_many(range(20))
        assert [len(each) for each in good if isinstance(each, memoryview)] == [
            scanned.manifest.layout.length(piece) for piece in range(20)
        ]
        flip(root / "a" / "10", 5)
        names = [store.manifest.path(store.manifest.layout.span(piece).file)[1] for piece in range(20)]
        changed = names.index("10")
        found = await store.get_many(range(20))
        assert len(found) == changed + 1
        assert isinstance(found[-1], PieceWithdrawn)
        (root / "a" / "0").unlink()
        (away,) = await store.get_many([0, 1, 2])
        assert isinstance(away, ContentAway)


async def test_a_read_together_without_descriptors_is_done_piece_by_piece(tmp_path: Path) -> None:
    layer = FaultyLayer("duplicate", error=errno.EMFILE)
    layer.broken = False
    async with open_target(MANIFEST, tmp_path, layer=layer) as target:
        pieces = pieces_of(target)[:3]
        await target.put_many(pieces)
        layer.broken = True
        assert await target.get_many([0, 1, 2]) == [data for _, data in pieces]
        layer.broken = False


async def test_a_read_together_without_any_descriptor_ends_with_the_disk_error(tmp_path: Path) -> None:
    layer = FaultyLayer("duplicate", "open", error=errno.EMFILE)
    layer.broken = False
    async with open_target(MANIFEST, tmp_path, layer=layer) as target:
        await target.put_many(pieces_of(target)[:3])
        layer.broken = True
        (refused,) = await target.get_many([0, 1, 2])
        layer.broken = False
        assert isinstance(refused, DiskError)
        assert list(target.stored) == [0, 1, 2]


async def test_a_step_that_might_wait_for_the_disk_is_not_taken(tmp_path: Path) -> None:
    class Slow(PosixLayer):
        def write(self, fd: int, data: memoryview, offset: int) -> int:
            time.sleep(2 * SLOW_SECONDS)
            return super().write(fd, data, offset)

    async with open_target(MANIFEST, tmp_path, layer=Slow()) as target:
        pieces = pieces_of(target)
        assert target.put_now(pieces[:1]) is None, "the journal is not there yet"
        assert await target.put_many(pieces[:1]) == []
        assert target.put_now(pieces[1:2]) is None, "the last write was slow"
        assert list(target.stored) == [0]
