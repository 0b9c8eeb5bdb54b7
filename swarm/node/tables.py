"""The distributed hash tables of a node: how it enters them, and how it talks to their nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import trio

from swarm.discovery.hash_table import HashTable
from swarm.errors import LinkClosed
from swarm.events import Event, Warned
from swarm.ids import PeerId
from swarm.net.addresses import parse_peer_address
from swarm.node.catalogue import Questions
from swarm.reach.framing import read_message, write_message
from swarm.reach.kad_messages import KAD_PROTOCOL, MAX_KAD_BYTES, KadPeer

IPFS: Final = "ipfs"
"""The table of the IPFS network (Amino), by the one of its first nodes that has a fixed address."""
IPFS_NODES: Final = ("/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",)
IPFS_TELLS: Final = (
    "nodes of the IPFS network learn this node's addresses and a hash of the id of what it shares or fetches"
)


def begin_tables(
    dht: Sequence[str], questions: Questions, publish: Callable[[Event], None], nursery: trio.Nursery
) -> list[HashTable]:
    """Enter the tables that the option ``dht`` names; raises UsageError for a malformed address."""
    own = [parse_peer_address(text) for text in dht if text != IPFS]
    tables = [HashTable(own, _TableLink(questions))] if own else []
    if IPFS in dht:
        publish(Warned(IPFS_TELLS))
        tables.append(HashTable([parse_peer_address(text) for text in IPFS_NODES], _TableLink(questions)))
    for table in tables:
        nursery.start_soon(table.run)
    return tables


class _TableLink:
    """Asks nodes as peers are asked: a connection that nothing else uses is closed a moment later."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    @property
    def me(self) -> PeerId:
        return self._questions.me

    async def ask(self, node: KadPeer, message: bytes) -> bytes:
        async with self._questions.ask(node.peer, node.endpoints, KAD_PROTOCOL) as stream:
            await write_message(stream, message)
            return await read_message(stream, MAX_KAD_BYTES)

    async def tell(self, node: KadPeer, message: bytes) -> None:
        async with self._questions.ask(node.peer, node.endpoints, KAD_PROTOCOL) as stream:
            await write_message(stream, message)
            # Its end says that it has read the message: a reset stream loses what was sent.
            await stream.close()
            with suppress(LinkClosed):
                await stream.read_exactly(1)
