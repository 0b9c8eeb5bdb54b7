"""Other programs that change, remove or move parts of a target during its fetch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio

from swarm.content.manifest import Manifest
from swarm.content.times import FileTimes
from swarm.errors import DiskError, PiecesChanged
from swarm.storage import target_files
from swarm.storage.memory_store import MemoryStore
from swarm.storage.piece_files import OPEN_FILES, PieceFiles
from swarm.storage.target import TargetOptions, open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, copy, make_tree, names, noise

DATA = noise(5 * PIECE + 100, 1)
MANIFEST = file_manifest("f", DATA)
SOURCE = MemoryStore(MANIFEST, DATA)
TREE = {f"{number:02}": noise(2 * PIECE, number) for number in range(3 * OPEN_FILES)}
FOLDER = folder_manifest("x", TREE)
FOLDER_SOURCE = MemoryStore(FOLDER, b"".join(TREE[name] for name in sorted(TREE)))
TICK = 0.02
"""The clock of time stamps may stand still for 10 ms."""


async def put_and_change(target_path: Path, offset: int, data: bytes) -> None:
    await trio.sleep(TICK)
    with target_path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("then", [0, 3])
async def test_a_changed_part_is_hashed_again_and_not_delivered(tmp_path: Path, then: int) -> None:
    """Whether or not more is written to the file after the change."""
    part = tmp_path / "f.swarm-part"
    async with open_target(MANIFEST, tmp_path) as target:
        await copy(SOURCE, target, range(6 - then))
        await put_and_change(part, PIECE + 9, b"changed")
        await copy(SOURCE, target)
        with pytest.raises(
            PiecesChanged, match=r"f\.swarm-part: another program changed it during the fetch"
        ) as error:
            await target.finish()
        assert error.value.pieces == (1,)
        assert list(target.stored.missing()) == [1]
    assert names(tmp_path) == {"f.swarm-part", "f.swarm-journal"}
    async with open_target(MANIFEST, tmp_path) as target:
        assert list(target.stored.missing()) == [1]
        await copy(SOURCE, target)
        await target.finish()
    assert (tmp_path / "f").read_bytes() == DATA


async def test_a_part_that_was_only_touched_is_hashed_again_and_delivered(tmp_path: Path) -> None:
    async with open_target(MANIFEST, tmp_path) as target:
        await copy(SOURCE, target)
        await put_and_change(tmp_path / "f.swarm-part", PIECE, DATA[PIECE : PIECE + 5])
        os.utime(tmp_path / "f.swarm-part", ns=(1, 1))
        await target.finish()
    assert (tmp_path / "f").read_bytes() == DATA


async def test_a_longer_part_is_cut_to_its_length(tmp_path: Path) -> None:
    async with open_target(MANIFEST, tmp_path) as target:
        await copy(SOURCE, target)
        await put_and_change(tmp_path / "f.swarm-part", len(DATA), b"more")
        await target.finish()
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize("cut", [0, 100, 3 * PIECE + 7, len(DATA) - 1])
async def test_a_shorter_part_is_fetched_again_from_where_it_ends(tmp_path: Path, cut: int) -> None:
    async with open_target(MANIFEST, tmp_path) as target:
        await copy(SOURCE, target)
        await trio.sleep(TICK)
        os.truncate(tmp_path / "f.swarm-part", cut)
        with pytest.raises(PiecesChanged) as error:
            await target.finish()
        assert error.value.pieces == tuple(range(cut // PIECE, 6))
        await copy(SOURCE, target, error.value.pieces)
        await target.finish()
    assert (tmp_path / "f").read_bytes() == DATA


async def test_pieces_that_are_written_again_are_delivered_and_only_the_changed_file_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    real = target_files._wrong_pieces

    def counted(manifest: Manifest, partial: PieceFiles, file: int) -> list[int]:
        hashed.append(file)
        return real(manifest, partial, file)

    monkeypatch.setattr(target_files, "_wrong_pieces", counted)
    times = FileTimes.of([10**18] * len(TREE))
    async with open_target(FOLDER, tmp_path, TargetOptions(times=times)) as target:
        await copy(FOLDER_SOURCE, target)
        for number in (7, 9):
            await put_and_change(tmp_path / "x.swarm-part" / f"{number:02}", PIECE + 5, b"changed")
        await put_and_change(tmp_path / "x.swarm-part" / "11", 5, TREE["11"][5:9])
        with pytest.raises(PiecesChanged, match=r"07 and 1 more: another program changed it") as error:
            await target.finish()
        assert error.value.pieces == (15, 19)
        assert hashed == [7, 9, 11]
        await copy(FOLDER_SOURCE, target, error.value.pieces)
        await target.finish()
        assert hashed == [7, 9, 11, 7, 9]
    assert {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()} == TREE
    assert {path.stat().st_mtime_ns for path in (tmp_path / "x").iterdir()} == {10**18}


async def test_a_change_in_one_of_many_files_is_found_whichever_are_open(tmp_path: Path) -> None:
    async with open_target(FOLDER, tmp_path) as target:
        await copy(FOLDER_SOURCE, target)
        await put_and_change(tmp_path / "x.swarm-part" / "07", 5, b"changed")
        with pytest.raises(DiskError, match="07: another program changed it"):
            await target.finish()


async def test_own_writes_are_no_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interleaved, resumed, and with files that are opened again and again: nothing is hashed again."""
    monkeypatch.setattr("swarm.storage.target_files.FileHashing", None)
    async with open_target(FOLDER, tmp_path) as target:
        await copy(FOLDER_SOURCE, target, range(0, 48, 2))
        await target.sync()
    async with open_target(FOLDER, tmp_path) as target:
        async with trio.open_nursery() as nursery:
            for piece in target.stored.missing():
                nursery.start_soon(target.put, piece, await FOLDER_SOURCE.get(piece))
        await target.finish()
    assert {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()} == TREE


async def test_a_part_that_is_gone_is_no_path_to_look_at(tmp_path: Path) -> None:
    async with open_target(FOLDER, tmp_path) as target:
        await copy(FOLDER_SOURCE, target)
        await target.sync()
        (tmp_path / "x.swarm-part" / "03").unlink()
        with pytest.raises(DiskError, match=r"x\.swarm-part: a file of the fetch was removed from here"):
            await target.finish()
    async with open_target(FOLDER, tmp_path) as target:
        assert list(target.stored.missing()) == [6, 7]
        await copy(FOLDER_SOURCE, target)
        await target.finish()


async def test_the_journal_of_another_fetch_is_not_removed(tmp_path: Path) -> None:
    journal = tmp_path / "f.swarm-journal"
    async with open_target(MANIFEST, tmp_path) as target:
        await copy(SOURCE, target)
        await target.sync()
        journal.unlink()
        journal.write_bytes(b"somebody else's")
        await target.finish()
    assert names(tmp_path) == {"f", "f.swarm-journal"}
    assert journal.read_bytes() == b"somebody else's"


async def test_a_target_that_is_moved_is_told_where_it_is(tmp_path: Path) -> None:
    for manifest, source in ((MANIFEST, SOURCE), (FOLDER, FOLDER_SOURCE)):
        out, moved = make_tree(tmp_path / "out", {}), tmp_path / "moved"
        async with open_target(manifest, out) as target:
            await copy(source, target)
            out.rename(moved)
            assert await target.finish() == moved / manifest.name
            assert bytes(await target.get(1)) == bytes(await source.get(1))
        assert names(moved) == {manifest.name}
        shutil.rmtree(moved)
