"""File systems that lack what most have: each lack has a fallback, and at most a warning."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from swarm.content.paths import JOURNAL_SUFFIX, PART_SUFFIX, temporary_names
from swarm.errors import DiskError
from swarm.storage import room
from swarm.storage.file_layer import PosixLayer
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import TargetOptions, open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, FaultyLayer, copy, make_tree, names, noise, read_tree

TREE = {"a": noise(2 * PIECE, 2), "b/c": noise(PIECE + 7, 3), "b/d": b"", "e": noise(90, 4)}
FOLDER = folder_manifest("x", TREE, executable=["e"])
SOURCE = MemoryStore(FOLDER, b"".join(TREE[name] for name in sorted(TREE)))


async def fetch_in_two_runs(out: Path, layer: PosixLayer) -> list[str]:
    """Fetch with an interruption that leaves unclaimed data; returns the warnings."""
    warnings: list[str] = []
    async with open_target(FOLDER, out, layer=layer) as target:
        await copy(SOURCE, target, [0, 2])
    for journal in out.glob(f"*{JOURNAL_SUFFIX}"):
        journal.unlink()
    async with open_target(FOLDER, out, layer=layer, warn=warnings.append) as target:
        assert target.resumed_pieces == 2
        await copy(SOURCE, target)
        await target.finish()
    assert names(out) == {"x"}
    return warnings


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("lacking", ["sync", "sync_data", "sync_all", "forget_cache", "next_data"])
async def test_a_fetch_does_without(tmp_path: Path, lacking: str, code: int) -> None:
    layer = FaultyLayer(lacking, error=code)
    assert await fetch_in_two_runs(tmp_path, layer) == []
    assert {name: data for name, (data, _) in read_tree(tmp_path / "x").items()} == TREE


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_an_executable_bit_that_cannot_be_set_is_a_warning(tmp_path: Path, code: int) -> None:
    warnings = await fetch_in_two_runs(tmp_path, FaultyLayer("set_mode", error=code))
    assert [line.partition("x.swarm-part/")[2] for line in warnings] == [
        "e cannot be changed on this file system"
    ]
    assert {name: data for name, (data, _) in read_tree(tmp_path / "x").items()} == TREE


async def test_a_device_error_is_never_taken_for_a_lack(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="I/O error"):
        await fetch_in_two_runs(tmp_path, FaultyLayer("set_mode", error=errno.EIO))


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert await fetch_in_two_runs(tmp_path, PosixLayer()) == []


async def test_a_file_system_that_does_not_say_how_much_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=0, f_blocks=0, f_frsize=4096))
    assert await fetch_in_two_runs(tmp_path, PosixLayer()) == []


async def test_a_file_system_that_does_not_say_what_a_file_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for what is missing is enough, although the partial files seem to take none."""
    data = noise(8 * PIECE)
    manifest = file_manifest("f", data)
    source = MemoryStore(manifest, data)
    async with open_target(manifest, tmp_path) as target:
        await copy(source, target, range(6))
    real = Path.lstat

    def lstat(path: Path) -> object:
        about = real(path)
        return SimpleNamespace(st_blocks=0, st_size=about.st_size, st_mode=about.st_mode)

    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(os, "lstat", lambda path: lstat(Path(path)))
    free = 2 * PIECE
    monkeypatch.setattr(
        os, "statvfs", lambda _path: SimpleNamespace(f_bavail=free, f_blocks=9 * PIECE, f_frsize=1)
    )
    async with open_target(manifest, tmp_path) as target:
        assert target.resumed_pieces == 6
    free -= 1
    with pytest.raises(DiskError, match=f"f needs {2 * PIECE // 1024}.0KiB, 1B more than is free"):
        async with open_target(manifest, tmp_path):
            pass


class ShortNames(PosixLayer):
    """Names of at most ``limit`` bytes, as on eCryptfs, and some characters refused, as on FAT."""

    def __init__(self, limit: int, refused: str = "") -> None:
        self.limit = limit
        self.refused = set(refused)
        self.made: list[str] = []

    def check(self, name: str) -> None:
        if len(name.encode()) > self.limit:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def open(self, folder: int, name: str, flags: int, mode: int = 0o666) -> int:
        self.check(name)
        if flags & os.O_CREAT and self.refused & set(name):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if flags & os.O_CREAT:
            self.made.append(name)
        return super().open(folder, name, flags, mode)

    def stat(self, folder: int, name: str) -> os.stat_result:
        self.check(name)
        return super().stat(folder, name)

    def make_folder(self, folder: int, name: str) -> None:
        self.check(name)
        super().make_folder(folder, name)


