"""A client of a hash table in a process of its own, of whichever checkout is in PYTHONPATH.

    python tests/interop/walking_client.py MULTIADDR KEY...

Enters the table at MULTIADDR and finds each key (hex) in turn. Prints for each the seconds to the first
provider and of the walk, its questions, and the processor's seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import trio

import swarm
from swarm.discovery.hash_table import HashTable
from swarm.net.addresses import parse_peer_address
from swarm.node.tables import _TableLink
from swarm.reach.kad_messages import KadAnswer, get_providers
from swarm.reach.kad_walk import NEAREST_ASKED

NOT_FOUND = 99.0
BETWEEN_SECONDS = 0.3


async def find(client: HashTable, key: bytes) -> tuple[float, float, int, float]:
    """One find: seconds to the first provider and of the walk, questions, processor seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    met: list[float] = []

    def take(answer: KadAnswer) -> None:
        met.extend([time.perf_counter() - began] * bool(answer.providers))

    walk = client._walk(key, NEAREST_ASKED)
    await client._run_walk(walk, get_providers(key), take)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    return min(met, default=NOT_FOUND), took, walk.questions, used


async def main() -> None:
    address, *keys = sys.argv[1:]
    home = Path(tempfile.mkdtemp())
    async with swarm.open_node(swarm.NodeOptions(home=home, listen=("/ip4/127.0.0.1/tcp/0",))) as node:
        client = HashTable([parse_peer_address(address)], _TableLink(node._questions))
        for key in keys:
            print(*await find(client, bytes.fromhex(key)), flush=True)
            await trio.sleep(BETWEEN_SECONDS)


if __name__ == "__main__":
    trio.run(main)
