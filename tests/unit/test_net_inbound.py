"""Who is let in when not all can be: places, addresses, use."""

from __future__ import annotations

import pytest

from swarm.ids import PeerId
from swarm.net import network_limits as limits
from swarm.net.inbound import InboundConnection, InboundConnections, PeerStanding, network_of

OLD = limits.GRACE_SECONDS


class House:
    """Visitors named by letters; what becomes of them is in `out`."""

    def __init__(self, capacity: int, named: str = "", busy: str = "") -> None:
        self.visitors = InboundConnections(capacity)
        self.visitors.standing = lambda peer: (
            PeerStanding.NAMED
            if peer in named
            else PeerStanding.IN_SESSION
            if peer in busy
            else PeerStanding.STRANGER
        )
        self.out: list[str] = []
        self.inside: dict[str, InboundConnection] = {}

    def enters(self, name: str, now: float, address: str = "", others: int = 0) -> bool:
        address = address or f"192.0.2.{ord(name)}"
        visitor = InboundConnection(PeerId(name), address, now, lambda: self.out.append(name))
        self.inside[name] = visitor
        return self.visitors.enter(visitor, others, now)


def test_a_full_house_lets_the_oldest_of_no_use_go() -> None:
    house = House(3, busy="a")
    assert all(house.enters(name, now) for now, name in enumerate("abc"))
    assert house.enters("d", 2 + OLD)
    assert house.out == ["b"]


def test_who_has_just_come_does_not_give_way() -> None:
    house = House(3)
    assert all(house.enters(name, 0.0) for name in "abc")
    assert not house.enters("d", OLD / 2)
    assert house.out == []


def test_no_stranger_displaces_a_session() -> None:
    house = House(2, busy="ab")
    assert all(house.enters(name, 0.0) for name in "ab")
    assert not house.enters("c", 100.0)


def test_a_named_peer_gets_in_whatever_strangers_do() -> None:
    house = House(2, named="n", busy="ab")
    assert all(house.enters(name, 0.0) for name in "ab")
    assert house.enters("n", 0.1), "even past those that have just come"
    assert house.out == ["a"]
    assert not house.enters("c", 100.0)


def test_named_peers_do_not_displace_each_other() -> None:
    house = House(2, named="mno")
    assert all(house.enters(name, 0.0) for name in "mn")
    assert not house.enters("o", 100.0)


def test_connections_that_this_node_opened_take_places_too() -> None:
    house = House(3, busy="a")
    assert house.enters("a", 0.0, others=2)
    assert not house.enters("b", 100.0, others=2)


def test_one_address_holds_its_share_and_no_more() -> None:
    house = House(8, busy="abcdefgh")
    entered = [house.enters(name, 0.0, "198.51.100.7") for name in "abcdefgh"]
    assert entered == [True] * (8 // limits.ADDRESS_SHARE) + [False] * 4
    assert house.enters("z", 0.0, "198.51.100.8")


def test_at_its_share_an_address_loses_its_own_useless_ones_first() -> None:
    house = House(8, busy="b")
    assert house.enters("z", 0.0)
    for name in "abcd":
        assert house.enters(name, 1.0, "198.51.100.7")
    assert house.enters("e", 1 + OLD, "198.51.100.7")
    assert house.out == ["a"], "not z, which is elsewhere"


def test_a_peer_keeps_its_newest_connections() -> None:
    house = House(100)
    for now in range(limits.MAX_CONNECTIONS_PER_PEER + 1):
        visitor = InboundConnection(
            PeerId("a"), "192.0.2.1", float(now), lambda now=now: house.out.append(str(now))
        )
        assert house.visitors.enter(visitor, 0, float(now))
    assert house.out == ["0"]


def test_connections_without_a_session_use_an_address_up_for_a_while() -> None:
    visitors = InboundConnections(1000)
    for _ in range(int(limits.UNPROVEN_BURST)):
        assert visitors.knock("192.0.2.1", 0.0)
        visitors.settle("192.0.2.1")
    assert not visitors.knock("192.0.2.1", 0.0)
    assert visitors.knock("192.0.2.2", 0.0)
    assert visitors.knock("192.0.2.1", 1.01 / limits.UNPROVEN_RATE)


def test_connections_with_a_session_cost_their_address_nothing() -> None:
    house = House(1000)
    for turn in range(3 * int(limits.UNPROVEN_BURST)):
        assert house.visitors.knock("192.0.2.97", 0.0), turn
        house.visitors.settle("192.0.2.97")
        assert house.enters("a", 0.0, "192.0.2.97")
        house.visitors.proven(PeerId("a"), 0.0)
        house.visitors.leave(house.inside["a"])


def test_handshakes_are_limited_for_one_address_and_for_all() -> None:
    visitors = InboundConnections(1000)
    begun = [visitors.knock("192.0.2.1", 0.0) for _ in range(limits.MAX_PENDING_PER_ADDRESS + 1)]
    assert begun == [True] * limits.MAX_PENDING_PER_ADDRESS + [False]
    others = sum(visitors.knock(f"192.0.3.{n}", 0.0) for n in range(200))
    assert visitors.pending == limits.MAX_PENDING_PER_ADDRESS + others == limits.MAX_PENDING_HANDSHAKES
    visitors.settle("192.0.2.1")
    assert visitors.knock("192.0.2.1", 0.0)


def test_what_is_known_of_addresses_is_bounded() -> None:
    visitors = InboundConnections(10)
    for number in range(2 * limits.ADDRESSES_REMEMBERED):
        visitors.knock(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
        if visitors.pending:
            visitors.settle(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(visitors._budgets) == limits.ADDRESSES_REMEMBERED


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
