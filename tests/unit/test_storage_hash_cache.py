"""What was hashed is remembered: it is believed only for files that nothing has changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm.storage import hash_cache
from swarm.storage.file_identity import FileIdentity
from swarm.storage.file_layer import FileLayer
from swarm.storage.hash_cache import COARSE_NS, FINE_NS, HashCache, is_settled
from swarm.storage.hashing import FileHashing
from swarm.storage.scan import Scanned, scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import TargetOptions, open_target
from tests.support.storage import PIECE, copy, make_tree, noise

FILES = {f"d{number % 3}/{number:02}": noise(PIECE + number, number) for number in range(20)} | {"empty": b""}


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the files that are hashed from now on."""
    lengths: list[int] = []
    real = FileHashing.steps

    def steps(self: FileHashing, layer: FileLayer, fd: int, length: int, buffer: memoryview) -> Iterator[int]:
        lengths.append(length)
        return real(self, layer, fd, length, buffer)

    monkeypatch.setattr(FileHashing, "steps", steps)
    return lengths


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def settle() -> None:
    """Wait until files that were written before can be recognized later."""
    threading.Event().wait(FINE_NS / 1e9 + 0.02)


async def shared(path: Path, home: Path) -> Scanned:
    """Scan as a share does, with its memory."""
    cache = HashCache(home)
    scanned = await scan(path, piece_length=PIECE, recall=cache.find)
    if scanned.hashed:
        cache.keep(path, scanned.manifest, scanned.checks, scanned.unsettled)
    return scanned


async def test_nothing_is_hashed_twice(tmp_path: Path, home: Path, hashed: list[int]) -> None:
    root = make_tree(tmp_path / "x", FILES, executable=["d1/01"])
    settle()
    first = await shared(root, home)
    assert len(hashed) == len(FILES)
    again = await shared(root, home)
    assert len(hashed) == len(FILES)
    assert not again.hashed
    assert (again.manifest, again.checks.pieces) == (first.manifest, first.checks.pieces)
    assert list(again.checks.files) == list(first.checks.files)
    assert await scan(root, piece_length=PIECE) == first


async def test_a_single_file_is_remembered_whatever_its_name_there(
    tmp_path: Path, home: Path, hashed: list[int]
) -> None:
    path = make_tree(tmp_path, {"f": noise(5 * PIECE)}) / "f"
    settle()
    first = await shared(path, home)
    link = tmp_path / "link"
    link.symlink_to("f")
    assert (await shared(path, home)).manifest == first.manifest
    assert (await shared(link, home)).manifest.files[0].pieces == first.manifest.files[0].pieces
    assert len(hashed) == 1


def edit(path: Path) -> None:
    path.write_bytes(noise(path.stat().st_size, 77))


