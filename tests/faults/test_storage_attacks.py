"""Names that lead elsewhere: nothing outside the target is written, read or moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.errors import DiskError, PieceWithdrawn, SwarmError
from swarm.storage.folder import Folder
from swarm.storage.memory_store import MemoryStore
from swarm.storage.piece_files import PieceFiles
from swarm.storage.target import open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, copy, descriptors, make_tree, names, noise, read_tree

DATA = noise(3 * PIECE)
FILE = file_manifest("f", DATA)
FILES = {"a": noise(PIECE, 1), "sub/b": noise(2 * PIECE, 2), "sub/deep/c": b"3"}
FOLDER = folder_manifest("x", FILES)


def folder_store() -> MemoryStore:
    return MemoryStore(FOLDER, b"".join(FILES[name] for name in sorted(FILES)))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What an attacker wants to be written over."""
    return make_tree(tmp_path / "outside", {"b": b"precious", "f": b"precious", "deep/c": b"precious"})


def untouched(outside: Path) -> bool:
    return set(read_tree(outside).values()) == {(b"precious", False)} and names(outside) == {"b", "f", "deep"}


async def test_a_partial_file_that_is_a_link_is_refused(tmp_path: Path, outside: Path) -> None:
    out = make_tree(tmp_path / "out", {})
    (out / "f.swarm-part").symlink_to(outside / "f")
    with pytest.raises(DiskError, match=r"f\.swarm-part: this is a symbolic link"):
        async with open_target(FILE, out):
            pass
    assert untouched(outside)
    assert names(out) == {"f.swarm-part"}


async def test_a_dangling_link_is_not_created_through(tmp_path: Path) -> None:
    out = make_tree(tmp_path / "out", {})
    (out / "f.swarm-part").symlink_to(tmp_path / "new")
    with pytest.raises(DiskError, match="symbolic link"):
        async with open_target(FILE, out):
            pass
    assert not (tmp_path / "new").exists()


async def test_a_journal_that_is_a_link_is_refused(tmp_path: Path, outside: Path) -> None:
    out = make_tree(tmp_path / "out", {})
    (out / "f.swarm-journal").symlink_to(outside / "f")
    with pytest.raises(DiskError, match="symbolic link"):
        async with open_target(FILE, out):
            pass
    assert untouched(outside)


async def test_a_partial_folder_that_is_a_link_is_refused(tmp_path: Path, outside: Path) -> None:
    out = make_tree(tmp_path / "out", {})
    (out / "x.swarm-part").symlink_to(outside)
    with pytest.raises(DiskError, match=r"x\.swarm-part: something that is not a folder, or a symbolic link"):
        async with open_target(FOLDER, out):
            pass
    assert untouched(outside)


async def test_a_linked_subfolder_of_the_partial_folder_is_refused(tmp_path: Path, outside: Path) -> None:
    out = make_tree(tmp_path / "out" / "x.swarm-part", {}).parent
    (out / "x.swarm-part" / "sub").symlink_to(outside)
    with pytest.raises(DiskError, match="symbolic link, is in the way"):
        async with open_target(FOLDER, out):
            pass
    assert untouched(outside)


async def test_a_final_folder_or_subfolder_that_is_a_link_is_refused(tmp_path: Path, outside: Path) -> None:
    out = make_tree(tmp_path / "out", {})
    (out / "x").symlink_to(outside)
    with pytest.raises(DiskError, match="symbolic link, is in the way"):
        async with open_target(FOLDER, out):
            pass
    (out / "x").unlink()
    make_tree(out / "x", {"a": FILES["a"]})
    (out / "x" / "sub").symlink_to(outside)
    with pytest.raises(DiskError, match="symbolic link, is in the way"):
        async with open_target(FOLDER, out):
            pass
    assert untouched(outside)
    assert names(out) == {"x"}


def swap_subfolder(out: Path, outside: Path) -> None:
    (out / "x.swarm-part" / "sub").rename(out / "aside")
    (out / "x.swarm-part" / "sub").symlink_to(outside)


def swap_inner_file(out: Path, outside: Path) -> None:
    part = out / "x.swarm-part" / "sub" / "b"
    part.unlink()
    part.symlink_to(outside / "b")


def swap_inner_file_for_another(out: Path, outside: Path) -> None:
    part = out / "x.swarm-part" / "sub" / "b"
    part.rename(out / "aside")
    part.write_bytes(noise(2 * PIECE, 9))


def swap_folder_for_link(out: Path, outside: Path) -> None:
    (out / "x.swarm-part").rename(out / "aside")
    (out / "x.swarm-part").symlink_to(outside)


def swap_folder_for_another(out: Path, outside: Path) -> None:
    (out / "x.swarm-part").rename(out / "aside")
    make_tree(out / "x.swarm-part", {"a": b"planted", "sub/b": b"planted", "sub/deep/c": b"3"})


@pytest.mark.parametrize("when", ["half way", "complete"])
@pytest.mark.parametrize(
    "swap",
    [
        swap_subfolder,
        swap_inner_file,
        swap_inner_file_for_another,
        swap_folder_for_link,
        swap_folder_for_another,
    ],
)
async def test_what_is_swapped_while_it_is_fetched_is_neither_written_nor_finished(
    tmp_path: Path, outside: Path, swap: Callable[[Path, Path], None], when: str
) -> None:
    out = tmp_path / "out"
    source = folder_store()
    held = descriptors()
    with pytest.raises(DiskError):
        async with open_target(FOLDER, out) as target:
            await copy(source, target, [1] if when == "half way" else range(4))
            swap(out, outside)
            await copy(source, target)
            await target.finish()
    assert untouched(outside)
    assert "x" not in names(out)
    assert descriptors() == held


async def test_a_partial_file_swapped_for_another_is_not_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with open_target(FILE, out) as target:
        await copy(MemoryStore(FILE, DATA), target)
        os.rename(out / "f.swarm-part", out / "aside")
        (out / "f.swarm-part").write_bytes(noise(len(DATA), 7))
        with pytest.raises(DiskError, match="replaced by another file"):
            await target.finish()
        with pytest.raises(PieceWithdrawn):
            await target.get(0)
    assert "f" not in names(out)


def test_a_file_that_was_swapped_is_not_written_on_when_it_is_opened_again(tmp_path: Path) -> None:
    files = PieceFiles(FILE, Folder.open(tmp_path), "f")
    held = descriptors()
    with files.writing(0, lambda _folder: None) as fd:
        os.pwrite(fd, DATA[:PIECE], 0)
    files.forget()
    (tmp_path / "f").rename(tmp_path / "aside")
    (tmp_path / "f").write_bytes(b"planted")
    with pytest.raises(DiskError, match="was replaced"), files.writing(0, lambda _folder: None):
        pass
    assert (tmp_path / "f").read_bytes() == b"planted"
    assert descriptors() == held
    files.close()


async def test_a_subfolder_of_the_final_folder_swapped_before_the_move_is_not_followed(
    tmp_path: Path, outside: Path
) -> None:
    out = make_tree(tmp_path / "out" / "x", {"a": FILES["a"], "sub/own": b"mine"}).parent
    (outside / "b").unlink()
    with pytest.raises(SwarmError):
        async with open_target(FOLDER, out) as target:
            await copy(folder_store(), target)
            (out / "x" / "sub").rename(out / "aside")
            (out / "x" / "sub").symlink_to(outside)
            await target.finish()
    assert names(outside) == {"f", "deep"}
    assert names(outside / "deep") == {"c"}
    assert (out / "x.swarm-part" / "sub" / "b").read_bytes() == FILES["sub/b"]
