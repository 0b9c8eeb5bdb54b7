"""Hostile manifests, from a file and from a peer: refused at once, in little memory, nothing written."""

from __future__ import annotations

import gc
import math
import tempfile
import time
import tracemalloc
from pathlib import Path

import trio
from blake3 import blake3

from swarm.content.envelope import Envelope
from swarm.errors import ManifestError, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.node.catalogue import ask_manifest
from swarm.protocol.advert import encode_length
from swarm.storage.manifest_files import read_envelope
from tests.siege.outcome import Outcome
from tests.support.memory_link import memory_link_pair
from tests.unit.test_content_manifest_zoo import MASSES, SPECIMENS, Specimen, canonical

NAME = "3 manifest zoo"
FIGURE = "at least 150, by file and by wire: all refused, nothing written, at most 100 ms and 32 MiB each"

QUICK = 60
ROUNDS = 12
MOST_SECONDS = 0.1
MOST_BYTES = 32 * 1024 * 1024


async def run(quick: bool) -> Outcome:
    """Every specimen, twice; the small ones of a part of them for ``quick``."""
    chosen = [each for each in SPECIMENS if each not in MASSES][::6][:QUICK] if quick else SPECIMENS
    largest = 0, ""
    envelopes = {each.label: canonical({"v": 1, "manifest": each.data}) for each in chosen}
    with tempfile.TemporaryDirectory() as folder:
        for specimen in chosen:
            largest = max(
                largest, (await _refused(specimen, envelopes[specimen.label], folder), specimen.label)
            )
        left = sorted(path.name for path in Path(folder).rglob("*"))
    seconds, label = max((taken, label) for label, taken in _cpu_seconds(envelopes).items())
    figures = (
        f"{len(chosen)} refused both ways, slowest {seconds * 1000:.0f} ms of CPU ({label}), "
        f"largest {largest[0] / 2**20:.1f} MiB ({largest[1]}), left behind: {left or 'nothing'}"
    )
    return Outcome(seconds <= MOST_SECONDS and largest[0] <= MOST_BYTES and not left, figures)


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
        except RemoteError:
            nursery.cancel_scope.cancel()
            return
    raise AssertionError("a hostile answer was accepted")
