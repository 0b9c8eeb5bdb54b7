"""A node that shares several paths and tells on request what it holds: for tests that count.

python -m tests.support.watched PATH… [--piece-size BYTES]

Prints {"event": "node_listening", "addresses": […]}, then {"event": "path_shared", "manifest": FILE} for each
path (the manifest is written beside it). On SIGUSR1 it prints
{"event": "census", "number": n, "tasks": …, "descriptors": …, "rss": …, "objects": …}.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import trio

from swarm.config import NodeOptions
from swarm.node import open_node

LISTEN = "/ip4/127.0.0.1/tcp/0"


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def tasks() -> int:
    """Every task of this trio run, system tasks included."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, waiting = 0, [root]
    while waiting:
        task = waiting.pop()
        found += 1
        for nursery in task.child_nurseries:
            waiting += nursery.child_tasks
    return found


async def census() -> None:
    """Count when told to."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        number = 0
        tell("ready")
        async for _ in signals:
            number += 1
            gc.collect()
            me = psutil.Process()
            tell(
                "census",
                number=number,
                tasks=tasks(),
                descriptors=me.num_fds(),
                rss=me.memory_info().rss,
                objects=len(gc.get_objects()),
            )


async def run(paths: list[Path], piece_size: int | None) -> None:
    """Share until ended."""
    async with open_node(NodeOptions(listen=(LISTEN,))) as node, trio.open_nursery() as nursery:
        tell("node_listening", peer=node.peer_id, addresses=node.addresses)
        for path in paths:
            shared = await node.share(path, piece_length=piece_size)
            manifest = path.with_name(path.name + ".swarm")
            manifest.write_bytes(shared.envelope.to_bytes())
            tell("path_shared", manifest=str(manifest))
        nursery.start_soon(census)
        await trio.sleep_forever()


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--piece-size", type=int)
    options = parser.parse_args()
    trio.run(run, options.paths, options.piece_size)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
