"""What a punch does with a peer's word: whom it dials, how often, and in which order it is agreed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.network.exceptions import SwarmException

from swarm.endpoint import Endpoint
from swarm.errors import LinkClosed, RemoteError
from swarm.ids import PeerId
from swarm.net import hole_punch
from swarm.net.hole_punch import MOST_ADDRESSES, HolePunch, Tasks, allowed
from swarm.net.libp2p import internals
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.relay_messages import PunchKind, PunchMessage
from tests.support.memory_link import MemoryLink, memory_link_pair

PEER = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")
ME = PeerId("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo")
PUBLIC_RELAY = f"/ip4/5.5.5.1/tcp/4001/p2p/{PEER}/p2p-circuit"
PRIVATE_RELAY = f"/ip4/192.168.1.1/tcp/4001/p2p/{PEER}/p2p-circuit"
MANY = [Endpoint("ip4", f"6.6.6.{number}", "tcp", 4001) for number in range(1, 9)]


class NoGate:
    """Stands for the admission of a host that no connection reaches."""

    def __init__(self) -> None:
        self.expected: dict[tuple[str, int], object] = {}


class NoNetwork:
    """Stands for a network in which plain dials fail, too."""

    def __init__(self) -> None:
        self.plain = 0

    async def dial_addr(self, *_: object) -> None:
        self.plain += 1
        raise SwarmException("refused")


class Dialled:
    """Every address that is dialled, none of which answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.endpoints: list[Endpoint] = []

        async def refuse(port: int, endpoint: Endpoint) -> trio.SocketStream:
            assert port == 4001
            self.endpoints.append(endpoint)
            raise ConnectionRefusedError

        monkeypatch.setattr(internals, "connect_from", refuse)


@asynccontextmanager
async def punching(mine: Sequence[Endpoint] = (), network: Any = None) -> AsyncIterator[HolePunch]:
    async def own(_through: str) -> tuple[Endpoint, ...]:
        return tuple(mine)

    gate: Any = NoGate()
    async with trio.open_nursery() as nursery:
        yield HolePunch(network, gate, Tasks(nursery), lambda: {"ip4": 4001}, own, lambda _peer: False)
    assert not gate.expected


def still_open() -> bool:
    """The circuit has not ended."""
    return False


def links(through: str = PUBLIC_RELAY) -> tuple[MemoryLink, MemoryLink]:
    ours, theirs = memory_link_pair(ME, PEER)
    ours.peer, ours.remote_address = PEER, through
    return ours, theirs


def test_a_peer_names_nothing_nearer_than_the_relay() -> None:
    private = Endpoint.parse("/ip4/192.168.1.7/tcp/22")
    loopback = Endpoint.parse("/ip4/127.0.0.1/tcp/631")
    name = Endpoint.parse("/dns4/example.net/tcp/80")
    no_port = Endpoint.parse("/ip4/6.6.6.1/tcp/0")
    every = (private, loopback, name, no_port, MANY[0])
    assert allowed(every, PUBLIC_RELAY) == (MANY[0],)
    assert allowed(every, PRIVATE_RELAY) == (private, MANY[0])
    # Where the relay is not known, only the whole Internet is left.
    assert allowed(every, "") == (MANY[0],)


