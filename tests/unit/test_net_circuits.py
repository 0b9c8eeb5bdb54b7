"""Circuits of our own relay: who gets a place, what a circuit may carry, and how it becomes direct."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p.abc import INetConn
from libp2p.network.connection.raw_connection import RawConnection
from multiaddr import Multiaddr

from swarm.endpoint import Circuit, Endpoint
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import PeerId
from swarm.net import circuits as circuits_module
from swarm.net.addresses import parse_peer_address
from swarm.net.admission import Admission
from swarm.net.circuits import Circuits
from swarm.net.dialer import Telling
from swarm.net.host import Host, open_host
from swarm.net.relay_service import RelayService
from swarm.net.streams import NegotiatedStream, NotSpoken
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.multiaddrs import peer_from_bytes
from swarm.reach.probe_messages import IDENTIFY_PROTOCOL
from swarm.reach.relay_messages import (
    CircuitLimit,
    HopKind,
    HopMessage,
    PunchKind,
    PunchMessage,
    RelayStatus,
    ReservationGrant,
    StopKind,
    StopMessage,
)
from swarm.reach.relay_protocols import HOP_PROTOCOL, PUNCH_PROTOCOL, STOP_PROTOCOL
from tests.support.memory_link import memory_link_pair
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
        assert 0.9 < trio.current_time() - began < 20
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


async def test_circuits_of_one_network_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CIRCUITS_PER_NETWORK", 3)
    async with (
        relay() as (address, service),
        bare_target(address) as target,
        relayed_host() as (one, _),
        relayed_host() as (other, _),
    ):
        where = circuit_by(address).relay
        for source in (one, other):
            await source.connect(where.peer, [where.endpoint])
        streams = [await raw_circuit(source, target, address) for source in (one, other, one, other)]
        assert [answer.status for _, answer in streams] == [RelayStatus.OK] * 3 + [
            RelayStatus.RESOURCE_LIMIT_EXCEEDED
        ]
        assert service.reservations.circuits == 3


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


@pytest.mark.parametrize(
    ("granted", "least", "most"),
    [
        (600, 500, 600),
        (24 * 3600, limits.RESERVATION_SECONDS, limits.RESERVATION_SECONDS),
        # Its clock, or this one, is wrong.
        (-7200, limits.LEAST_RESERVATION, limits.LEAST_RESERVATION),
        (None, limits.RESERVATION_SECONDS, limits.RESERVATION_SECONDS),
    ],
)
async def test_a_place_lasts_as_long_as_the_relay_says(granted: int | None, least: int, most: int) -> None:
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as other, relayed_host() as (host, circuits):

        async def grant(stream: object) -> None:
            await read_message(stream, limits.MAX_MESSAGE_BYTES)  # type: ignore[arg-type]
            place = None if granted is None else ReservationGrant(int(time.time()) + granted)
            answer = HopMessage(HopKind.STATUS, grant=place, status=RelayStatus.OK)
            await write_message(stream, answer.encode())  # type: ignore[arg-type]

        other.serve(HOP_PROTOCOL, grant)
        where = parse_peer_address(other.addresses[0])
        await host.connect(where.peer, [where.endpoint], from_port=True)
        assert least <= await circuits.reserve(where.peer) <= most


async def test_a_relay_that_once_gave_no_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with trio_of_hosts() as (address, _, (target, _), (source, circuits)):
        circuit = circuit_by(address)
        await source.connect(circuit.relay.peer, [circuit.relay.endpoint])

        async def no_answer(*_: object) -> None:
            raise LinkClosed("no answer in time")

        with monkeypatch.context() as patch:
            patch.setattr(circuits._host, "open_on", no_answer)
            with pytest.raises(LinkClosed, match="in time"):
                await circuits._open_circuit(target.peer_id, circuit)
        for _ in range(2):
            connection, _ = await circuits._open_circuit(target.peer_id, circuit)
            assert not connection.is_closed


async def test_a_relay_that_once_did_not_say_where_it_sees_this_node_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without that a punch lacks the public address."""
    async with relay() as (address, _), relayed_host() as (host, circuits):
        where, asked, open_on = circuit_by(address).relay, 0, circuits._host.open_on

        async def no_answer(connection: INetConn, protocol: str, first: bytes) -> NegotiatedStream:
            nonlocal asked
            if protocol == IDENTIFY_PROTOCOL:
                asked += 1
                raise LinkClosed("no answer in time")
            return await open_on(connection, protocol, first)

        monkeypatch.setattr(circuits_module, "OBSERVED_AGAIN_SECONDS", 1000.0)
        with monkeypatch.context() as patch:
            patch.setattr(circuits._host, "open_on", no_answer)
            await take_place(host, circuits, address)
            # Not without pause.
            for _ in range(3):
                assert await circuits.observed(where.peer) is None
            assert asked == 1
        monkeypatch.setattr(circuits_module, "OBSERVED_AGAIN_SECONDS", 0.0)
        observed = await circuits.observed(where.peer)
        assert observed is not None
        assert observed.port in host.ports


