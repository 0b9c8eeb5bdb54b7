"""The host against strangers: whatever they send, it goes on serving the others."""

from __future__ import annotations

import contextlib
import math
import random
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from libp2p.network.connection import swarm_connection

from swarm.endpoint import Endpoint
from swarm.errors import LinkClosed, NoPeerReachable, UsageError
from swarm.ids import PeerId
from swarm.net import network_limits as limits
from swarm.net import ping_protocol
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.inbound import InboundConnections, network_of
from swarm.net.relay_service import ip_of
from swarm.net.streams import NegotiatedStream
from swarm.ports import ByteStream

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
MULTISTREAM = b"\x13/multistream/1.0.0\n"


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Host, Host]]:
    """A host that answers pings and one that knows where it is."""
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as server,
        open_host(secrets.token_bytes(32)) as client,
    ):
        server.serve(ping_protocol.PING_PROTOCOL, ping_protocol.Responder())
        yield server, client


def port_of(host: Host) -> int:
    return int(host.addresses[0].split("/")[4])


async def connect(client: Host, server: Host) -> None:
    where = [parse_peer_address(address) for address in server.addresses]
    await client.connect(server.peer_id, [each.endpoint for each in where])


async def pings(client: Host, server: Host) -> float | None:
    await connect(client, server)
    prober = ping_protocol.Prober(lambda: client.open_stream(server.peer_id, ping_protocol.PING_PROTOCOL))
    seconds = await prober.probe()
    await prober.aclose()
    return seconds


async def test_a_ping_takes_some_time_but_not_much() -> None:
    async with pair() as (server, client):
        seconds = await pings(client, server)
        assert seconds is not None
        assert 0 < seconds < 1


async def test_closing_does_not_wait_for_the_pause_that_libp2p_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    class EndlessPause:
        """What `swarm_connection` uses of trio, with a pause that never ends."""

        Event, open_nursery = trio.Event, trio.open_nursery
        pauses = given_up = 0

        @classmethod
        async def sleep(cls, _seconds: float) -> None:
            cls.pauses += 1
            try:
                await trio.sleep_forever()
            finally:
                cls.given_up += 1

    async with pair() as (server, client):
        await connect(client, server)
        monkeypatch.setattr(swarm_connection, "trio", EndlessPause)
        with trio.fail_after(20):
            await client.disconnect(server.peer_id)
            assert not client.connected(server.peer_id)
            while not EndlessPause.pauses:
                await trio.sleep(0)
            assert not EndlessPause.given_up, "closing waited until its own deadline"


@pytest.mark.parametrize("ip", ["/ip4/127.0.0.1", "/ip6/::1"])
async def test_both_ends_know_where_the_other_is(ip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    began = InboundConnections.begin_handshake

    def begin(self: InboundConnections, address: str, now: float) -> bool:
        counted.append(address)
        return began(self, address, now)

    monkeypatch.setattr(InboundConnections, "begin_handshake", begin)
    seen: list[str] = []

    async def look(stream: NegotiatedStream) -> None:
        seen.append(stream.remote_address)

    async with (
        open_host(secrets.token_bytes(32), [f"{ip}/tcp/0"]) as server,
        open_host(secrets.token_bytes(32)) as client,
    ):
        server.serve("/look/1", look)
        await connect(client, server)
        stream = await client.open_stream(server.peer_id, "/look/1")
        await stream.reset()
        assert stream.remote_address == f"{ip}/tcp/{port_of(server)}"
    assert len(seen) == 1
    assert re.fullmatch(rf"{ip}/tcp/[0-9]+", seen[0])
    # What admission counts.
    assert counted == [ip.split("/")[2]]
    assert ip_of(seen[0]) == network_of(counted[0])


def test_what_a_peer_counts_for() -> None:
    assert ip_of("/ip6/2001:db8:1:2:3::4/tcp/1") == "2001:db8:1:2::/64"
    assert ip_of("/ip6zone/eth0/ip6/fe80::1/tcp/1") == "fe80::/64"
    assert ip_of("/ip4/192.0.2.1/tcp/1/p2p/12D3KooWA/p2p-circuit") == "192.0.2.1"
    assert ip_of("") == ""


async def test_an_exception_in_a_handler_ends_its_stream_only() -> None:
    async with pair() as (server, client):

        async def broken(link: ByteStream) -> None:
            await link.read_exactly(1)
            raise ZeroDivisionError

        server.serve("/broken/1", broken)
        await connect(client, server)
        for _ in range(3):
            link = await client.open_stream(server.peer_id, "/broken/1")
            await link.write(b"x")
            with pytest.raises(LinkClosed):
                await link.read_exactly(1)
        assert await pings(client, server)


@pytest.mark.parametrize(
    "garbage",
    [
        MULTISTREAM + b"\x04\xff\xfe\xfd\n",
        b"\xff\xff\xff\xff\x7f" + bytes(2000),
        MULTISTREAM + b"\x81\x08" + bytes(1025),
        bytes(4096),
        b"GET / HTTP/1.1\r\n\r\n",
        MULTISTREAM + b"\x07/noise\n" + b"\x00\x20" + bytes(32) + secrets.token_bytes(3000),
        MULTISTREAM + b"\x11/plaintext/2.0.0\n",
        MULTISTREAM + b"\x0d/secio/1.0.0\n",
    ],
    ids=["not utf-8", "huge length", "over 1024", "zeros", "http", "bad noise", "plaintext", "secio"],
)
async def test_garbage_before_the_handshake_harms_nobody(garbage: bytes) -> None:
    async with pair() as (server, client):
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(server))
        async with stream:
            await stream.send_all(garbage)
            with trio.move_on_after(0.3), contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(65536):
                    pass
        assert await pings(client, server)


