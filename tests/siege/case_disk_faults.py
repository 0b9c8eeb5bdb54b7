"""Disks that fill, fail or may not be written, under real `swarm fetch` processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.siege.outcome import Outcome
from tests.support.processes import Processes
from tests.support.running import Running
from tests.support.sharing import MIB, Seeder, fetch, random_file, share

NAME = "9 disk faults"
FIGURE = "16 MiB tmpfs, EIO, ulimit -f, read-only: exit 7 with one clear line each, a rerun completes"

DISK = 7
FAILING = """
import errno, os, sys
from swarm.storage.file_layer import PosixLayer
name, after = sys.argv[1], int(sys.argv[2])
real, calls = getattr(PosixLayer, name), 0
def failing(self, *arguments, **named):
    global calls
    calls += 1
    if calls > after:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return real(self, *arguments, **named)
setattr(PosixLayer, name, failing)
sys.argv[1:3] = []
from cli import main
main()
"""


async def run(quick: bool) -> Outcome:
    """Every fault that this machine lets be made; ``quick``: the same, smaller."""
    return await trio.to_thread.run_sync(_run, 2 * MIB if quick else 12 * MIB)


def _run(size: int) -> Outcome:
    done: list[str] = []
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        data = random_file(Path(folder) / "data.bin", size)
        seeder = share(processes, data, "--piece-size", "64KiB", name="seeder")
        case = Case(processes, seeder, data, Path(folder))
        for fault in (case.write_fails, case.sync_fails, case.read_only, case.limited, case.full):
            done.append(fault())
    return Outcome(True, "; ".join(done))


class Case:
    """One seeder, and a fetch for each fault; whatever is not as wanted raises AssertionError."""

    def __init__(self, processes: Processes, seeder: Seeder, data: Path, folder: Path) -> None:
        self._processes = processes
        self._seeder = seeder
        self._data = data
        self._folder = folder

    def write_fails(self) -> str:
        """EIO from a write in the middle."""
        return self._injected("write", 9, "EIO of a write")

    def sync_fails(self) -> str:
        """EIO from the sync of the data: its batch is not believed."""
        return self._injected("sync_data", 1, "EIO of a sync")

    def read_only(self) -> str:
        """A folder that may not be written; a user, not root, is stopped by its mode."""
        with _small_disk(self._folder / "ro", self._data.stat().st_size * 2) as place:
            if place is None:
                return "read-only: skipped, mounting needs root"
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            self._refused(self._fetch(place), "the file system is read-only")
            subprocess.run(["mount", "-o", "remount,rw", place], check=True)
            self._completes(place)
        return "read-only: exit 7, completed"

    def limited(self) -> str:
        """A file may not be as long as it has to be: `ulimit -f`."""
        out = self._folder / "limited"
        most = self._data.stat().st_size // 2

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            # Inherited; Python ignores SIGXFSZ, so a write beyond it is EFBIG.
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
            leecher = self._fetch(out)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self._refused(leecher, "larger than this file system or 'ulimit -f' allows")
        self._completes(out)
        return "ulimit -f: exit 7, completed"

    def full(self) -> str:
        """A real tmpfs of 16 MiB that fills while the fetch writes: somebody else takes the space."""
        size = self._data.stat().st_size
        with _small_disk(self._folder / "small", max(16 * MIB, size + 4 * MIB)) as place:
            if place is None:
                return "full: skipped, mounting needs root"
            leecher = self._fetch(place, "--download-limit", f"{size // 2}B/s")
            leecher.event("piece_stored")
            ballast = place / "ballast"
            about = os.statvfs(place)
            with ballast.open("wb") as file:
                left = about.f_bavail * about.f_frsize
                os.posix_fallocate(file.fileno(), 0, max(1, left - size // 4))
            self._refused(leecher, "the disk is full")
            kept = leecher.events("piece_stored")
            ballast.unlink()
            resumed = self._completes(place)
        return f"16 MiB tmpfs full: exit 7, completed, {resumed} of {len(kept)}+ pieces kept"

    def _injected(self, operation: str, after: int, what: str) -> str:
        out = self._folder / operation
        argv = [sys.executable, "-c", FAILING, operation, str(after), "fetch", self._seeder.manifest]
        argv += [self._seeder.address, "--output", out, "--listen", "/ip4/127.0.0.1/tcp/0", "--json=pieces"]
        self._refused(self._processes.command(argv), "the device reports an I/O error")
        self._completes(out)
        return f"{what}: exit 7, completed"

    def _fetch(self, out: Path, *options: str) -> Running:
        return fetch(self._processes, self._seeder.manifest, out, self._seeder.address, *options)

    @staticmethod
    def _refused(leecher: Running, line: str) -> None:
        leecher.expect_exit(DISK)
        errors = [each for each in leecher.errors().splitlines() if each.startswith("swarm: ")]
        if len(errors) != 1 or line not in errors[0]:
            raise AssertionError(f"not one clear line: {leecher.errors()!r}")

    def _completes(self, out: Path) -> int:
        leecher = self._fetch(out)
        leecher.expect_exit(0)
        if (out / "data.bin").read_bytes() != self._data.read_bytes():
            raise AssertionError("what a rerun completed differs")
        return sum(event["pieces"] for event in leecher.events("transfer_resumed"))


@contextmanager
def _small_disk(place: Path, size: int) -> Iterator[Path | None]:
    """A tmpfs of ``size`` bytes at ``place``, None where it cannot be mounted."""
    place.mkdir()
    mount: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
    if mount(command, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
