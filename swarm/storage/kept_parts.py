"""Parts of a manifest that is being received, kept in the home, so that a later run goes on with them.

Nothing is noted about which parts are there: each is checked against its hash when the file is opened again.
"""

from __future__ import annotations

import fcntl
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

FOLDER: Final = "manifests"
"""The folder within the home."""
SUFFIX: Final = ".part"
MAX_KEPT_FILES: Final = 8
MAX_KEPT_BYTES: Final = 512 * 1024 * 1024
MAX_KEPT_SECONDS: Final = 14 * 86400
"""Older files are removed, and of too many or too large ones the oldest."""

_MODE: Final = 0o600


class KeptParts:
    """A file of parts, locked while this is open; in memory where the file cannot be had.

    Methods block and belong in a worker thread. They raise OSError.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._path: Path | None = None
        self._file: BinaryIO = io.BytesIO()
        if folder is not None:
            # Home may be read-only, full, or not there at all, and another process may hold the file.
            with suppress(OSError):
                self._open(folder, name)

    @property
    def path(self) -> Path | None:
        """The file; None when the parts are in memory."""
        return self._path

    def write(self, start: int, data: bytes) -> None:
        """Store the bytes of a part."""
        self._file.seek(start)
        self._file.write(data)
        self._file.flush()

    def read(self, start: int, end: int) -> bytes:
        """Return bytes, fewer where nothing was written yet."""
        if isinstance(self._file, io.BytesIO) and not start:
            # All of it is not copied: other threads would have to wait for that.
            data = self._file.getvalue()
            return data if len(data) <= end else data[:end]
        self._file.seek(start)
        return self._file.read(end - start)

    def remove(self) -> None:
        """Remove the file: its parts are complete, or worthless."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
        self.close()

    def close(self) -> None:
        """Unlock the file and leave it for a later run."""
        self._file.close()

    def _open(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{name}{SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file = os.fdopen(fd, "r+b")
        except OSError:
            os.close(fd)
            raise
        self._path, self._file = path, file
        _prune(folder, path)


def _prune(folder: Path, keep: Path, now: Callable[[], float] = time.time) -> None:
    """Remove old files of parts, and the oldest while there are too many or too large ones."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            found.append((path.lstat().st_mtime, path, path.lstat().st_blocks * 512))
    total = count = 0
    for modified, path, size in sorted(found, reverse=True):
        total, count = total + size, count + 1
        too_much = total > MAX_KEPT_BYTES or count > MAX_KEPT_FILES or now() - modified > MAX_KEPT_SECONDS
        if too_much and path != keep:
            with suppress(OSError):
                _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    """Remove a file that no process holds."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(fd)