def edit_with_the_old_time(path: Path) -> None:
    about = path.stat()
    edit(path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def replace_with_the_old_time(path: Path) -> None:
    about = path.stat()
    path.unlink()
    path.write_bytes(noise(about.st_size, 78))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def become_executable(path: Path) -> None:
    path.chmod(0o755)


@pytest.mark.parametrize(
    "change", [edit, edit_with_the_old_time, replace_with_the_old_time, grow, become_executable]
)
async def test_only_a_changed_file_is_hashed_again(
    tmp_path: Path, home: Path, hashed: list[int], change: Callable[[Path], None]
) -> None:
    root = make_tree(tmp_path / "x", FILES)
    settle()
    await shared(root, home)
    change(root / "d0/03")
    (root / "d0/06").unlink()
    (root / "d0/new").write_bytes(b"new")
    settle()
    hashed.clear()
    scanned = await shared(root, home)
    assert sorted(hashed) == [3, (root / "d0/03").stat().st_size]
    assert scanned == await scan(root, piece_length=PIECE)
    hashed.clear()
    await shared(root, home)
    assert hashed == []


@pytest.mark.parametrize("change", [edit, edit_with_the_old_time, replace_with_the_old_time])
@pytest.mark.parametrize("empty_folder", [False, True], ids=["format 1", "format 2"])
async def test_what_keeps_its_name_and_its_size_is_hashed_again(
    tmp_path: Path, home: Path, hashed: list[int], change: Callable[[Path], None], empty_folder: bool
) -> None:
    root = make_tree(tmp_path / "x", FILES)
    if empty_folder:
        (root / "nothing").mkdir()
    settle()
    first = await shared(root, home)
    hashed.clear()
    change(root / "d0/03")
    scanned = await shared(root, home)
    assert hashed == [(root / "d0/03").stat().st_size]
    assert scanned.manifest.id != first.manifest.id


async def test_a_file_that_was_just_written_is_hashed_again(
    tmp_path: Path, home: Path, hashed: list[int]
) -> None:
    root = make_tree(tmp_path / "x", {"old": noise(PIECE, 1), "new": noise(PIECE, 2)})
    settle()
    (root / "new").write_bytes(noise(PIECE + 5, 3))
    scanned = await shared(root, home)
    assert scanned.unsettled == {0}
    hashed.clear()
    await shared(root, home)
    assert hashed == [PIECE + 5]


def test_the_step_of_the_time_stamps_decides_when_a_file_can_be_recognized() -> None:
    fine = FileIdentity(1, 0, 1, 1, ctime_ns=5_123_456_789)
    assert not is_settled(fine, fine.ctime_ns + FINE_NS)
    assert is_settled(fine, fine.ctime_ns + FINE_NS + 1)
    coarse = FileIdentity(1, 0, 1, 1, ctime_ns=6_000_000_000)
    assert not is_settled(coarse, coarse.ctime_ns + COARSE_NS)
    assert is_settled(coarse, coarse.ctime_ns + COARSE_NS + 1)
    assert not is_settled(coarse, coarse.ctime_ns - 10**12)


async def test_another_piece_length_is_hashed(tmp_path: Path, home: Path, hashed: list[int]) -> None:
    path = make_tree(tmp_path, {"f": noise(5 * PIECE)}) / "f"
    settle()
    await shared(path, home)
    await scan(path, piece_length=2 * PIECE, recall=HashCache(home).find)
    assert len(hashed) == 2


async def test_a_folder_that_was_moved_is_found_by_its_inode(
    tmp_path: Path, home: Path, hashed: list[int]
) -> None:
    root = make_tree(tmp_path / "x", FILES)
    settle()
    await shared(root, home)
    hashed.clear()
    root.rename(tmp_path / "y")
    moved = await shared(tmp_path / "y", home)
    assert hashed == []
    assert moved.manifest.name == "y"
    assert moved.hashed
    assert not (await shared(tmp_path / "y", home)).hashed


async def test_a_damaged_record_is_not_believed(tmp_path: Path, home: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(3 * PIECE)}) / "f"
    settle()
    await shared(path, home)
    (record,) = (home / "hashed").iterdir()
    whole = record.read_bytes()
    cache = HashCache(home)
    assert cache.find(path) is not None
    for at in range(0, len(whole), 7):
        record.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert cache.find(path) is None
    for length in (0, 1, 40, len(whole) - 1):
        record.write_bytes(whole[:length])
        assert cache.find(path) is None
    record.write_bytes(whole)
    assert cache.find(path) is not None


@pytest.mark.parametrize("obstacle", ["a file", "no permission", "a folder"])
async def test_a_home_that_cannot_be_written_costs_only_time(
    tmp_path: Path, home: Path, hashed: list[int], obstacle: str
) -> None:
    path = make_tree(tmp_path, {"f": noise(PIECE)}) / "f"
    settle()
    if obstacle == "a file":
        home.write_bytes(b"")
    elif obstacle == "no permission":
        home.mkdir(0o500)
        (home / "hashed").symlink_to("/proc/nowhere")
    else:
        await shared(path, home)
        (record,) = (home / "hashed").iterdir()
        record.unlink()
        record.mkdir()
    hashed.clear()
    for _ in range(2):
        assert (await shared(path, home)).manifest.piece_count == 1
    assert len(hashed) == 2


