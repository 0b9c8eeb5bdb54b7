"""A meeting point and those who use it: found at once, gone at once, and nothing sent without being asked."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio

import swarm
from swarm.config import MeetingOptions
from swarm.content.link import SwarmLink
from swarm.discovery.meeting_point import MeetingPoint
from swarm.ids import ManifestId
from swarm.net.host import Host, open_host
from swarm.node.meeting_server import (
    STREAMS_PER_PEER,
    MeetingServer,
    RendezvousService,
    open_meeting_server,
)
from swarm.node.meetings import Meetings
from swarm.ports import Announcement, ByteStream
from swarm.reach import reach_limits
from swarm.reach.rendezvous_messages import RENDEZVOUS_PROTOCOL
from tests.support.nodes import LISTEN, loopback_node, observe, until
from tests.support.relayed import LOOPBACK

pytestmark = pytest.mark.e2e

MANIFEST = ManifestId(bytes(range(32)))


@asynccontextmanager
async def meeting(folder: Path, listen: tuple[str, ...] = LISTEN) -> AsyncIterator[tuple[str, MeetingServer]]:
    async with open_meeting_server(MeetingOptions(home=folder / "meet", listen=listen)) as server:
        yield server.addresses[0], server


@asynccontextmanager
async def visitor(address: str) -> AsyncIterator[tuple[Host, MeetingPoint]]:
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host, trio.open_nursery() as nursery:
        points = Meetings(host, nursery, lambda _event: None, random.Random(), relay_data=False).at([address])
        yield host, points[0]
        nursery.cancel_scope.cancel()


async def test_fifty_peers_learn_of_a_new_one_within_a_second(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (address, server), AsyncExitStack() as stack:
        visitors = [await stack.enter_async_context(visitor(address)) for _ in range(50)]
        newcomer, point = await stack.enter_async_context(visitor(address))
        learnt: dict[int, float] = {}

        async def watch(number: int, other: MeetingPoint) -> None:
            async with aclosing(other.peers(MANIFEST)) as found_peers:
                async for found in found_peers:
                    if found.peer == newcomer.peer_id:
                        learnt[number] = trio.current_time()
                        return

        async with trio.open_nursery() as nursery:
            for number, (host, other) in enumerate(visitors):
                other.announce(Announcement(MANIFEST, host.addresses, complete=False))
                nursery.start_soon(watch, number, other)
            await until(lambda: len(server.rendezvous.registry) == 50, "all are registered", 30)
            await trio.sleep(1)
            began = trio.current_time()
            point.announce(Announcement(MANIFEST, newcomer.addresses, complete=False))
        print(f"50 peers learnt within {max(learnt.values()) - began:.2f} s")
        assert len(learnt) == 50


async def test_who_leaves_is_forgotten_at_once(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (address, server):
        async with visitor(address) as (host, point):
            point.announce(Announcement(MANIFEST, host.addresses, complete=True))
            await until(lambda: len(server.rendezvous.registry) == 1, "it is registered")
        # It had no time to say so.
        await until(lambda: len(server.rendezvous.registry) == 0, "it is forgotten")


@pytest.mark.parametrize("listen", [LISTEN, ("/ip6/::1/tcp/0",)])
async def test_an_id_is_fetched_and_the_link_names_the_meeting_point(
    tmp_path: Path, listen: tuple[str, ...]
) -> None:
    content = tmp_path / "content.bin"
    content.write_bytes(secrets.token_bytes(300_000))
    async with (
        meeting(tmp_path, listen) as (address, server),
        loopback_node(tmp_path / "a", meet=(address,)) as sharer,
        loopback_node(tmp_path / "b", meet=(address,)) as fetcher,
    ):
        shared = await sharer.share(content)
        assert SwarmLink.parse(shared.link).meets == (address,)
        began = trio.current_time()
        async with fetcher.fetch(shared.id, into=tmp_path / "out") as transfer:
            await transfer.complete()
        print(f"fetched by id in {trio.current_time() - began:.2f} s")
        assert (tmp_path / "out" / "content.bin").read_bytes() == content.read_bytes()
        await shared.stop()
        await until(lambda: len(server.rendezvous.registry) == 0, "nothing is registered any more")


async def test_a_link_alone_leads_to_the_meeting_point(tmp_path: Path) -> None:
    content = tmp_path / "content.bin"
    content.write_bytes(secrets.token_bytes(100_000))
    async with (
        meeting(tmp_path) as (address, _),
        loopback_node(tmp_path / "b") as fetcher,
        trio.open_nursery() as nursery,
        loopback_node(tmp_path / "a", meet=(address,)) as sharer,
    ):
        observed = await observe(sharer, nursery)
        shared = await sharer.share(content)
        # Without an address of the sharer's: the meeting point knows it.
        link = SwarmLink(shared.id, (), "content.bin", (address,))
        async with fetcher.fetch(str(link), into=tmp_path / "out") as transfer:
            await transfer.complete()
        await until(lambda: observed.of(swarm.ReachChecked), "it was dialled back")
        assert observed.of(swarm.ReachChecked)[0].reachable
        nursery.cancel_scope.cancel()


async def test_the_meeting_point_may_come_later_and_come_back(tmp_path: Path) -> None:
    content = tmp_path / "content.bin"
    content.write_bytes(secrets.token_bytes(100_000))
    async with meeting(tmp_path) as (address, _):
        pass
    port = address.split("/")[4]
    options = MeetingOptions(home=tmp_path / "meet", listen=(f"/ip4/127.0.0.1/tcp/{port}",))
    async with loopback_node(tmp_path / "a", meet=(address,)) as sharer:
        shared = await sharer.share(content)
        for number in range(2):
            async with open_meeting_server(options) as server:
                await until(lambda: len(server.rendezvous.registry) == 1, "the share is registered", 30)
                async with (
                    loopback_node(tmp_path / f"b{number}", meet=(address,)) as fetcher,
                    fetcher.fetch(shared.id, into=tmp_path / f"out{number}") as transfer,
                ):
                    await transfer.complete()


async def test_nothing_is_sent_anywhere_without_a_meeting_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled = []
    connect = Host.connect

    async def noted(self: Host, *arguments: object, **named: object) -> str:
        dialled.append(arguments)
        return await connect(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Host, "connect", noted)
    content = tmp_path / "content.bin"
    content.write_bytes(b"content" * 1000)
    async with loopback_node(tmp_path / "a") as sharer:
        shared = await sharer.share(content)
        assert "meet=" not in shared.link
        await trio.sleep(0.5)
    assert dialled == []


async def test_a_rendezvous_server_that_is_no_relay_is_a_meeting_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers neither a relay's protocol nor that of dialling back; it takes nothing under two hours."""
    monkeypatch.setattr(reach_limits, "MIN_TTL", 2 * 3600)
    content = tmp_path / "content.bin"
    content.write_bytes(secrets.token_bytes(100_000))
    streams: list[ByteStream] = []
    rendezvous = RendezvousService()

    async def serve(stream: ByteStream) -> None:
        streams.append(stream)
        await rendezvous(stream)

    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as server, trio.open_nursery() as nursery:
        server.serve(RENDEZVOUS_PROTOCOL, serve, most=STREAMS_PER_PEER)
        meet = (server.addresses[0],)
        async with (
            loopback_node(tmp_path / "a", meet=meet) as sharer,
            loopback_node(tmp_path / "b", meet=meet) as fetcher,
        ):
            observed = await observe(sharer, nursery)
            shared = await sharer.share(content)
            await until(lambda: len(rendezvous.registry) == 1, "it is registered")
            async with fetcher.fetch(shared.id, into=tmp_path / "out") as transfer:
                await transfer.complete()
            await trio.sleep(3)
            # One that holds the registration, and one that asks who else is there.
            assert [stream.peer for stream in streams].count(sharer.peer_id) <= 2
            assert observed.of(swarm.Warned) == []
        nursery.cancel_scope.cancel()


async def test_questions_of_who_is_gone_wait_no_longer(tmp_path: Path) -> None:
    """Each waits up to a minute, and takes memory meanwhile."""
    async with meeting(tmp_path) as (address, server):
        async with visitor(address) as (_, point), trio.open_nursery() as nursery:

            async def look(manifest: ManifestId) -> None:
                async with aclosing(point.peers(manifest)) as peers:
                    async for _ in peers:
                        pass

            for number in range(5):
                nursery.start_soon(look, ManifestId(bytes((number,)) * 32))
            await until(lambda: len(server.rendezvous._waiting) == 5, "the questions wait")
            nursery.cancel_scope.cancel()
        await until(lambda: not server.rendezvous._waiting, "they have ended", 5)
        await until(lambda: len(server.rendezvous._shares) == 0, "and their streams", 5)
