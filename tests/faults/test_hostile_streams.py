"""What a peer does on its streams, and that its connection is over for it; honest peers notice nothing."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from swarm.errors import LinkClosed, RemoteError
from swarm.net import network_limits as limits
from swarm.net import ping_protocol
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.inbound import PeerStanding
from swarm.ports import ByteStream
from swarm.protocol.codec import HELLO
from swarm.transfer.session import read_greeting
from tests.support import hostile_connections
from tests.support.hostile_connections import DATA, SYN, WINDOW_UPDATE, frame

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
TALK = "/test/talk/1.0.0"


@asynccontextmanager
async def three() -> AsyncIterator[tuple[Host, Host, Host]]:
    """A host that answers, a hostile one and an honest one, both connected to it."""
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as server,
        open_host(secrets.token_bytes(32)) as hostile,
        open_host(secrets.token_bytes(32)) as honest,
    ):
        server.serve(ping_protocol.PING_PROTOCOL, ping_protocol.Responder())
        await connect(hostile, server)
        await connect(honest, server)
        yield server, hostile, honest


async def connect(client: Host, server: Host) -> None:
    where = parse_peer_address(server.addresses[0])
    await client.connect(server.peer_id, [where.endpoint])


async def gone(client: Host, server: Host, within: float = 2) -> None:
    """Wait until the client has lost its connection; fails when it does not."""
    with trio.fail_after(within):
        while client.connected(server.peer_id):
            await trio.sleep(0.01)


async def pings(client: Host, server: Host) -> bool:
    prober = ping_protocol.Prober(lambda: client.open_stream(server.peer_id, ping_protocol.PING_PROTOCOL))
    seconds = await prober.probe()
    await prober.aclose()
    return seconds is not None


@pytest.mark.parametrize(
    "said",
    [secrets.token_bytes(4096), (2**32 - 1).to_bytes(4, "big") + bytes([HELLO]), bytes(5)],
    ids=["garbage", "4 GiB", "no greeting"],
)
async def test_who_breaks_a_rule_on_a_stream_loses_the_connection(said: bytes) -> None:
    async with three() as (server, hostile, honest):

        async def talk(link: ByteStream) -> None:
            await read_greeting(link)

        server.serve(TALK, talk)
        link = await hostile.open_stream(server.peer_id, TALK)
        with suppress(LinkClosed):
            await link.write(said)
        await gone(hostile, server)
        assert await pings(honest, server)


async def test_what_breaks_in_our_handler_costs_the_stream_alone() -> None:
    async with three() as (server, hostile, _):

        async def talk(link: ByteStream) -> None:
            raise RuntimeError("ours")

        server.serve(TALK, talk)
        for _ in range(2 * int(limits.OFFENCE_BURST)):
            with pytest.raises(LinkClosed):
                link = await hostile.open_stream(server.peer_id, TALK)
                await link.read_exactly(1)
        assert await pings(hostile, server)


async def test_streams_without_a_negotiation_end_the_connection() -> None:
    async with three() as (server, _, honest):
        _, _, host, _, port, *_ = server.addresses[0].split("/")
        session = await hostile_connections.Door(host, int(port), server.peer_id).enter()
        with suppress(*hostile_connections.EXPECTED):
            for number in range(int(limits.OFFENCE_BURST) + 2):
                opening = frame(WINDOW_UPDATE, SYN, 2 * number + 1, 0) + frame(DATA, 0, 2 * number + 1, 5)
                await session.write(opening + b"\x80\x80\x80\x80\x04")
                await trio.sleep(0.005)
        with trio.fail_after(5), pytest.raises(hostile_connections.EXPECTED):
            while True:
                await session.read()
        await session.close()
        assert await pings(honest, server)


async def test_a_few_protocols_that_are_not_spoken_here_are_no_offence() -> None:
    async with three() as (server, hostile, _):
        for number in range(int(limits.OFFENCE_BURST) - 2):
            with pytest.raises(LinkClosed):
                await hostile.open_stream(server.peer_id, f"/test/{number}")
        assert await pings(hostile, server)


async def test_one_peer_is_answered_on_so_many_streams_at_once_and_others_besides() -> None:
    async with three() as (server, hostile, honest):
        answering: list[str] = []

        async def talk(link: ByteStream) -> None:
            answering.append(link.peer)
            await trio.sleep_forever()

        server.serve(TALK, talk, most=limits.STREAMS_PER_QUESTION)
        for _ in range(limits.STREAMS_PER_QUESTION):
            await hostile.open_stream(server.peer_id, TALK)
        with pytest.raises(LinkClosed):
            one_more = await hostile.open_stream(server.peer_id, TALK)
            await one_more.read_exactly(1)
        await honest.open_stream(server.peer_id, TALK)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert answering.count(hostile.peer_id) == limits.STREAMS_PER_QUESTION
        assert answering.count(honest.peer_id) == 1


async def test_asking_again_and_again_beyond_that_ends_the_connection() -> None:
    async with three() as (server, hostile, _):

        async def talk(link: ByteStream) -> None:
            await trio.sleep_forever()

        server.serve(TALK, talk, most=1)
        for _ in range(int(limits.OFFENCE_BURST) + 3):
            with suppress(LinkClosed):
                await hostile.open_stream(server.peer_id, TALK)
            await trio.sleep(0.005)
        await gone(hostile, server)


async def test_a_flood_of_pings_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping_protocol, "PING_RATE", 10.0)
    monkeypatch.setattr(ping_protocol, "PING_BURST", 500.0)
    async with three() as (server, hostile, honest):
        link = await hostile.open_stream(server.peer_id, ping_protocol.PING_PROTOCOL)
        block = bytes(ping_protocol.PAYLOAD_BYTES * 50)
        answered = 0
        with suppress(LinkClosed), trio.fail_after(10):
            while True:
                await link.write(block)
                await link.read_exactly(len(block))
                answered += 50
        assert 450 <= answered <= 700
        await gone(hostile, server)
        assert await pings(honest, server)


async def test_a_new_stream_for_every_ping_is_borne_for_a_while_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STREAM_RATE", 1.0)
    monkeypatch.setattr(limits, "STREAM_BURST", 40.0)
    async with three() as (server, hostile, honest):
        opened = 0
        with trio.fail_after(20):
            while hostile.connected(server.peer_id):
                with suppress(LinkClosed):
                    await pings(hostile, server)
                    opened += 1
        assert limits.STREAM_BURST - 2 <= opened <= 2 * limits.STREAM_BURST
        assert await pings(honest, server)


async def test_a_connection_without_a_use_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine has to open a stream in half of that.
    monkeypatch.setattr(limits, "UNUSED_SECONDS", 1.0)
    async with three() as (server, hostile, honest):
        await honest.open_stream(server.peer_id, ping_protocol.PING_PROTOCOL)
        await gone(hostile, server, within=20)
        await trio.sleep(limits.UNUSED_SECONDS)
        assert honest.connected(server.peer_id), "one that holds a stream stays"


async def test_a_full_house_takes_in_whom_the_user_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ADDRESS_SHARE", 1)
    async with open_host(secrets.token_bytes(32), [LOOPBACK], max_connections=3) as server:
        server.serve(ping_protocol.PING_PROTOCOL, ping_protocol.Responder())
        async with trio.open_nursery() as nursery:
            strangers = [await guest(nursery, server) for _ in range(3)]
            with pytest.raises(LinkClosed):
                await guest(nursery, server)
            assert all(stranger.connected(server.peer_id) for stranger in strangers), "they have just come"
            named: list[str] = []
            server.judge_by(lambda peer: PeerStanding.NAMED if peer in named else PeerStanding.STRANGER)
            async with open_host(secrets.token_bytes(32)) as friend:
                named.append(friend.peer_id)
                await connect(friend, server)
                assert await pings(friend, server)
                await gone(strangers[0], server)
            nursery.cancel_scope.cancel()


async def guest(nursery: trio.Nursery, server: Host) -> Host:
    """A connected host that lives as long as the nursery."""

    async def live(task_status: trio.TaskStatus[Host]) -> None:
        async with open_host(secrets.token_bytes(32)) as host:
            await connect(host, server)
            await host.open_stream(server.peer_id, ping_protocol.PING_PROTOCOL)
            task_status.started(host)
            await trio.sleep_forever()

    found = await nursery.start(live)
    assert isinstance(found, Host)
    return found


async def test_a_rule_broken_by_a_peer_that_we_dialled_ends_that_connection_too() -> None:
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as far,
        open_host(secrets.token_bytes(32)) as near,
    ):

        async def refuse(link: ByteStream) -> None:
            raise RemoteError("broken on purpose")

        near.serve(TALK, refuse)
        await connect(near, far)
        link = await far.open_stream(near.peer_id, TALK)
        with pytest.raises(LinkClosed):
            await link.read_exactly(1)
        await gone(near, far)
