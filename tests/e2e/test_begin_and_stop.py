"""Transfers that begin and stop a thousand times leave tasks, descriptors and memory where they were."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
import trio

import swarm
from tests.support.nodes import loopback_node, settled_census, until_census
from tests.support.sharing import random_file

PIECE = 16 * 1024
SIZE = 8 * PIECE
KEPT_BYTES = 512 * 1024
"""What may be kept after all cycles together: trio keeps up to a thousand ended cancel scopes until their
deadlines have passed. One transfer that is not forgotten is some 20 KiB, so it shows after 30 cycles.
"""

WARM_UP = 70
UNUSED_SECONDS = 20.0
"""A connection that was opened and not used is closed within ten seconds."""


async def test_two_hundred_cycles_leave_nothing_behind(tmp_path: Path) -> None:
    await _cycles(tmp_path, 200)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_cycles_leave_nothing_behind(tmp_path: Path) -> None:
    await _cycles(tmp_path, 1000)


async def _cycles(folder: Path, count: int) -> None:
    """Each is a share that a second node fetches from: every third to the end, the others cut short."""
    async with loopback_node(folder / "a") as seeder, loopback_node(folder / "b") as leecher:
        before = await settled_census()
        # First as many as fill what is bounded: caches, and tables of what happened lately.
        await _some(folder, seeder, leecher, range(WARM_UP))
        tracemalloc.start()
        try:
            await _some(folder, seeder, leecher, range(6))
            await until_census(before, within=UNUSED_SECONDS)
            held = _held()
            await _some(folder, seeder, leecher, range(count))
            await until_census(before, within=UNUSED_SECONDS)
            kept = _held() - held
        finally:
            tracemalloc.stop()
        assert seeder.transfers == leecher.transfers == ()
        assert kept < KEPT_BYTES, f"{kept} bytes are kept after {count} cycles: {kept / count:.0f} each"


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def _some(folder: Path, seeder: swarm.Node, leecher: swarm.Node, cycles: range) -> None:
    content = random_file(folder / "content", SIZE)
    for cycle in cycles:
        shared = await seeder.share(content, piece_length=PIECE)
        into = folder / "received"
        async with leecher.fetch(shared.link, into=into) as transfer:
            match cycle % 3:
                case 0:
                    with trio.fail_after(20):
                        path = await transfer.complete()
                    path.unlink()
                case 1:
                    await transfer.opened()
                case _:
                    pass
        await shared.stop()
