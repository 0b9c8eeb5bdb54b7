"""Symbolic links and empty folders: shared, fetched, resumed, selected, verified."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from swarm.content.manifest import Manifest
from swarm.content.selection import select
from swarm.errors import DiskError, UsageError
from swarm.storage.memory_store import MemoryStore
from swarm.storage.scan import ScanRules, scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import TargetOptions, open_target
from swarm.storage.verification import verify
from tests.support.storage import PIECE, copy, make_tree, noise

FILES = {"a/one": noise(PIECE + 1), "a/b/two": noise(10), "c": b"", "d/e/f/three": noise(7)}


def make_source(root: Path) -> Path:
    make_tree(root, FILES)
    (root / "empty" / "deeper").mkdir(parents=True)
    (root / "a" / "b" / "none").mkdir()
    for name, target in {
        "to c": "c",
        "a/b/up": "../../c",
        "a/b/folder": "..",
        "d/dangling": "nowhere/to be found",
        "d/loop": "loop",
        "d/here": "./e/f/",
        "all": ".",
    }.items():
        (root / name).symlink_to(target)
    return root


async def fetch(root: Path, manifest: Manifest, out: Path, options: TargetOptions | None = None) -> Path:
    scanned = await scan(root, piece_length=PIECE)
    with SeedStore(scanned.manifest, root, scanned.checks) as store:
        async with open_target(manifest, out, options) as target:
            await copy(store, target, list(target.wanted))
            return await target.finish()


def same(one: Path, other: Path) -> bool:
    return not subprocess.run(["diff", "-r", "--no-dereference", one, other], check=False).returncode


async def test_a_folder_with_links_and_empty_folders_arrives_equal(tmp_path: Path) -> None:
    root = make_source(tmp_path / "x")
    warnings: list[str] = []
    manifest = (await scan(root, piece_length=PIECE, warn=warnings.append)).manifest
    assert (manifest.version, warnings) == (2, [])
    assert same(root, await fetch(root, manifest, tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["x"]
    report = await verify(manifest, tmp_path / "out" / "x")
    assert report.identical
    assert Manifest.decode(manifest.encode()).id == manifest.id
    # Another fetch recognizes everything.
    async with open_target(manifest, tmp_path / "out") as target:
        assert target.complete
        await target.finish()
    assert same(root, tmp_path / "out" / "x")


async def test_what_is_missing_of_a_finished_folder_is_made_again(tmp_path: Path) -> None:
    root = make_source(tmp_path / "x")
    manifest = (await scan(root, piece_length=PIECE)).manifest
    place = await fetch(root, manifest, tmp_path / "out")
    (place / "a/b/up").unlink()
    (place / "empty/deeper").rmdir()
    (place / "c").unlink()
    assert (await verify(manifest, place)).missing == ["c", "a/b/up", "empty/deeper"]
    await fetch(root, manifest, tmp_path / "out")
    assert same(root, place)


async def test_a_link_that_leads_elsewhere_is_in_the_way_unless_it_may_be_replaced(tmp_path: Path) -> None:
    root = make_source(tmp_path / "x")
    manifest = (await scan(root, piece_length=PIECE)).manifest
    place = await fetch(root, manifest, tmp_path / "out")
    for wrong in ("link", "file"):
        (place / "a/b/up").unlink()
        if wrong == "link":
            (place / "a/b/up").symlink_to("/etc/passwd")
        else:
            (place / "a/b/up").write_text("mine")
        report = await verify(manifest, place)
        assert [link.link for link in report.wrong_links] == ["a/b/up"]
        assert not report.matches
        with pytest.raises(DiskError, match="up: already exists with other content"):
            await fetch(root, manifest, tmp_path / "out")
        await fetch(root, manifest, tmp_path / "out", TargetOptions(overwrite=True))
        assert same(root, place)


async def test_a_selection_takes_the_links_and_empty_folders_below_it(tmp_path: Path) -> None:
    root = make_source(tmp_path / "x")
    manifest = (await scan(root, piece_length=PIECE)).manifest
    place = await fetch(root, manifest, tmp_path / "out", TargetOptions(select(manifest, ["a", "loop"])))
    found = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
    assert found == ["a", "a/b", "a/b/folder", "a/b/none", "a/b/two", "a/b/up", "a/one", "d", "d/loop"]
    await fetch(root, manifest, tmp_path / "out")
    assert same(root, place)


async def test_links_and_folders_alone_arrive_without_any_piece(tmp_path: Path) -> None:
    root = tmp_path / "x"
    (root / "nothing").mkdir(parents=True)
    (root / "link").symlink_to("nothing")
    manifest = (await scan(root)).manifest
    assert manifest.piece_count == 0
    assert same(root, await fetch(root, manifest, tmp_path / "out"))


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "..", "a/../../x", "a/../b", "../x/c", "a//b", "a\nb", "x:y"]
)
async def test_a_link_that_may_lead_out_is_left_out_with_a_line(tmp_path: Path, target: str) -> None:
    root = make_tree(tmp_path / "x", {"c": b"1"})
    (root / "link").symlink_to(target)
    warnings: list[str] = []
    manifest = (await scan(root, warn=warnings.append)).manifest
    assert (manifest.version, len(manifest.links)) == (1, 0)
    (line,) = warnings
    assert line.startswith("link: left out, a symbolic link: ")
    assert line.isprintable()


async def test_all_that_cannot_be_shared_is_listed_or_left_out(tmp_path: Path) -> None:
    bad = {f"bad:{number:02}": b"1" for number in range(30)}
    root = make_tree(tmp_path / "x", {"fine": b"1", "Name": b"1", "name": b"2", **bad})
    os.close(os.open(os.fsencode(root) + b"/\xff", os.O_CREAT))
    lines: list[str] = []
    with pytest.raises(UsageError, match=r"32 files or folders cannot be shared.*--skip"):
        await scan(root, warn=lines.append)
    assert len(lines) == 21
    assert lines[-1] == "and 12 more"
    lines = []
    scanned = await scan(root, ScanRules(skip=True), warn=lines.append)
    assert [entry.path for entry in scanned.manifest.files] == [("Name",), ("fine",)]
    assert len(lines) == 21
    assert all(line.startswith("left out: ") for line in lines[:20])


async def test_what_is_ignored_is_not_shared(tmp_path: Path) -> None:
    names = ["a.o", "sub/b.o", "sub/keep.o", "sub/c", "build/x/y", "sub/build", "top", "sub/top", "bad:name"]
    root = make_tree(tmp_path / "x", dict.fromkeys(names, b"1"))
    (root / ".swarmignore").write_text("# what is made\n*.o\n!keep.o\nbuild/\n\n/top\nbad:*\n")
    manifest = (await scan(root, ScanRules(ignore=(".swarmignore",)))).manifest
    assert ["/".join(entry.path) for entry in manifest.files] == [
        "sub/build",
        "sub/c",
        "sub/keep.o",
        "sub/top",
    ]


def test_the_store_of_a_folder_of_links(tmp_path: Path) -> None:
    manifest = Manifest("x", True, PIECE, [], [], [("a",)])
    assert MemoryStore(manifest, b"").stored.full
