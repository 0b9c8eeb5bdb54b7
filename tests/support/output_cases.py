"""Real commands whose output goes to every kind of place, ended by signals: exit in time, nothing harmed."""

from __future__ import annotations

import itertools
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Processes
from tests.support.sharing import LOOPBACK, MIB, Seeder, random_file, sha256, share
from tests.support.sinks import Sink, start, swarm

EXIT_SECONDS = 2.0
"""The promise."""
READY_SECONDS = 60.0
LEFT_TO_WORK = 0.3
"""Seconds that a command works on after it is seen to work, before the signal."""
SPARSE = 6 << 30
"""Bytes: so much that they are still verified when the signal comes."""
CODES = {0: 0, 2: 130, 15: 143}
NOBODY = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
"""A peer id that nobody has: to the seeder's own a connection would be open already."""


@dataclass(frozen=True, slots=True)
class Field:
    """What the commands work on."""

    processes: Processes
    folder: Path
    content: Path
    seeder: Seeder
    silent: str
    """The address of a peer that takes connections and says nothing: it is waited for 10 s."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: ``stream`` is stdout, stderr or both, ``signal`` 0 lets the command end by itself."""

    command: str
    stream: str
    kind: str
    signal: int


@dataclass(frozen=True, slots=True)
class CaseEnd:
    """How long the exit took, and what was wrong."""

    case: Case
    seconds: float
    faults: tuple[str, ...]


@contextmanager
def field(folder: Path) -> Iterator[Field]:
    """A seeder, its content, and a silent peer."""
    with Processes(folder / "nodes") as processes, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        content = random_file(folder / "content.bin", 3 * MIB)
        seeder = share(processes, content, "--piece-size", "16KiB")
        port = silent.getsockname()[1]
        yield Field(processes, folder, content, seeder, f"/ip4/127.0.0.1/tcp/{port}/p2p/{NOBODY}")


_numbers = itertools.count()


def run_case(field: Field, case: Case, limit: float = EXIT_SECONDS) -> CaseEnd:
    """Run one case from start to end."""
    work = field.folder / f"{case.command}-{case.stream}-{case.kind}-{case.signal}-{next(_numbers)}"
    work.mkdir()
    env = field.processes.environment(work.name)
    out = Sink(case.kind if case.stream in {"stdout", "both"} else "pipe")
    err = Sink(case.kind if case.stream in {"stderr", "both"} else "pipe")
    with out, err:
        process = start(swarm(*_arguments(field, case)), out, err, cwd=work, env=env)
        try:
            _until_at_work(case, work, process)
            faults = _serves(field, case, work, out, err) if case.command == "share" else []
            time.sleep(LEFT_TO_WORK)
            began = time.monotonic()
            ended_before = process.poll() is not None
            if case.signal:
                process.send_signal(case.signal)
            code = process.wait(READY_SECONDS)
            seconds = time.monotonic() - began
        finally:
            process.kill()
            process.wait()
    wanted = CODES[case.signal]
    # Commands that only print end with the reader that has gone, or before the signal.
    if code != wanted and not (case.command in {"ping", "list", "verify"} and ended_before):
        faults.append(f"exit code {code} where {wanted} belongs")
    if case.signal and seconds > limit:
        faults.append(f"{seconds:.2f} s to exit")
    if case.command == "fetch":
        faults += _fetched(field, case, work)
    return CaseEnd(case, seconds if case.signal else 0.0, tuple(faults))


def _arguments(field: Field, case: Case) -> tuple[str | Path, ...]:
    seeder = field.seeder
    talk = ("-vv",) if case.stream == "stderr" or case.command != "fetch" else ("--json=pieces",)
    match case.command:
        case "share":
            return ("share", field.content, *LOOPBACK, *talk)
        case "fetch":
            limit = ("--download-limit", "1MB/s") if case.signal else ()
            return ("fetch", seeder.link, "--output", "out", *LOOPBACK, *limit, *talk)
        case "ping":
            return ("ping", seeder.address, "--count", "100000", "--interval", "0.001", *talk)
        case "list":
            return ("list", seeder.address, field.silent, *talk)
        case _:
            return ("verify", field.folder / "sparse.swarm", field.folder / "sparse", *talk)


def _until_at_work(case: Case, work: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the command is seen to work: on the disk, or after a while."""
    signs: dict[str, Callable[[], bool]] = {
        "share": (work / "content.bin.swarm").exists,
        "fetch": (work / "out").exists,
    }
    began = time.monotonic()
    at_work = signs.get(case.command, lambda: time.monotonic() > began + 2)
    while not at_work() and process.poll() is None:
        if time.monotonic() > began + READY_SECONDS:
            raise AssertionError(f"{case} never began to work")
        time.sleep(0.02)


def _serves(field: Field, case: Case, work: Path, out: Sink, err: Sink) -> list[str]:
    """Fetch from the share that has its output in such a place."""
    read = err if case.stream == "stdout" else out
    deadline = time.monotonic() + READY_SECONDS
    while not (found := re.search(r"swarm:[^\s']+", read.text)):
        if time.monotonic() > deadline:
            return ["no link was printed where it is read"]
        time.sleep(0.02)
    return _fetch(field, found.group(0), work / "served")


def _fetched(field: Field, case: Case, work: Path) -> list[str]:
    """What was fetched is right, if need be after the same command once more."""
    if case.signal:
        return _fetch(field, field.seeder.link, work / "out")
    if sha256(work / "out" / field.content.name) != sha256(field.content):
        return ["what was fetched is wrong"]
    return []


def _fetch(field: Field, link: str, output: Path) -> list[str]:
    argv = swarm("fetch", link, "--output", output, *LOOPBACK)
    env = field.processes.environment(f"{output.parent.name}-again")
    ran = subprocess.run(argv, capture_output=True, env=env, timeout=READY_SECONDS, check=False)
    if ran.returncode:
        return [f"fetching it ended with {ran.returncode}: {ran.stderr.decode()[-200:]}"]
    if sha256(output / field.content.name) != sha256(field.content):
        return ["the content differs"]
    return []
