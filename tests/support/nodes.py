"""Nodes in this process for tests of the public API: real sockets on loopback, a home of their own each."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

import swarm
from swarm.storage.seed_store import IDLE_SECONDS

LISTEN = ("/ip4/127.0.0.1/tcp/0",)
NOBODY = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD3bfmNbuuuVCYwkjnFt3ukm3qaB3hDED3peHHXawvRAi"
"""An address where nothing listens."""


def node_options(folder: Path, **fields: Any) -> swarm.NodeOptions:
    """Options of a node on loopback whose state is in ``folder``."""
    return swarm.NodeOptions(**{"home": folder / "home", "listen": LISTEN, **fields})


@asynccontextmanager
async def loopback_node(folder: Path, **fields: Any) -> AsyncIterator[swarm.Node]:
    """A node on loopback."""
    async with swarm.open_node(node_options(folder, **fields)) as node:
        yield node


@dataclass(frozen=True, slots=True)
class Census:
    """What this process holds: trio tasks (system tasks included) and open descriptors."""

    tasks: int
    descriptors: int

    @classmethod
    def take(cls) -> Census:
        """Count now."""
        gc.collect()
        root = trio.lowlevel.current_root_task()
        assert root is not None
        tasks, waiting = 0, [root]
        while waiting:
            task = waiting.pop()
            tasks += 1
            for nursery in task.child_nurseries:
                waiting += nursery.child_tasks
        return cls(tasks, len(os.listdir("/proc/self/fd")))


async def until(condition: Callable[[], object], what: str, within: float = 30.0) -> None:
    """Wait until ``condition`` holds; fails when it does not in time."""
    with trio.move_on_after(within):
        while not condition():
            await trio.sleep(0.02)
    assert condition(), f"not within {within:g} s: {what}"


async def settled_census() -> Census:
    """What this process holds once that has not changed for longer than an idle share keeps its file open."""
    # Counted in seconds, not in looks: a look takes long in a large process on a busy machine.
    seen, since = Census.take(), trio.current_time()
    with trio.fail_after(60):
        while trio.current_time() < since + IDLE_SECONDS + 1:
            await trio.sleep(0.1)
            began = trio.current_time()
            if (now := Census.take()) != seen:
                seen, since = now, began
    return seen


async def until_census(wanted: Census, within: float = 30.0) -> None:
    """Wait until this process holds what it held before."""
    with trio.move_on_after(within):
        while Census.take() != wanted:
            await trio.sleep(0.1)
    assert Census.take() == wanted


class Observed:
    """Every event of a node so far, in order; `watch` runs in a nursery."""

    def __init__(self, node: swarm.Node) -> None:
        self.events: list[swarm.Event] = []
        self._subscription = node.event_stream.subscribe(capacity=1 << 20)

    async def watch(self) -> None:
        """Collect until the node closes."""
        async for event in self._subscription:
            self.events.append(event)

    def of(self, kind: type[swarm.Event]) -> list[Any]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]


async def observe(node: swarm.Node, nursery: trio.Nursery) -> Observed:
    """Begin to collect what the node publishes."""
    observed = Observed(node)
    nursery.start_soon(observed.watch)
    await trio.lowlevel.checkpoint()
    return observed
