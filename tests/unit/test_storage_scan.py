"""Scanning what is shared."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
import trio
import xxhash
from blake3 import blake3

from swarm.content.manifest import MAX_PIECES, choose_piece_length
from swarm.errors import DiskError, UsageError
from swarm.storage.scan import scan
from tests.support.storage import PIECE, descriptors, make_tree, noise


async def test_a_file_is_described_by_its_hashes(tmp_path: Path) -> None:
    data = noise(3 * PIECE + 1)
    path = make_tree(tmp_path, {"with space.bin": data}) / "with space.bin"
    scanned = await scan(path, piece_length=PIECE)
    manifest = scanned.manifest
    assert (manifest.name, manifest.folder, manifest.piece_length) == ("with space.bin", False, PIECE)
    entry = manifest.files[0]
    assert entry.path == ("with space.bin",)
    assert entry.blake3 == blake3(data).digest()
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    assert entry.pieces == b"".join(blake3(piece).digest() for piece in pieces)
    assert scanned.checks.pieces == b"".join(xxhash.xxh3_128_digest(piece) for piece in pieces)
    about = path.stat()
    seen = scanned.checks.files[0]
    assert (seen.size, seen.mtime_ns, seen.inode, seen.device) == (
        about.st_size,
        about.st_mtime_ns,
        about.st_ino,
        about.st_dev,
    )


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 40 * PIECE, 3 * 1024 * 1024 + 5])
async def test_sizes_round_piece_and_read_boundaries(tmp_path: Path, size: int) -> None:
    data = noise(size)
    path = make_tree(tmp_path, {"f": data}) / "f"
    for piece_length in (PIECE, 1024 * 1024, 2 * 1024 * 1024):
        manifest = (await scan(path, piece_length=piece_length)).manifest
        assert manifest.total_length == size
        assert manifest.files[0].blake3 == blake3(data).digest()
        for piece in range(manifest.piece_count):
            chunk = data[piece * piece_length : (piece + 1) * piece_length]
            assert manifest.piece_hash(piece) == blake3(chunk).digest()


async def test_a_folder_is_listed_in_order_with_executable_bits(tmp_path: Path) -> None:
    files = {"b/ü 2.txt": b"2", "b.txt": b"3", "a": b"", "b/c/d": noise(PIECE * 2), "日本": b"5", "Z": b"x"}
    root = make_tree(tmp_path / "things", files, executable=["a", "b/c/d"])
    manifest = (await scan(root, piece_length=PIECE)).manifest
    assert manifest.folder
    assert manifest.name == "things"
    paths = ["/".join(entry.path) for entry in manifest.files]
    assert (
        paths
        == ["Z", "a", "b/c/d", "b/ü 2.txt", "b.txt", "日本"]
        == sorted(files, key=lambda name: tuple(name.split("/")))
    )
    assert [entry.executable for entry in manifest.files] == [name in {"a", "b/c/d"} for name in paths]


async def test_the_same_content_has_the_same_id_whoever_shares_it(tmp_path: Path) -> None:
    files = {f"d{number % 3}/f{number}": noise(number) for number in range(20)}
    one = make_tree(tmp_path / "one" / "x", files)
    two = make_tree(tmp_path / "two" / "x", dict(reversed(files.items())))
    os.utime(two / "d1" / "f1", (1, 1))
    (two / "d1" / "f1").chmod(0o600)
    assert (await scan(one)).manifest.encode() == (await scan(two)).manifest.encode()
    assert (await scan(one, name="y")).manifest.id != (await scan(two)).manifest.id


async def test_piece_length_follows_the_size(tmp_path: Path) -> None:
    path = make_tree(tmp_path, {"f": noise(10)}) / "f"
    assert (await scan(path)).manifest.piece_length == choose_piece_length(10)


async def test_links_elsewhere_pipes_and_sockets_are_left_out_with_a_line(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {"file": b"1", "sub/file": b"2"})
    (root / "link").symlink_to("/etc/passwd")
    (root / "folder link").symlink_to(tmp_path)
    (root / "nothing").mkdir()
    os.mkfifo(root / "pipe\x1b[31m")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "s"))
        warnings: list[str] = []
        manifest = (await scan(root, warn=warnings.append)).manifest
    assert [entry.path for entry in manifest.files] == [("file",), ("sub", "file")]
    assert not manifest.links
    assert list(manifest.empty_folders) == [("nothing",)]
    assert sorted(warnings) == [
        f"folder link: left out, a symbolic link: its target '{tmp_path}' is absolute",
        "link: left out, a symbolic link: its target '/etc/passwd' is absolute",
        "pipe\\x1b[31m: left out, a named pipe",
        "s: left out, a socket",
    ]


async def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    make_tree(tmp_path / "real", {"f": b"1"})
    (tmp_path / "alias").symlink_to("real")
    manifest = (await scan(tmp_path / "alias")).manifest
    assert (manifest.name, len(manifest.files)) == ("alias", 1)


async def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_tree(tmp_path / "here", {"f": b"1"}))
    assert (await scan(Path())).manifest.name == "here"


@pytest.mark.parametrize("name", [b"a:b", b"dot.", b"con", b"\xff\xfe", b"new\nline"])
async def test_a_name_that_no_manifest_may_hold_is_named(tmp_path: Path, name: bytes) -> None:
    root = make_tree(tmp_path / "x", {"sub/fine": b"1"})
    fd = os.open(os.path.join(os.fsencode(root / "sub"), name), os.O_CREAT | os.O_WRONLY)
    os.close(fd)
    with pytest.raises(UsageError, match="sub") as caught:
        await scan(root)
    assert "rename it" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_two_names_that_clash_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clashes with .* in this folder"):
        await scan(make_tree(tmp_path / "x", {"Name": b"1", "name": b"2"}))


async def test_what_no_manifest_can_hold_is_refused_before_it_is_hashed(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {"Name": b"1", "name": b"2"})
    sparse(root / "big", 1024**3)
    hashed: list[int] = []
    with pytest.raises(UsageError, match=r"clashes with .* in this folder"):
        await scan(root, progress=lambda done, _total: hashed.append(done))
    with pytest.raises(UsageError, match="larger piece"):
        await scan(sparse(tmp_path / "huge", (MAX_PIECES + 1) * PIECE), piece_length=PIECE)
    assert not hashed


async def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = make_tree(tmp_path, {"f": b"1"}) / "f"
    with pytest.raises(UsageError, match="no such file"):
        await scan(tmp_path / "nothing")
    with pytest.raises(UsageError, match="neither"):
        await scan(tmp_path / "pipe")
    for length in (0, 1000, 2**40, -1):
        with pytest.raises(UsageError, match="piece length"):
            await scan(file, piece_length=length)
    with pytest.raises(UsageError, match="another name"):
        await scan(file, name="a/b")
    with pytest.raises(DiskError, match="too long"):
        await scan(tmp_path / ("x" * 300))


async def test_folders_too_deep_are_refused(tmp_path: Path) -> None:
    make_tree(tmp_path / "x", {"/".join(["d"] * 64 + ["f"]): b"1"})
    with pytest.raises(UsageError, match="levels deep"):
        await scan(tmp_path / "x")


async def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", {f"{number}": noise(1000) for number in range(50)})
    seen: list[tuple[int, int]] = []
    await scan(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (50_000, 50_000)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
async def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path: Path, change: str) -> None:
    path = sparse(tmp_path / "big", 512 * 1024 * 1024)
    changed: list[int] = []

    def meddle(done: int, _total: int) -> None:
        if not changed:
            changed.append(done)
            if change == "touch":
                os.utime(path, (1, 1))
            else:
                os.truncate(path, path.stat().st_size + 1 if change == "grow" else PIECE)

    with pytest.raises(DiskError, match="big: changed while it was hashed"):
        await scan(path, progress=meddle)
    assert 0 < changed[0] < 512 * 1024 * 1024


async def test_cancelling_stops_soon_and_leaks_nothing(tmp_path: Path) -> None:
    path = sparse(tmp_path / "big", 8 * 1024**3)
    before = descriptors()
    began = time.process_time()
    with trio.move_on_after(0.1) as scope:
        await scan(path)
    assert scope.cancelled_caught
    # In the processor's time: the machine may be busy with something else.
    assert time.process_time() - began < 1
    assert descriptors() == before
