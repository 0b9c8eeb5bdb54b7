"""Pipes: ``swarm share -`` shares what comes on stdin, ``swarm fetch -o -`` writes one file to stdout."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cli.failures import PipeClosed, most_telling
from swarm.errors import DiskError, Incomplete, UsageError

if TYPE_CHECKING:
    import trio

    from cli.render.live import Live
    from cli.transfers.fetching import Fetching
    from swarm.node import Node
    from swarm.transfer.transfer import Transfer

STANDARD_STREAM = Path("-")
"""Stands for stdin or stdout where a path is expected."""
STDIN_NAME = "stdin"
"""The name under which stdin is shared if none is given."""
READ_BYTES = 1024 * 1024


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Hold a folder in ``$TMPDIR``; it is removed with all that is in it."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="swarm-"))
    except OSError as error:
        raise DiskError(f"no temporary folder ($TMPDIR): {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def spooled_stdin(name: str | None) -> AsyncIterator[Path]:
    """Hold a temporary file with everything that comes on stdin; returns at its end.

    Raises `UsageError` for an unsafe name, `DiskError` if there is no room.
    """
    from swarm.content.paths import check_title
    from swarm.errors import ManifestError
    from swarm.storage.aio import abandonable

    try:
        check_title(name or STDIN_NAME)
    except ManifestError as error:
        raise UsageError(f"--name: {error}") from error
    with temporary_folder() as folder:
        path = folder / (name or STDIN_NAME)
        # A terminal or pipe may never come to its end, and a signal ends the command.
        await abandonable(_spool, path)
        yield path


def _spool(path: Path) -> None:
    from swarm.storage.disk_errors import refusals
    from swarm.storage.room import check_space

    try:
        about = os.fstat(0)
    except OSError as error:
        raise UsageError("stdin is closed: give a path to share, or pipe something in") from error
    if stat.S_ISREG(about.st_mode):
        check_space(path.parent, max(0, about.st_size - os.lseek(0, 0, os.SEEK_CUR)), what="stdin")
    with refusals(path), path.open("xb", buffering=0) as file:
        while data := os.read(0, READ_BYTES):
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]


async def fetch_to_stdout(node: Node, live: Live, fetching: Fetching) -> None:
    """Fetch one file into a temporary folder, and write its pieces to stdout in order as they are verified.

    It is seeded for as long as the options say, and the folder is removed at the end. Raises `UsageError` if
    there is more than one file, `PipeClosed` as soon as nobody reads any more, and what ends a fetch.
    """
    from dataclasses import replace

    from cli.render.lines import Phase, summary
    from cli.transfers.leaving import counting

    await fetching.check()
    live.phase, live.resumes = Phase.FETCHING, False
    (content,) = fetching.contents
    options = replace(fetching.options, sequential=True)
    with _nothing_is_kept(), temporary_folder() as folder:
        async with (
            counting(node, fetching.leaving) as seeding,
            node.fetch(content, into=folder, options=options) as transfer,
        ):
            await _deliver(transfer, partial(fetching.save, live, content, transfer))
            await transfer.complete()
            await live.settle()
            live.say(summary(live.snapshot(transfer.number)))
            if options.seed:
                live.phase = Phase.SEEDING
                await seeding.until_closed(live, [transfer])


@contextmanager
def _nothing_is_kept() -> Iterator[None]:
    """Let a fetch that gives up not say that it can go on: the folder is gone with all that was in it."""
    from swarm.transfer.give_up import KEPT

    try:
        yield
    except* Incomplete as group:
        told = str(most_telling(group)).replace(KEPT, "nothing is kept, run the same command to begin anew")
        raise Incomplete(told) from group


async def _deliver(transfer: Transfer, opened: Callable[[], Awaitable[None]]) -> None:
    """Write the file to stdout; raises `PipeClosed` once nobody reads it, also while nothing is written.

    ``opened`` is called as soon as the manifest is known.
    """
    import trio

    scope = trio.CancelScope()
    stdout = _Stdout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_closed, scope)
        with scope:
            await transfer.opened()
            if len(transfer.files) != 1:
                raise UsageError(
                    f"only one file can be written to stdout, but there are {len(transfer.files)}: "
                    "choose one with --only"
                )
            await opened()
            async for data in transfer.chunks():
                await stdout.write(data)
        nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        # A reader that has all of it may have closed the pipe a moment before this side noticed.
        await stdout.settled()
        if not transfer.size or stdout.written < transfer.size:
            raise _nobody_reads()


async def _until_closed(scope: trio.CancelScope) -> None:
    """Cancel ``scope`` once the reader of stdout is gone."""
    import select

    import trio

    if not hasattr(select, "epoll"):
        # Elsewhere this is noticed by the next write.
        return
    with select.epoll() as watched:
        try:
            # Errors are reported whatever is asked for, and nothing else is.
            watched.register(1, 0)
        except OSError:
            # A file has no reader.
            return
        await trio.lowlevel.wait_readable(watched.fileno())
    scope.cancel()


class _Stdout:
    """Writes to stdout, and counts what was taken."""

    def __init__(self) -> None:
        self.written = 0
        self._writing = threading.Lock()

    async def settled(self) -> None:
        """Wait for a write that was abandoned because nobody reads: it ends at once, and is counted."""
        from swarm.storage.aio import abandonable

        def wait() -> None:
            with self._writing:
                pass

        await abandonable(wait)

    async def write(self, data: memoryview) -> None:
        """Write all of ``data``; raises `PipeClosed`, `DiskError`."""
        from swarm.storage.aio import abandonable

        def write() -> None:
            view = data
            with self._writing:
                while view:
                    count = os.write(1, view)
                    self.written += count
                    view = view[count:]

        try:
            # Abandoned by a signal: a reader that does not read must not hold up the end.
            await abandonable(write)
        except BrokenPipeError as error:
            raise _nobody_reads() from error
        except OSError as error:
            raise DiskError(f"stdout: {error.strerror or error}") from error


def _nobody_reads() -> PipeClosed:
    return PipeClosed("whoever read the output has closed it")