async def test_few_addresses_are_dialled_and_not_without_pause(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    dialled = Dialled(monkeypatch)
    async with punching() as punch:
        began = trio.current_time()
        await punch._dial(PEER, MANY, client=True)
        assert trio.current_time() - began == pytest.approx(limits.ATTEMPT_SECONDS)
    assert set(dialled.endpoints) == set(MANY[:MOST_ADDRESSES])
    again = len(hole_punch.AGAIN_SECONDS) + limits.ATTEMPT_SECONDS / (hole_punch.AGAIN_SECONDS[-1] / 2)
    assert len(dialled.endpoints) <= MOST_ADDRESSES * again


class SlowNetwork:
    """Stands for a network in which a handshake takes longer than an attempt."""

    def __init__(self) -> None:
        self.event_closed = trio.Event()
        self.done = 0

    async def upgrade_outbound_raw_conn(self, _raw: object, _peer: object) -> SlowNetwork:
        await trio.sleep(limits.ATTEMPT_SECONDS + 1)
        self.done += 1
        self.event_closed.set()
        return self


async def test_a_handshake_may_take_longer_than_its_attempt(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def connect(_port: int, _endpoint: Endpoint) -> object:
        await trio.lowlevel.checkpoint()
        return object()

    monkeypatch.setattr(internals, "connect_from", connect)
    monkeypatch.setattr(internals, "raw_connection", lambda stream, **_: stream)
    network = SlowNetwork()
    async with punching(network=network) as punch:
        await punch._dial(PEER, MANY[:1], client=True)
        assert network.done == 0
    assert network.done == 1


async def test_the_leader_tries_three_times_and_then_gives_up(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    dialled = Dialled(monkeypatch)
    proposed: list[tuple[Endpoint, ...]] = []

    async def answer(theirs: MemoryLink) -> None:
        proposal = PunchMessage.decode(await read_message(theirs, limits.MAX_MESSAGE_BYTES))
        assert proposal.kind is PunchKind.CONNECT
        proposed.append(proposal.addresses)
        private = Endpoint.parse("/ip4/192.168.1.7/tcp/22")
        await write_message(theirs, PunchMessage(PunchKind.CONNECT, (private, MANY[1])).encode())
        sync = PunchMessage.decode(await read_message(theirs, limits.MAX_MESSAGE_BYTES))
        assert sync.kind is PunchKind.SYNC

    network = NoNetwork()
    async with punching([MANY[0]], network) as punch, trio.open_nursery() as nursery:

        async def propose(first: bytes) -> Any:
            ours, theirs = links()
            await ours.write(first)
            nursery.start_soon(answer, theirs)
            return ours

        with trio.fail_after(limits.PUNCH_SECONDS + 1):
            assert not await punch.lead(PEER, PUBLIC_RELAY, propose)
    assert proposed == [(MANY[0],)] * limits.PUNCH_ATTEMPTS
    # As anybody dials: not at first, when the other end is to see a SYN from this port.
    assert network.plain == limits.PUNCH_ATTEMPTS - 1
    assert set(dialled.endpoints) == {MANY[1]}


@pytest.mark.parametrize(
    "kinds", [(PunchKind.SYNC, PunchKind.SYNC), (PunchKind.CONNECT, PunchKind.CONNECT)], ids=str
)
async def test_a_follower_dials_nobody_out_of_order(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    kinds: tuple[PunchKind, PunchKind],
) -> None:
    dialled = Dialled(monkeypatch)
    async with punching() as punch:
        ours, theirs = links()
        for kind in kinds:
            await write_message(theirs, PunchMessage(kind, (MANY[0],)).encode())
        with pytest.raises(RemoteError, match="out of order"):
            await punch.follow(ours)  # type: ignore[arg-type]
    assert dialled.endpoints == []


async def test_a_follower_dials_when_it_is_told_to_and_counts_the_round(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    dialled = Dialled(monkeypatch)
    async with punching(mine=[MANY[0]]) as punch, trio.open_nursery() as nursery:
        ours, theirs = links()
        upgrade = punch.begin(PEER, PUBLIC_RELAY)
        nursery.start_soon(punch.follow, ours)
        began = trio.current_time()
        for _ in range(limits.PUNCH_ATTEMPTS):
            await write_message(theirs, PunchMessage(PunchKind.CONNECT, (MANY[1],)).encode())
            answer = PunchMessage.decode(await read_message(theirs, limits.MAX_MESSAGE_BYTES))
            assert answer.addresses == (MANY[0],)
            assert not dialled.endpoints or set(dialled.endpoints) == {MANY[1]}
            await write_message(theirs, PunchMessage(PunchKind.SYNC).encode())
        # It waits for no fourth attempt.
        assert not await punch.awaited(upgrade, still_open, limits.PUNCH_SECONDS)
        assert trio.current_time() - began < limits.PUNCH_SECONDS
    assert set(dialled.endpoints) == {MANY[1]}


async def rounds_over(punch: HolePunch, way: str, most: int) -> None:
    """Lead so many attempts over the circuit of this multiaddr."""
    async with trio.open_nursery() as nursery:
        ours, theirs = links(way)
        nursery.start_soon(punch.follow, ours)
        for _ in range(most):
            await write_message(theirs, PunchMessage(PunchKind.CONNECT, (MANY[1],)).encode())
            await read_message(theirs, limits.MAX_MESSAGE_BYTES)
            await write_message(theirs, PunchMessage(PunchKind.SYNC).encode())
        await trio.sleep(most * limits.ATTEMPT_SECONDS + 0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("first_ends", [False, True])
async def test_the_attempts_over_one_circuit_count_for_no_other(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, first_ends: bool
) -> None:
    Dialled(monkeypatch)
    waited: dict[str, float] = {}
    async with punching() as punch, trio.open_nursery() as nursery:
        began = trio.current_time()

        async def wait(way: str) -> None:
            upgrade = punch.begin(PEER, way)
            if way == PUBLIC_RELAY and first_ends:
                await trio.sleep(1)
            else:
                assert not await punch.awaited(upgrade, still_open, 60)
            punch.end(upgrade)
            waited[way] = trio.current_time() - began

        nursery.start_soon(wait, PUBLIC_RELAY)
        nursery.start_soon(wait, PRIVATE_RELAY)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(rounds_over, punch, PUBLIC_RELAY, limits.PUNCH_ATTEMPTS)
        await trio.sleep(2)
        assert punch.awaits(PEER)
        await rounds_over(punch, PRIVATE_RELAY, limits.PUNCH_ATTEMPTS)
    assert not punch.awaits(PEER)
    all_attempts = limits.PUNCH_ATTEMPTS * limits.ATTEMPT_SECONDS
    assert waited[PUBLIC_RELAY] == pytest.approx(1 if first_ends else all_attempts)
    assert waited[PRIVATE_RELAY] == pytest.approx(2 + all_attempts)


@pytest.mark.parametrize("opened_here", [False, True])
async def test_a_peer_that_leads_one_punch_after_the_other_lets_this_node_dial_seldom(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, opened_here: bool
) -> None:
    """The addresses may be those of somebody else, and streams over a circuit cost little."""
    Dialled(monkeypatch)
    begun = 0
    dial = HolePunch._dial

    async def counted(punch: HolePunch, *arguments: Any, **named: Any) -> None:
        nonlocal begun
        begun += 1
        await dial(punch, *arguments, **named)

    monkeypatch.setattr(HolePunch, "_dial", counted)
    async with punching() as punch:
        upgrade = punch.begin(PEER, PUBLIC_RELAY) if opened_here else None

        async def lead() -> None:
            with suppress(LinkClosed):
                await rounds_over(punch, PUBLIC_RELAY, 1)

        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(lead)
        if upgrade is not None:
            assert begun == upgrade.rounds == limits.PUNCH_ATTEMPTS
            punch.end(upgrade)
        else:
            assert limits.PUNCH_ATTEMPTS <= begun <= 3 * limits.PUNCH_ATTEMPTS
        # Later it may again, as who stays on the relay does once a minute.
        begun = 0
        for _ in range(3):
            await trio.sleep(limits.UPGRADE_SECONDS)
            for _ in range(limits.PUNCH_ATTEMPTS):
                await lead()
        assert begun == 3 * limits.PUNCH_ATTEMPTS


async def test_two_attempts_at_one_address_leave_each_other_what_comes_from_there(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The SYN of the other end may come first: the dial that is left has to take it."""
    Dialled(monkeypatch)
    remote = MANY[0].host, MANY[0].port
    async with punching() as punch, trio.open_nursery() as nursery:
        expected = punch._gate.expected
        nursery.start_soon(partial(punch._dial, PEER, MANY[:1], client=True))
        await trio.sleep(1)
        nursery.start_soon(partial(punch._dial, PEER, MANY[:1], client=True))
        await trio.sleep(limits.ATTEMPT_SECONDS - 1 + 2 * hole_punch.AGAIN_SECONDS[-1])
        assert remote in expected
        await trio.sleep(1)
        assert not expected


async def test_who_waits_for_a_punch_waits_no_longer_than_it_may(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with punching() as punch:
        for most in (3.0, 0.0):
            began = trio.current_time()
            assert not await punch.awaited(punch.begin(PEER, PUBLIC_RELAY), still_open, most)
            assert trio.current_time() - began == pytest.approx(most)


async def test_who_waits_for_a_punch_is_told_that_the_circuit_has_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with punching() as punch, trio.open_nursery() as nursery:
        began = trio.current_time()
        closed = trio.Event()

        async def end() -> None:
            await trio.sleep(1)
            closed.set()
            punch.arrived()

        nursery.start_soon(end)
        assert not await punch.awaited(punch.begin(PEER, PUBLIC_RELAY), closed.is_set, 60)
        assert trio.current_time() - began == pytest.approx(1)


async def test_a_lost_stream_ends_the_lead(autojump_clock: trio.testing.MockClock) -> None:
    opened = 0

    async def propose(_first: bytes) -> Any:
        nonlocal opened
        opened += 1
        raise LinkClosed("it is gone")

    async with punching() as punch:
        assert not await punch.lead(PEER, PUBLIC_RELAY, propose)
    assert opened == 1
