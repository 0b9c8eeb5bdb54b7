"""Verifying a file or folder against its manifest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.content.manifest import FileEntry, Manifest
from swarm.errors import UsageError
from swarm.storage.scan import scan
from swarm.storage.verification import BadPiece, VerifyReport, WrongSize, verify
from tests.support.storage import PIECE, flip, make_tree, noise


async def folder(tmp_path: Path) -> tuple[Manifest, Path]:
    root = make_tree(
        tmp_path / "x",
        {"a": noise(4 * PIECE + 9, 1), "b/c": noise(2 * PIECE, 2), "empty": b"", "run": b"#!"},
        ["run"],
    )
    return (await scan(root, piece_length=PIECE)).manifest, root


async def test_what_matches_is_identical(tmp_path: Path) -> None:
    manifest, root = await folder(tmp_path)
    seen: list[tuple[int, int]] = []
    report = await verify(manifest, root, lambda *progress: seen.append(progress))
    assert report == VerifyReport()
    assert report.identical
    assert seen[-1] == (manifest.total_length, manifest.total_length)


async def test_every_difference_is_named(tmp_path: Path) -> None:
    manifest, root = await folder(tmp_path)
    flip(root / "a", PIECE + 1)
    flip(root / "a", 4 * PIECE + 8)
    os.truncate(root / "b" / "c", PIECE + 5)
    (root / "empty").unlink()
    (root / "run").chmod(0o644)
    make_tree(root, {"b/extra": b"1"})
    report = await verify(manifest, root)
    assert report == VerifyReport(
        bad_pieces=[
            BadPiece(1, "a", "the bytes differ"),
            BadPiece(4, "a", "the bytes differ"),
            BadPiece(6, "b/c", "the file is too short"),
        ],
        missing=["empty"],
        wrong_sizes=[WrongSize("b/c", 2 * PIECE, PIECE + 5)],
        extra=["b/extra"],
        executable=["run"],
    )
    assert not report.matches


async def test_extra_files_and_executable_bits_do_not_spoil_the_content(tmp_path: Path) -> None:
    manifest, root = await folder(tmp_path)
    make_tree(root, {"more": b"1"})
    (root / "a").chmod(0o755)
    report = await verify(manifest, root)
    assert (report.extra, report.executable) == (["more"], ["a"])
    assert report.matches
    assert not report.identical


async def test_a_longer_file_has_a_wrong_size_only(tmp_path: Path) -> None:
    manifest, root = await folder(tmp_path)
    with (root / "a").open("ab") as file:
        file.write(b"tail")
    report = await verify(manifest, root)
    assert report == VerifyReport(wrong_sizes=[WrongSize("a", 4 * PIECE + 9, 4 * PIECE + 13)])
    assert not report.matches


async def test_a_link_in_place_of_a_file_is_missing_content(tmp_path: Path) -> None:
    manifest, root = await folder(tmp_path)
    (root / "a").rename(tmp_path / "a")
    (root / "a").symlink_to(tmp_path / "a")
    assert (await verify(manifest, root)).missing == ["a"]


async def test_a_manifest_that_contradicts_itself_is_caught(tmp_path: Path) -> None:
    manifest, root = await folder(tmp_path)
    lying = [entry._replace(blake3=bytes(32)) if entry.path == ("a",) else entry for entry in manifest.files]
    report = await verify(Manifest("x", True, PIECE, lying), root)
    assert report == VerifyReport(bad_files=["a"])
    assert not report.matches


async def test_a_single_file_may_have_any_name(tmp_path: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(PIECE * 3)}) / "f"
    manifest = (await scan(path, piece_length=PIECE)).manifest
    other = path.rename(tmp_path / "renamed")
    assert (await verify(manifest, other)).identical
    flip(other, 0)
    assert (await verify(manifest, other)).bad_pieces == [BadPiece(0, "f", "the bytes differ")]


async def test_a_wrong_kind_of_path_is_refused(tmp_path: Path) -> None:
    manifest, root = await folder(tmp_path)
    with pytest.raises(UsageError, match="is a file, but the manifest describes a folder"):
        await verify(manifest, root / "a")
    with pytest.raises(UsageError, match="no such file"):
        await verify(manifest, tmp_path / "gone")
    single = Manifest("f", False, PIECE, [FileEntry(("f",), 0, False, manifest.files[2].blake3, b"")])
    with pytest.raises(UsageError, match="is a folder, but the manifest describes a file"):
        await verify(single, root)


async def test_what_is_not_selected_cannot_fail_a_verification(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {"a": b"1" * 70_000, "b/c": b"2", "d": b"3"})
    scanned = await scan(root)
    (root / "d").unlink()
    (root / "b" / "c").unlink()
    os.mkfifo(root / "b" / "c")
    (root / "extra").symlink_to("nowhere")
    seen: list[tuple[int, int]] = []
    report = await verify(scanned.manifest, root, lambda *done: seen.append(done), only=["x/a"])
    assert report.identical
    assert seen[-1] == (70_000, 70_000)
    report = await verify(scanned.manifest, root, only=["!a"])
    assert report.missing == ["b/c", "d"]
    with pytest.raises(UsageError, match="no file of 'x' matches --only 'nothing'"):
        await verify(scanned.manifest, root, only=["nothing"])
