"""Which pieces the files of an older version hold, and how a target takes them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.errors import DiskError
from swarm.storage.file_layer import PosixLayer
from swarm.storage.folder import Folder
from swarm.storage.hash_cache import HashCache
from swarm.storage.memory_store import MemoryStore
from swarm.storage.piece_files import PieceFiles
from swarm.storage.reuse import Reusable, find_reusable
from swarm.storage.scan import scan
from swarm.storage.taking import clonable_bytes
from swarm.storage.target import open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, copy, descriptors, make_tree, names, noise

BIG = noise(20 * PIECE + 500, 1)
CHANGED = BIG[: 3 * PIECE] + noise(PIECE, 2) + BIG[4 * PIECE :]
FILES = {
    "big": BIG,
    "lib/one-2.0/x": noise(40_000, 3),
    "moved/s": noise(900, 4),
    "empty": b"",
    "new": noise(7, 5),
}
OLD = {"big": CHANGED, "lib/one-1.9.1/x": FILES["lib/one-2.0/x"], "s": FILES["moved/s"], "gone": noise(50, 6)}
NEW = folder_manifest("x", FILES)


def pieces_of(manifest: Manifest, *paths: str) -> set[int]:
    return {
        piece
        for file, entry in enumerate(manifest.files)
        if "/".join(entry.path) in paths
        for piece in manifest.layout.pieces_of(file)
    }


def found(base: Path, manifest: Manifest = NEW, *, verify: bool = True, **named: object) -> Reusable:
    return find_reusable(manifest, PieceSet.all(manifest.piece_count), [base], verify=verify, **named)


SAME = (
    pieces_of(NEW, "lib/one-2.0/x", "moved/s")
    | set(sorted(pieces_of(NEW, "big"))[:3])
    | set(sorted(pieces_of(NEW, "big"))[4:])
)


async def remembered(home: Path, path: Path, piece_length: int | None = PIECE) -> HashCache:
    """A hash cache that knows the path; the files are made old enough to be recognized."""
    for each in path.rglob("*"):
        os.utime(each, (1_600_000_000, 1_600_000_000))
    cache = HashCache(home)
    scanned = await scan(path, piece_length=piece_length)
    cache.keep(path, scanned.manifest, scanned.checks)
    return cache


def test_pieces_are_found_at_any_path_and_at_the_same_offset_of_a_changed_file(tmp_path: Path) -> None:
    with_all = found(make_tree(tmp_path / "old", OLD))
    assert set(with_all.pieces) == SAME
    assert with_all.size == sum(map(NEW.layout.length, SAME))
    for piece in range(NEW.piece_count):
        data = with_all.read(piece)
        assert (data is not None) == (piece in SAME)
    with_all.close()


async def test_what_was_hashed_before_is_not_read_again(tmp_path: Path) -> None:
    base = make_tree(tmp_path / "old", OLD)
    cache = await remembered(tmp_path / "home", base)
    # Bytes that could not be read: nothing but names and time stamps is looked at.
    reusable = found(base, verify=False, recall=cache.find)
    assert set(reusable.pieces) == SAME
    reusable.close()
    guessed = found(base, verify=False)
    assert set(guessed.pieces) > SAME
    guessed.verify()
    assert set(guessed.pieces) == SAME
    guessed.close()


async def test_a_file_that_changed_since_it_was_hashed_is_a_guess(tmp_path: Path) -> None:
    base = make_tree(tmp_path / "old", OLD)
    cache = await remembered(tmp_path / "home", base)
    (base / "big").write_bytes(BIG)
    reusable = found(base, verify=False, recall=cache.find)
    assert set(reusable.pieces) == SAME | pieces_of(NEW, "big")
    reusable.close()


async def test_another_piece_length_hides_nothing(tmp_path: Path) -> None:
    base = make_tree(tmp_path / "old", OLD)
    cache = await remembered(tmp_path / "home", base, 4 * PIECE)
    reusable = found(base, recall=cache.find)
    assert set(reusable.pieces) == SAME
    reusable.close()


def test_only_wanted_pieces_are_looked_for(tmp_path: Path) -> None:
    wanted = PieceSet.of(NEW.piece_count, list(SAME)[:2])
    reusable = find_reusable(NEW, wanted, [make_tree(tmp_path / "old", OLD)])
    assert reusable.pieces == wanted
    reusable.close()


def test_several_bases_are_joined(tmp_path: Path) -> None:
    one = make_tree(tmp_path / "one", {"big": CHANGED})
    other = make_tree(tmp_path / "other", {"big": noise(3 * PIECE, 9) + BIG[3 * PIECE : 4 * PIECE]})
    reusable = find_reusable(NEW, PieceSet.all(NEW.piece_count), [one, other])
    assert set(reusable.pieces) == pieces_of(NEW, "big")
    reusable.close()


def test_a_single_file_is_compared_with_a_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "disk-old.img").write_bytes(CHANGED[: 9 * PIECE])
    manifest = file_manifest("disk.img", BIG)
    reusable = found(tmp_path / "disk-old.img", manifest)
    assert set(reusable.pieces) == {0, 1, 2, *range(4, 9)}
    reusable.close()


def test_a_base_that_is_not_there_leaves_no_descriptor(tmp_path: Path) -> None:
    base = make_tree(tmp_path / "old", OLD)
    before = descriptors()
    with pytest.raises(DiskError, match="nowhere"):
        find_reusable(NEW, PieceSet.all(NEW.piece_count), [base, tmp_path / "nowhere"])
    assert descriptors() == before


class CloningLayer(PosixLayer):
    """A file system that clones: the copy is made behind the back of those who count what is written."""

    def __init__(self, error: int = 0) -> None:
        self.error = error
        self.clones = self.written = 0

    def clone(self, source: int, target: int) -> None:
        self.clones += 1
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        os.ftruncate(target, 0)
        size = os.fstat(source).st_size
        os.pwrite(target, os.pread(source, size, 0), 0)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        self.written += len(data)
        return super().write(fd, data, offset)


async def taken(out: Path, base: Path, layer: PosixLayer, manifest: Manifest = NEW) -> list[int]:
    """What a target takes from a base; then the rest is put and everything is as it should be."""
    data = b"".join(FILES["/".join(entry.path)] for entry in manifest.files)
    reusable = found(base, manifest, verify=False)
    async with open_target(manifest, out, layer=layer) as target:
        pieces = await target.take(list(reusable.pieces), reusable)
        assert pieces == list(target.stored)
        reusable.close()
    async with open_target(manifest, out) as target:
        assert list(target.stored) == pieces, "what is claimed survives"
        await copy(MemoryStore(manifest, data), target)
        await target.finish()
    assert names(out) == {manifest.name}
    if manifest.folder:
        assert {name: (out / "x" / name).read_bytes() for name in FILES} == FILES
    return pieces


async def test_a_target_takes_what_is_right_and_nothing_else(tmp_path: Path) -> None:
    assert set(await taken(tmp_path / "out", make_tree(tmp_path / "old", OLD), PosixLayer())) == SAME


async def test_a_clone_is_verified_and_nothing_of_it_is_written_again(tmp_path: Path) -> None:
    layer = CloningLayer()
    base = make_tree(tmp_path / "old", OLD | {"big": CHANGED + b"a longer end"})
    assert set(await taken(tmp_path / "out", base, layer)) == SAME
    assert layer.clones == 1
    assert layer.written < len(FILES["lib/one-2.0/x"]) + 2000 + 500


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY])
async def test_where_nothing_can_be_cloned_one_try_is_made(tmp_path: Path, error: int) -> None:
    layer = CloningLayer(error)
    base = make_tree(tmp_path / "old", OLD)
    assert set(await taken(tmp_path / "out", base, layer)) == SAME
    assert layer.clones == 1


@pytest.mark.parametrize("error", [0, errno.EOPNOTSUPP])
def test_a_try_to_clone_is_never_seen_among_the_users_files(tmp_path: Path, error: int) -> None:
    class Looking(CloningLayer):
        def clone(self, source: int, target: int) -> None:
            assert names(base) == before
            super().clone(source, target)

    base = make_tree(tmp_path / "old", OLD)
    before, layer = names(base), Looking(error)
    folder = Folder.open(base, layer)
    shared = clonable_bytes(NEW, PieceFiles(NEW, folder, "x"))
    folder.close()
    assert layer.clones == 1
    assert (shared > 0) == (not error)
    assert names(base) == before


async def test_a_full_disk_ends_it_and_keeps_what_is_claimed(tmp_path: Path) -> None:
    class FullLayer(PosixLayer):
        left = 5 * PIECE

        def write(self, fd: int, data: memoryview, offset: int) -> int:
            if self.left < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.left -= len(data)
            return super().write(fd, data, offset)

    reusable = found(make_tree(tmp_path / "old", OLD), verify=False)
    big = sorted(pieces_of(NEW, "big"))
    with pytest.raises(DiskError, match="the disk is full"):
        async with open_target(NEW, tmp_path / "out", layer=FullLayer()) as target:
            assert await target.take(big[:3], reusable) == big[:3]
            await target.take(big[4:], reusable)
    reusable.close()
    async with open_target(NEW, tmp_path / "out") as target:
        assert set(big[:3]) <= set(target.stored)
