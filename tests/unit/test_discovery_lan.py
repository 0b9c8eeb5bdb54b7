"""What a node makes of the packets of its networks, and when it speaks there itself."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from swarm.discovery import lan as lan_module
from swarm.discovery.interfaces import InterfaceNews
from swarm.discovery.lan import ANSWER_DELAY, ANSWER_PAUSE, FIRST_PAUSE, LanPeers, _Place
from swarm.discovery.lan_scope import Interface
from swarm.endpoint import Endpoint
from swarm.ids import ManifestId
from swarm.ports import Announcement
from swarm.protocol.dns_message import decode_message
from swarm.protocol.lan_records import OWN_SERVICE, SERVICES, announcements, query, sightings
from tests.unit.test_reach_kad import peer

MANIFEST, OTHER_MANIFEST = ManifestId(bytes(32)), ManifestId(bytes(31) + b"\x01")
ME, OTHER = peer(1), peer(2)
ETH0 = Interface(2, "eth0", (ipaddress.ip_interface("192.168.1.7/24"),))
NEAR = Endpoint.parse("/ip4/192.168.1.8/tcp/4001")
FAR = Endpoint.parse("/ip4/10.0.0.8/tcp/4001")


class Wire:
    """Stands for a multicast socket on an interface; keeps what is sent and when."""

    interface = ETH0
    kind = "ip4"

    def __init__(self) -> None:
        self.sent: list[tuple[float, bytes]] = []

    def send(self, data: bytes) -> None:
        self.sent.append((trio.current_time(), data))

    def close(self) -> None:
        pass


@asynccontextmanager
async def lan_on_eth0() -> AsyncIterator[tuple[LanPeers, Any, Wire]]:
    """A node's peers of one network, without sockets; its searches run."""
    wire: Any = Wire()
    lan = LanPeers(ME, [Endpoint.parse("/ip4/0.0.0.0/tcp/4001")])
    place = _Place(wire)
    lan._places[place.key] = place
    async with trio.open_nursery() as nursery:
        lan._nursery = nursery
        nursery.start_soon(lan._search_on)
        yield lan, place, wire
        nursery.cancel_scope.cancel()


def told(*endpoints: Endpoint) -> bytes:
    return announcements("other", OTHER, endpoints, [OWN_SERVICE])[0]


def seen(lan: LanPeers) -> list[tuple[str, ...]]:
    return [tuple(map(str, near.endpoints)) for near in lan._directory.near(OWN_SERVICE, trio.current_time())]


async def test_only_who_is_in_the_network_is_believed_and_only_of_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with lan_on_eth0() as (lan, place, _):
        lan._take(place, told(NEAR), "10.0.0.8")  # through a router, or forged
        lan._take(place, told(FAR), "192.168.1.8")
        lan._take(place, announcements("me", ME, [NEAR], [OWN_SERVICE])[0], "192.168.1.8")
        assert seen(lan) == []
        lan._take(place, told(FAR, NEAR), "192.168.1.8")
        assert seen(lan) == [(str(NEAR),)]


async def test_a_flood_of_queries_gets_few_answers(autojump_clock: trio.testing.MockClock) -> None:
    async with lan_on_eth0() as (lan, place, wire):
        lan._take(place, query([OWN_SERVICE]), "192.168.1.8")
        await trio.sleep(1)
        assert wire.sent == []  # nothing is shared here: nobody is answered
        lan.announce(Announcement(MANIFEST, (), complete=True))
        await trio.sleep(5)
        del wire.sent[:]
        began = trio.current_time()
        for _ in range(1000):
            lan._take(place, query(SERVICES), "192.168.1.8")
            await trio.sleep(0.002)
        await trio.sleep(1)
        moments = sorted({at - began for at, _ in wire.sent})
        assert len(moments) <= 2 / ANSWER_PAUSE + 2
        assert ANSWER_DELAY[0] <= moments[0] <= ANSWER_DELAY[1]
        for _, data in wire.sent:
            [answer] = sightings(decode_message(data), SERVICES)[:1]
            assert answer.peer == ME


async def test_it_looks_for_what_is_not_complete_and_less_and_less_often(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def look(lan: LanPeers, manifest: ManifestId) -> None:
        async with aclosing(lan.peers(manifest)) as peers:
            async for _ in peers:
                pass

    async with lan_on_eth0() as (lan, _, wire), trio.open_nursery() as nursery:
        lan._announced[MANIFEST] = True
        nursery.start_soon(look, lan, MANIFEST)
        await trio.sleep(10)
        assert wire.sent == []  # a share that has everything asks nobody
        nursery.start_soon(look, lan, OTHER_MANIFEST)
        began = trio.current_time()
        await trio.sleep(130)
        moments = [round(at - began, 3) for at, _ in wire.sent]
        assert moments == [0, 1, 3, 7, 15, 31, 63, 123]
        nursery.cancel_scope.cancel()


async def test_a_search_that_a_failure_broke_off_goes_on_with_the_next_run(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    wire: Any = Wire()
    fails = trio.Event()

    async def wait(_self: InterfaceNews) -> None:
        await fails.wait()
        raise OSError("out of order")

    async def search() -> None:
        async for _ in lan.near(OWN_SERVICE):
            pass

    monkeypatch.setattr(lan_module, "interfaces", tuple)
    monkeypatch.setattr(InterfaceNews, "wait", wait)
    lan = LanPeers(ME, [Endpoint.parse("/ip4/0.0.0.0/tcp/4001")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(search)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ExceptionGroup):
            async with trio.open_nursery() as first:
                first.start_soon(lan.run)
                await trio.sleep(FIRST_PAUSE / 2)
                fails.set()
        fails = trio.Event()
        nursery.start_soon(lan.run)
        await trio.testing.wait_all_tasks_blocked()
        place = _Place(wire)
        lan._places[place.key] = place
        await trio.sleep(2 * FIRST_PAUSE)
        assert wire.sent
        nursery.cancel_scope.cancel()
