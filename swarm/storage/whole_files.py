"""Small files of the user's home: written whole or not at all, and changed by one process at a time.

Everything here blocks, and raises OSError.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from swarm.storage.disk_errors import optional

PRIVATE_MODE: Final = 0o600
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def replaced_whole(path: Path) -> Iterator[int]:
    """Give a descriptor to write to; what was written is in the place of ``path`` after the block.

    If the block fails, ``path`` is as before.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    fd = os.open(temporary, _NEW, PRIVATE_MODE)
    try:
        try:
            yield fd
        finally:
            os.close(fd)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, in as many steps as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and have it on the disk."""
    with replaced_whole(path) as fd:
        write_all(fd, data)
        with optional():
            os.fsync(fd)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with optional():
            os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def one_process(path: Path) -> Iterator[None]:
    """Hold the lock of the file ``path``, which is created; waits for whoever holds it.

    A file system without locks does without.
    """
    fd = os.open(path, _LOCK, PRIVATE_MODE)
    try:
        with optional():
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
