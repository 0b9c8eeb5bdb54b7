"""The journal beside a partial file: the lock of its target, and the claims that survive a crash."""

from __future__ import annotations

import fcntl
import os
from typing import Any

import trio
from aiofiles import threadpool

from swarm.content.journal import HEADER_BYTES, Header, Replay, encode_header, replay
from swarm.content.paths import printable
from swarm.errors import DiskError, Locked
from swarm.storage.aio import THREADS, abandonable
from swarm.storage.disk_errors import refusals
from swarm.storage.folder import Folder, open_regular

JOURNAL_LIMIT = 64 * 1024 * 1024
"""Bytes that are replayed: a million pieces, each in a record of its own, take 41 MB."""


class JournalFile:
    """A journal held by its lock; whoever holds it owns the target and its partial file.

    Appending goes on at `length`, the end of what is known to be sound, so that a torn write is
    written over and never followed by records that a replay would not reach.
    """

    def __init__(self, folder: Folder, name: str, fd: int) -> None:
        self._folder = folder
        self._name = name
        self._fd = fd
        self._file: Any = threadpool.wrap(folder.layer.stream(fd), loop=THREADS)
        self.path = folder.path / name
        self.length = 0

    @classmethod
    def lock(cls, folder: Folder, name: str) -> JournalFile:
        """Open the journal, created if missing, and lock it without waiting.

        Raises `Locked` if another process holds it, `DiskError` if it cannot be opened.
        """
        layer = folder.layer
        with refusals(folder.path / name):
            while True:
                fd = open_regular(layer, folder.fd, name, os.O_RDWR | os.O_CREAT)
                try:
                    if _locked_in_place(folder, name, fd):
                        return cls(folder, name, fd)
                except BlockingIOError as error:
                    layer.close(fd)
                    raise Locked(
                        f"{printable(str(folder.path / name))}: another process is fetching this; "
                        "wait for it or choose another folder"
                    ) from error
                except BaseException:
                    layer.close(fd)
                    raise
                # Its owner finished and removed it between our opening and our locking.
                layer.close(fd)

    async def replay(self, header: Header) -> Replay:
        """Read what earlier runs claimed, and drop what a crash tore off the end.

        Without a sound header there are no claims. Raises `DiskError` if the journal is another
        content's, or is a file that no swarm wrote.
        """
        with refusals(self.path):
            await self._file.seek(0)
            data = await self._file.read(JOURNAL_LIMIT)
        said = await trio.to_thread.run_sync(replay, data, header)
        shown = printable(str(self.path))
        if said.header is None and not _may_be_torn(data, header):
            raise DiskError(f"{shown}: is not a journal of swarm; move it away or choose another folder")
        if said.header is not None and said.header != header:
            raise DiskError(
                f"{shown}: belongs to an unfinished fetch of other content under this name; "
                "finish that one, move its files away, or choose another folder"
            )
        self.length = said.valid_length
        return said

    async def start(self, header: Header) -> None:
        """Begin the journal anew, on the disk when this returns; raises `DiskError`."""
        self.length = 0
        with refusals(self.path):
            await trio.to_thread.run_sync(self._folder.layer.resize, self._fd, 0)
        await self.append(encode_header(header))

    async def append(self, records: bytes) -> None:
        """Add records, on the disk when this returns; raises `DiskError`, and then they do not count."""
        with refusals(self.path):
            await self._file.seek(self.length)
            view = memoryview(records)
            while view:
                view = view[await self._file.write(view) :]
            await abandonable(self._folder.layer.sync_data, self._fd)
        self.length += len(records)

    def cut(self) -> None:
        """Remove what follows the sound part; raises `DiskError`."""
        with refusals(self.path):
            self._folder.layer.resize(self._fd, self.length)

    def remove(self) -> None:
        """Remove the journal from its folder; the lock stays held. Raises `DiskError`."""
        with refusals(self.path):
            self._folder.layer.remove(self._folder.fd, self._name)

    def empty(self) -> bool:
        """Whether nothing was ever written to it; raises `DiskError`."""
        with refusals(self.path):
            return os.fstat(self._fd).st_size == 0

    def close(self) -> None:
        """Give up the lock; harmless when done twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._folder.layer.close(fd)


def _locked_in_place(folder: Folder, name: str, fd: int) -> bool:
    """Lock; False if what was locked is no longer what the name leads to. BlockingIOError if held."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    held = os.fstat(fd)
    try:
        about = folder.layer.stat(folder.fd, name)
    except FileNotFoundError:
        return False
    return (about.st_dev, about.st_ino) == (held.st_dev, held.st_ino)


def _may_be_torn(data: bytes, header: Header) -> bool:
    """Whether a file without a sound header can be what a crash left of a journal's beginning.

    The header is synced before anything follows it, so a torn one is alone in its file, and a
    sector that was being written may hold anything.
    """
    begin = encode_header(header)
    mark = begin[: begin.index(0) + 1]
    return data.startswith(mark) or len(data) <= HEADER_BYTES
