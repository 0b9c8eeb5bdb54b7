"""When which protocol asks the router for a port, when it is renewed, and that it is given back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from swarm.endpoint import Endpoint
from swarm.net import port_mapper
from swarm.net.port_mapper import (
    AGAIN_SECONDS,
    HEAD_STARTS,
    RELEASE_SECONDS,
    RENEWAL_PAUSE,
    RENEWALS_TRIED,
    SHORTEST_RENEWAL,
    PortLease,
    PortMapper,
)
from swarm.net.router_protocols import UpnpClient
from swarm.protocol.port_mapping import MappedPort, MappingRefused

OWN = "192.168.1.10"
PORT = MappedPort("5.5.5.2", 4001, 3600)
ANYWHERE = [Endpoint.parse("/ip4/0.0.0.0/tcp/4001")]


class Router:
    """One protocol of a router: answers after ``seconds`` with what is in ``grants``, the last for good."""

    def __init__(self, name: str, seconds: float, *grants: MappedPort | None) -> None:
        self.name = name
        self.seconds = seconds
        self.grants = list(grants)
        self.asked: list[float] = []
        self.released = 0
        self.hangs = False

    async def request(self, seconds: int) -> MappedPort | None:
        assert seconds == port_mapper.LEASE_SECONDS
        self.asked.append(trio.current_time())
        await trio.sleep(self.seconds)
        grant = self.grants.pop(0) if len(self.grants) > 1 else self.grants[0]
        if grant is None:
            raise MappingRefused("no")
        return grant

    async def release(self) -> None:
        self.released += 1
        if self.hangs:
            await trio.sleep_forever()


class News:
    """What a router says of itself: here that it was restarted, once `restarted` is set."""

    restarted: trio.Event

    def __init__(self, own: str, upnp: UpnpClient | None) -> None:
        assert own == OWN
        assert upnp is None

    async def __aenter__(self) -> News:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait(self, _gateway: str | None) -> None:
        await News.restarted.wait()
        News.restarted = trio.Event()


@asynccontextmanager
async def mapping(
    monkeypatch: pytest.MonkeyPatch, *routers: Router
) -> AsyncIterator[tuple[PortMapper, list[tuple[float, PortLease | None]]]]:
    told: list[tuple[float, PortLease | None]] = []
    began = trio.current_time()
    News.restarted = trio.Event()
    monkeypatch.setattr(port_mapper, "route_source", lambda _kind: OWN)
    monkeypatch.setattr(port_mapper, "default_gateway", lambda: None)
    monkeypatch.setattr(port_mapper, "RouterNews", News)
    clients: Any = list(routers)
    monkeypatch.setattr(PortMapper, "_clients", lambda _self, _own: clients)
    mapper = PortMapper(ANYWHERE, lambda lease: told.append((trio.current_time() - began, lease)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapper.run)
        yield mapper, told
        nursery.cancel_scope.cancel()


async def test_the_protocols_ask_one_after_the_other_and_the_first_grant_counts(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    slow, quick, late = Router("PCP", 9.0, PORT), Router("NAT-PMP", 0.1, PORT), Router("UPnP", 0.0, PORT)
    async with mapping(monkeypatch, slow, quick, late) as (mapper, told):
        await mapper.decided.wait()
        assert trio.current_time() - began == pytest.approx(HEAD_STARTS[1] + 0.1)
        assert told[0][1] == PortLease(Endpoint("ip4", PORT.address, "tcp", 4001), "NAT-PMP", 3600)
        await trio.sleep(1)
    assert (len(slow.asked), len(quick.asked), len(late.asked)) == (1, 1, 0)
    # Only what was granted is given back.
    assert (slow.released, quick.released, late.released) == (0, 1, 0)


async def test_a_protocol_that_fails_lets_the_next_ask_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    refuses, grants = Router("PCP", 0.0, None), Router("NAT-PMP", 0.0, PORT)
    async with mapping(monkeypatch, refuses, grants) as (mapper, _):
        await mapper.decided.wait()
        assert trio.current_time() == pytest.approx(began)


async def test_it_is_renewed_at_half_of_the_lease_and_news_are_told(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    moved = MappedPort("5.5.5.9", 4002, 600)
    router = Router("PCP", 0.0, PORT, PORT, moved)
    began = trio.current_time()
    async with mapping(monkeypatch, router) as (_, told):
        await trio.sleep(1800 + 1800 + 299)
        assert [at - began for at in router.asked] == [0, 1800, 3600]
        await trio.sleep(2)
        assert len(router.asked) == 4
        # A router that was restarted is asked at once.
        News.restarted.set()
        await trio.sleep(SHORTEST_RENEWAL)
        assert len(router.asked) == 5
    assert [(at, lease and lease.endpoint.port) for at, lease in told] == [(0, 4001), (3600, 4002)]


async def test_a_router_that_grants_a_moment_is_not_asked_without_pause(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    router = Router("PCP", 0.0, MappedPort("5.5.5.2", 4001, 1))
    async with mapping(monkeypatch, router):
        await trio.sleep(10 * SHORTEST_RENEWAL)
    assert len(router.asked) <= 11


async def test_a_mapping_that_is_lost_is_told_and_looked_for_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    router = Router("PCP", 0.0, PORT, *[None] * RENEWALS_TRIED, PORT)
    async with mapping(monkeypatch, router) as (_, told):
        await trio.sleep(1800 + RENEWALS_TRIED * RENEWAL_PAUSE + 1)
        assert [lease is None for _, lease in told] == [False, True, False]


async def test_without_a_router_it_is_decided_soon_and_tried_again_much_later(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    router = Router("PCP", 3.0, None)
    began = trio.current_time()
    async with mapping(monkeypatch, router) as (mapper, told):
        await mapper.decided.wait()
        assert trio.current_time() - began == pytest.approx(3)
        await trio.sleep(AGAIN_SECONDS + 1)
        assert [at - began for at in router.asked] == [0, pytest.approx(3 + AGAIN_SECONDS)]
    assert told == []
    assert not router.released


async def test_the_end_waits_for_a_silent_router_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    router = Router("PCP", 0.0, PORT)
    router.hangs = True
    async with mapping(monkeypatch, router) as (mapper, _):
        await mapper.decided.wait()
        ended_at = trio.current_time()
    assert router.released == 1
    assert trio.current_time() - ended_at == pytest.approx(RELEASE_SECONDS)


@pytest.mark.parametrize(
    ("listening", "own", "names"),
    [
        ("/ip4/0.0.0.0/tcp/4001", OWN, ["PCP", "NAT-PMP", "UPnP"]),
        (f"/ip4/{OWN}/tcp/4001", OWN, ["PCP", "NAT-PMP", "UPnP"]),
        ("/ip4/127.0.0.1/tcp/4001", OWN, []),
        ("/ip6/::/tcp/4001", OWN, []),
        ("/ip4/0.0.0.0/tcp/4001", "5.5.5.2", []),
        ("/ip4/0.0.0.0/tcp/4001", "127.0.0.1", []),
    ],
)
def test_a_router_is_asked_only_for_what_it_can_lead_to(
    monkeypatch: pytest.MonkeyPatch, listening: str, own: str, names: list[str]
) -> None:
    monkeypatch.setattr(port_mapper, "default_gateway", lambda: "192.168.1.1")
    mapper = PortMapper([Endpoint.parse(listening)], lambda _lease: None)
    assert [client.name for client in mapper._clients(own)] == names