async def test_a_relay_that_does_not_speak_identify_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each such question counts as an offence there."""
    async with relay() as (address, _), relayed_host() as (host, circuits):
        where, asked, open_on = circuit_by(address).relay, 0, circuits._host.open_on

        async def not_spoken(connection: INetConn, protocol: str, first: bytes) -> NegotiatedStream:
            nonlocal asked
            if protocol == IDENTIFY_PROTOCOL:
                asked += 1
                raise NotSpoken("no such protocol")
            return await open_on(connection, protocol, first)

        monkeypatch.setattr(circuits_module, "OBSERVED_AGAIN_SECONDS", 0.0)
        monkeypatch.setattr(circuits._host, "open_on", not_spoken)
        await take_place(host, circuits, address)
        for _ in range(3):
            assert await circuits.observed(where.peer) is None
        assert asked == 1


async def test_a_direct_dial_has_a_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circuit costs its relay something: none is opened while a direct dial may still succeed."""
    opened: list[Circuit] = []

    async def through(_self: Circuits, _peer: PeerId, circuit: Circuit, _give_up: float) -> str:
        opened.append(circuit)
        return str(circuit)

    async def slowly() -> str:
        await trio.sleep(0.2)
        return "direct"

    async def never() -> str:
        await trio.sleep(0.05)
        raise NoPeerReachable("refused", telling=Telling.REFUSED)

    monkeypatch.setattr(Circuits, "_through", through)
    circuit = circuit_by(f"/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}")
    public = [Endpoint.parse("/ip4/5.5.5.9/tcp/1")]
    async with relayed_host() as (_, circuits):
        assert await circuits.reach(STRANGER, public, slowly, [circuit]) == "direct"
        assert opened == []
        # Once the direct dial has failed nothing is waited for.
        with trio.fail_after(limits.DIRECT_HEAD_START / 2):
            assert await circuits.reach(STRANGER, public, never, [circuit]) == str(circuit)


