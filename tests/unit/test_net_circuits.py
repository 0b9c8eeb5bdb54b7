"""Circuits of our own relay: who gets a place, what a circuit may carry, and how it becomes direct."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import PeerId
from swarm.net.addresses import parse_peer_address
from swarm.net.circuits import Circuits
from swarm.net.host import Host, open_host
from swarm.net.relay_service import RelayService
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.multiaddrs import peer_from_bytes
from swarm.reach.relay_messages import (
    HOP_PROTOCOL,
    STOP_PROTOCOL,
    CircuitLimit,
    HopKind,
    HopMessage,
    RelayStatus,
    StopKind,
    StopMessage,
)
from tests.support.nodes import until
from tests.support.relayed import (
    ECHO,
    LOOPBACK,
    circuit_by,
    echo,
    move,
    no_punching,
    ping_over,
    relayed_host,
    take_place,
)

MIB = 1 << 20
STRANGER = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")


@asynccontextmanager
async def relay(limit: CircuitLimit | None = None) -> AsyncIterator[tuple[str, RelayService]]:
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host:
        yield host.addresses[0], RelayService(host, limit or CircuitLimit())


@asynccontextmanager
async def trio_of_hosts(
    limit: CircuitLimit | None = None, *, carry_data: bool = True
) -> AsyncIterator[tuple[str, RelayService, tuple[Host, Circuits], tuple[Host, Circuits]]]:
    """A relay, a host that has a place there, and one that will dial it."""
    async with (
        relay(limit) as (address, service),
        relayed_host(carry_data=carry_data) as target,
        relayed_host(carry_data=carry_data) as source,
    ):
        await take_place(*target, address)
        yield address, service, target, source


async def test_a_circuit_becomes_direct() -> None:
    async with trio_of_hosts(carry_data=False) as (address, service, (target, _), (source, _)):
        answered = await source.connect(target.peer_id, [circuit_by(address)])
        assert "p2p-circuit" not in answered
        assert "p2p-circuit" not in source.remote_address(target.peer_id)
        assert await ping_over(source, target) is not None
        await until(lambda: service.reservations.circuits == 0, "the circuit is closed")


async def test_without_a_punch_and_leave_a_circuit_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    no_punching(monkeypatch)
    async with trio_of_hosts(carry_data=False) as (address, service, (target, _), (source, _)):
        with pytest.raises(NoPeerReachable, match="--relay-data on both"):
            await source.connect(target.peer_id, [circuit_by(address)])
        assert not source.connected(target.peer_id)
        await until(lambda: service.reservations.circuits == 0, "the circuit is closed")


async def test_pieces_go_over_a_circuit_only_if_the_other_end_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    no_punching(monkeypatch)
    async with (
        relay() as (address, _),
        relayed_host(carry_data=False) as (target, circuits),
        relayed_host() as (source, _),
    ):
        await take_place(target, circuits, address)
        with pytest.raises(NoPeerReachable, match="both sides use --relay-data"):
            await source.connect(target.peer_id, [circuit_by(address)])


async def test_our_muxer_runs_over_a_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    no_punching(monkeypatch)
    async with trio_of_hosts() as (address, _, (target, _), (source, _)):
        assert await source.connect(target.peer_id, [circuit_by(address)]) == f"{address}/p2p-circuit"
        assert await ping_over(source, target) is not None
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                stream = await source.open_stream(target.peer_id, ECHO)
                nursery.start_soon(move, stream, 3 * MIB + 7)


async def test_a_direct_connection_is_preferred_and_ends_the_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    no_punching(monkeypatch)
    async with trio_of_hosts() as (address, service, (target, _), (source, _)):
        await source.connect(target.peer_id, [circuit_by(address)])
        assert "p2p-circuit" in source.remote_address(target.peer_id)
        # The other end finds a way at last.
        where = parse_peer_address(source.addresses[0])
        await target._dial_direct(source.peer_id, [where.endpoint], 5.0, False)
        await until(lambda: "p2p-circuit" not in source.remote_address(target.peer_id), "direct is used")
        await until(lambda: service.reservations.circuits == 0, "the circuit is closed")


async def test_nobody_stays_on_the_relay_because_of_one_bad_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ATTEMPT_SECONDS", 0.2)
    monkeypatch.setattr(limits, "UPGRADE_SECONDS", 0.2)
    async with trio_of_hosts() as (address, service, (target, _), (source, _)):
        with monkeypatch.context() as patch:
            no_punching(patch)
            await source.connect(target.peer_id, [circuit_by(address)])
            assert "p2p-circuit" in source.remote_address(target.peer_id)
        await until(lambda: "p2p-circuit" not in source.remote_address(target.peer_id), "direct is used")
        await until(lambda: service.reservations.circuits == 0, "the circuit is closed")


async def test_a_direct_dial_that_works_opens_no_circuit() -> None:
    async with trio_of_hosts() as (address, service, (target, _), (source, _)):
        direct = parse_peer_address(target.addresses[0]).endpoint
        answered = await source.connect(target.peer_id, [circuit_by(address), direct])
        assert answered == str(direct)
        assert service.reservations.circuits == 0


async def test_a_thousand_forged_reservations_take_one_place() -> None:
    async with relay() as (address, service), relayed_host() as (host, circuits):
        relay_peer = circuit_by(address).relay.peer
        granted = 0
        while granted < 1000:
            await take_place(host, circuits, address)
            # Nobody may open streams without end on one connection.
            for _ in range(200):
                # Another peer in each message; the specification knows none here.
                forged = peer_from_bytes(b"\x12\x20" + granted.to_bytes(32, "big"))
                stream = await host.open_stream(relay_peer, HOP_PROTOCOL)
                await write_message(stream, HopMessage(HopKind.RESERVE, forged).encode())
                answer = HopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
                assert answer.status == RelayStatus.OK
                assert not service.reservations.has(forged, trio.current_time())
                await stream.close()
                granted += 1
            await host.disconnect(relay_peer)
        assert service.reservations.peers() == (host.peer_id,)


async def test_nobody_is_reached_without_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async with relay() as (address, _), relayed_host() as (target, _), relayed_host() as (source, _):
        with pytest.raises(NoPeerReachable, match="the peer is not there"):
            await source.connect(target.peer_id, [circuit_by(address)])


async def test_a_place_is_gone_with_its_connection() -> None:
    async with trio_of_hosts() as (address, service, (target, _), (source, _)):
        await target.disconnect(circuit_by(address).relay.peer)
        await trio.sleep(0.3)
        with pytest.raises(NoPeerReachable, match="the peer is not there"):
            await source.connect(target.peer_id, [circuit_by(address)])
        assert len(service.reservations) == 0


async def raw_circuit(source: Host, target: Host, address: str) -> tuple[object, HopMessage]:
    stream = await source.open_stream(circuit_by(address).relay.peer, HOP_PROTOCOL)
    await write_message(stream, HopMessage(HopKind.CONNECT, target.peer_id).encode())
    return stream, HopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))


@asynccontextmanager
async def bare_target(address: str) -> AsyncIterator[Host]:
    """A host with a place that answers a circuit by echoing the raw stream."""

    async def stopped(stream: object) -> None:
        message = StopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))  # type: ignore[arg-type]
        assert message.kind is StopKind.CONNECT
        await write_message(stream, StopMessage(StopKind.STATUS, status=RelayStatus.OK).encode())  # type: ignore[arg-type]
        await echo(stream)  # type: ignore[arg-type]

    async with relayed_host() as (host, circuits):
        await take_place(host, circuits, address)
        host.serve(STOP_PROTOCOL, stopped)
        yield host


async def test_limits_are_exact_to_the_byte_and_one_circuit_leaves_the_others() -> None:
    size = 100_000
    async with (
        relay(CircuitLimit(0, size)) as (address, service),
        bare_target(address) as target,
        relayed_host() as (source, _),
    ):
        where = circuit_by(address).relay
        await source.connect(where.peer, [where.endpoint])
        over, answer = await raw_circuit(source, target, address)
        assert (answer.status, answer.limit) == (RelayStatus.OK, CircuitLimit(0, size))
        other, _ = await raw_circuit(source, target, address)
        # A byte less passes, in both directions, and then one more, which is the last.
        await over.write(bytes(size - 1))
        assert await over.read_exactly(size - 1) == bytes(size - 1)
        await over.write(b"x")
        with pytest.raises(LinkClosed):
            await over.write(b"y")
            while True:
                await over.read_exactly(1)
        await until(lambda: service.reservations.circuits == 1, "only that circuit is closed")
        await other.write(b"still here")
        assert await other.read_exactly(10) == b"still here"
        await other.reset()
        await until(lambda: service.reservations.circuits == 0, "the other is closed, too")


async def test_the_time_of_a_circuit_is_limited() -> None:
    async with (
        relay(CircuitLimit(1, 0)) as (address, service),
        bare_target(address) as target,
        relayed_host() as (source, _),
    ):
        where = circuit_by(address).relay
        await source.connect(where.peer, [where.endpoint])
        began = trio.current_time()
        stream, _ = await raw_circuit(source, target, address)
        with pytest.raises(LinkClosed):
            await stream.read_exactly(1)
        assert 0.9 < trio.current_time() - began < 3
        await until(lambda: service.reservations.circuits == 0, "it is closed")


async def test_circuits_of_one_peer_are_counted() -> None:
    async with relay() as (address, service), bare_target(address) as target, relayed_host() as (source, _):
        where = circuit_by(address).relay
        await source.connect(where.peer, [where.endpoint])
        streams = [
            await raw_circuit(source, target, address) for _ in range(limits.MAX_CIRCUITS_PER_PEER + 1)
        ]
        assert [answer.status for _, answer in streams] == [RelayStatus.OK] * limits.MAX_CIRCUITS_PER_PEER + [
            RelayStatus.RESOURCE_LIMIT_EXCEEDED
        ]
        assert service.reservations.circuits == limits.MAX_CIRCUITS_PER_PEER


async def test_a_peer_that_is_no_relay_of_ours_brings_nobody() -> None:
    async with relayed_host() as (host, _), relayed_host() as (stranger, _):
        await stranger.connect(host.peer_id, [parse_peer_address(host.addresses[0]).endpoint])
        stream = await stranger.open_stream(host.peer_id, STOP_PROTOCOL)
        await write_message(stream, StopMessage(StopKind.CONNECT, STRANGER).encode())
        answer = StopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
        assert answer.status == RelayStatus.PERMISSION_DENIED


async def test_a_relay_that_refuses_is_told() -> None:
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as full, relayed_host() as (host, circuits):

        async def refuse(stream: object) -> None:
            await read_message(stream, limits.MAX_MESSAGE_BYTES)  # type: ignore[arg-type]
            answer = HopMessage(HopKind.STATUS, status=RelayStatus.RESERVATION_REFUSED)
            await write_message(stream, answer.encode())  # type: ignore[arg-type]

        full.serve(HOP_PROTOCOL, refuse)
        with pytest.raises(RemoteError, match="no place"):
            await take_place(host, circuits, full.addresses[0])
