"""The processes of the demo: real ``swarm`` commands whose JSON lines are read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from swarm.errors import SwarmError
from swarm.events import Event
from swarm.observe.jsonlines import decode

MAX_LINE_BYTES = 1024 * 1024
MAX_ERROR_LINES = 5
_CHUNK_BYTES = 65536


class Child:
    """One ``swarm`` process with a home of its own; its events are handed on as they come."""

    def __init__(self, name: str, folder: Path, on_event: Callable[[Event], None]) -> None:
        self.name = name
        self.folder = folder
        self._on_event = on_event
        self._process: trio.Process | None = None
        self._errors: deque[str] = deque(maxlen=MAX_ERROR_LINES)
        self._stopping = False

    @property
    def running(self) -> bool:
        """Return whether the process has started and not ended yet."""
        return self._process is not None and self._process.returncode is None

    async def run(self, *arguments: str) -> None:
        """Run ``swarm ARGUMENTS`` until `stop`; killed at once when cancelled.

        Raises `SwarmError` if the process ends by itself.
        """
        self.folder.mkdir(parents=True)
        async with trio.open_nursery() as nursery:
            process = await nursery.start(partial(self._start, arguments))
            self._process = process
            nursery.start_soon(self._read_errors, process)
            async for line in _lines(process.stdout):
                read = decode(line)
                if read is not None:
                    self._on_event(read[0])
            code = await process.wait()
        if not self._stopping:
            said = "; ".join(self._errors) or "without a word"
            raise SwarmError(f"the demo's {self.name} ended early with exit code {code}: {said}")

    def stop(self) -> None:
        """Ask the process to end as a user would."""
        self._stopping = True
        if self._process is not None:
            self._process.terminate()

    async def _start(self, arguments: tuple[str, ...], *, task_status: Any) -> None:
        await trio.run_process(
            [sys.executable, "-m", "cli", *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
            cwd=self.folder,
            env=_environment(self.folder / "home"),
            deliver_cancel=_kill,
            task_status=task_status,
        )

    async def _read_errors(self, process: trio.Process) -> None:
        async for line in _lines(process.stderr):
            self._errors.append(line)


async def _kill(process: trio.Process) -> None:
    process.kill()


def _environment(home: Path) -> dict[str, str]:
    # The children run in folders of their own and must find this very program all the same.
    root = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "SWARM_HOME": str(home), "PYTHONPATH": search}


async def _lines(stream: trio.abc.ReceiveStream | None) -> AsyncIterator[str]:
    if stream is None:
        return
    buffer = b""
    async for chunk in stream:
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", errors="replace")
        if len(buffer) > MAX_LINE_BYTES:
            raise SwarmError(f"a process of the demo printed a line of more than {MAX_LINE_BYTES} bytes")
