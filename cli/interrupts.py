"""SIGINT and SIGTERM outside of trio: they raise `Interrupted` where the program stands.

`cli.running` takes over while trio runs; between the two a signal is kept, never lost. From `finish`
on a signal ends the process with its own code, and in the interpreter's last moments it does nothing.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REPORTS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGINFO") if hasattr(signal, name))
"""Signals that ask how things stand; `cli.render.live` answers them while a command transfers."""
SIGNAL_EXIT_BASE = 128
GRACE_SECONDS = 1.8
"""How long the process may take to save and close after a signal before it is ended."""


class Interrupted(BaseException):
    """The user or the system asked this process to end; ``exit_code`` is 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = SIGNAL_EXIT_BASE + number


class _Kept:
    """Where a signal waits that arrives on the threshold between Python and trio."""

    keeping = False
    number: int | None = None
    raised = False
    """Whether a signal has been obeyed outside of trio: the second ends the process."""


_kept = _Kept()


def install() -> None:
    """Let SIGINT and SIGTERM raise `Interrupted` in the main thread."""
    # Called before anything else registers itself, so that it runs after all of that.
    atexit.register(_ignore_signals)
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    for number in REPORTS:
        # Whoever asks too early must not end the command.
        signal.signal(number, signal.SIG_IGN)


def finish() -> None:
    """Let any further signal end the process on the spot: there is nothing left to save."""
    for number in SIGNALS:
        signal.signal(number, end_process)


def _ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM for what little is left of this process.

    While the interpreter is taken down it sets handlers written in Python back to the system's
    default, which would report death by a signal for a command that has its exit code. What is
    ignored stays ignored.
    """
    # Whoever does not read our output may hold us up here, where a signal still ends the process.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):
            stream.flush()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_process(number: int, _frame: FrameType | None = None) -> None:
    """End this process on the spot with the code of the signal."""
    # Nothing is flushed: a pipe that nobody reads may be what holds the process up.
    os._exit(SIGNAL_EXIT_BASE + number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _kept.keeping:
        _kept.number = number
        return
    if _kept.raised:
        end_process(number, frame)
    _kept.raised = True
    end_in_time(number)
    raise Interrupted(number)


def end_in_time(number: int) -> None:
    """End the process with the signal's code if it is still there after `GRACE_SECONDS`."""
    # Stays armed until the process is gone: whatever holds up the exit, it holds it up no longer.
    watchdog = threading.Timer(GRACE_SECONDS, end_process, (number, None))
    watchdog.daemon = True
    watchdog.start()


@contextmanager
def kept() -> Iterator[None]:
    """Keep a signal that arrives inside; raises `Interrupted` on leaving if there was one."""
    _kept.keeping, _kept.number = True, None
    try:
        yield
    finally:
        _kept.keeping = False
        if _kept.number is not None:
            _kept.raised = True
            raise Interrupted(_kept.number)


def kept_signal() -> int | None:
    """Return the signal that `kept` holds, if there is one."""
    return _kept.number


def keep(number: int) -> None:
    """Hand a signal that somebody else received to the surrounding `kept`."""
    _kept.number = number
