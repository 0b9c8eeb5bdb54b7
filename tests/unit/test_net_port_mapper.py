"""When which protocol asks the router for a port, when it is renewed, and that it is given back."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swarm.endpoint import Endpoint
from swarm.net import port_mapper, router_memory
from swarm.net.port_mapper import (
    AGAIN_SECONDS,
    HEAD_STARTS,
    LOOK_SECONDS,
    MISSED_SECONDS,
    RELEASE_SECONDS,
    RENEWAL_PAUSE,
    RENEWALS_TRIED,
    SHORTEST_RENEWAL,
    PortLease,
    PortMapper,
)
from swarm.net.router_memory import MAX_ROUTERS, RouterMemory
from swarm.net.router_protocols import PcpClient, RouterNews, UpnpClient
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
        assert own == port_mapper.route_source("ip4")
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
    monkeypatch: pytest.MonkeyPatch, *routers: Router, memory: RouterMemory | None = None
) -> AsyncIterator[tuple[PortMapper, list[tuple[float, PortLease | None]]]]:
    told: list[tuple[float, PortLease | None]] = []
    began = trio.current_time()
    News.restarted = trio.Event()
    monkeypatch.setattr(port_mapper, "route_source", lambda _kind: OWN)
    monkeypatch.setattr(port_mapper, "default_gateway", lambda: None)
    monkeypatch.setattr(port_mapper, "RouterNews", News)
    clients: Any = list(routers)
    monkeypatch.setattr(PortMapper, "_clients", lambda _self, _own: clients)
    mapper = PortMapper(ANYWHERE, lambda lease: told.append((trio.current_time() - began, lease)), memory)
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


def go_to(monkeypatch: pytest.MonkeyPatch, own: str | None, gateway: str | None) -> None:
    """This machine gets another address and another router; None without a network."""
    monkeypatch.setattr(port_mapper, "route_source", lambda _kind: own)
    monkeypatch.setattr(port_mapper, "default_gateway", lambda: gateway)


@pytest.mark.parametrize(("own", "gateway"), [("10.0.0.9", "10.0.0.1"), ("192.168.1.11", None)])
async def test_a_machine_that_has_moved_asks_the_router_of_its_new_network_soon(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    own: str,
    gateway: str | None,
) -> None:
    router = Router("PCP", 0.0, PORT, MappedPort("198.51.100.7", 4001, 3600))
    async with mapping(monkeypatch, router) as (_, told):
        await trio.sleep(60)
        # For a moment it is nowhere: that alone is no news.
        go_to(monkeypatch, None, None)
        await trio.sleep(2 * LOOK_SECONDS)
        assert [lease and lease.endpoint.host for _, lease in told] == ["5.5.5.2"]
        go_to(monkeypatch, own, gateway)
        await trio.sleep(LOOK_SECONDS)
        assert [lease and lease.endpoint.host for _, lease in told] == ["5.5.5.2", None, "198.51.100.7"]
        await trio.sleep(1700)
        assert len(router.asked) == 2


async def test_a_machine_that_finds_a_network_asks_its_router_soon(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    router = Router("PCP", 0.0, None, PORT)
    async with mapping(monkeypatch, router) as (_, told):
        await trio.sleep(LOOK_SECONDS * 3.5)
        assert len(router.asked) == 1
        go_to(monkeypatch, "10.0.0.9", None)
        await trio.sleep(LOOK_SECONDS)
        assert [lease is None for _, lease in told] == [False]


async def test_a_machine_that_was_suspended_renews_soon(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    asleep = 7.0
    monkeypatch.setattr(port_mapper, "seconds_suspended", lambda: asleep)
    router = Router("PCP", 0.0, PORT)
    async with mapping(monkeypatch, router) as (_, told):
        await trio.sleep(60)
        asleep += 3600
        await trio.sleep(LOOK_SECONDS)
        assert len(router.asked) == 2
        await trio.sleep(1700)
        assert len(router.asked) == 2
    assert len(told) == 1


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


async def test_nobody_waits_for_a_router_that_was_silent_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    neighbours = tmp_path / "arp"
    neighbours.write_text(
        "IP address HW type Flags HW address Mask Device\n"
        "192.168.1.7 0x1 0x2 0a:00:00:00:00:07 * eth0\n192.168.1.1 0x1 0x2 0a:00:00:00:00:01 * eth0\n"
    )
    monkeypatch.setattr(router_memory, "default_gateway", lambda: "192.168.1.1")

    def memory() -> RouterMemory:
        return RouterMemory(tmp_path / "home" / "silent", neighbours)

    for grant, was_silent in ((None, False), (PORT, True), (PORT, False)):
        async with mapping(monkeypatch, Router("PCP", 1.0, grant), memory=memory()) as (mapper, told):
            assert mapper.decided.is_set() == was_silent
            await trio.sleep(2)
            assert mapper.decided.is_set()
            assert [lease is not None for _, lease in told] == [True] * (grant is not None)
        assert memory().is_silent == (grant is None)
    # Another router at the same address is not this one.
    memory().note(silent=True)
    neighbours.write_text(neighbours.read_text().replace("00:01", "00:02"))
    assert not memory().is_silent
    for number in range(2 * MAX_ROUTERS):
        neighbours.write_text(f"\n192.168.1.1 0x1 0x2 0b:00:00:00:00:{number:02x} * eth0\n")
        memory().note(silent=True)
    assert len((tmp_path / "home" / "silent").read_text().splitlines()) == MAX_ROUTERS
    assert memory().is_silent


def test_silence_is_remembered_of_the_router_that_was_asked_also_after_a_move(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    neighbours = tmp_path / "arp"
    neighbours.write_text(
        "IP address HW type Flags HW address Mask Device\n"
        "192.168.1.1 0x1 0x2 0a:00:00:00:00:01 * eth0\n10.0.0.1 0x1 0x2 0a:00:00:00:00:02 * eth0\n"
    )
    gateway: str | None = "192.168.1.1"
    monkeypatch.setattr(router_memory, "default_gateway", lambda: gateway)
    memory = RouterMemory(tmp_path / "silent", neighbours)
    gateway = None
    memory.note(silent=True)
    assert not (tmp_path / "silent").exists()
    gateway = "10.0.0.1"
    memory.note(silent=True)
    assert RouterMemory(tmp_path / "silent", neighbours).is_silent
    gateway = "192.168.1.1"
    assert not RouterMemory(tmp_path / "silent", neighbours).is_silent


async def test_a_move_while_the_router_is_asked_says_nothing_of_either_router(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    neighbours = tmp_path / "arp"
    neighbours.write_text("\n10.0.0.1 0x1 0x2 0a:00:00:00:00:02 * eth0\n")
    monkeypatch.setattr(router_memory, "default_gateway", lambda: "10.0.0.1")
    memory = RouterMemory(tmp_path / "silent", neighbours)
    async with mapping(monkeypatch, Router("PCP", 2.0, None), memory=memory):
        await trio.sleep(1)
        go_to(monkeypatch, "10.0.0.9", "10.0.0.1")
        await trio.sleep(2)
        assert not memory.is_silent
        # There it is asked, and that counts.
        await trio.sleep(LOOK_SECONDS + 2)
        assert memory.is_silent


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_machine_that_has_moved_gives_the_old_port_back_if_the_router_can_still_be_asked(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, hangs: bool
) -> None:
    router = Router("PCP", 0.0, PORT, MappedPort("198.51.100.7", 4001, 3600))
    router.hangs = hangs
    async with mapping(monkeypatch, router) as (_, told):
        await trio.sleep(60)
        go_to(monkeypatch, "192.168.1.11", None)
        await trio.sleep(LOOK_SECONDS + RELEASE_SECONDS)
        assert router.released == 1
        (_, (lost_at, lost), (new_at, new)) = told
        assert lost is None
        assert new is not None
        # That the port is lost is told before the old router is waited for.
        assert new_at - lost_at == pytest.approx(RELEASE_SECONDS * hangs)
    assert router.released == 2


def test_a_machine_that_comes_back_asks_by_pcp_with_the_nonce_of_its_old_mapping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mapper = PortMapper(ANYWHERE, lambda _lease: None)

    def nonce_at(own: str, gateway: str) -> bytes:
        monkeypatch.setattr(port_mapper, "default_gateway", lambda: gateway)
        client = mapper._clients(own)[0]
        assert isinstance(client, PcpClient)
        return client._nonce

    home = nonce_at(OWN, "192.168.1.1")
    assert len({home, nonce_at(OWN, "192.168.1.2"), nonce_at("10.0.0.9", "192.168.1.1")}) == 3
    assert nonce_at(OWN, "192.168.1.1") == home


@pytest.mark.parametrize("comes_back", [False, True])
async def test_a_router_that_gave_a_port_is_asked_soon_again_when_it_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, autojump_clock: trio.testing.MockClock, comes_back: bool
) -> None:
    neighbours = tmp_path / "arp"
    neighbours.write_text("\n192.168.1.1 0x1 0x2 0a:00:00:00:00:01 * eth0\n")
    monkeypatch.setattr(router_memory, "default_gateway", lambda: "192.168.1.1")
    memory = RouterMemory(tmp_path / "silent", neighbours)
    asleep = 0.0
    monkeypatch.setattr(port_mapper, "seconds_suspended", lambda: asleep)
    # The network is not ready yet after a suspension: neither for the renewal nor for two searches.
    router = Router("PCP", 0.0, PORT, *[None] * (RENEWALS_TRIED + 2), *[PORT] * comes_back)
    async with mapping(monkeypatch, router, memory=memory) as (_, told):
        await trio.sleep(60)
        asleep += 3600
        await trio.sleep(LOOK_SECONDS + RENEWALS_TRIED * RENEWAL_PAUSE + 2 * LOOK_SECONDS)
        assert [lease is None for _, lease in told] == [False, True, False][: 2 + comes_back]
        assert not memory.is_silent
        await trio.sleep(MISSED_SECONDS + LOOK_SECONDS)
        assert memory.is_silent != comes_back
        asked = len(router.asked)
        await trio.sleep(AGAIN_SECONDS - 5 * LOOK_SECONDS)
        assert len(router.asked) == asked


async def test_a_lost_port_says_nothing_of_the_router_of_another_network(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    router = Router("PCP", 0.0, PORT, None)
    async with mapping(monkeypatch, router):
        await trio.sleep(1800 + RENEWALS_TRIED * RENEWAL_PAUSE + 1)
        go_to(monkeypatch, "10.0.0.9", "10.0.0.1")
        await trio.sleep(LOOK_SECONDS)
        asked = len(router.asked)
        await trio.sleep(MISSED_SECONDS)
        assert len(router.asked) == asked


async def test_a_port_that_a_failure_gives_back_is_told_to_be_lost(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def fail(_self: News, _gateway: str | None) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(News, "wait", fail)
    router = Router("PCP", 0.0, PORT)
    with pytest.raises(ExceptionGroup):
        async with mapping(monkeypatch, router) as (_, told):
            await trio.sleep(2 * SHORTEST_RENEWAL)
    assert [lease is None for _, lease in told] == [False, True]
    assert router.released == 1


async def test_without_a_socket_for_it_there_is_no_news(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(trio.socket, "socket", none_left)
    with trio.move_on_after(1) as waiting:
        async with RouterNews(OWN, None) as news:
            await news.wait("192.168.1.1")
    assert waiting.cancelled_caught


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
