"""Reads and writes small files (manifests, journals, keys) with aiofiles in trio's worker threads.

aiofiles is written for asyncio, but the only method of a loop that it uses is ``run_in_executor``. Files are
opened with ``await`` and closed explicitly, because aiofiles' ``async with`` needs a running asyncio loop.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiofiles
import aiofiles.os
import trio

from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.disk_errors import optional, refusals
from swarm.storage.file_layer import POSIX

T = TypeVar("T")

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TrioThreads:
    """The part of an asyncio event loop that aiofiles uses, on trio's worker threads."""

    async def run_in_executor(self, _executor: object, function: Callable[..., T], *arguments: object) -> T:
        """Run ``function`` in a worker thread; cancellation waits until it has returned."""
        return await trio.to_thread.run_sync(function, *arguments)


# Typed Any because aiofiles' stubs require a whole asyncio loop.
THREADS: Any = TrioThreads()


async def abandonable(function: Callable[..., T], *arguments: object) -> T:
    """Run ``function`` in a worker thread; on cancellation, return without waiting for it.

    For waiting on a disk: a failing one may block for ever, and the process must be able to end.
    """
    # The stubs that libp2p's dependencies install are older than this parameter.
    run: Any = trio.to_thread.run_sync
    result: T = await run(function, *arguments, abandon_on_cancel=True)
    return result


async def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most ``limit`` bytes.

    Raises `DiskError` when the file cannot be read or is longer.
    """
    with refusals(path):
        file = await aiofiles.open(path, "rb", loop=THREADS)
        try:
            data: bytes = await file.read(limit + 1)
        finally:
            await _close(file)
    if len(data) > limit:
        raise DiskError(f"{printable(str(path))}: too long, such a file has at most {limit} bytes")
    return data


async def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file atomically: a reader sees the old or the new content, also after a crash.

    ``mode`` holds the permission bits before the umask. Raises `DiskError`.
    """
    with refusals(path):
        async with _temporary(path, data, mode) as temporary:
            await aiofiles.os.replace(temporary, path, loop=THREADS)
    await sync_folder(path.parent)


async def check_writable(path: Path) -> None:
    """Raise `DiskError` if `write_atomic` could not write ``path``; leaves nothing behind."""
    with refusals(path):
        with suppress(FileNotFoundError):
            # Tells whether the name is too long, or leads through something that is no folder.
            await aiofiles.os.stat(path, follow_symlinks=False, loop=THREADS)
        async with _temporary(path, b"", 0o644):
            pass


async def write_once(path: Path, data: bytes, mode: int) -> None:
    """Create a file as `write_atomic` does; an existing file is left unchanged. Raises `DiskError`."""
    with refusals(path):
        async with _temporary(path, data, mode) as temporary:
            with suppress(FileExistsError):
                await trio.to_thread.run_sync(_move, temporary, path)
    await sync_folder(path.parent)


@asynccontextmanager
async def _temporary(path: Path, data: bytes, mode: int) -> AsyncIterator[Path]:
    """Hold a synced temporary file with ``data`` in the folder of ``path``; removed after the block."""
    # Short, so that it fits wherever the final name does.
    temporary = path.with_name(f".swarm-{secrets.token_hex(4)}.tmp")
    try:
        await _write_new(temporary, data, mode)
        yield temporary
    finally:
        with trio.CancelScope(shield=True), suppress(FileNotFoundError):
            await aiofiles.os.unlink(temporary, loop=THREADS)


async def _write_new(path: Path, data: bytes, mode: int) -> None:
    file = await aiofiles.open(
        path, "wb", buffering=0, loop=THREADS, opener=lambda name, _flags: os.open(name, _FRESH, mode)
    )
    try:
        view = memoryview(data)
        while view:
            view = view[await file.write(view) :]
        await trio.to_thread.run_sync(_sync, file.fileno())
    finally:
        await _close(file)


def _move(old: Path, new: Path) -> None:
    """Rename within a folder without replacing anything, on any file system; raises OSError."""
    fd = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        POSIX.move(fd, old.name, fd, new.name)
    finally:
        os.close(fd)


def _sync(fd: int) -> None:
    """Sync to the disk, where the file system can."""
    with optional():
        os.fsync(fd)


async def sync_folder(path: Path) -> None:
    """Sync the entries of a folder to the disk; raises `DiskError`."""

    def sync() -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sync(fd)
        finally:
            os.close(fd)

    with refusals(path):
        await trio.to_thread.run_sync(sync)


async def make_folder(path: Path, mode: int = 0o777) -> None:
    """Create a folder and its parents unless they exist; raises `DiskError`."""
    with refusals(path):
        await aiofiles.os.makedirs(path, mode, exist_ok=True, loop=THREADS)


async def _close(file: Any) -> None:
    with trio.CancelScope(shield=True):
        await file.close()
