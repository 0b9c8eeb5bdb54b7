import math

from swarm.discovery.peer_exchange import COALESCE_SECONDS, PeerExchange, dialable, is_loopback, visible
from swarm.ids import PeerId
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import encode
from swarm.protocol.messages import ExchangedPeer, Peers

ADDRESS = ("/ip4/192.0.2.1/tcp/1",)
LOCAL = ("/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.2/tcp/1")


A, B, C, D, FAR, NEAR = (PeerId(name * 40) for name in "ABCDFN")


def peer(number: int) -> PeerId:
    return PeerId(f"{number:040}".replace("0", "z"))


def told(messages: list[tuple[PeerId, Peers]]) -> dict[PeerId, tuple[set, set]]:
    return {to: ({added.peer for added in m.added}, set(m.dropped)) for to, m in messages}


def test_a_newcomer_hears_of_all_at_once_and_all_hear_of_the_newcomer_a_little_later():
    exchange = PeerExchange()
    for name in (A, B, C):
        exchange.joined(name, ADDRESS, near=False, now=0.0)
    exchange.due(10.0)
    exchange.joined(D, ADDRESS, near=False, now=20.0)
    assert told(exchange.due(20.0)) == {D: ({A, B, C}, set())}
    assert exchange.next_due() == 20.0 + COALESCE_SECONDS
    assert told(exchange.due(20.0 + COALESCE_SECONDS)) == {name: ({D}, set()) for name in (A, B, C)}
    assert exchange.next_due() == math.inf


def test_nobody_hears_of_himself_twice_or_too_often():
    exchange = PeerExchange()
    exchange.joined(A, ADDRESS, near=False, now=0.0)
    exchange.joined(B, ADDRESS, near=False, now=0.0)
    assert told(exchange.due(0.1)) == {A: ({B}, set()), B: ({A}, set())}
    exchange.joined(C, ADDRESS, near=False, now=0.2)
    assert told(exchange.due(0.5)) == {C: ({A, B}, set())}
    exchange.left(B, 0.6)
    assert exchange.due(1.09) == []
    later = told(exchange.due(0.1 + limits.PEERS_INTERVAL))
    assert later == {A: ({C}, {B})}
    assert told(exchange.due(0.5 + limits.PEERS_INTERVAL)) == {C: (set(), {B})}
    assert exchange.due(100.0) == []


def test_who_comes_and_goes_between_two_messages_is_not_mentioned():
    exchange = PeerExchange()
    exchange.joined(A, ADDRESS, near=False, now=0.0)
    exchange.due(1.0)
    exchange.joined(B, ADDRESS, near=False, now=2.0)
    exchange.left(B, 2.01)
    assert exchange.due(10.0) == []


def test_many_peers_are_told_in_legal_portions():
    exchange = PeerExchange()
    for number in range(1, 130):
        exchange.joined(peer(number), ADDRESS, near=False, now=0.0)
    exchange.due(0.0)
    now = 0.0
    exchange.joined(peer(200), ADDRESS, near=False, now=0.0)
    heard: set[PeerId] = set()
    sizes = []
    while exchange.next_due() < math.inf:
        now = exchange.next_due()
        for to, message in exchange.due(now):
            encode(message)
            if to == peer(200):
                sizes.append(len(message.added))
                heard |= {added.peer for added in message.added}
    assert heard == {peer(number) for number in range(1, 130)}
    assert sizes == [50, 50, 29]
    for number in range(1, 130):
        exchange.left(peer(number), 1000.0)
    dropped = []
    while exchange.next_due() < math.inf:
        now = exchange.next_due()
        dropped += [len(message.dropped) for to, message in exchange.due(now) if to == peer(200)]
    assert dropped == [50, 50, 29]


def test_loopback_addresses_are_for_this_machine():
    exchange = PeerExchange()
    exchange.joined(A, LOCAL, near=True, now=0.0)
    exchange.joined(B, LOCAL[:1], near=True, now=0.0)
    exchange.joined(FAR, ADDRESS, near=False, now=0.0)
    exchange.joined(NEAR, ADDRESS, near=True, now=0.0)
    messages = dict(exchange.due(0.1))
    assert ExchangedPeer(A, LOCAL[1:]) in messages[FAR].added
    assert B not in {added.peer for added in messages[FAR].added}
    assert ExchangedPeer(A, LOCAL) in messages[NEAR].added
    assert ExchangedPeer(B, LOCAL[:1]) in messages[NEAR].added


def test_a_peer_without_a_known_address_is_not_passed_on():
    exchange = PeerExchange()
    exchange.joined(A, (), near=False, now=0.0)
    exchange.joined(B, ADDRESS, near=False, now=0.0)
    assert told(exchange.due(0.1)) == {A: ({B}, set())}


def test_what_the_wire_would_refuse_is_not_told():
    exchange = PeerExchange()
    exchange.joined(peer(1), ("/ip4/192.0.2.1/tcp/1", "no address", "/" + "x" * 300), near=False, now=0.0)
    exchange.joined("0OIl", ADDRESS, near=False, now=0.0)
    exchange.joined(peer(2), (), near=False, now=0.0)
    ((_, message),) = [entry for entry in exchange.due(0.1) if entry[0] == peer(2)]
    assert message == Peers((ExchangedPeer(peer(1), ADDRESS),))


def test_the_dialled_address_comes_first():
    announced = ("/ip4/10.0.0.5/tcp/7", "/ip4/0.0.0.0/tcp/7")
    found = dialable(announced, "/ip4/203.0.113.9/tcp/4001", inbound=False)
    assert found == ("/ip4/203.0.113.9/tcp/4001", "/ip4/10.0.0.5/tcp/7")


def test_an_inbound_peer_may_be_behind_a_translator():
    found = dialable(("/ip4/10.0.0.5/tcp/7",), "/ip4/203.0.113.9/tcp/51234", inbound=True)
    assert found == ("/ip4/10.0.0.5/tcp/7", "/ip4/203.0.113.9/tcp/7")
    same = dialable(("/ip4/203.0.113.9/tcp/7",), "/ip4/203.0.113.9/tcp/51234", inbound=True)
    assert same == ("/ip4/203.0.113.9/tcp/7",)
    assert dialable((), "/ip4/203.0.113.9/tcp/51234", inbound=True) == ()
    assert dialable(("/dns4/example.org/tcp/7",), "", inbound=True) == ("/dns4/example.org/tcp/7",)


def test_never_more_addresses_than_the_wire_allows():
    announced = tuple(f"/ip4/192.0.2.{number}/tcp/7" for number in range(20))
    assert len(dialable(announced, "/ip4/203.0.113.9/tcp/1", inbound=False)) == limits.MAX_ADDRESSES_PER_PEER


def test_what_counts_as_loopback():
    assert is_loopback("/ip4/127.3.2.1/tcp/1")
    assert is_loopback("/ip6/::1/tcp/1")
    assert is_loopback("/dns4/localhost/tcp/1")
    for other in ("/ip4/192.0.2.1/tcp/1", "/ip4/nonsense/tcp/1", "/ip4", "", "/dns4/example.org/tcp/1"):
        assert not is_loopback(other)
    assert visible(LOCAL, near=False) == LOCAL[1:]
