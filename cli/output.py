"""Stdout and stderr, written so that whoever reads them, slowly or not at all, holds nothing up.

Each file has an `Outlet`: a bounded queue and one thread, which alone writes to the descriptor. A pipe that
is full, a terminal that Ctrl-S has stopped or a full disk holds up that thread and nobody else. While a
command runs, `sys.stdout` and `sys.stderr` lead to the outlets, so that nothing passes them by.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

OPTIONAL_BYTES = 1024 * 1024
"""Of lines that may be left out, so many bytes wait for the reader; more are counted and left out."""
RESULT_BYTES = 1024 * 1024 * 1024
"""The same for results."""
WRITE_BYTES = 16 * 1024
"""Of one write: small enough to tell a slow reader from one that does not read."""
DELIVERY_SECONDS = 10.0
"""At its end a command that transfers waits so long for a reader that takes nothing."""
LAST_SECONDS = 0.3
"""The same after a signal."""
_GONE = {errno.EPIPE, errno.EBADF, errno.ECONNRESET, errno.ENOTCONN, errno.ENXIO}


class NoReader(BrokenPipeError):
    """Nobody reads any more what this command prints."""


class Kind(Enum):
    """How much a line matters."""

    RESULT = "result"
    """What the command was called for, and errors: left out last."""
    OPTIONAL = "optional"
    """Left out, and counted, when the reader does not keep up."""
    LATEST = "latest"
    """Takes the place of a line of this kind that still waits."""


class _Item:
    """Text that waits, or (``text`` is empty) a gap where lines were left out."""

    __slots__ = ("kind", "lost", "mark", "text")

    def __init__(self, text: bytes, kind: Kind, mark: Callable[[int], str] | None = None) -> None:
        self.text = text
        self.kind = kind
        self.mark = mark
        self.lost = 0


def _plain_mark() -> Callable[[int], str]:
    return lambda lost: f"({lost} {'line' if lost == 1 else 'lines'} left out)"


class Outlet:
    """One file to write to; none of the methods but `flush` waits for its reader.

    ``write`` writes some of the bytes and returns how many; it may block for ever. One exception: outside of
    trio, in the main thread, `put` waits for room, as a print to a pipe does; a signal ends that.
    """

    def __init__(self, write: Callable[[bytes], int], encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self.strict = False
        """Whether `put` raises `NoReader` once nobody reads any more."""
        self.gone = False
        """Whether writing failed in a way that will not pass."""
        self.failure: OSError | None = None
        """The last error of writing that may pass, such as a full disk."""
        self.gap: Callable[[], Callable[[int], str]] = _plain_mark
        """Called where lines begin to be left out; what it returns makes the line that says how many."""
        self._write = write
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._sizes = {Kind.RESULT: 0, Kind.OPTIONAL: 0, Kind.LATEST: 0}
        self._frame: tuple[bytes, ...] = ()
        self._frame_is_new = False
        self._rows_shown = 0
        self._moved = 0
        self._unwritten: _Item | None = None
        """What a write that failed took with it: said with the next, when a disk may have room again."""
        self._busy = self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, text: str, kind: Kind = Kind.RESULT) -> None:
        """Queue whole lines; raises `NoReader` if that matters to this command."""
        data = text.encode(self.encoding, "backslashreplace")
        with self._changed:
            if self.gone:
                if self.strict:
                    raise NoReader(errno.EPIPE, "nobody reads the output")
                return
            if kind is Kind.RESULT and self._waiting > OPTIONAL_BYTES and _may_wait():
                self._changed.wait_for(lambda: self._waiting <= OPTIONAL_BYTES or self.gone)
            self._add(data, kind)
            self._wake()

    def frame(self, lines: Sequence[str]) -> None:
        """Show these lines below all others, in place of the last frame; terminals only."""
        frame = tuple(line.encode(self.encoding, "backslashreplace") for line in lines)
        with self._changed:
            if frame != self._frame:
                self._frame, self._frame_is_new = frame, True
                self._wake()

    def flush(self, patience: float | None) -> bool:
        """Wait until all is written; False once the reader has taken nothing for ``patience`` seconds.

        None waits for ever.
        """
        with self._changed:
            while not self._idle:
                moved = self._moved
                if not self._changed.wait_for(lambda: self._idle or self._moved != moved, patience):  # noqa: B023
                    return False
        return True

    def close(self) -> None:
        """Let the thread end when all is written."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _add(self, data: bytes, kind: Kind) -> None:
        last = self._queue[-1] if self._queue else None
        if kind is Kind.LATEST and last is not None and last.kind is kind and last.text:
            self._sizes[kind] += len(data) - len(last.text)
            last.text = data
            return
        limit = RESULT_BYTES if kind is Kind.RESULT else OPTIONAL_BYTES
        if self._waiting + len(data) > limit and self._queue:
            self._leave_out(data.count(b"\n"))
            return
        self._queue.append(_Item(data, kind))
        self._sizes[kind] += len(data)

    def _leave_out(self, lines: int) -> None:
        if not self._queue or self._queue[-1].text:
            self._queue.append(_Item(b"", Kind.OPTIONAL, self.gap()))
        self._queue[-1].lost += lines

    @property
    def _waiting(self) -> int:
        return sum(self._sizes.values())

    @property
    def _idle(self) -> bool:
        return self.gone or not (self._queue or self._frame_is_new or self._busy)

    def _wake(self) -> None:
        if self._thread is None and not self.gone:
            # A daemon: one that is stuck in a write must not hold up the end of the process.
            self._thread = threading.Thread(target=self._run, name="swarm output", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._idle or self._closing)
                if self._idle:
                    self._thread = None
                    return
                data, lines = self._take()
                self._busy = True
            failure = self._write_all(data)
            with self._changed:
                self._busy = False
                self._moved += 1
                if failure is not None:
                    self._failed(failure, lines)
                self._changed.notify_all()

    def _take(self) -> tuple[bytes, int]:
        """Take what is written together: bytes, and how many lines of text are in them."""
        parts = [_erase(self._rows_shown)]
        size = lines = 0
        if self._unwritten is not None and self._queue:
            self._queue.appendleft(self._unwritten)
            self._unwritten = None
        while self._queue and size < WRITE_BYTES:
            item = self._queue.popleft()
            self._sizes[item.kind] -= len(item.text)
            text = item.text
            if item.mark is not None:
                text = f"{item.mark(item.lost)}\n".encode(self.encoding, "backslashreplace")
            lines += item.lost or text.count(b"\n")
            size += len(text)
            parts.append(text)
        parts.append(b"\n".join(self._frame))
        self._rows_shown, self._frame_is_new = len(self._frame), False
        return b"".join(parts), lines

    def _write_all(self, data: bytes) -> OSError | None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._write(bytes(rest[:WRITE_BYTES])) :]
                # Written by this thread alone.
                self._moved += 1
        except OSError as error:
            return error
        except ValueError:
            # A stream that is no file was closed by whoever gave it.
            return OSError(errno.EBADF, "closed")
        return None

    def _failed(self, error: OSError, lines: int) -> None:
        if error.errno in _GONE:
            self.gone = True
            self._queue.clear()
            self._sizes = dict.fromkeys(self._sizes, 0)
            return
        self.failure = error
        if lines:
            self._unwritten = self._unwritten or _Item(b"", Kind.OPTIONAL, self.gap())
            self._unwritten.lost += lines


