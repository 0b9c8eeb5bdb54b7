"""Targets whose final name is taken by files that differ, and what replacing them keeps."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.errors import DiskError, UsageError
from swarm.storage import room
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import TargetOptions, open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, FaultyLayer, copy, make_tree, names, noise

DATA = noise(5 * PIECE + 100, 1)
MANIFEST = file_manifest("f", DATA)
SOURCE = MemoryStore(MANIFEST, DATA)
TREE = {"a": noise(2 * PIECE, 2), "b/c": noise(PIECE + 7, 3), "b/d": b"", "e": noise(90, 4)}
FOLDER = folder_manifest("x", TREE)
FOLDER_SOURCE = MemoryStore(FOLDER, b"".join(TREE[name] for name in sorted(TREE)))
OVERWRITE = TargetOptions(overwrite=True)


def with_a_wrong_piece(path: Path) -> None:
    path.write_bytes(DATA[:PIECE] + bytes(PIECE) + DATA[2 * PIECE :])


def a_beginning(path: Path) -> None:
    path.write_bytes(DATA[: 3 * PIECE + 5])


def longer(path: Path) -> None:
    path.write_bytes(DATA + b"more")


def nothing_right(path: Path) -> None:
    path.write_bytes(bytes(len(DATA)))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("existing", "missing"),
    [
        (with_a_wrong_piece, [1]),
        (a_beginning, [3, 4, 5]),
        (longer, []),
        (nothing_right, [0, 1, 2, 3, 4, 5]),
        (empty, [0, 1, 2, 3, 4, 5]),
    ],
)
async def test_what_is_right_in_a_file_that_differs_is_reused(
    tmp_path: Path, existing: Callable[[Path], None], missing: list[int]
) -> None:
    existing(tmp_path / "f")
    old = (tmp_path / "f").read_bytes()
    with pytest.raises(DiskError, match="f: already exists with other content; --overwrite replaces it"):
        async with open_target(MANIFEST, tmp_path):
            pass
    assert names(tmp_path) == {"f"}
    async with open_target(MANIFEST, tmp_path, OVERWRITE) as target:
        assert list(target.stored.missing()) == missing
        assert target.resumed_pieces == 6 - len(missing)
        await copy(SOURCE, target)
        assert (tmp_path / "f").read_bytes() == old
        await target.finish()
        for piece in range(6):
            assert bytes(await target.get(piece)) == bytes(await SOURCE.get(piece))
    assert (tmp_path / "f").read_bytes() == DATA
    assert names(tmp_path) == {"f"}


async def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    with_a_wrong_piece(tmp_path / "f")
    old = (tmp_path / "f").read_bytes()
    async with open_target(MANIFEST, tmp_path, OVERWRITE):
        pass
    assert (tmp_path / "f").read_bytes() == old
    (tmp_path / "f").write_bytes(b"edited meanwhile")
    async with open_target(MANIFEST, tmp_path, OVERWRITE) as target:
        assert list(target.stored.missing()) == [1]
        await copy(SOURCE, target)
        await target.finish()
    assert (tmp_path / "f").read_bytes() == DATA


async def test_files_of_a_folder_are_replaced_one_by_one_and_others_stay(tmp_path: Path) -> None:
    make_tree(
        tmp_path / "x", {"a": TREE["a"][:PIECE], "b/c": TREE["b/c"], "b/d": b"not empty", "own": b"mine"}
    )
    kept = (tmp_path / "x/b/c").stat().st_ino
    async with open_target(FOLDER, tmp_path, OVERWRITE) as target:
        assert target.resumed_pieces == 3
        await copy(FOLDER_SOURCE, target)
        await target.finish()
    found = {
        str(path.relative_to(tmp_path / "x")): path.read_bytes()
        for path in (tmp_path / "x").rglob("*")
        if path.is_file()
    }
    assert found == {**TREE, "own": b"mine"}
    assert names(tmp_path) == {"x"}
    assert (tmp_path / "x/b/c").stat().st_ino == kept


@pytest.mark.parametrize("kind", ["folder", "link"])
async def test_only_files_are_replaced(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        make_tree(tmp_path / "f", {"precious": b"1"})
    else:
        (tmp_path / "f").symlink_to("elsewhere")
    with pytest.raises(DiskError, match=r"f: already exists with other content \(a .*\); move it away"):
        async with open_target(MANIFEST, tmp_path, OVERWRITE):
            pass
    assert names(tmp_path) == {"f"}


async def test_what_takes_the_place_meanwhile_is_replaced_only_if_it_is_a_file(tmp_path: Path) -> None:
    a_beginning(tmp_path / "f")
    async with open_target(MANIFEST, tmp_path, OVERWRITE) as target:
        await copy(SOURCE, target)
        (tmp_path / "f").unlink()
        (tmp_path / "f").symlink_to("elsewhere")
        with pytest.raises(DiskError, match="already exists"):
            await target.finish()
        (tmp_path / "f").unlink()
        await target.finish()
    assert (tmp_path / "f").read_bytes() == DATA


async def test_the_new_file_is_as_private_as_the_old_one(tmp_path: Path) -> None:
    a_beginning(tmp_path / "f")
    (tmp_path / "f").chmod(0o600)
    async with open_target(MANIFEST, tmp_path, OVERWRITE) as target:
        await copy(SOURCE, target)
        await target.finish()
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


async def test_the_file_that_stays_until_the_end_does_not_count_as_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(room, "check_space", lambda _folder, needed, *, what: asked.append(needed))
    nothing_right(tmp_path / "f")
    async with open_target(MANIFEST, tmp_path, OVERWRITE):
        pass
    assert asked == [len(DATA), len(DATA)]


async def test_a_disk_that_refuses_the_copy_leaves_the_old_file(tmp_path: Path) -> None:
    with_a_wrong_piece(tmp_path / "f")
    old = (tmp_path / "f").read_bytes()
    with pytest.raises(DiskError, match="the disk is full"):
        async with open_target(MANIFEST, tmp_path, OVERWRITE, layer=FaultyLayer("write", error=errno.ENOSPC)):
            pass
    assert (tmp_path / "f").read_bytes() == old


async def test_another_final_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"another f")
    named = TargetOptions(name="g.bin")
    async with open_target(MANIFEST, tmp_path, named) as target:
        await copy(SOURCE, target, [2])
    assert names(tmp_path) == {"f", "g.bin.swarm-part", "g.bin.swarm-journal"}
    async with open_target(MANIFEST, tmp_path, named) as target:
        assert target.resumed_pieces == 1
        await copy(SOURCE, target)
        assert await target.finish() == tmp_path / "g.bin"
    assert names(tmp_path) == {"f", "g.bin"}
    assert (tmp_path / "f").read_bytes() == b"another f"
    for wrong in ("a/b", "..", "", "x.swarm-part", "con"):
        with pytest.raises(UsageError, match="choose another final name"):
            async with open_target(MANIFEST, tmp_path, TargetOptions(name=wrong)):
                pass
