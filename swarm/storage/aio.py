"""Small files (manifests, journals, keys) through aiofiles, whose work is done in trio's threads.

aiofiles is written for asyncio, but all that it asks of a loop is ``run_in_executor``. A file is
opened with ``await`` and closed by hand: its own ``async with`` would look for a running
asyncio loop.
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
from swarm.storage.disk_errors import refusals

T = TypeVar("T")

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TrioThreads:
    """What aiofiles needs of an event loop, on trio's worker threads."""

    async def run_in_executor(self, _executor: object, function: Callable[..., T], *arguments: object) -> T:
        """Run ``function`` in a worker thread; a cancellation waits until the function is done."""
        return await trio.to_thread.run_sync(function, *arguments)


# aiofiles' stubs name asyncio's loop, of which it uses this one method.
THREADS: Any = TrioThreads()


async def abandonable(function: Callable[..., T], *arguments: object) -> T:
    """Run ``function`` in a worker thread that is left behind on cancellation.

    For waiting on a disk, which may take for ever when it is failing: a process must end before that.
    """
    # The stubs that libp2p's dependencies install are older than this parameter.
    run: Any = trio.to_thread.run_sync
    result: T = await run(function, *arguments, abandon_on_cancel=True)
    return result


async def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most ``limit`` bytes.

    Raises `DiskError` when it cannot be read or is longer.
    """
    with refusals(path):
        file = await aiofiles.open(path, "rb", loop=THREADS)
        try:
            data: bytes = await file.read(limit + 1)
        finally:
            await _close(file)
    if len(data) > limit:
        raise DiskError(f"{printable(str(path))}: longer than the {limit} bytes that such a file may have")
    return data


async def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old content or all of the new, and after a crash too.

    ``mode`` are the permission bits, less the umask. Raises `DiskError`.
    """
    with refusals(path):
        async with _temporary(path, data, mode) as temporary:
            await aiofiles.os.replace(temporary, path, loop=THREADS)
    await sync_folder(path.parent)


async def write_once(path: Path, data: bytes, mode: int) -> None:
    """Create a file as `write_atomic` does, unless it exists: then that one is left as it is.

    Raises `DiskError`.
    """
    with refusals(path):
        async with _temporary(path, data, mode) as temporary:
            with suppress(FileExistsError):
                await aiofiles.os.link(temporary, path, loop=THREADS)
    await sync_folder(path.parent)


@asynccontextmanager
async def _temporary(path: Path, data: bytes, mode: int) -> AsyncIterator[Path]:
    """A synced file with ``data`` beside ``path``, which is gone after the block."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
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
        await trio.to_thread.run_sync(os.fsync, file.fileno())
    finally:
        await _close(file)


async def sync_folder(path: Path) -> None:
    """Wait until the entries of a folder are on the disk; raises `DiskError`."""

    def sync() -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    with refusals(path):
        await trio.to_thread.run_sync(sync)


async def make_folder(path: Path, mode: int = 0o777) -> None:
    """Create a folder and those above it unless they exist; raises `DiskError`."""
    with refusals(path):
        await aiofiles.os.makedirs(path, mode, exist_ok=True, loop=THREADS)


async def _close(file: Any) -> None:
    with trio.CancelScope(shield=True):
        await file.close()
