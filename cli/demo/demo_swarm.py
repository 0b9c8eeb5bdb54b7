"""The processes of the demo: real ``swarm`` commands whose JSON lines are read.

Runs the demo: one seeder and four leechers that know only the seeder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from cli.demo.board import Board, DemoNode, Show, aligned
from swarm.errors import Incomplete, IntegrityError, SwarmError, UsageError
from swarm.events import Event
from swarm.observe.jsonlines import decode
from swarm.sizes import format_size
from swarm.storage.manifest_files import read_envelope
from swarm.storage.verification import verify

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
            [sys.executable, "-m", "swarm", *arguments, "--json=pieces"],
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


SAMPLE_FOLDER = "sample_data"
LEECHERS = 4
LISTEN = "/ip4/127.0.0.1/tcp/0"
PIECE_SIZE = "16KiB"
COPY_SECONDS = 4
"""What every node may send is chosen so that one copy of the data takes this long."""
LEAST_RATE = 64 * 1024
LIMIT_SECONDS = 120.0


def find_sample_data() -> Path:
    """Return the folder of samples: beside the program in a checkout, or in the current folder.

    Raises `UsageError` if it is in neither place.
    """
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        folder = root / SAMPLE_FOLDER
        if folder.is_dir():
            return folder
    raise UsageError(f"there is no folder {SAMPLE_FOLDER} here: run the demo in a checkout of the project")


class Demo:
    """One run of the demo in a temporary folder."""

    def __init__(self, sample: Path, folder: Path, clock: Callable[[], float]) -> None:
        self.board = Board()
        self.manifest = folder / f"{sample.name}.swarm"
        self._sample = sample
        self._folder = folder
        self._clock = clock
        self._changed = trio.Event()
        self.size = sum(file.stat().st_size for file in sample.rglob("*") if file.is_file())
        self._rate = f"{max(self.size // COPY_SECONDS, LEAST_RATE)}B/s"

    async def run(self, show: Show) -> None:
        """Run the swarm until every leecher has everything.

        Raises `SwarmError` if a process fails, `Incomplete` if it takes too long.
        """
        with trio.move_on_after(LIMIT_SECONDS) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._draw, show)
                children = await self._start_all(nursery)
                await self._until(lambda: all(node.fetched for node in self.board.nodes[1:]))
                show.draw(self.board, self._clock())
                for child in children:
                    child.stop()
                await self._until(lambda: not any(child.running for child in children))
                nursery.cancel_scope.cancel()
        if limit.cancelled_caught:
            raise Incomplete(f"the demo was not done after {LIMIT_SECONDS:.0f} s")

    async def check(self) -> None:
        """Hash what every leecher has; raises `IntegrityError` unless all of it is right."""
        envelope = await read_envelope(self.manifest)
        for node in self.board.nodes[1:]:
            report = await verify(envelope.manifest, self.output(node.name))
            if not report.identical:
                raise IntegrityError(f"what {node.name} has is not what the seeder shared")

    def report(self) -> list[str]:
        """Return the closing lines: who sent how much to whom, and what it comes to."""
        board = self.board
        copies = sum(board.flow("seeder", node.name) for node in board.nodes[1:]) / self.size
        return [
            "Who sent how much to whom:",
            "",
            *aligned(board.flows()),
            "",
            f"{LEECHERS} copies of {format_size(self.size)} went round, {copies:.2f} of them from the seeder",
            f"every hash checked: {LEECHERS} times {self._sample.name} is right",
        ]

    def output(self, name: str) -> Path:
        """Return where a leecher puts what it fetched."""
        return self._folder / name / "output" / self._sample.name

    async def _start_all(self, nursery: trio.Nursery) -> list[Child]:
        options = ("--listen", LISTEN, "--upload-limit", self._rate)
        sharing = ("share", str(self._sample), "--manifest", str(self.manifest), "--piece-size", PIECE_SIZE)
        seeder, child = self._start(nursery, "seeder", *sharing, *options)
        await self._until(lambda: seeder.shared is not None)
        children = [child]
        for number in range(1, LEECHERS + 1):
            fetching = ("fetch", str(self.manifest), seeder.address, "--output", "output", "--seed")
            children.append(self._start(nursery, f"leecher {number}", *fetching, *options)[1])
        return children

    def _start(self, nursery: trio.Nursery, name: str, *arguments: str) -> tuple[DemoNode, Child]:
        node = self.board.join(name, self._clock())
        child = Child(name, self._folder / name, partial(self._on_event, node))
        nursery.start_soon(self._run_child, child, arguments)
        return node, child

    async def _run_child(self, child: Child, arguments: tuple[str, ...]) -> None:
        await child.run(*arguments)
        self._wake()

    def _on_event(self, node: DemoNode, event: Event) -> None:
        self.board.add(node, event, self._clock())
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    async def _draw(self, show: Show) -> None:
        while True:
            await trio.sleep(show.interval)
            show.draw(self.board, self._clock())


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder that is removed, with all that is in it, at the end of its block."""
    return tempfile.TemporaryDirectory(prefix="swarm-demo-", ignore_cleanup_errors=True)
