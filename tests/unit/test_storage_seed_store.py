"""Seeding in place: what changed is withdrawn, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.errors import DiskError, PieceWithdrawn
from swarm.storage.file_layer import PosixLayer
from swarm.storage.piece_files import OPEN_FILES
from swarm.storage.scan import scan
from swarm.storage.seed_store import SeedStore
from tests.support.storage import PIECE, FaultyLayer, descriptors, flip, make_tree, noise

PIECES = 6


async def withdrawn(store: SeedStore) -> list[int]:
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


def flip_a_bit(path: Path) -> None:
    flip(path, 2 * PIECE + 7)


def edit_two_pieces(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(PIECE - 1)
        file.write(b"ab" if file.read(2) != b"ab" else b"cd")


def truncate(path: Path) -> None:
    os.truncate(path, 4 * PIECE + 1)


def replace_by_similar(path: Path) -> None:
    other = path.with_name("other")
    shutil.copyfile(path, other)
    flip(other, 5 * PIECE)
    other.rename(path)


def remove(path: Path) -> None:
    path.unlink()


def become_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def replace_by_equal(path: Path) -> None:
    other = path.with_name("other")
    shutil.copyfile(path, other)
    other.rename(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("opened_before", [True, False])
@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (flip_a_bit, [2]),
        (edit_two_pieces, [1]),
        (truncate, [4, 5]),
        (replace_by_similar, [5]),
        (remove, [0, 1, 2, 3, 4, 5]),
        (become_a_link, [0, 1, 2, 3, 4, 5]),
        (become_a_pipe, [0, 1, 2, 3, 4, 5]),
        (touch, []),
        (replace_by_equal, []),
        (append, []),
    ],
)
async def test_exactly_the_changed_pieces_are_withdrawn(
    tmp_path: Path, change: Callable[[Path], None], gone: list[int], opened_before: bool
) -> None:
    root = make_tree(tmp_path / "x", {"a": noise(PIECES * PIECE, 1), "b": noise(PIECE, 2)})
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        if opened_before:
            await store.get(0)
        change(root / "a")
        assert await withdrawn(store) == gone


async def test_a_folder_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {"sub/a": noise(PIECE), "b": b"b"})
    scanned = await scan(root, piece_length=PIECE)
    (root / "sub").rename(tmp_path / "outside")
    (root / "sub").symlink_to(tmp_path / "outside")
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        assert await withdrawn(store) == [1]


async def test_a_read_error_withdraws_and_a_lack_of_descriptors_does_not(tmp_path: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(2 * PIECE)}) / "f"
    scanned = await scan(path, piece_length=PIECE)
    rotten = FaultyLayer("read_into", error=errno.EIO)
    with SeedStore(scanned.manifest, path, scanned.checks, layer=rotten) as store:
        assert await withdrawn(store) == [0, 1]
    short = FaultyLayer("open", error=errno.EMFILE)
    with SeedStore(scanned.manifest, path, scanned.checks, layer=short) as store:
        with pytest.raises(DiskError, match="too many open files"):
            await store.get(0)
        short.broken = False
        assert bytes(await store.get(0)) == path.read_bytes()[:PIECE]


async def test_nothing_is_ever_written(tmp_path: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(PIECE)}) / "f"
    scanned = await scan(path)
    with SeedStore(scanned.manifest, path, scanned.checks) as store:
        data = await store.get(0)
        with pytest.raises(DiskError, match="never written"):
            await store.put(0, data)
    with pytest.raises(DiskError, match="no such file"):
        SeedStore(scanned.manifest, tmp_path / "gone" / "f", scanned.checks)
