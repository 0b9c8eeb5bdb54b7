"""Transfers that begin and stop on two nodes of one process, and what is left of them.

    python -m tests.siege.begin_and_stop FOLDER CYCLES

Prints one JSON object: {"blocks": …, "growth": bytes, "before": {"tasks": …, "descriptors": …}, "after": …}.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import trio

import swarm
from tests.support.nodes import Census, loopback_node, settled_census
from tests.support.sharing import random_file

PIECE = 16 * 1024
SIZE = 8 * PIECE
WARM_UP = 70
"""Cycles that fill what is bounded: caches, and tables of what happened lately."""
UNUSED_SECONDS = 20.0
"""A connection that was opened and not used is closed within ten seconds."""
MOST_BLOCKS = 10_000
"""Blocks of the interpreter's memory that may be kept after all cycles together: trio keeps up to a thousand
ended cancel scopes until their deadlines have passed. One transfer that is not forgotten is hundreds.
"""
MOST_GROWTH = 16 * 1024 * 1024
"""Bytes that the process may have grown by: a buffer that is not given back is no block."""


@dataclass(frozen=True, slots=True)
class Left:
    """What the process held before the cycles and after them."""

    blocks: int
    growth: int
    before: Census
    after: Census

    @property
    def nothing(self) -> bool:
        """Whether tasks and descriptors are as before, and memory nearly so."""
        return self.before == self.after and self.blocks < MOST_BLOCKS and self.growth < MOST_GROWTH


async def begin_and_stop(folder: Path, cycles: int) -> Left:
    """Each is a share that a second node fetches from: every third to the end, the others cut short."""
    async with loopback_node(folder / "a") as seeder, loopback_node(folder / "b") as leecher:
        before = await settled_census()
        await _cycle(folder, seeder, leecher, range(WARM_UP))
        await _until(before)
        blocks, size = _held()
        await _cycle(folder, seeder, leecher, range(cycles))
        after = await _until(before)
        blocks_now, size_now = _held()
        if seeder.transfers or leecher.transfers:
            raise AssertionError("a transfer that was stopped is still there")
    return Left(blocks_now - blocks, size_now - size, before, after)


async def _until(wanted: Census) -> Census:
    """What the process holds once that is ``wanted``, or after a while."""
    with trio.move_on_after(UNUSED_SECONDS):
        while Census.take() != wanted:
            await trio.sleep(0.1)
    return Census.take()


def _held() -> tuple[int, int]:
    gc.collect()
    return sys.getallocatedblocks(), psutil.Process().memory_info().rss


async def _cycle(folder: Path, seeder: swarm.Node, leecher: swarm.Node, cycles: range) -> None:
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


def main() -> int:
    """Read the command line and run."""
    folder, cycles = sys.argv[1:]
    left = trio.run(begin_and_stop, Path(folder), int(cycles))
    print(json.dumps(asdict(left)), flush=True)
    return 0 if left.nothing else 1


if __name__ == "__main__":
    sys.exit(main())
