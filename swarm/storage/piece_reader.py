"""Reads stored pieces with a check of their content, and decides in which thread such work runs.

A call to a worker thread costs about 50 microseconds and competes with the event loop for a core: pieces of
1 MiB hashed and written inline reached 1.23 GB/s, through threads 0.97 GB/s. So a piece of up to
`INLINE_BYTES` is processed inline, unless that would wait for a disk. A read that is not in the page cache
uses a thread. After a slow write (the system throttles a process with too many dirty pages), writes use a
thread until one is fast again.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import TypeVar

import trio

from swarm.bits import PieceSet
from swarm.content.fingerprints import fingerprint
from swarm.content.layout import Layout, Span
from swarm.content.paths import printable
from swarm.errors import PieceWithdrawn
from swarm.storage.disk_errors import disk_error
from swarm.storage.file_layer import read_at
from swarm.storage.piece_files import PieceFiles
from swarm.storage.small_files import read_whole

T = TypeVar("T")

INLINE_BYTES = 2 * 1024 * 1024
"""A piece, or pieces that came together, up to this size are hashed and copied inline, in about 1 ms."""
SLOW_SECONDS = 0.01
"""A write that takes longer has waited for the disk, which the event loop must not do."""
TURN_BYTES = 1024 * 1024
READ_COST = 64 * 1024
"""Bytes read inline before other tasks run, and what a read counts for beyond its bytes."""
WORKER_THREADS = 4
"""Worker threads of one store, and so the most descriptors that they hold."""


class PieceExecutor:
    """Runs blocking work on single pieces of one store, inline or in a thread."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(WORKER_THREADS)
        self._slow = False
        self._turn = TURN_BYTES

    async def compute(self, size: int, function: Callable[[], T]) -> T:
        """Run ``function``, which uses no disk: inline, without a checkpoint, if small, else in a thread."""
        if size <= INLINE_BYTES:
            return function()
        return await trio.to_thread.run_sync(function, limiter=self._threads)

    def prompt(self, size: int) -> bool:
        """Whether a write of ``size`` bytes would be done inline."""
        return size <= INLINE_BYTES and not self._slow

    def write_now(self, function: Callable[[], T]) -> T:
        """Run ``function`` inline, and note whether it has waited for the disk."""
        started = time.perf_counter()
        try:
            return function()
        finally:
            self._slow = time.perf_counter() - started > SLOW_SECONDS

    async def run(self, function: Callable[[], T]) -> T:
        """Run ``function``, which takes its time, in a thread."""
        return await trio.to_thread.run_sync(function, limiter=self._threads)

    async def read(self, size: int, attempt: Callable[[bool], T]) -> T:
        """Run ``attempt(True)`` inline; if that would block, ``attempt(False)`` in a thread."""
        if size <= INLINE_BYTES:
            self._turn -= size + READ_COST
            if self._turn <= 0:
                await trio.lowlevel.checkpoint()
                self._turn = TURN_BYTES
            try:
                return attempt(True)
            except BlockingIOError:
                pass
        return await trio.to_thread.run_sync(attempt, False, limiter=self._threads)

    async def write(self, size: int, function: Callable[[], T]) -> T:
        """Run ``function`` inline if it is small and the last write was fast, else in a thread."""

        if self.prompt(size):
            await trio.lowlevel.checkpoint()
            return self.write_now(function)
        return await trio.to_thread.run_sync(self.write_now, function, limiter=self._threads)


OUR_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""This process lacks resources; the file may be fine."""


class PieceLoader:
    """Reads whole pieces, and compares the XXH3-128 of each with the ``expected`` one."""

    def __init__(self, expected: Callable[[int], bytes], executor: PieceExecutor) -> None:
        self._expected = expected
        self._executor = executor

    async def load(self, files: PieceFiles, fd: int, span: Span, piece: int) -> memoryview | None:
        """Return the piece, or None if the file is too short or the bytes are others; raises OSError."""
        return await self._executor.read(
            span.length, lambda cached: self._load(files, fd, span, piece, cached=cached)
        )

    def load_now(
        self, files: PieceFiles, fd: int, pieces: Iterable[tuple[int, Span]], room: memoryview
    ) -> list[memoryview]:
        """Read pieces of a file into ``room``, one behind the other, and return where they are.

        Stops before one that cannot be read without waiting, or that is not as expected.
        """
        read = files.folder.layer.read_into
        found: list[memoryview] = []
        for piece, (_, offset, length) in pieces:
            if length > INLINE_BYTES:
                break
            data, room = room[:length], room[length:]
            try:
                got = read(fd, data, offset, cached=True)
            except OSError:
                break
            if got != length or fingerprint(data) != self._expected(piece):
                break
            found.append(data)
        return found

    async def load_small(self, files: PieceFiles, layout: Layout, pieces: Sequence[int]) -> list[memoryview]:
        """Return pieces that are whole files, up to the first that is not, or that is not as expected."""
        wanted: list[tuple[int, int]] = []
        for piece in pieces:
            file, _, length = layout.span(piece)
            if length < layout.file_length(file):
                break
            wanted.append((file, length))

        def load(cached: bool) -> list[memoryview]:
            found = read_whole(files, wanted, cached=cached)
            good = 0
            while good < len(found) and fingerprint(found[good]) == self._expected(pieces[good]):
                good += 1
            return found[:good]

        return await self._executor.read(sum(length for _, length in wanted), load) if wanted else []

    def _load(self, files: PieceFiles, fd: int, span: Span, piece: int, *, cached: bool) -> memoryview | None:
        buffer = memoryview(bytearray(span.length))
        got = read_at(files.folder.layer, fd, buffer, span.offset, cached=cached)
        return buffer if got == span.length and fingerprint(buffer) == self._expected(piece) else None


class CheckedReader:
    """Reads stored pieces and compares the XXH3-128 of each with the ``expected`` one.

    A piece whose file is missing, unreadable, too short or changed is removed from ``stored``.
    """

    def __init__(
        self, layout: Layout, stored: PieceSet, expected: Callable[[int], bytes], executor: PieceExecutor
    ) -> None:
        self._layout = layout
        self._stored = stored
        self._loader = PieceLoader(expected, executor)

    async def read_small(self, pieces: Sequence[int], files: PieceFiles) -> list[memoryview]:
        """Return stored pieces that are whole files in ``files``, up to the first that cannot be read so."""
        stored = list(takewhile(self._stored.__contains__, pieces))
        return await self._loader.load_small(files, self._layout, stored)

    async def read(self, piece: int, holder: Callable[[int], PieceFiles]) -> memoryview:
        """Return a whole piece; ``holder`` returns where its file is.

        Raises `PieceWithdrawn` if the piece is no longer what was verified, `DiskError` if this process
        lacks descriptors or memory.
        """
        if piece not in self._stored:
            raise PieceWithdrawn(f"piece {piece} is not stored here")
        span = self._layout.span(piece)
        files = holder(span.file)
        try:
            with files.reading(span.file) as fd:
                data = await self._loader.load(files, fd, span, piece)
            reason = "its bytes have changed"
        except OSError as error:
            if error.errno in OUR_ERRORS:
                raise disk_error(error, files.path(span.file)) from error
            data, reason = None, error.strerror or str(error)
        if data is None:
            self._stored.discard(piece)
            shown = printable(str(files.path(span.file)))
            raise PieceWithdrawn(f"{shown}: piece {piece} is withdrawn: {reason}")
        return data
