"""Punches that a node coordinates which is no meeting point: for whom, how often, and for nothing else."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from swarm.errors import NoPeerReachable, RemoteError
from swarm.ids import PeerId
from swarm.net.addresses import parse_peer_address
from swarm.net.admission import is_relayed
from swarm.net.host import Host, open_host
from swarm.net.ping_protocol import PING_PROTOCOL, Responder
from swarm.node.introducing import PunchIntroductions
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.relay_messages import HopKind, HopMessage, RelayStatus
from swarm.reach.relay_protocols import HOP_PROTOCOL
from swarm.reach.reservations import SessionPlaces
from tests.support.nodes import until
from tests.support.relayed import LOOPBACK, circuit_by, no_punching, ping_over

ONE, OTHER, THIRD = (PeerId(f"12D3KooW{letter * 44}") for letter in "ABC")


def test_only_members_of_one_swarm_meet() -> None:
    places = SessionPlaces(lambda one, other: {one, other} == {ONE, OTHER})
    assert not places.reserve(ONE, "5.5.5.1", 0.0)
    assert places.open_circuit(ONE, THIRD, "5.5.5.1", 0.0) is RelayStatus.NO_RESERVATION
    assert places.open_circuit(ONE, ONE, "5.5.5.1", 0.0) is RelayStatus.NO_RESERVATION
    assert not isinstance(places.open_circuit(ONE, OTHER, "5.5.5.1", 0.0), RelayStatus)


def test_circuits_are_few_and_seldom() -> None:
    places = SessionPlaces(lambda _one, _other: True)
    opened = [places.open_circuit(ONE, OTHER, "5.5.5.1", 0.0) for _ in range(limits.COORDINATED_PER_PEER)]
    assert not any(isinstance(circuit, RelayStatus) for circuit in opened)
    assert places.open_circuit(THIRD, OTHER, "5.5.5.1", 0.0) is RelayStatus.RESOURCE_LIMIT_EXCEEDED
    granted = 0
    for _ in range(1000):
        circuit = places.open_circuit(THIRD, PeerId("another"), "5.5.5.1", 0.0)
        if not isinstance(circuit, RelayStatus):
            places.close_circuit(circuit)
            granted += 1
    assert granted == limits.COORDINATED_BURST - 1
    later = places.open_circuit(THIRD, PeerId("another"), "5.5.5.1", 1 / limits.COORDINATED_RATE)
    assert not isinstance(later, RelayStatus)


def circuits_of(host: Host) -> int:
    return sum(is_relayed(connection) for connection in host._network.get_connections())


@asynccontextmanager
async def swarm_of_three(
    together: Callable[[PeerId, PeerId], bool] = lambda _one, _other: True, *, carry_data: bool = False
) -> AsyncIterator[tuple[Host, Host, Host]]:
    """A seeder, and two that are connected to it."""
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(secrets.token_bytes(32), [LOOPBACK])) for _ in range(3)
        ]
        seeder, *leechers = hosts
        PunchIntroductions(seeder, together)
        where = parse_peer_address(seeder.addresses[0])
        for leecher in leechers:
            leecher.serve(PING_PROTOCOL, Responder(), anywhere=True)
            leecher.punch_through(lambda peer: peer == seeder.peer_id, carry_data=carry_data)
            await leecher.connect(seeder.peer_id, [where.endpoint])
        yield seeder, leechers[0], leechers[1]


async def test_a_seeder_leads_two_of_its_peers_to_each_other() -> None:
    async with swarm_of_three() as (seeder, source, target):
        answered = await source.connect(target.peer_id, [circuit_by(seeder.addresses[0])])
        assert "p2p-circuit" not in answered
        assert await ping_over(source, target) is not None
        assert await ping_over(target, source) is not None


async def test_a_seeder_leads_nobody_to_a_peer_of_another_swarm() -> None:
    async with swarm_of_three(lambda _one, _other: False) as (seeder, source, target):
        with pytest.raises(NoPeerReachable, match="the peer is not there"):
            await source.connect(target.peer_id, [circuit_by(seeder.addresses[0])])
        assert not target.connected(source.peer_id)


async def test_no_pieces_go_through_a_seeder(monkeypatch: pytest.MonkeyPatch) -> None:
    no_punching(monkeypatch)
    # Not even if both ends would send them through a meeting point.
    async with swarm_of_three(carry_data=True) as (seeder, source, target):
        with pytest.raises(NoPeerReachable, match="the relay carries that much"):
            await source.connect(target.peer_id, [circuit_by(seeder.addresses[0])])
        assert not source.connected(target.peer_id)
        await until(lambda: not circuits_of(target), "the circuit is closed")
        assert not target.connected(source.peer_id)


async def test_a_seeder_gives_no_places() -> None:
    async with swarm_of_three() as (seeder, source, _):
        stream = await source.open_stream(seeder.peer_id, HOP_PROTOCOL)
        await write_message(stream, HopMessage(HopKind.RESERVE).encode())
        answer = HopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
        assert answer.status == RelayStatus.RESERVATION_REFUSED


async def test_only_a_peer_in_session_brings_others() -> None:
    async with swarm_of_three() as (seeder, source, target):
        target.punch_through(lambda _peer: False, carry_data=False)
        with pytest.raises(NoPeerReachable, match="the peer does not answer the relay"):
            await source.connect(target.peer_id, [circuit_by(seeder.addresses[0])])


async def test_a_peer_that_does_not_relay_is_asked_once() -> None:
    asked = 0

    async def count(_stream: object) -> None:
        nonlocal asked
        asked += 1
        raise RemoteError("it is no relay")

    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as deaf,
        open_host(secrets.token_bytes(32), [LOOPBACK]) as source,
    ):
        source.punch_through(lambda _peer: True, carry_data=False)
        where = parse_peer_address(deaf.addresses[0])
        await source.connect(deaf.peer_id, [where.endpoint])
        for _ in range(2):
            with pytest.raises(NoPeerReachable):
                await source.connect(ONE, [circuit_by(deaf.addresses[0])])
            deaf.serve(HOP_PROTOCOL, count)
        assert asked == 0
