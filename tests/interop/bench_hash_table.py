"""How finds go in a table of go-libp2p nodes, some of them stopped.

    python -m tests.interop.bench_hash_table [--nodes 40] [--stopped 12] [--other CHECKOUT]

Best in a network namespace of its own.

In turns, each find for another key: *cold*, by a client that knows one node; *warm*, by one that has walked
before, some of whose connections are still open; *rested*, by the same after a pause in which they all were
closed; *changed*, after other nodes were stopped in place of the first, which then answer again; *worst*,
cold and with those stopped that are nearest to the key. Prints the median and the worst: when the first
provider came, how long the walk took, its questions, and the processor's time. With --other nothing but cold
and warm finds, by turns with another version.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import base58
import trio

import swarm
from swarm.discovery.hash_table import HashTable
from swarm.ids import ManifestId
from swarm.net.addresses import parse_peer_address
from swarm.node.node import LINGER_SECONDS, Node
from swarm.node.tables import _TableLink
from swarm.reach.kad_messages import key_of
from tests.benchmarks.measuring import table as as_table
from tests.interop.walking_client import find
from tests.support.interop_go import GoPeer
from tests.support.interop_kad import provide, table
from tests.support.processes import Processes

PROGRAM = Path(__file__).parents[2] / ".interop" / "go" / "p2pd"
HERE = Path(__file__).parents[2]
CLIENT = str(HERE / "tests" / "interop" / "walking_client.py")
FIRST, PROVIDER = 0, 1
"""The node through which the table is entered, and the one that provides: neither is stopped."""
RESTS = 3
TURNS, FINDS_OF_A_TURN = 4, 7
Figures = tuple[float, float, int, float]


@contextlib.contextmanager
def stopped(daemons: Sequence[GoPeer]) -> Iterator[None]:
    """These are silent: their system takes connections, they do not answer."""
    try:
        for daemon in daemons:
            daemon.process.signal(signal.SIGSTOP)
        yield
    finally:
        for daemon in daemons:
            daemon.process.signal(signal.SIGCONT)


def nearest(daemons: Sequence[GoPeer], key: bytes, count: int) -> list[GoPeer]:
    """The nodes of the table that are nearest to the key."""
    target = int.from_bytes(hashlib.sha256(key).digest())

    def distance(daemon: GoPeer) -> int:
        peer = base58.b58decode(daemon.address.rpartition("/")[2])
        return target ^ int.from_bytes(hashlib.sha256(peer).digest())

    return sorted(daemons, key=distance)[:count]


async def finds(
    daemons: Sequence[GoPeer], count: int, keys: Iterator[bytes], home: Path
) -> dict[str, list[Figures]]:
    """All kinds of finds; ``count`` nodes are stopped."""
    found: dict[str, list[Figures]] = {kind: [] for kind in ("cold", "warm", "rested", "changed", "worst")}
    others = list(daemons[2:])
    random.Random(1).shuffle(others)
    turns = (others[:count], others[count : 2 * count])

    def client(node: Node) -> HashTable:
        return HashTable([parse_peer_address(daemons[FIRST].address)], _TableLink(node._questions))

    async def rest() -> None:
        await trio.sleep(LINGER_SECONDS + 1)

    async with swarm.open_node(swarm.NodeOptions(home=home, listen=("/ip4/127.0.0.1/tcp/0",))) as node:
        warm = client(node)
        with stopped(turns[0]):
            for _ in range(RESTS):
                await rest()
                found["cold"].append(await find(client(node), next(keys)))
            await find(warm, next(keys))
            for _ in range(FINDS):
                found["warm"].append(await find(warm, next(keys)))
                await trio.sleep(random.random())
            for _ in range(RESTS):
                await rest()
                found["rested"].append(await find(warm, next(keys)))
        with stopped(turns[1]):
            for _ in range(RESTS):
                found["changed"].append(await find(warm, next(keys)))
        for _ in range(RESTS):
            await rest()
            key = next(keys)
            with stopped(nearest(others, key, count)):
                found["worst"].append(await find(client(node), key))
    return found


FINDS = 20


def by_turns(
    daemons: Sequence[GoPeer], count: int, keys: list[bytes], other: Path
) -> dict[str, list[Figures]]:
    """Cold and warm finds by processes of two versions; ``count`` nodes are stopped."""
    found: dict[str, list[Figures]] = {}
    versions = {"this": HERE, "other": other.resolve()}
    with stopped(random.Random(1).sample(list(daemons[2:]), count)):
        for number in range(TURNS):
            for name in list(versions) if number % 2 else reversed(list(versions)):
                command = [
                    sys.executable,
                    str(HERE / "tests/interop/walking_client.py"),
                    daemons[FIRST].address,
                ]
                told = subprocess.run(
                    [*command, *(key.hex() for key in keys[:FINDS_OF_A_TURN])],
                    env={**os.environ, "PYTHONPATH": str(versions[name])},
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
                for turn, line in enumerate(told.splitlines()):
                    first, walk, questions, used = line.split()
                    figures = float(first), float(walk), int(questions), float(used)
                    found.setdefault(f"{'warm' if turn else 'cold'}, {name}", []).append(figures)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=40)
    parser.add_argument("--stopped", type=int, default=12)
    parser.add_argument("--other", type=Path, help="a checkout of another version")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    keys = [key_of(ManifestId(bytes([number]) * 32)) for number in range(FINDS + 4 * RESTS + 1)]
    with Processes(folder) as processes, table(processes, PROGRAM, given.nodes) as daemons:
        for key in keys:
            provide(daemons[PROVIDER], key)
        if given.other is None:
            found = trio.run(finds, daemons, given.stopped, iter(keys), folder / "home")
        else:
            found = by_turns(daemons, given.stopped, keys, given.other)
    print(f"{given.nodes} nodes, {given.stopped} of them stopped; median and worst\n")
    rows = [row(kind, figures) for kind, figures in found.items()]
    print(as_table(("find", "finds", "first provider ms", "walk s", "questions", "processor ms"), rows))


def row(kind: str, figures: list[Figures]) -> list[str]:
    first, walk, questions, used = zip(*figures, strict=True)

    def both(values: Sequence[float], scale: float, digits: int) -> str:
        return f"{statistics.median(values) * scale:.{digits}f}, {max(values) * scale:.{digits}f}"

    return [
        kind,
        str(len(figures)),
        both(first, 1e3, 0),
        both(walk, 1, 2),
        both(questions, 1, 0),
        both(used, 1e3, 0),
    ]


if __name__ == "__main__":
    main()
