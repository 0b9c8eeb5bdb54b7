"""Hostile manifests, from a file and from a peer: refused at once, in little memory, nothing written."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from pathlib import Path

import trio
from blake3 import blake3

from cli.manifests import read_envelope
from swarm.content.envelope import Envelope
from swarm.errors import ManifestError, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.node.catalogue import ask_manifest
from swarm.wire.advert import encode_length
from tests.siege.outcome import Outcome
from tests.support.memory_link import memory_link_pair
from tests.unit.test_content_manifest_zoo import MASSES, SPECIMENS, Specimen, canonical

NAME = "3 manifest zoo"
FIGURE = "at least 150, by file and by wire: all refused, nothing written, at most 100 ms and 32 MiB each"

QUICK = 60
MOST_SECONDS = 0.1
MOST_BYTES = 32 * 1024 * 1024


async def run(quick: bool) -> Outcome:
    """Every specimen, twice; the small ones of a part of them for ``quick``."""
    chosen = [each for each in SPECIMENS if each not in MASSES][::6][:QUICK] if quick else SPECIMENS
    slowest, largest = (0.0, ""), (0, "")
    with tempfile.TemporaryDirectory() as folder:
        for specimen in chosen:
            seconds, size = await _refused(specimen, Path(folder))
            slowest = max(slowest, (seconds, specimen.label))
            largest = max(largest, (size, specimen.label))
        left = sorted(path.name for path in Path(folder).rglob("*"))
    figures = (
        f"{len(chosen)} refused both ways, slowest {slowest[0] * 1000:.0f} ms of CPU ({slowest[1]}), "
        f"largest {largest[0] / 2**20:.1f} MiB ({largest[1]}), left behind: {left or 'nothing'}"
    )
    return Outcome(slowest[0] <= MOST_SECONDS and largest[0] <= MOST_BYTES and not left, figures)


async def _refused(specimen: Specimen, folder: Path) -> tuple[float, int]:
    """CPU seconds of the dearer way, the best of three; memory beyond the bytes themselves."""
    data = canonical({"v": 1, "manifest": specimen.data})
    seconds = []
    for _ in range(3):
        started = time.thread_time()
        _decode(data)
        seconds.append(time.thread_time() - started)
    tracemalloc.start()
    try:
        _decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    await _by_file(data, folder)
    await _by_wire(data, ManifestId(blake3(specimen.data).digest()))
    return min(seconds), peak


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
