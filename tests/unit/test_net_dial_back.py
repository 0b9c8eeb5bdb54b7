"""Dial backs: the verdict is true, and nobody else is ever dialled."""

from __future__ import annotations

import secrets

import pytest
import trio
import trio.testing

from swarm.endpoint import Endpoint
from swarm.ids import PeerId
from swarm.net import dial_back
from swarm.net.addresses import parse_peer_address
from swarm.net.dial_back import DialBackService, ask_dial_back, dial_back_targets
from swarm.net.host import Host, open_host
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.probe_messages import PROBE_PROTOCOL, ProbeAnswer, ProbeRequest, ProbeStatus
from tests.support.memory_link import memory_link_pair
from tests.support.relayed import LOOPBACK

STRANGER = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")


async def test_reachable_and_unreachable_are_told_apart() -> None:
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as server,
        open_host(secrets.token_bytes(32), [LOOPBACK]) as asker,
    ):
        DialBackService(server)
        where = parse_peer_address(server.addresses[0])
        await asker.connect(where.peer, [where.endpoint])
        mine = parse_peer_address(asker.addresses[0]).endpoint
        closed = Endpoint.parse("/ip4/127.0.0.1/tcp/9")
        # A port of somebody else is no way back to the asker: who answers must be it.
        other = where.endpoint
        verdicts = []
        for endpoint in (mine, closed, other):
            stream = await asker.open_stream(where.peer, PROBE_PROTOCOL)
            with trio.fail_after(5):
                verdicts.append(await ask_dial_back(stream, asker.peer_id, [endpoint]))
        assert verdicts == [True, False, False]


async def test_a_thousand_forged_requests_cause_no_dial_to_a_third_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PROBE_RATE", 1e6)
    monkeypatch.setattr(limits, "PROBE_BURST", 1e6)
    dialled: set[str] = set()

    async def knock(_self: Host, _peer: PeerId, endpoint: Endpoint) -> None:
        dialled.add(endpoint.host)

    monkeypatch.setattr(Host, "knock", knock)
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as server,
        open_host(secrets.token_bytes(32)) as asker,
    ):
        DialBackService(server)
        where = parse_peer_address(server.addresses[0])
        answers = []
        for number in range(1000):
            if number % 250 == 0:
                await asker.disconnect(where.peer)
                await asker.connect(where.peer, [where.endpoint])
            victim = Endpoint.parse(f"/ip4/192.0.2.{number % 250 + 1}/tcp/{80 + number}")
            peer = STRANGER if number % 2 else asker.peer_id
            stream = await asker.open_stream(where.peer, PROBE_PROTOCOL)
            await write_message(stream, ProbeRequest(peer, (victim,)).encode())
            answers.append(ProbeAnswer.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES)).status)
            await stream.close()
    assert dialled == {"127.0.0.1"}
    assert answers[1::2] == [ProbeStatus.BAD_REQUEST] * 500


def test_only_the_host_that_asks_is_dialled() -> None:
    seen = "/ip4/5.5.5.2/tcp/31234"
    assert dial_back_targets([Endpoint.parse("/ip4/5.5.5.2/tcp/4001")], seen) == (
        Endpoint.parse("/ip4/5.5.5.2/tcp/4001"),
    )
    # What it believes to be its address is that of its home: the port may be forwarded.
    assert dial_back_targets([Endpoint.parse("/ip4/192.168.1.7/tcp/4001")], seen) == (
        Endpoint.parse("/ip4/5.5.5.2/tcp/4001"),
    )
    assert dial_back_targets([Endpoint.parse("/ip6/2001:db8::1/tcp/4001")], seen) == ()
    assert dial_back_targets([Endpoint.parse("/ip4/5.5.5.2/tcp/4001")], "") == ()
    many = [Endpoint("ip4", "5.5.5.2", "tcp", port) for port in range(1, 100)]
    assert len(dial_back_targets(many, seen)) == 2


async def test_dial_backs_of_one_network_are_few_and_many_networks_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(dial_back, "NETWORKS_REMEMBERED", 10)
    knocks: list[Endpoint] = []

    class Server:
        """What the service needs of a host."""

        def serve(self, *_: object, **__: object) -> None:
            pass

        async def knock(self, _peer: PeerId, endpoint: Endpoint) -> None:
            knocks.append(endpoint)

    service = DialBackService(Server())  # type: ignore[arg-type]

    async def probe(address: str) -> ProbeStatus:
        stream, _ = memory_link_pair(STRANGER, STRANGER)
        stream.remote_address = f"{address}/tcp/4001"
        mine = Endpoint.parse(stream.remote_address)
        answer = await service._answer(ProbeRequest(STRANGER, (mine,)), stream)  # type: ignore[arg-type]
        return ProbeStatus(answer.status)

    burst = int(limits.PROBE_BURST)
    # One subscriber has as many IPv6 addresses as it likes.
    verdicts = [await probe(f"/ip6/2001:db8::{number}") for number in range(1, burst + 2)]
    assert verdicts == [ProbeStatus.OK] * burst + [ProbeStatus.DIAL_REFUSED]
    assert await probe("/ip4/5.5.5.2") is ProbeStatus.OK
    assert len(knocks) == burst + 1
    await trio.sleep(1 / limits.PROBE_RATE)
    assert await probe("/ip6/2001:db8::1") is ProbeStatus.OK
    for number in range(30):
        await probe(f"/ip4/5.5.6.{number}")
    assert len(service._rates) == 10