async def test_records_are_bounded(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_cache, "MAX_RECORDS", 3)
    paths = [make_tree(tmp_path, {f"f{number}": noise(PIECE, number)}) / f"f{number}" for number in range(5)]
    settle()
    for number, path in enumerate(paths):
        await shared(path, home)
        os.utime(
            next(iter(sorted((home / "hashed").iterdir(), key=lambda p: -p.stat().st_ctime))),
            (number, number),
        )
    assert len(list((home / "hashed").iterdir())) == 3
    assert HashCache(home).find(paths[0]) is None
    assert HashCache(home).find(paths[4]) is not None


async def test_what_a_crash_left_of_a_record_is_ignored_and_removed(tmp_path: Path, home: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(PIECE)}) / "f"
    settle()
    left = home / "hashed" / ".x.hashed.1234.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    await shared(path, home)
    assert not left.exists()
    assert HashCache(home).find(path) is not None


async def test_several_may_remember_at_once(tmp_path: Path, home: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(PIECE)}) / "f"
    settle()
    scanned = await scan(path)

    def keep() -> None:
        for _ in range(50):
            HashCache(home).keep(path, scanned.manifest, scanned.checks)
            found = HashCache(home).find(path)
            assert found is not None
            assert found.manifest == scanned.manifest

    threads = [threading.Thread(target=keep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list((home / "hashed").iterdir())) == 1


async def test_what_was_fetched_is_not_hashed_to_be_seeded_or_shared(
    tmp_path: Path, home: Path, hashed: list[int]
) -> None:
    root = make_tree(tmp_path / "x", FILES, executable=["d1/01"])
    source = await scan(root, piece_length=PIECE)
    cache = HashCache(home)
    options = TargetOptions(recall=cache.find)
    with SeedStore(source.manifest, root, source.checks) as seeder:
        async with open_target(source.manifest, tmp_path / "out", options) as target:
            await copy(seeder, target)
            path = await target.finish()
            assert target.checks is not None
            cache.keep(path, source.manifest, target.checks, target.unsettled)
    hashed.clear()
    async with open_target(source.manifest, tmp_path / "out", options) as target:
        assert target.complete
        assert hashed == []
        await target.finish()
        for piece in range(source.manifest.piece_count):
            await target.get(piece)
    assert not (await scan(tmp_path / "out" / "x", piece_length=PIECE, recall=cache.find)).hashed
    assert hashed == []
    edit(tmp_path / "out/x/d0/03")
    (tmp_path / "out/x/d0/06").unlink()
    async with open_target(
        source.manifest, tmp_path / "out", TargetOptions(recall=cache.find, overwrite=True)
    ) as target:
        assert hashed == [len(FILES["d0/03"])]
        assert not target.complete


async def test_a_selection_is_remembered_as_far_as_it_goes(
    tmp_path: Path, home: Path, hashed: list[int]
) -> None:
    root = make_tree(tmp_path / "x", FILES)
    source = await scan(root, piece_length=PIECE)
    cache = HashCache(home)
    options = TargetOptions(frozenset(range(5)), recall=cache.find)
    with SeedStore(source.manifest, root, source.checks) as seeder:
        async with open_target(source.manifest, tmp_path / "out", options) as target:
            await copy(seeder, target, target.wanted)
            path = await target.finish()
            assert target.checks is not None
            cache.keep(path, source.manifest, target.checks, target.unsettled)
        hashed.clear()
        async with open_target(source.manifest, tmp_path / "out", TargetOptions(recall=cache.find)) as target:
            assert hashed == []
            assert target.resumed_pieces > 0
            await copy(seeder, target)
            await target.finish()
    assert hashed == []
