"""Who is near: kept for as long as they said, in bounded memory."""

from __future__ import annotations

from swarm.discovery.lan_directory import MAX_SEEN, MAX_SEEN_PER_SOURCE, LanDirectory, NearPeer
from swarm.endpoint import Endpoint
from swarm.ids import PeerId, SourceId
from swarm.protocol.lan_records import LIBP2P_SERVICE, OWN_SERVICE, TTL

ETH, WLAN = (2, "ip4"), (3, "ip4")


def near(name: str, number: int = 1) -> NearPeer:
    return NearPeer(PeerId(SourceId(name)), (Endpoint("ip4", f"192.168.1.{number}", "tcp", 4001),))


def key(label: str, place: object = ETH, service: tuple[bytes, ...] = OWN_SERVICE):
    return place, service, (label.encode(), *service)


def test_a_peer_is_near_until_its_time_ends_or_it_leaves() -> None:
    directory = LanDirectory()
    assert directory.saw(key("a"), near("ann"), "s", TTL, now=0)
    assert not directory.saw(key("a"), near("ann"), "s", TTL, now=60)
    assert directory.near(OWN_SERVICE, 179) == (near("ann"),)
    assert directory.near(OWN_SERVICE, 180) == ()
    directory.saw(key("a"), near("ann"), "s", TTL, now=200)
    directory.left(key("a"), "another source", 201)
    assert directory.near(OWN_SERVICE, 210)
    directory.left(key("a"), "s", 210)
    assert directory.near(OWN_SERVICE, 210.5)
    assert directory.near(OWN_SERVICE, 211) == ()
    directory.expire(211)
    assert len(directory) == 0


def test_what_several_networks_say_of_a_peer_is_joined() -> None:
    directory = LanDirectory()
    directory.saw(key("a"), near("ann", 1), "s", TTL, 0)
    assert directory.saw(key("a", WLAN), near("ann", 2), "s", TTL, 0)
    (found,) = directory.near(OWN_SERVICE, 1)
    assert found.endpoints == near("ann", 1).endpoints + near("ann", 2).endpoints
    directory.lost(WLAN)
    assert directory.near(OWN_SERVICE, 1) == (near("ann", 1),)
    assert directory.near(LIBP2P_SERVICE, 1) == ()


def test_another_address_or_peer_under_a_name_is_news() -> None:
    directory = LanDirectory()
    directory.saw(key("a"), near("ann", 1), "s", TTL, 0)
    assert directory.saw(key("a"), near("ann", 2), "s", TTL, 0)
    assert directory.saw(key("a"), near("ben", 2), "s", TTL, 0)
    assert directory.near(OWN_SERVICE, 1) == (near("ben", 2),)


def test_no_source_and_no_crowd_fills_it() -> None:
    directory = LanDirectory()
    for number in range(10 * MAX_SEEN_PER_SOURCE):
        directory.saw(key(f"x{number}"), near(f"x{number}"), "liar", TTL, 0)
    assert len(directory) == MAX_SEEN_PER_SOURCE
    assert directory.saw(key("a"), near("ann"), "honest", 2 * TTL, 0)
    for number in range(10 * MAX_SEEN):
        directory.saw(key(f"y{number}"), near(f"y{number}"), f"s{number}", TTL, 0)
    assert len(directory) == MAX_SEEN
    assert near("ann") in directory.near(OWN_SERVICE, 1)


def test_those_that_soon_end_are_asked_again() -> None:
    directory = LanDirectory()
    directory.saw(key("a"), near("ann"), "s", TTL, 0)
    directory.saw(key("b", WLAN), near("ben"), "s", TTL, 0)
    assert directory.known(ETH, 1) == [(OWN_SERVICE, (b"a", *OWN_SERVICE), TTL - 1)]
    assert directory.known(ETH, TTL / 2) == []