async def test_a_circuit_that_was_not_needed_any_more_leaves_the_next_one_its_punch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A direct dial wins while the circuit is opened; later the peer comes through the relay."""
    async with relay() as (address, service), relayed_host() as one, relayed_host() as two:
        # Of two that meet each other the lesser leads no punch: this is about the lesser.
        (host, circuits), (other, others) = sorted((one, two), key=lambda each: each[0].peer_id)
        await take_place(host, circuits, address)
        await take_place(other, others, address)
        opening = trio.Event()

        async def never(_peer: PeerId, _circuit: Circuit) -> None:
            opening.set()
            await trio.sleep_forever()

        async def dial() -> str:
            await opening.wait()
            return "direct"

        with monkeypatch.context() as patch, trio.fail_after(10):
            patch.setattr(circuits, "_open_circuit", never)
            public = [Endpoint.parse("/ip4/5.5.5.9/tcp/1")]
            answered = await circuits.reach(other.peer_id, public, dial, [circuit_by(address)])
        assert answered == "direct"
        assert "p2p-circuit" not in await other.connect(host.peer_id, [circuit_by(address)])
        await until(lambda: service.reservations.circuits == 0, "the circuit is closed")


async def test_a_circuit_that_carries_little_is_not_used_for_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    no_punching(monkeypatch)
    async with trio_of_hosts(CircuitLimit(0, limits.LEAST_FOR_DATA - 1)) as (address, _, target, source):
        with pytest.raises(NoPeerReachable, match="the relay carries that much"):
            await source[0].connect(target[0].peer_id, [circuit_by(address)])


async def test_a_public_relay_is_told_no_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Endpoint.parse("/ip4/5.5.5.2/tcp/4001")

    async def observed(_self: Circuits, _relay: PeerId) -> Endpoint:
        return seen

    monkeypatch.setattr(Circuits, "observed", observed)
    async with relayed_host() as (host, circuits):
        own = parse_peer_address(host.addresses[0]).endpoint
        by_public = await circuits._addresses_for(f"/ip4/5.5.5.1/tcp/4001/p2p/{STRANGER}/p2p-circuit")
        assert by_public == (seen,)
        by_own = await circuits._addresses_for(f"/ip4/127.0.0.1/tcp/4001/p2p/{STRANGER}/p2p-circuit")
        assert by_own == (seen, own)


async def test_a_punch_is_answered_over_a_circuit_alone() -> None:
    """Over a direct connection it would make this node dial wherever a stranger says."""
    async with relayed_host() as (host, _), relayed_host() as (stranger, _):
        await stranger.connect(host.peer_id, [parse_peer_address(host.addresses[0]).endpoint])
        stream = await stranger.open_stream(host.peer_id, PUNCH_PROTOCOL)
        victim = Endpoint.parse("/ip4/192.0.2.1/tcp/80")
        with trio.fail_after(5), pytest.raises(LinkClosed):
            await write_message(stream, PunchMessage(PunchKind.CONNECT, (victim,)).encode())
            await read_message(stream, limits.MAX_MESSAGE_BYTES)


async def test_a_relay_that_is_reached_through_a_relay_brings_nobody() -> None:
    async with relayed_host() as (_, circuits):
        circuits.trusted.add(STRANGER)
        for way, status in (
            (f"/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}/p2p-circuit", RelayStatus.PERMISSION_DENIED),
            ("/ip4/127.0.0.1/tcp/1", RelayStatus.OK),
        ):
            ours, theirs = memory_link_pair(STRANGER, STRANGER)
            ours.remote_address = way
            async with trio.open_nursery() as nursery:
                nursery.start_soon(circuits.stopped_here, ours)
                await write_message(theirs, StopMessage(StopKind.CONNECT, STRANGER).encode())
                with trio.fail_after(5):
                    data = await read_message(theirs, limits.MAX_MESSAGE_BYTES)
                assert StopMessage.decode(data).status == status
                nursery.cancel_scope.cancel()


async def test_who_comes_through_a_relay_does_not_count_for_its_address_and_cannot_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A peer that only holds its circuit open, and does not punch, is let go by the other end."""
    no_punching(monkeypatch)
    monkeypatch.setattr(limits, "ATTEMPT_SECONDS", 0.2)
    origins: list[str] = []
    take = Admission.take

    async def noted(self: Admission, raw: RawConnection, maddr: Multiaddr, origin: str) -> None:
        origins.append(origin)
        await take(self, raw, maddr, origin)

    monkeypatch.setattr(Admission, "take", noted)
    async with trio_of_hosts(carry_data=False) as (address, service, (target, _), (source, circuits)):
        circuit = circuit_by(address)
        await source.connect(circuit.relay.peer, [circuit.relay.endpoint])
        before = len(origins)
        connection, _ = await circuits._open_circuit(target.peer_id, circuit)
        # Much sooner than a connection without streams would end.
        await until(lambda: connection.is_closed, "the other end closes it", 4)
        await until(lambda: service.reservations.circuits == 0, "the circuit is closed")
        assert f"relay {circuit.relay.peer}" in origins[before:]


async def test_a_relay_gives_no_place_over_a_circuit_and_forgets_who_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_RESERVATIONS_PER_NETWORK", 1)
    async with relay() as (address, service):
        for way, status in (
            (f"{address}/p2p-circuit", RelayStatus.PERMISSION_DENIED),
            ("/ip4/127.0.0.1/tcp/1", RelayStatus.OK),
        ):
            ours, theirs = memory_link_pair(STRANGER, STRANGER)
            ours.remote_address = way
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service._reserve, ours)
                answer = HopMessage.decode(await read_message(theirs, limits.MAX_MESSAGE_BYTES))
                assert answer.status == status
        assert service.reservations.peers() == (STRANGER,)
        # The stranger has no connection: its place is another's, who comes from the same address.
        async with relayed_host() as (host, circuits), relayed_host() as (other, others):
            await take_place(host, circuits, address)
            assert service.reservations.peers() == (host.peer_id,)
            # One that is there keeps its place.
            with pytest.raises(RemoteError, match="no place"):
                await take_place(other, others, address)


async def test_the_relay_does_not_join_what_the_peer_refuses() -> None:
    async with (
        relay() as (address, service),
        relayed_host() as (target, circuits),
        relayed_host() as (source, _),
    ):
        await take_place(target, circuits, address)

        async def refuse(stream: object) -> None:
            await read_message(stream, limits.MAX_MESSAGE_BYTES)  # type: ignore[arg-type]
            refusal = StopMessage(StopKind.STATUS, status=RelayStatus.RESOURCE_LIMIT_EXCEEDED)
            await write_message(stream, refusal.encode())  # type: ignore[arg-type]

        target.serve(STOP_PROTOCOL, refuse)
        where = circuit_by(address).relay
        await source.connect(where.peer, [where.endpoint])
        _, answer = await raw_circuit(source, target, address)
        assert answer.status == RelayStatus.CONNECTION_FAILED
        await until(lambda: service.reservations.circuits == 0, "nothing is left of it")
