"""The end of a transfer leaves the connection to pings and questions, and none open after them."""

from __future__ import annotations

import os
from pathlib import Path

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

from swarm.net.addresses import parse_peer_address
from swarm.net.host import open_host
from swarm.net.ping_protocol import PING_PROTOCOL
from tests.support.nodes import Census, loopback_node, until
from tests.support.relayed import LOOPBACK
from tests.support.sharing import random_file

PIECE = 16 * 1024
ROUNDS = 20
"""So many that the first connection kept open after a question is due to be closed beside later ones."""


async def test_pings_and_questions_go_on_while_transfers_end(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        before = Census.take()
        shared = await seeder.share(random_file(tmp_path / "content", 4 * PIECE), piece_length=PIECE)
        address = seeder.addresses[0]
        lost: list[object] = []

        async def ping() -> None:
            lost.extend([s async for s in leecher.ping(address, count=8, interval=0.02) if s.seconds is None])

        async def ask() -> None:
            for _ in range(5):
                assert [advert.manifest for advert in await leecher.list(address)] == [shared.id]

        for number in range(ROUNDS):
            transfer = leecher.fetch(shared.link, into=tmp_path / f"into-{number}")
            await transfer.complete()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ping)
                await trio.sleep(0.03)
                nursery.start_soon(ask)
                await transfer.stop()
        assert not lost
        await shared.stop()
        await until(lambda: Census.take().descriptors == before.descriptors, "closed connections", 15)
        await until(lambda: Census.take().tasks == before.tasks, "no pinger", 15)


async def test_a_question_that_is_just_asked_keeps_its_connection(tmp_path: Path) -> None:
    """A session may end while the peer's next stream is still negotiated, as on a busy machine."""
    async with loopback_node(tmp_path / "a") as node, open_host(os.urandom(32), [LOOPBACK]) as other:
        where = parse_peer_address(node.addresses[0])
        await other.connect(where.peer, [where.endpoint])
        (connection,) = other._network.get_connections(ID.from_base58(where.peer))
        stream = await connection.new_stream()
        # Half of the first message: nobody knows yet what the stream is for.
        await stream.write(b"\x13/multistream")
        await until(lambda: node._host._connection(other.peer_id).get_streams(), "the stream has come")
        await node._release(other.peer_id, 0.0)
        await stream.write(b"/1.0.0\n")
        communicator = MultiselectCommunicator(stream)
        assert await communicator.read() == "/multistream/1.0.0"
        await MultiselectClient().try_select(communicator, TProtocol(PING_PROTOCOL))
        await stream.write(bytes(32))
        assert await stream.read(32) == bytes(32)
        await stream.close()
