"""Disks that fill, turn read-only or limit the size of a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from swarm.errors import DiskError
from swarm.storage.memory_store import MemoryStore
from swarm.storage.scan import scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import open_target
from tests.support.contents import file_manifest
from tests.support.requirements import require
from tests.support.storage import PIECE, copy, names, noise

DATA = noise(40 * PIECE)
MANIFEST = file_manifest("f", DATA)


class SmallDisk:
    """A file system in memory of 1 MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def fill(self, left: int) -> Path:
        """Take all space but ``left`` bytes."""
        ballast = self.path / "ballast"
        about = os.statvfs(self.path)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, about.f_bavail * about.f_frsize - left)
        return ballast


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    require(shutil.which("mount"), "the mount command")
    mounted = subprocess.run(command, check=False, capture_output=True)
    require(mounted.returncode == 0, f"mounting a file system, as root: {mounted.stderr.decode().strip()}")
    yield SmallDisk(place)
    subprocess.run(["umount", place], check=True)


async def test_a_disk_that_fills_keeps_what_is_there_and_a_rerun_completes(small_disk: SmallDisk) -> None:
    source = MemoryStore(MANIFEST, DATA)
    out = small_disk.path / "out"
    with pytest.raises(DiskError, match="the disk is full; free some space and run the same command again"):
        async with open_target(MANIFEST, out) as target:
            await copy(source, target, [0, 7])
            ballast = small_disk.fill(left=5 * PIECE)
            await copy(source, target)
    assert names(out) == {"f.swarm-part", "f.swarm-journal"}
    with pytest.raises(DiskError, match=r"f needs .*iB, .*iB more than is free in .*: free some"):
        async with open_target(MANIFEST, out):
            pass
    ballast.unlink()
    async with open_target(MANIFEST, out) as target:
        assert {0, 7} <= set(target.stored)
        assert 4 <= target.resumed_pieces <= 7
        await copy(source, target)
        await target.finish()
    assert (out / "f").read_bytes() == DATA
    assert names(out) == {"f"}


async def test_what_is_fetched_already_needs_no_space_again(small_disk: SmallDisk) -> None:
    source = MemoryStore(MANIFEST, DATA)
    out = small_disk.path / "out"
    async with open_target(MANIFEST, out) as target:
        await copy(source, target, range(30))
    small_disk.fill(left=13 * PIECE)
    async with open_target(MANIFEST, out) as target:
        assert target.resumed_pieces == 30
        await copy(source, target)
        await target.finish()


async def test_a_disk_that_turns_read_only_is_one_clear_line(small_disk: SmallDisk) -> None:
    source = MemoryStore(MANIFEST, DATA)
    out = small_disk.path / "out"
    async with open_target(MANIFEST, out) as target:
        await copy(source, target, [3])
    small_disk.remount("ro")
    with pytest.raises(DiskError, match=r"f\.swarm-journal: the file system is read-only"):
        async with open_target(MANIFEST, out):
            pass
    with pytest.raises(DiskError, match="read-only"):
        async with open_target(MANIFEST, out / "new"):
            pass
    small_disk.remount("rw")
    async with open_target(MANIFEST, out) as target:
        assert list(target.stored) == [3]
        await copy(source, target)
        await target.finish()
    small_disk.remount("ro")
    async with open_target(MANIFEST, out) as target:
        assert target.complete
        assert await target.finish() == out / "f"
        assert bytes(await target.get(39)) == DATA[39 * PIECE :]
    scanned = await scan(out / "f", piece_length=PIECE)
    with SeedStore(scanned.manifest, out / "f", scanned.checks) as store:
        assert bytes(await store.get(1)) == DATA[PIECE : 2 * PIECE]


LIMITED = """
import resource, sys, trio
from pathlib import Path
from swarm.errors import DiskError
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import open_target
from tests.faults.test_storage_full import DATA, MANIFEST
from tests.support.storage import copy
async def main():
    resource.setrlimit(getattr(resource, sys.argv[2]), (int(sys.argv[3]), int(sys.argv[3])))
    try:
        async with open_target(MANIFEST, Path(sys.argv[1])) as target:
            await copy(MemoryStore(MANIFEST, DATA), target)
            await target.finish()
    except DiskError as error:
        print(error)
        sys.exit(error.exit_code)
trio.run(main)
"""


async def limited(out: Path, limit: str, value: int) -> tuple[int, str]:
    command = [sys.executable, "-c", LIMITED, str(out), limit, str(value)]
    done = await trio.run_process(command, check=False, capture_stdout=True)
    return done.returncode, done.stdout.decode()


async def test_a_limited_file_size_is_one_clear_line(tmp_path: Path) -> None:
    code, line = await limited(tmp_path / "out", "RLIMIT_FSIZE", 10 * PIECE)
    assert code == 7
    assert line.endswith(
        "f.swarm-part: larger than this file system or 'ulimit -f' allows; choose another folder\n"
    )
    assert line.count("\n") == 1
    code, line = await limited(tmp_path / "out", "RLIMIT_FSIZE", 100 * PIECE)
    assert (code, line) == (0, "")
    assert (tmp_path / "out" / "f").read_bytes() == DATA
