"""How a find goes in a table of go-libp2p nodes, some of them stopped.

python -m tests.interop.bench_hash_table [NODES] [STOPPED]    (40 and 12; best in a network namespace)

Prints, for several finds by one client, cold and then warm: when the first provider came, how long the walk
took, its questions, and the processor's time.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import trio

import swarm
from swarm.discovery import hash_table
from swarm.discovery.hash_table import HashTable
from swarm.ids import ManifestId
from swarm.net.addresses import parse_peer_address
from swarm.node.tables import _TableLink
from swarm.reach.kad_messages import KadAnswer, get_providers, key_of
from swarm.reach.kad_walk import NEAREST_ASKED
from tests.support.interop_kad import provide, table
from tests.support.processes import Processes

PROGRAM = Path(__file__).parents[2] / ".interop" / "go" / "p2pd"


async def finds(first: str, keys: list[bytes], home: Path) -> None:
    async with swarm.open_node(swarm.NodeOptions(home=home, listen=("/ip4/127.0.0.1/tcp/0",))) as node:
        client = HashTable([parse_peer_address(first)], _TableLink(node._questions))
        for number, key in enumerate(keys):
            began, cpu = time.perf_counter(), time.process_time()
            met: list[float] = []

            def take(answer: KadAnswer, began: float = began, met: list[float] = met) -> None:
                met += [time.perf_counter() - began] * bool(answer.providers)

            walk = client._walk(key, NEAREST_ASKED)
            await client._run_walk(walk, get_providers(key), take)
            took, used = time.perf_counter() - began, time.process_time() - cpu
            print(
                f"{'warm' if number else 'cold'}: first provider {min(met, default=99) * 1e3:.0f} ms, "
                f"walk {took:.2f} s, {walk.questions} questions, {used * 1e3:.0f} ms of the processor",
                flush=True,
            )


def main(nodes: int, stopped: int) -> None:
    folder = Path(tempfile.mkdtemp())
    keys = [key_of(ManifestId(bytes([number]) * 32)) for number in range(6)]
    with Processes(folder) as processes, table(processes, PROGRAM, nodes) as daemons:
        for key in keys:
            provide(daemons[1], key)
        for daemon in random.Random(1).sample(list(daemons[2:]), stopped):
            daemon.process.signal(signal.SIGSTOP)
        try:
            trio.run(finds, daemons[0].address, keys, folder / "home")
        finally:
            for daemon in daemons:
                daemon.process.signal(signal.SIGCONT)


if __name__ == "__main__":
    print(f"a question waits {hash_table.QUESTION_SECONDS} s")
    main(*(int(argument) for argument in sys.argv[1:] or ("40", "12")))
