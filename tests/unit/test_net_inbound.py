"""Who is let in when not all can be: places, addresses, use."""

from __future__ import annotations

import pytest

from swarm.ids import PeerId
from swarm.net import network_limits as limits
from swarm.net.inbound import InboundConnection, InboundConnections, PeerStanding, network_of

OLD = limits.GRACE_SECONDS


class Node:
    """Inbound connections of peers named by letters; the closed ones are in `closed`."""

    def __init__(self, capacity: int, named: str = "", busy: str = "") -> None:
        self.connections = InboundConnections(capacity)
        self.connections.standing = lambda peer: (
            PeerStanding.NAMED
            if peer in named
            else PeerStanding.IN_SESSION
            if peer in busy
            else PeerStanding.STRANGER
        )
        self.closed: list[str] = []
        self.admitted: dict[str, InboundConnection] = {}

    def admits(self, name: str, now: float, address: str = "", others: int = 0) -> bool:
        address = address or f"192.0.2.{ord(name)}"
        connection = InboundConnection(PeerId(name), address, now, lambda: self.closed.append(name))
        self.admitted[name] = connection
        return self.connections.admit(connection, others, now)


def test_a_full_node_lets_the_oldest_of_no_use_go() -> None:
    node = Node(3, busy="a")
    assert all(node.admits(name, now) for now, name in enumerate("abc"))
    assert node.admits("d", 2 + OLD)
    assert node.closed == ["b"]


def test_who_has_just_come_does_not_give_way() -> None:
    node = Node(3)
    assert all(node.admits(name, 0.0) for name in "abc")
    assert not node.admits("d", OLD / 2)
    assert node.closed == []


def test_no_stranger_displaces_a_session() -> None:
    node = Node(2, busy="ab")
    assert all(node.admits(name, 0.0) for name in "ab")
    assert not node.admits("c", 100.0)


def test_a_named_peer_gets_in_whatever_strangers_do() -> None:
    node = Node(2, named="n", busy="ab")
    assert all(node.admits(name, 0.0) for name in "ab")
    assert node.admits("n", 0.1), "even past those that have just come"
    assert node.closed == ["a"]
    assert not node.admits("c", 100.0)


def test_named_peers_do_not_displace_each_other() -> None:
    node = Node(2, named="mno")
    assert all(node.admits(name, 0.0) for name in "mn")
    assert not node.admits("o", 100.0)


def test_connections_that_this_node_opened_take_places_too() -> None:
    node = Node(3, busy="a")
    assert node.admits("a", 0.0, others=2)
    assert not node.admits("b", 100.0, others=2)


def test_one_address_holds_its_share_and_no_more() -> None:
    node = Node(8, busy="abcdefgh")
    entered = [node.admits(name, 0.0, "198.51.100.7") for name in "abcdefgh"]
    assert entered == [True] * (8 // limits.ADDRESS_SHARE) + [False] * 4
    assert node.admits("z", 0.0, "198.51.100.8")


def test_at_its_share_an_address_loses_its_own_useless_ones_first() -> None:
    node = Node(8, busy="b")
    assert node.admits("z", 0.0)
    for name in "abcd":
        assert node.admits(name, 1.0, "198.51.100.7")
    assert node.admits("e", 1 + OLD, "198.51.100.7")
    assert node.closed == ["a"], "not z, which is elsewhere"


def test_a_peer_keeps_its_newest_connections() -> None:
    node = Node(100)
    for now in range(limits.MAX_CONNECTIONS_PER_PEER + 1):
        connection = InboundConnection(
            PeerId("a"), "192.0.2.1", float(now), lambda now=now: node.closed.append(str(now))
        )
        assert node.connections.admit(connection, 0, float(now))
    assert node.closed == ["0"]


def test_connections_without_a_session_use_an_address_up_for_a_while() -> None:
    connections = InboundConnections(1000)
    for _ in range(int(limits.UNPROVEN_BURST)):
        assert connections.begin_handshake("192.0.2.1", 0.0)
        connections.end_handshake("192.0.2.1")
    assert not connections.begin_handshake("192.0.2.1", 0.0)
    assert connections.begin_handshake("192.0.2.2", 0.0)
    assert connections.begin_handshake("192.0.2.1", 1.01 / limits.UNPROVEN_RATE)


def test_connections_with_a_session_cost_their_address_nothing() -> None:
    node = Node(1000)
    for turn in range(3 * int(limits.UNPROVEN_BURST)):
        assert node.connections.begin_handshake("192.0.2.97", 0.0), turn
        node.connections.end_handshake("192.0.2.97")
        assert node.admits("a", 0.0, "192.0.2.97")
        node.connections.mark_proven(PeerId("a"), 0.0)
        node.connections.remove(node.admitted["a"])


def test_handshakes_are_limited_for_one_address_and_for_all() -> None:
    connections = InboundConnections(1000)
    begun = [connections.begin_handshake("192.0.2.1", 0.0) for _ in range(limits.MAX_PENDING_PER_ADDRESS + 1)]
    assert begun == [True] * limits.MAX_PENDING_PER_ADDRESS + [False]
    others = sum(connections.begin_handshake(f"192.0.3.{n}", 0.0) for n in range(200))
    assert connections.pending == limits.MAX_PENDING_PER_ADDRESS + others == limits.MAX_PENDING_HANDSHAKES
    connections.end_handshake("192.0.2.1")
    assert connections.begin_handshake("192.0.2.1", 0.0)


def connects(connections: InboundConnections, address: str) -> bool:
    """Whether a connection from the address may begin its handshake, at time 0."""
    allowed = connections.begin_handshake(address, 0.0)
    if allowed:
        connections.end_handshake(address)
    return allowed


def test_the_rate_limits_of_so_many_addresses_are_kept_and_no_more() -> None:
    connections = InboundConnections(10)
    while connects(connections, "192.0.2.1"):
        pass
    for number in range(limits.ADDRESSES_REMEMBERED - 1):
        assert connects(connections, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert not connects(connections, "192.0.2.1"), "its limit is kept, and it is the latest again"
    for number in range(limits.ADDRESSES_REMEMBERED):
        assert connects(connections, f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert connects(connections, "192.0.2.1"), "its limit is forgotten"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("", "", True),
    ],
)
def test_one_subscriber_is_one_address(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