@pytest.mark.parametrize("name", ["y" * 139 + ".mkv", "日" * 46 + ".mkv", "y" * 131])
@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_temporary_names_fit_whenever_the_final_one_does(tmp_path: Path, name: str, kind: str) -> None:
    data = noise(3 * PIECE)
    manifest = file_manifest(name, data) if kind == "file" else folder_manifest(name, {"f": data})
    source = MemoryStore(manifest, data)
    layer = ShortNames(143)
    async with open_target(manifest, tmp_path, layer=layer) as target:
        await copy(source, target, [1])
    assert len(names(tmp_path)) == 2
    async with open_target(manifest, tmp_path, layer=layer) as target:
        assert target.resumed_pieces == 1
        await copy(source, target)
        await target.finish()
    assert names(tmp_path) == {name}


async def test_temporary_names_that_fit_stay_as_they_were(tmp_path: Path) -> None:
    manifest = file_manifest("y" * 129, b"1" * 9)
    async with open_target(manifest, tmp_path, layer=ShortNames(143)) as target:
        await target.put(0, memoryview(b"1" * 9))
    assert names(tmp_path) == {"y" * 129 + suffix for suffix in (PART_SUFFIX, JOURNAL_SUFFIX)}


def test_short_names_are_no_longer_than_the_name_and_differ() -> None:
    found = set()
    for name in ("a" * 143, "a" * 142 + "b", "é" * 71, "𝄞" * 35, "b"):
        _, short = temporary_names(name, PART_SUFFIX)
        assert short.endswith(PART_SUFFIX)
        assert len(short.encode()) <= max(len(name.encode()), 16 + len(PART_SUFFIX))
        found.add(short)
    assert len(found) == 5


@pytest.mark.parametrize("inner", ["d/" + "z" * 144, "z" * 144 + "/f", "ü" * 72])
async def test_names_that_are_too_long_are_known_before_the_work(tmp_path: Path, inner: str) -> None:
    manifest = folder_manifest("x", {"a": b"1", inner: b""})
    with pytest.raises(DiskError, match=f"{inner}: too long for this file system; choose another folder"):
        async with open_target(manifest, tmp_path, layer=ShortNames(143)):
            pass
    assert names(tmp_path) == set()
    chosen = frozenset(file for file, entry in enumerate(manifest.files) if entry.path == ("a",))
    async with open_target(manifest, tmp_path, TargetOptions(chosen), layer=ShortNames(143)) as target:
        await target.put(0, memoryview(b"1"))
        await target.finish()
    assert read_tree(tmp_path) == {"x/a": (b"1", False)}


async def test_characters_that_are_refused_are_known_before_the_work(tmp_path: Path) -> None:
    manifest = folder_manifest("x", {"a": b"1", "ü/☃": b"", "日本": b"2"})
    for layer in (ShortNames(255, "☃"), ShortNames(255, "日☃")):
        with pytest.raises(
            DiskError, match=r"ü/☃.*: this file system refuses characters of the name \(U\+2603"
        ):
            async with open_target(manifest, tmp_path, layer=layer):
                pass
        assert names(tmp_path) == set()
    with pytest.raises(DiskError, match=r"☃: this file system refuses .* choose another folder or --name"):
        async with open_target(file_manifest("☃", b"1"), tmp_path, layer=ShortNames(255, "☃")):
            pass
    layer = ShortNames(255)
    async with open_target(manifest, tmp_path, layer=layer):
        assert layer.made == ["nü☃日本", "x.swarm-journal"]
    assert names(tmp_path) == set()


async def test_a_file_of_4_gib_on_fat_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "FAT_FILE_BYTES", 3 * PIECE)
    manifest = file_manifest("f", noise(3 * PIECE))
    with pytest.raises(DiskError, match="f: larger than this file system"):
        async with open_target(manifest, tmp_path, layer=FaultyLayer("resize", error=errno.EFBIG)):
            pass
    assert names(tmp_path) == set()
    async with open_target(file_manifest("g", noise(3 * PIECE - 1)), tmp_path):
        pass


async def test_two_fetches_try_names_in_one_folder_at_once(tmp_path: Path) -> None:
    async def fetch(number: int) -> None:
        manifest = file_manifest(f"ü{number}", b"1")
        async with open_target(manifest, tmp_path) as target:
            await target.put(0, memoryview(b"1"))
            await target.finish()

    make_tree(tmp_path / room.PROBE_NAME, {"nü": b""})
    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(fetch, number)
    assert {f"ü{number}" for number in range(9)} == names(tmp_path)
