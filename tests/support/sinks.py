"""Places that output goes to, as tests want them: read, unread, stopped, full, closed, gone.

    with Sink("stopped") as sink:                      # a terminal after Ctrl-S
        process = start(argv, stdout=sink, cwd=…, env=…)

Each command gets one such place as its stdout or stderr; the other one is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shlex
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

KINDS = ("terminal", "stopped", "pipe", "unread", "gone", "file", "full", "closed")
_PIPE_BYTES = 4096


class Sink:
    """One place of a kind; what arrives is in `text`, unless nobody reads it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._received: list[bytes] = []
        self._descriptors: list[int] = []
        self._thread: threading.Thread | None = None
        self._file: str | None = None
        self.descriptor = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def text(self) -> str:
        """What has arrived so far."""
        if self._file is not None:
            return Path(self._file).read_text("utf-8", "replace")
        return b"".join(self._received).decode("utf-8", "replace")

    def started(self) -> None:
        """The process has the descriptor now: this side gives up its own, so that the end is seen."""
        if self.kind in {"pipe", "terminal"}:
            self._close_one(self.descriptor)

    def resume(self) -> None:
        """Begin to read what nobody has read; Ctrl-Q on a terminal."""
        if self.kind == "stopped":
            termios.tcflow(self.descriptor, termios.TCOON)
        self._close_one(self.descriptor)
        self._read(self._descriptors[0])

    def finish(self) -> str:
        """Wait for the end of what is being read and return it."""
        if self._thread is not None:
            self._thread.join(20)
        return self.text

    def close(self) -> None:
        """Give everything back."""
        if self.kind == "stopped" and self.descriptor in self._descriptors:
            # Whoever still blocks in a write to it would hold up the close.
            termios.tcflow(self.descriptor, termios.TCOON)
        for descriptor in list(self._descriptors):
            self._close_one(descriptor)
        if self._file is not None:
            Path(self._file).unlink()

    def _close_one(self, descriptor: int) -> None:
        if descriptor in self._descriptors:
            self._descriptors.remove(descriptor)
            os.close(descriptor)

    def _open(self) -> int:
        match self.kind:
            case "terminal" | "stopped":
                reader, writer = pty.openpty()
                self._descriptors += [reader, writer]
                if self.kind == "stopped":
                    termios.tcflow(writer, termios.TCOOFF)
                else:
                    self._read(reader)
            case "file":
                writer, self._file = tempfile.mkstemp()
                self._descriptors.append(writer)
            case "full":
                writer = os.open("/dev/full", os.O_WRONLY)
                self._descriptors.append(writer)
            case "closed":
                writer = -1
            case _:
                writer = self._open_pipe()
        return writer

    def _open_pipe(self) -> int:
        reader, writer = os.pipe()
        self._descriptors += [reader, writer]
        if self.kind == "gone":
            self._close_one(reader)
        elif self.kind == "pipe":
            self._read(reader)
        else:
            # Full from the start: the first write would wait for ever.
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            os.write(writer, b"-" * (_PIPE_BYTES - 1) + b"\n")
        return writer

    def _read(self, reader: int) -> None:
        self._thread = threading.Thread(target=self._pump, args=(os.dup(reader),), daemon=True)
        self._thread.start()

    def _pump(self, reader: int) -> None:
        # A terminal whose last process has gone is an error to read from.
        with contextlib.suppress(OSError):
            while data := os.read(reader, 65536):
                self._received.append(data)
        os.close(reader)


def start(
    argv: Sequence[str], stdout: Sink, stderr: Sink, *, cwd: Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program with these two places as its output."""
    # A shell closes what is to be closed: Python would give its child something instead.
    closing = "".join(f" {number}>&-" for number, sink in ((1, stdout), (2, stderr)) if sink.kind == "closed")
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {shlex.join(argv)}{closing}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if stdout.kind == "closed" else stdout.descriptor,
        stderr=subprocess.DEVNULL if stderr.kind == "closed" else stderr.descriptor,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,
    )
    stdout.started()
    stderr.started()
    return process


def swarm(*arguments: str | Path) -> list[str]:
    """Return the words that run ``swarm ARGUMENTS`` with this interpreter."""
    optimize = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [sys.executable, *optimize, "-m", "swarm", *map(str, arguments)]
