"""The distributed hash tables of a node: how it enters them, and how it talks to their nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from swarm.discovery.hash_table import HashTable
from swarm.endpoint import PeerAddress
from swarm.errors import LinkClosed, UsageError
from swarm.events import Event, Warned
from swarm.ids import PeerId
from swarm.net.addresses import parse_peer_address
from swarm.node.catalogue import Questions
from swarm.node.keep_running import keep_running
from swarm.reach.framing import read_message, write_message
from swarm.reach.kad_messages import KAD_PROTOCOL, MAX_KAD_BYTES, KadPeer

IPFS: Final = "ipfs"
"""The table of the IPFS network (Amino), by the one of its first nodes that has a fixed address."""
IPFS_NODES: Final = ("/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",)
IPFS_TELLS: Final = (
    "nodes of the IPFS network learn this node's addresses and a hash of the id of what it shares or fetches"
)
KNOWN_FOLDER: Final = "hash-tables"
"""In the home: the nodes of each table that answered, a line for each address. The file has the name of the
table's first node. The next run begins at them, also when that one is gone. Damaged lines are left out."""
MAX_KNOWN_BYTES: Final = 64 * 1024


def begin_tables(
    dht: Sequence[str],
    questions: Questions,
    publish: Callable[[Event], None],
    nursery: trio.Nursery,
    home: Path,
) -> list[HashTable]:
    """Enter the tables that the option ``dht`` names; raises UsageError for a malformed address."""
    own = [parse_peer_address(text) for text in dht if text != IPFS]
    entries = [own] if own else []
    if IPFS in dht:
        publish(Warned(IPFS_TELLS))
        entries.append([parse_peer_address(text) for text in IPFS_NODES])
    tables = []
    for first in entries:
        place = home / KNOWN_FOLDER / first[0].peer
        table = HashTable(first, _TableLink(questions), read_known(place))
        nursery.start_soon(keep_running, partial(_run, table, place), "a distributed hash table")
        tables.append(table)
    return tables


async def _run(table: HashTable, place: Path) -> None:
    try:
        await table.run()
    finally:
        _keep_known(table, place)


def _keep_known(table: HashTable, place: Path) -> None:
    """Not synced: a line that is cut off is no address. If nobody answers, what was kept stays."""
    lines = [str(PeerAddress(node.peer, where)) for node in table.answering for where in node.endpoints]
    with suppress(OSError):
        if lines:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def read_known(place: Path) -> list[PeerAddress]:
    """The addresses of nodes that an earlier run has left; none if the file is not there."""
    found = []
    with suppress(OSError), place.open("rb") as file:
        for line in file.read(MAX_KNOWN_BYTES).decode("ascii", "replace").splitlines():
            with suppress(UsageError):
                found.append(parse_peer_address(line))
    return found


class _TableLink:
    """Asks nodes as peers are asked: a connection that nothing else uses is closed a moment later."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    @property
    def me(self) -> PeerId:
        return self._questions.me

    def connected(self, peer: PeerId) -> bool:
        return self._questions.connected(peer)

    async def ask(self, node: KadPeer, message: bytes) -> bytes:
        async with self._questions.ask(node.peer, node.endpoints, KAD_PROTOCOL) as stream:
            await write_message(stream, message)
            return await read_message(stream, MAX_KAD_BYTES)

    async def tell(self, node: KadPeer, message: bytes) -> None:
        async with self._questions.ask(node.peer, node.endpoints, KAD_PROTOCOL) as stream:
            await write_message(stream, message)
            # Its end says that it has read the message: a reset stream loses what was sent. Not `close`:
            # after that nothing can be read.
            await stream.finish()
            with suppress(LinkClosed):
                await stream.read_exactly(1)
