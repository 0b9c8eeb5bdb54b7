"""The journal file of a target: it holds the target's lock and the claims that survive a crash."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import Any

import trio
from aiofiles import threadpool

from swarm.content.journal import HEADER_BYTES, Header, Replay, encode_header, replay
from swarm.content.paths import printable
from swarm.errors import DiskError, Locked
from swarm.storage.aio import THREADS
from swarm.storage.disk_errors import optional, refusals
from swarm.storage.file_layer import write_at
from swarm.storage.folder import Folder, open_regular

JOURNAL_LIMIT = 64 * 1024 * 1024
"""The most bytes replayed: a million pieces, each in its own record, take 41 MB."""


class JournalFile:
    """A locked journal; whoever holds the lock owns the target and its partial file.

    Records are appended at `length`, the end of the valid part. So a torn write is overwritten and never
    followed by records that a replay could not reach.
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

        Raises `Locked` if another process holds the lock, `DiskError` if it cannot be opened.
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
                # Its owner finished and removed it after this opened it; try again.
                layer.close(fd)

    async def replay(self, header: Header) -> Replay:
        """Read the claims of earlier runs, ignoring a torn record at the end.

        Without a valid header there are no claims. Raises `DiskError` if the journal belongs to other
        content or is not a journal.
        """
        with refusals(self.path):
            await self._file.seek(0)
            data = await self._file.read(JOURNAL_LIMIT)
        replayed = await trio.to_thread.run_sync(replay, data, header)
        shown = printable(str(self.path))
        if replayed.header is None and not _may_be_torn(data, header):
            raise DiskError(f"{shown}: this is not a swarm journal; move it away or choose another folder")
        if replayed.header is not None and replayed.header != header:
            raise DiskError(
                f"{shown}: this belongs to an unfinished fetch of other content with this name; "
                "finish that fetch, move its files away, or choose another folder"
            )
        self.length = replayed.valid_length
        return replayed

    async def is_of_other(self, header: Header) -> bool:
        """Whether this is the journal of other content; raises `DiskError`."""
        with refusals(self.path):
            await self._file.seek(0)
            data = await self._file.read(HEADER_BYTES)
        found = replay(data).header
        return found is not None and found != header

    def clear(self) -> None:
        """Empty the journal; raises `DiskError`."""
        with refusals(self.path):
            self._folder.layer.resize(self._fd, 0)
        self.sync()
        self.length = 0

    async def start(self, header: Header) -> None:
        """Empty the journal and write its header, which `sync` is still to sync; raises `DiskError`."""
        self.length = 0
        if not self.empty():
            with refusals(self.path):
                await trio.to_thread.run_sync(self._folder.layer.resize, self._fd, 0)
        self.write(encode_header(header))
        self.length = HEADER_BYTES

    def write(self, records: bytes) -> None:
        """Write records behind the valid part, in any thread; raises `DiskError`.

        Add their size to `length` once they are synced. They are few bytes for the page cache.
        """
        with refusals(self.path):
            write_at(self._folder.layer, self._fd, memoryview(records), self.length)

    def sync(self) -> None:
        """Sync what is written, in any thread; raises `DiskError`."""
        with refusals(self.path), optional():
            self._folder.layer.sync_data(self._fd)

    def cut(self) -> None:
        """Truncate the journal to its valid part; raises `DiskError`."""
        with refusals(self.path):
            self._folder.layer.resize(self._fd, self.length)

    def remove(self) -> None:
        """Remove the journal from its folder but keep the lock; raises `DiskError`.

        Does nothing if another program has removed it; another journal in its place is not touched.
        """
        with refusals(self.path), suppress(FileNotFoundError):
            if _is_in_place(self._folder, self._name, self._fd):
                self._folder.layer.remove(self._folder.fd, self._name)

    def empty(self) -> bool:
        """Whether nothing was written to the journal yet; raises `DiskError`."""
        with refusals(self.path):
            return os.fstat(self._fd).st_size == 0

    def close(self) -> None:
        """Release the lock; does nothing the second time."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._folder.layer.close(fd)


def _locked_in_place(folder: Folder, name: str, fd: int) -> bool:
    """Lock ``fd``; return False if ``name`` is no longer this file. BlockingIOError if it is locked."""
    # Some network and FUSE file systems have no locks; then two fetches at once are up to the user.
    with optional(errno.ENOLCK):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return _is_in_place(folder, name, fd)


def _is_in_place(folder: Folder, name: str, fd: int) -> bool:
    """Whether ``name`` leads to the open file ``fd``."""
    held = os.fstat(fd)
    try:
        about = folder.layer.stat(folder.fd, name)
    except FileNotFoundError:
        return False
    return (about.st_dev, about.st_ino) == (held.st_dev, held.st_ino)


def _may_be_torn(data: bytes, header: Header) -> bool:
    """Whether a file without a valid header can be a journal whose header was torn by a crash.

    The header is synced before anything is appended, so a torn one is alone in its file. A sector that
    was being written may contain anything.
    """
    begin = encode_header(header)
    mark = begin[: begin.index(0) + 1]
    return data.startswith(mark) or len(data) <= HEADER_BYTES