def _erase(rows: int) -> bytes:
    if not rows:
        return b""
    return b"\r\x1b[2K" + b"\x1b[1A\x1b[2K" * (rows - 1)


def _may_wait() -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False
    trio = sys.modules.get("trio")
    return trio is None or not trio.lowlevel.in_trio_run()


class _Bytes(io.RawIOBase):
    """What click writes a completion to: bytes of whole lines."""

    def __init__(self, lines: _Lines, encoding: str) -> None:
        self._lines = lines
        self._encoding = encoding

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Buffer) -> int:
        """Queue the lines that are whole."""
        text = bytes(data).decode(self._encoding, "surrogateescape")
        self._lines.write(text)
        return len(bytes(data))


class _Lines(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` while a command runs: whole lines go to an outlet."""

    def __init__(self, outlet: Outlet, original: TextIO | None) -> None:
        self._outlet = outlet
        self._original = original
        self._rest = ""
        self.buffer = _Bytes(self, outlet.encoding)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the file."""
        return self._outlet.encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """A name that the locale cannot show must not end the program."""
        return "backslashreplace"

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether the file is a terminal."""
        return self._original is not None and self._original.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the file; raises OSError if it has none."""
        if self._original is None:
            raise io.UnsupportedOperation("fileno")
        return self._original.fileno()

    def write(self, text: str) -> int:
        """Queue the lines that are whole."""
        if not isinstance(text, str):
            raise TypeError("text is written here, not bytes")
        whole, end, self._rest = (self._rest + text).rpartition("\n")
        if end:
            self._outlet.put(whole + end)
        return len(text)

    def finish(self) -> None:
        """Queue what has no end of line."""
        rest, self._rest = self._rest, ""
        if rest:
            self._outlet.put(rest)


class Outputs:
    """Stdout and stderr; one outlet serves both when they lead to the same place, to keep their order."""

    def __init__(self, stdout: TextIO | None, stderr: TextIO | None) -> None:
        self.out = _outlet(stdout)
        self.err = self.out if _same_file(stdout, stderr) else _outlet(stderr)
        self._lines = (_Lines(self.out, stdout), _Lines(self.err, stderr))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let `sys.stdout` and `sys.stderr` lead here until the block is left."""
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._lines
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            self.out.close()
            self.err.close()

    def flush(self, patience: float | None) -> None:
        """Wait until all is written, or a reader takes nothing for ``patience`` seconds; None: for ever."""
        for lines in self._lines:
            with suppress(NoReader):
                lines.finish()
        if not self.out.flush(patience) and patience is not None:
            # Whoever reads neither is not waited for twice as long.
            patience = min(patience, LAST_SECONDS)
        if self.err is not self.out:
            self.err.flush(DELIVERY_SECONDS if patience is None else patience)


def _outlet(stream: TextIO | None) -> Outlet:
    if stream is None:
        # Closed by whoever started us: they want no output.
        return Outlet(len)
    encoding = stream.encoding or "utf-8"
    try:
        return Outlet(_to_descriptor(stream.fileno()), encoding)
    except (OSError, ValueError):

        def write(data: bytes) -> int:
            stream.write(data.decode(encoding, "replace"))
            return len(data)

        return Outlet(write, encoding)


def _to_descriptor(descriptor: int) -> Callable[[bytes], int]:
    def write(data: bytes) -> int:
        while True:
            try:
                return os.write(descriptor, data)
            except BlockingIOError:
                # Another process that has the same file has made it non-blocking.
                room = select.poll()
                room.register(descriptor, select.POLLOUT)
                room.poll()

    return write


def _same_file(one: TextIO | None, other: TextIO | None) -> bool:
    if one is None or other is None:
        return False
    try:
        first, second = os.fstat(one.fileno()), os.fstat(other.fileno())
    except (OSError, ValueError):
        return one is other
    return os.path.samestat(first, second)


def hold_closed_descriptors() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr.

    Otherwise the next file or socket would get that number, and be written to as if it were the output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
