"""Hostile manifests, from a file and from a peer: refused at once, in little memory, nothing written."""

from __future__ import annotations

import gc
import math
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio
from blake3 import blake3

from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.errors import ManifestError, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.node.catalogue import ask_manifest
from swarm.protocol.advert import encode_length
from swarm.storage.manifest_files import read_envelope
from tests.siege.outcome import Outcome
from tests.support.memory_link import memory_link_pair
from tests.unit import test_content_format2_zoo as second
from tests.unit import test_content_manifest_zoo as first
from tests.unit.test_content_manifest_zoo import canonical

NAME = "3 manifest zoo"
FIGURE = (
    "at least 350, by file and by wire: all refused, nothing written; format 1: at most 100 ms and 32 MiB; "
    "format 2 at most 3 times its size, in steps of 20 ms, which is the most that the loop waits; CPU is told"
)

QUICK = 60
ROUNDS = 12
MOST_SECONDS = 0.1
MOST_BYTES = 32 * 1024 * 1024
MOST_TIMES = 3.0
MOST_STEP = 0.02
FIXED_BYTES = 512 * 1024
LARGE = 100_000
"""Bytes of a specimen whose costs are told for each MiB."""

Specimen = first.Specimen | second.Specimen


async def run(quick: bool) -> Outcome:
    """Every specimen, twice; the small ones of a part of them for ``quick``."""
    firsts, seconds = list(first.SPECIMENS), list(second.SPECIMENS)
    if quick:
        firsts = [each for each in firsts if each not in first.MASSES][::6][:QUICK]
        seconds = [each for each in seconds if each not in second.MASSES][::6][:QUICK]
    one = await _costs(firsts)
    two = await _costs(seconds)
    held = await _loop_delay([each for each in (*firsts, *seconds) if len(each.data) > LARGE])
    step = max(_longest_step(each.data) for each in seconds)
    slowest = max(one.cpu)
    figures = (
        f"{len(firsts) + len(seconds)} refused both ways; format 1: slowest {slowest[0] * 1000:.0f} ms "
        f"({slowest[1]}), largest {one.memory[0] / 2**20:.1f} MiB; {one.for_each_mib()}; "
        f"format 2: {two.for_each_mib()}, longest step {step * 1000:.0f} ms; "
        f"loop held up to {held * 1000:.0f} ms; left behind: {one.left + two.left or 'nothing'}"
    )
    holds = (
        slowest[0] <= MOST_SECONDS
        and one.memory[0] <= MOST_BYTES
        and two.times() <= MOST_TIMES
        and max(step, held) <= MOST_STEP
        and not one.left + two.left
    )
    return Outcome(holds, figures)


@dataclass
class _Costs:
    """Of each specimen: CPU seconds and its label, memory, bytes; and the files left behind."""

    cpu: list[tuple[float, str]]
    memory: tuple[int, str]
    large: list[tuple[float, int, int, str]]
    left: list[str]

    def times(self) -> float:
        # Patterns that are compiled once take a part that does not grow.
        return max(((memory - FIXED_BYTES) / size for _, memory, size, _ in self.large), default=0)

    def for_each_mib(self) -> str:
        if not self.large:
            return "no large ones"
        worst, label = max((seconds / size * 2**20, label) for seconds, _, size, label in self.large)
        least = min(seconds / size * 2**20 for seconds, _, size, _ in self.large)
        return (
            f"for each MiB {least * 1000:.0f} to {worst * 1000:.0f} ms of CPU ({label}), "
            f"{self.times():.1f} times its size"
        )


async def _costs(chosen: Sequence[Specimen]) -> _Costs:
    envelopes = {each.label: canonical({"v": 1, "manifest": each.data}) for each in chosen}
    memory: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for specimen in chosen:
            memory[specimen.label] = await _refused(specimen, envelopes[specimen.label], folder)
        left = sorted(path.name for path in Path(folder).rglob("*"))
    cpu = _cpu_seconds(envelopes)
    large = [
        (cpu[each.label], memory[each.label], len(each.data), each.label)
        for each in chosen
        if len(each.data) > LARGE
    ]
    most = max((taken, label) for label, taken in memory.items())
    return _Costs([(seconds, label) for label, seconds in cpu.items()], most, large, left)


