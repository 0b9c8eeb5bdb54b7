"""Several circuits between two peers, through different relays: what is led over one does not end another."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from swarm.endpoint import Circuit
from swarm.errors import LinkClosed, NoPeerReachable
from swarm.ids import PeerId
from swarm.net.circuits import Circuits
from swarm.net.hole_punch import HolePunch
from swarm.net.host import open_host
from swarm.net.relay_service import RelayService
from swarm.reach import reach_limits as limits
from swarm.reach.relay_messages import CircuitLimit
from swarm.reach.relay_protocols import HOP_PROTOCOL
from tests.support.nodes import until
from tests.support.relayed import LOOPBACK, circuit_by, relayed_host, take_place

NOBODY = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"


@asynccontextmanager
async def relay() -> AsyncIterator[tuple[Circuit, str, RelayService]]:
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host:
        address = host.addresses[0]
        yield circuit_by(address), address, RelayService(host, CircuitLimit())


def slow_to_open(monkeypatch: pytest.MonkeyPatch, circuits: Circuits, slow: Circuit, seconds: float) -> None:
    open_circuit = circuits._open_circuit

    async def later(peer: PeerId, circuit: Circuit) -> Any:
        await trio.sleep(seconds * (circuit == slow))
        return await open_circuit(peer, circuit)

    monkeypatch.setattr(circuits, "_open_circuit", later)


def count_attempts(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Counter[PeerId]:
    """How many attempts are led over the circuits of each relay, each in vain and so long."""
    led: Counter[PeerId] = Counter()
    agree = HolePunch._agree

    async def counted(punch: HolePunch, through: str, propose: Any) -> Any:
        agreed = await agree(punch, through, propose)
        led[circuit_by(through.removesuffix("/p2p-circuit")).relay.peer] += 1
        return agreed

    async def in_vain(*_: Any, **__: Any) -> None:
        await trio.sleep(seconds)

    monkeypatch.setattr(HolePunch, "_agree", counted)
    monkeypatch.setattr(HolePunch, "_dial", in_vain)
    return led


@pytest.mark.parametrize("carry_data", [False, True])
async def test_each_circuit_waits_for_the_attempts_that_are_led_over_it(
    monkeypatch: pytest.MonkeyPatch, carry_data: bool
) -> None:
    led = count_attempts(monkeypatch, 0.5)
    async with (
        relay() as (one, at_one, first),
        relay() as (two, at_two, second),
        relayed_host(carry_data=carry_data) as (target, circuits),
        relayed_host(carry_data=carry_data) as (source, opening),
    ):
        await take_place(target, circuits, at_one)
        await take_place(target, circuits, at_two)
        slow_to_open(monkeypatch, opening, two, 0.8)
        if carry_data:
            # It takes what is there first, and the other circuit still has its attempts.
            assert await source.connect(target.peer_id, [one, two]) == str(one)
        else:
            with pytest.raises(NoPeerReachable, match="no direct connection"):
                await source.connect(target.peer_id, [one, two])
        each = limits.PUNCH_ATTEMPTS
        await until(lambda: led == {one.relay.peer: each, two.relay.peer: each}, "all attempts are led")
        await until(lambda: second.reservations.circuits == 0, "the second circuit is closed")
        await until(lambda: first.reservations.circuits == carry_data, "the first as well if it is of no use")


async def test_a_circuit_that_cannot_be_opened_leaves_the_peers_own_its_punch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each dials the other through another relay, and only one of them is there."""
    async with (
        relay() as (circuit, address, service),
        relayed_host(carry_data=False) as one,
        relayed_host(carry_data=False) as two,
    ):
        # Of two that meet each other the lesser leads no punch: this is about the lesser.
        (host, circuits), (other, _) = sorted((one, two), key=lambda each: each[0].peer_id)
        await take_place(host, circuits, address)
        opening, brought = trio.Event(), trio.Event()

        async def refused(_peer: PeerId, _circuit: Circuit) -> Any:
            opening.set()
            await brought.wait()
            await trio.sleep(0.2)
            raise LinkClosed("the peer is not there")

        monkeypatch.setattr(circuits, "_open_circuit", refused)

        async def in_vain() -> None:
            with pytest.raises(NoPeerReachable, match="not there"):
                await circuits._through(other.peer_id, circuit, trio.current_time() + 10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_vain)
            await opening.wait()

            async def see() -> None:
                await until(lambda: bool(circuits._host.brought(other.peer_id)), "the peer comes")
                brought.set()

            nursery.start_soon(see)
            assert "p2p-circuit" not in await other.connect(host.peer_id, [circuit])
        await until(lambda: service.reservations.circuits == 0, "the circuit is closed")


async def test_a_relay_that_is_silent_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the question and does not answer, or does not even talk."""
    monkeypatch.setattr(limits, "GIVE_UP_SECONDS", 0.5)
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as silent,
        relayed_host() as (source, _),
        trio.open_nursery() as nursery,
    ):

        async def say_nothing(_: object) -> None:
            await trio.sleep_forever()

        silent.serve(HOP_PROTOCOL, say_nothing)
        [deaf] = await nursery.start(partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1"))
        port = deaf.socket.getsockname()[1]
        stranger = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")
        circuits = [silent.addresses[0], f"/ip4/127.0.0.1/tcp/{port}/p2p/{stranger}"]
        for address in circuits:
            began = trio.current_time()
            with pytest.raises(NoPeerReachable, match="through"):
                await source.connect(PeerId(NOBODY), [circuit_by(address)])
            assert trio.current_time() - began < limits.HANDSHAKE_SECONDS / 2
        nursery.cancel_scope.cancel()
