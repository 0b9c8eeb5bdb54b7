"""One real process under watch: its output against deadlines, its end, its use of resources.

Described in processes.py, which starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")
Event = dict[str, Any]

EVENT_KEY = "event"
"""The field of a JSON line that names the event."""
LISTENING_EVENT = "node_listening"
TAIL_LINES = 40
DRAIN_SECONDS = 2.0
"""How long output may still come after the end: a grandchild can hold the pipe open."""


class ProcessFailure(AssertionError):
    """A process did not do what the test waits for."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the kernel counted for an ended process and the children it waited for.

    ``peak_rss`` cannot be below the resident size of the process that started it: the kernel
    carries the figure over exec. Measure from a small parent.
    """

    user_seconds: float
    system_seconds: float
    peak_rss: int

    @property
    def cpu_seconds(self) -> float:
        return self.user_seconds + self.system_seconds


class Running:
    """One started process; see the module's text."""

    def __init__(
        self, argv: Sequence[str], *, name: str, cwd: Path, env: Mapping[str, str], stdout: Path | None = None
    ) -> None:
        self.argv = list(argv)
        self.name = name
        self.cwd = cwd
        self.exit_code: int | None = None
        self.started = time.monotonic()
        self._ended: float | None = None
        self._usage: Usage | None = None
        self._changed = threading.Condition()
        self._output: list[str] = []
        self._events: list[Event] = []
        self._errors: list[str] = []
        with stdout.open("wb") if stdout else contextlib.nullcontext(subprocess.PIPE) as where:
            self._popen = subprocess.Popen(
                self.argv,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=where,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        self.pid = self._popen.pid
        readers = [(self._popen.stdout, self._take_output), (self._popen.stderr, self._errors.append)]
        pipes = [(pipe, take) for pipe, take in readers if pipe is not None]
        self._open_pipes = len(pipes)
        self._threads = [self._thread(self._pump, *reader) for reader in pipes]
        self._threads.append(self._thread(self._reap))

    def _thread(self, target: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(
            target=target, args=args, name=f"{target.__name__} {self.name}", daemon=True
        )
        thread.start()
        return thread

    def _pump(self, pipe: IO[str], take: Callable[[str], None]) -> None:
        with pipe:
            for line in pipe:
                with self._changed:
                    take(line.rstrip("\r\n"))
                    self._changed.notify_all()
        with self._changed:
            self._open_pipes -= 1
            self._changed.notify_all()

    def _take_output(self, line: str) -> None:
        self._output.append(line)
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                self._events.append(json.loads(line))

    def _reap(self) -> None:
        # WNOWAIT keeps the pid taken until the lock is held, so a signal can never hit a stranger.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._changed:
            _, status, usage = os.wait4(self.pid, 0)
            self._ended = time.monotonic()
            self._usage = Usage(usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)
            self.exit_code = self._popen.returncode = os.waitstatus_to_exitcode(status)
            self._changed.notify_all()

    def _until(
        self, look: Callable[[], T | None], what: str, within: float, *, needs_output: bool = True
    ) -> T:
        """Call ``look`` (under the lock) at every change until it returns something."""
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                found = look()
                if found is not None:
                    return found
                if needs_output and self._open_pipes == 0:
                    raise self._failure(f"ended without {what}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._failure(f"no {what} within {within:g} s")
                self._changed.wait(left)

    def _failure(self, what: str) -> ProcessFailure:
        return ProcessFailure(f"{self.name}: {what}\n{self.describe()}")

    def describe(self) -> str:
        """The command, how it ended and the tails of its output."""
        with self._changed:
            state = "still running" if self.exit_code is None else f"exit code {self.exit_code}"
            return "\n".join(
                (
                    f"$ {shlex.join(self.argv)}   [{state}, {self.elapsed():.2f} s]",
                    f"--- stdout ({len(self._output)} lines)",
                    *self._output[-TAIL_LINES:],
                    f"--- stderr ({len(self._errors)} lines)",
                    *self._errors[-TAIL_LINES:],
                )
            )

    def line(self, pattern: str, within: float = 30, *, stderr: bool = False) -> re.Match[str]:
        """Return the match of the first line of stdout (or stderr) in which ``pattern`` is found."""
        wanted = re.compile(pattern)
        lines = self._errors if stderr else self._output
        seen = 0

        def look() -> re.Match[str] | None:
            nonlocal seen
            while seen < len(lines):
                seen += 1
                match = wanted.search(lines[seen - 1])
                if match:
                    return match
            return None

        return self._until(look, f"line matching {pattern!r}", within)

    def event(self, name: str, within: float = 30, **fields: object) -> Event:
        """Return the first JSON event called ``name`` in which every one of ``fields`` is equal."""
        return self.events_until(name, 1, within, **fields)[0]

    def events_until(self, name: str, count: int, within: float = 30, **fields: object) -> list[Event]:
        """Return the first ``count`` events called ``name`` in which ``fields`` are equal."""
        found: list[Event] = []
        seen = 0

        def look() -> list[Event] | None:
            nonlocal seen
            while seen < len(self._events) and len(found) < count:
                event = self._events[seen]
                seen += 1
                if event.get(EVENT_KEY) == name and all(event.get(k) == v for k, v in fields.items()):
                    found.append(event)
            return found if len(found) == count else None

        return self._until(look, f"{count} x event {name} {fields or ''}", within)

    def address(self, within: float = 30) -> str:
        """Return the first address that the node says it can be dialled at."""

        def look() -> str | None:
            for line in self._output:
                match = re.match(r"libp2p node address: (\S+)", line)
                if match:
                    return match.group(1)
            for event in self._events:
                if event.get(EVENT_KEY) == LISTENING_EVENT:
                    return str(event["addresses"][0])
            return None

        return self._until(look, "node address", within)

    def lines(self, pattern: str | None = None) -> list[str]:
        """Return the lines of stdout so far (in which ``pattern`` is found)."""
        with self._changed:
            return [line for line in self._output if pattern is None or re.search(pattern, line)]

    def events(self, name: str | None = None) -> list[Event]:
        """Return the JSON events so far (called ``name``)."""
        with self._changed:
            return [event for event in self._events if name is None or event.get(EVENT_KEY) == name]

    def errors(self) -> str:
        """Return what came on stderr so far."""
        with self._changed:
            return "\n".join(self._errors)

    def wait(self, within: float = 60) -> int:
        """Wait for the end, and then for the last output; return the exit code."""
        code = self._until(lambda: self.exit_code, "end", within, needs_output=False)
        deadline = time.monotonic() + DRAIN_SECONDS
        with self._changed:
            while self._open_pipes and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
        return code

    def expect_exit(self, code: int, within: float = 60) -> None:
        """Wait for the end and fail, with all that was said, unless it is ``code``."""
        ended = self.wait(within)
        if ended != code:
            raise self._failure(f"exit code {ended}, expected {code}")

    def signal(self, number: int) -> None:
        """Send a signal to the process alone; nothing happens when it has ended."""
        with self._changed:
            if self.exit_code is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C sends."""
        self.signal(signal.SIGINT)

    def pause(self) -> None:
        """SIGSTOP: the process is there and does nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def stop(self, within: float = 5) -> None:
        """End the process and whatever it started: SIGTERM first, SIGKILL after ``within`` seconds."""
        self.resume()
        self.terminate()
        with contextlib.suppress(ProcessFailure):
            self._until(lambda: self.exit_code, "end", within, needs_output=False)
        # The group outlives its leader for as long as a grandchild lives in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join(DRAIN_SECONDS)

    def usage(self) -> Usage:
        """Return the resources used; only after the end."""
        if self._usage is None:
            raise self._failure("still running, so its use of resources is not known")
        return self._usage

    def elapsed(self) -> float:
        """Return the seconds from the start to the end, or to now."""
        return (self._ended or time.monotonic()) - self.started
