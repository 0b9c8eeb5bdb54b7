"""Targets of which only some files are wanted: what is moved into place, what stays, what is reused."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from swarm.content.selection import select
from swarm.errors import DiskError, Incomplete, PieceWithdrawn
from swarm.storage import room
from swarm.storage.scan import scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import TargetOptions, open_target
from tests.support.storage import PIECE, copy, make_tree, names, noise, read_tree

FILES = {
    "a.bin": noise(3 * PIECE + 5, 1),
    "b/run.sh": b"#!/bin/sh\n",
    "b/deep/c.bin": noise(2 * PIECE, 2),
    "b/deep/empty": b"",
    "z.bin": noise(PIECE, 3),
}
EXECUTABLE = ["b/run.sh"]
TREE = {name: (data, name in EXECUTABLE) for name, data in FILES.items()}


@pytest.fixture
async def source(tmp_path: Path) -> SeedStore:
    root = make_tree(tmp_path / "shared" / "x", FILES, EXECUTABLE)
    scanned = await scan(root, piece_length=PIECE)
    return SeedStore(scanned.manifest, root, scanned.checks)


async def fetch(
    source: SeedStore, output: Path, *patterns: str, pieces: Sequence[int] | None = None
) -> tuple[int, Path | None]:
    """Fetch a selection, or only some ``pieces`` of it; return how many pieces were there and the path."""
    manifest = source.manifest
    async with open_target(manifest, output, TargetOptions(select(manifest, patterns))) as target:
        before = target.resumed_pieces
        missing = [piece for piece in target.wanted if piece not in target.stored]
        await copy(source, target, missing if pieces is None else pieces)
        return before, await target.finish() if target.complete else None


def of(*chosen: str) -> dict[str, tuple[bytes, bool]]:
    return {name: TREE[name] for name in chosen}


async def test_the_selected_files_arrive_and_nothing_else(tmp_path: Path, source: SeedStore) -> None:
    assert await fetch(source, tmp_path / "out", "b") == (0, tmp_path / "out" / "x")
    assert read_tree(tmp_path / "out" / "x") == of("b/run.sh", "b/deep/c.bin", "b/deep/empty")
    assert names(tmp_path / "out") == {"x"}


async def test_empty_files_alone_can_be_selected(tmp_path: Path, source: SeedStore) -> None:
    await fetch(source, tmp_path / "out", "empty")
    assert read_tree(tmp_path / "out" / "x") == of("b/deep/empty")
    assert names(tmp_path / "out") == {"x"}


async def test_a_later_selection_and_then_everything_reuse_what_is_there(
    tmp_path: Path, source: SeedStore
) -> None:
    out = tmp_path / "out"
    await fetch(source, out, "a.bin")
    before = (out / "x" / "a.bin").stat().st_ino
    assert (await fetch(source, out, "a.bin"))[0] == 4
    assert (await fetch(source, out, "z.bin"))[0] == 0
    assert read_tree(out / "x") == of("a.bin", "z.bin")
    assert (await fetch(source, out))[0] == 5
    assert read_tree(out / "x") == TREE
    assert names(out) == {"x"}
    assert (out / "x" / "a.bin").stat().st_ino == before


async def test_a_selection_of_an_interrupted_fetch_leaves_the_rest_to_be_resumed(
    tmp_path: Path, source: SeedStore
) -> None:
    out, layout = tmp_path / "out", source.manifest.layout
    of_file = {"/".join(entry.path): layout.pieces_of(i) for i, entry in enumerate(source.manifest.files)}
    await fetch(source, out, pieces=[of_file["a.bin"][0], of_file["b/deep/c.bin"][1]])
    assert names(out) == {"x.swarm-part", "x.swarm-journal"}
    assert await fetch(source, out, "a.bin") == (1, out / "x")
    assert read_tree(out / "x") == of("a.bin")
    assert names(out) == {"x", "x.swarm-part", "x.swarm-journal"}
    assert (await fetch(source, out))[0] == 5
    assert read_tree(out / "x") == TREE
    assert names(out) == {"x"}


async def test_what_is_left_of_others_is_served_before_and_after_the_selection_is_in_place(
    tmp_path: Path, source: SeedStore
) -> None:
    out, manifest = tmp_path / "out", source.manifest
    other = manifest.layout.pieces_of(len(manifest.files) - 1)[0]
    await fetch(source, out, pieces=[other])
    async with open_target(manifest, out, TargetOptions(select(manifest, ["a.bin"]))) as target:
        assert target.stored.count == 1
        assert (target.resumed_pieces, target.resumed_bytes) == (0, 0)
        await copy(source, target, list(target.wanted))
        assert target.complete
        assert not target.stored.full
        await target.finish()
        for piece in (other, *target.wanted):
            assert await target.get(piece) == await source.get(piece)
        unheld = next(iter(target.stored.missing()))
        with pytest.raises(PieceWithdrawn):
            await target.get(unheld)
        with pytest.raises(DiskError, match="never written to"):
            await target.put(unheld, await source.get(unheld))


async def test_a_file_that_nobody_selected_may_differ(tmp_path: Path, source: SeedStore) -> None:
    out = tmp_path / "out"
    make_tree(out / "x", {"a.bin": b"mine", "z.bin": noise(PIECE, 99)})
    await fetch(source, out, "b/run.sh")
    assert read_tree(out / "x") == {
        "a.bin": (b"mine", False),
        "b/run.sh": TREE["b/run.sh"],
        "z.bin": (noise(PIECE, 99), False),
    }
    for pattern in ("a.bin", "z.bin", "*"):
        with pytest.raises(DiskError, match="already exists with other content"):
            await fetch(source, out, pattern)


async def test_what_is_in_place_counts_only_as_far_as_it_is_selected(
    tmp_path: Path, source: SeedStore
) -> None:
    out, manifest = tmp_path / "out", source.manifest
    await fetch(source, out, "z.bin")
    async with open_target(manifest, out, TargetOptions(select(manifest, ["a.bin", "z.bin"]))) as target:
        assert not target.complete
        assert (target.resumed_pieces, target.resumed_bytes) == (1, PIECE)
        with pytest.raises(Incomplete, match="4 of 5 pieces are missing"):
            await target.finish()
    assert read_tree(out / "x") == of("z.bin")


async def test_only_the_selection_needs_room(
    tmp_path: Path, source: SeedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(room, "check_space", lambda _folder, needed, *, what: asked.append(needed))
    await fetch(source, tmp_path / "out", "z.bin", "run.sh")
    assert asked == [PIECE + len(FILES["b/run.sh"])]


def blocked_by_a_file(root: Path) -> None:
    make_tree(root, {"b": b"a file where a folder should be"})


def blocked_by_a_pipe(root: Path) -> None:
    make_tree(root / "b", {})
    os.mkfifo(root / "b" / "run.sh")


def blocked_by_a_link(root: Path) -> None:
    make_tree(root, {})
    (root / "b").symlink_to("/etc")


def blocked_by_a_folder(root: Path) -> None:
    make_tree(root / "z.bin", {"inner": b"1"})


@pytest.mark.parametrize(
    "block", [blocked_by_a_file, blocked_by_a_pipe, blocked_by_a_link, blocked_by_a_folder]
)
@pytest.mark.parametrize("name", ["x", "x.swarm-part"])
async def test_what_is_not_selected_is_never_in_the_way(
    tmp_path: Path, source: SeedStore, block: Callable[[Path], None], name: str
) -> None:
    out = tmp_path / "out"
    block(out / name)
    before = set(out.rglob("*"))
    with pytest.raises(DiskError):
        await fetch(source, out)
    await fetch(source, out, "a.bin")
    assert (out / "x" / "a.bin").read_bytes() == FILES["a.bin"]
    assert before <= set(out.rglob("*"))