async def _loop_delay(chosen: Sequence[Specimen]) -> float:
    """The longest time that the event loop is held up while a thread refuses one of ``chosen``."""
    longest = 0.0
    for specimen in chosen:
        # The least of three turns: others use this machine, too.
        longest = max(longest, min([await _delay_of_one_turn(specimen) for _ in range(3)]))
    return longest


async def _delay_of_one_turn(specimen: Specimen) -> float:
    """The most that the thread works between two turns of the loop: what the system takes does not count."""
    longest, clock = 0.0, trio.Event()
    worker = 0

    async def watch() -> None:
        nonlocal longest
        await clock.wait()
        latest = time.clock_gettime(worker)
        while True:
            await trio.sleep(0.001)
            now = time.clock_gettime(worker)
            longest, latest = max(longest, now - latest), now

    def decode() -> None:
        nonlocal worker
        worker = time.pthread_getcpuclockid(threading.get_ident())
        trio.from_thread.run_sync(clock.set)
        _decode(data)

    data = canonical({"v": 1, "manifest": specimen.data})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.to_thread.run_sync(decode)
        nursery.cancel_scope.cancel()
    return longest


def _longest_step(data: bytes) -> float:
    """The CPU seconds of the longest step: the least of three turns, since a core is shared with others."""
    return min(_longest_of_one_turn(data) for _ in range(3))


def _longest_of_one_turn(data: bytes) -> float:
    longest = 0.0
    steps = Manifest.decode_steps(data, 0, len(data))
    with suppress(ManifestError, StopIteration):
        while True:
            began = time.thread_time()
            next(steps)
            longest = max(longest, time.thread_time() - began)
    return longest


def _cpu_seconds(envelopes: dict[str, bytes]) -> dict[str, float]:
    """What refusing each costs by itself: the least of `ROUNDS` turns, each turn through all of them.

    A core that is shared with others counts their hold-ups as ours, for seconds on end; so the turns
    of one specimen are seconds apart. What is loaded is frozen, as `cli.runtime` does it: the specimens and
    the tests' own objects are not the collector's work in the program.
    """
    gc.freeze()
    least = dict.fromkeys(envelopes, math.inf)
    for _ in range(ROUNDS):
        for label, data in envelopes.items():
            started = time.thread_time()
            _decode(data)
            least[label] = min(least[label], time.thread_time() - started)
    return least


async def _refused(specimen: Specimen, data: bytes, folder: str) -> int:
    """Both ways; returns the memory that one costs beyond the bytes themselves."""
    tracemalloc.start()
    try:
        _decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    await _by_file(data, Path(folder))
    await _by_wire(data, ManifestId(blake3(specimen.data).digest()))
    return peak


def _decode(data: bytes) -> None:
    try:
        Envelope.from_bytes(data)
    except ManifestError:
        return
    raise AssertionError("a hostile manifest was accepted")


async def _by_file(data: bytes, folder: Path) -> None:
    path = folder / "hostile.swarm"
    path.write_bytes(data)
    try:
        await read_envelope(path)
    except ManifestError:
        return
    finally:
        path.unlink()
    raise AssertionError("a hostile file was accepted")


async def _by_wire(data: bytes, wanted: ManifestId) -> None:
    """A peer that has just what was asked for, and that is hostile."""
    here, there = memory_link_pair(PeerId("here"), PeerId("there"))

    async def serve() -> None:
        await there.read_exactly(32)
        await there.write(encode_length(len(data)))
        await there.write(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            await ask_manifest(here, wanted)
        except (ManifestError, RemoteError):
            nursery.cancel_scope.cancel()
            return
    raise AssertionError("a hostile answer was accepted")