AT_ONCE_SECONDS = limits.HANDSHAKE_DEADLINE - 2


async def hung_up_on(port: int, sent: bytes) -> None:
    """The other side ends the connection for what was sent, without waiting for more."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(sent)
        # Sooner than a handshake may take.
        with trio.fail_after(AT_ONCE_SECONDS), contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some(65536):
                pass


@pytest.mark.parametrize("size", [b"\x81\x08", b"\x80\x80\x80\x80\x04"], ids=["1025 bytes", "1 GiB"])
async def test_a_negotiation_message_that_claims_too_much_is_not_waited_for(size: bytes) -> None:
    async with pair() as (server, client):
        await hung_up_on(port_of(server), MULTISTREAM + size)
        assert await pings(client, server)


async def test_a_negotiation_message_that_is_not_utf8_on_a_stream_ends_that_stream_only() -> None:
    async with pair() as (server, client):
        await connect(client, server)
        connection = client._connection(server.peer_id)
        assert connection is not None
        stream = await connection.new_stream()
        await stream.write(MULTISTREAM + b"\x04\xff\xfe\xfd\n")
        assert await pings(client, server)


async def test_more_connections_over_a_life_than_fit_at_once() -> None:
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK], max_connections=4) as server,
        open_host(secrets.token_bytes(32)) as client,
    ):
        server.serve(ping_protocol.PING_PROTOCOL, ping_protocol.Responder())
        for _ in range(12):
            assert await pings(client, server)
            await client.disconnect(server.peer_id)


async def test_silent_strangers_cannot_hold_every_handshake() -> None:
    async with pair() as (server, client):
        strangers = [
            await trio.open_tcp_stream("127.0.0.1", port_of(server))
            for _ in range(limits.MAX_PENDING_PER_ADDRESS)
        ]
        await trio.sleep(0.05)
        beyond = await trio.open_tcp_stream("127.0.0.1", port_of(server))
        with trio.fail_after(AT_ONCE_SECONDS):
            assert await beyond.receive_some(1) == b"", "one address has no more places"
        for stranger in [*strangers, beyond]:
            await stranger.aclose()
        with trio.fail_after(20):
            while True:
                try:
                    assert await pings(client, server)
                    break
                except NoPeerReachable:
                    await trio.sleep(0.05)


async def test_a_silent_listener_costs_no_more_than_the_deadline() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = Endpoint.parse(f"/ip4/127.0.0.1/tcp/{listener.getsockname()[1]}")
        async with pair() as (server, client):
            with trio.fail_after(AT_ONCE_SECONDS), pytest.raises(NoPeerReachable):
                await client.connect(server.peer_id, [address], deadline=0.5)
            assert await pings(client, server), "and the next address is tried as if nothing had been"


async def test_another_peer_behind_the_address_is_not_taken_for_the_one_asked_for() -> None:
    async with pair() as (server, client), open_host(secrets.token_bytes(32)) as other:
        where = parse_peer_address(server.addresses[0]).endpoint
        with pytest.raises(NoPeerReachable, match="another peer answers there"):
            await client.connect(other.peer_id, [where], deadline=5)
        assert not client.connected(other.peer_id)


async def test_every_address_is_tried() -> None:
    async with pair() as (server, client):
        good = parse_peer_address(server.addresses[0]).endpoint
        closed = [Endpoint.parse(f"/ip4/127.0.0.1/tcp/{port}") for port in (1, 2)]
        assert await client.connect(server.peer_id, [*closed, good]) == str(good)


async def test_a_taken_port_is_refused() -> None:
    async with pair() as (server, _):
        with pytest.raises(UsageError, match="cannot listen"):
            async with open_host(secrets.token_bytes(32), [f"/ip4/127.0.0.1/tcp/{port_of(server)}"]):
                pass


async def test_no_address_of_a_node_is_unspecified() -> None:
    async with open_host(secrets.token_bytes(32), ["/ip4/0.0.0.0/tcp/0"]) as host:
        assert host.addresses
        for address in host.addresses:
            assert "/0.0.0.0/" not in address
            assert parse_peer_address(address).peer == host.peer_id


class LyingLink:
    """Answers a ping wrongly, late or twice."""

    peer = PeerId("nobody")
    remote_address = ""

    def __init__(self, answers: list[bytes | None]) -> None:
        self._answers = answers
        self._sent = b""

    async def write(self, *data: bytes | bytearray | memoryview, within: float = math.inf) -> None:
        self._sent = b"".join(data)

    async def read_exactly(self, size: int) -> bytes:
        answer = self._answers.pop(0)
        if answer is None:
            await trio.sleep_forever()
        return self._sent if answer == b"echo" else bytes(answer or b"")

    async def readinto_exactly(self, buffer: memoryview) -> None:
        raise NotImplementedError

    async def readinto_least(self, buffer: memoryview, least: int) -> int:
        raise NotImplementedError

    def read_now(self, buffer: memoryview) -> int:
        raise NotImplementedError

    def hold_credit(self) -> None:
        pass

    def give_credit(self) -> None:
        pass

    async def read_some(self, limit: int) -> bytes:
        raise NotImplementedError

    def write_now(self, data: bytes | bytearray) -> bool:
        raise NotImplementedError

    async def close(self) -> None:
        return

    async def reset(self) -> None:
        return


@pytest.mark.parametrize("answer", [bytes(32), random.Random(1).randbytes(32), None])
async def test_a_wrong_or_missing_answer_is_a_lost_ping(answer: bytes | None) -> None:
    opened = 0

    async def open_stream() -> ByteStream:
        nonlocal opened
        opened += 1
        return LyingLink([answer] if opened == 1 else [b"echo"])

    prober = ping_protocol.Prober(open_stream)
    assert await prober.probe(deadline=0.05) is None
    assert await prober.probe(deadline=0.05) is not None
    assert opened == 2, "an answer that may still come must not be taken for the next one's"


ED25519_ID = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
SHA256_ID = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/127.0.0.1/tcp/1/p2p/xyz",
        "/p2p/" + ED25519_ID,
        "/ip4/1.2.3/tcp/1/p2p/" + ED25519_ID,
        "/ip4/127.0.0.1/udp/1/quic-v1/p2p/" + ED25519_ID,
        "\x00",
        "/" * 5000,
    ],
)
def test_what_is_no_peer_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_peer_address(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["p2p", "ipfs"])
@pytest.mark.parametrize("peer", [ED25519_ID, SHA256_ID])
def test_both_spellings_and_both_kinds_of_peer_id_are_taken(part: str, peer: str) -> None:
    parsed = parse_peer_address(f"/ip4/192.0.2.1/tcp/4001/{part}/{peer}")
    assert parsed.peer == peer
    assert str(parsed) == f"/ip4/192.0.2.1/tcp/4001/p2p/{peer}"


async def test_an_open_that_fails_lets_others_run() -> None:
    """Who tries again and again on an ended connection must not stop the node."""
    async with pair() as (server, client):
        with trio.testing.assert_checkpoints(), pytest.raises(LinkClosed):
            await client.open_stream(server.peer_id, ping_protocol.PING_PROTOCOL)
