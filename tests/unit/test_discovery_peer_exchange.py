import math
from dataclasses import dataclass

import trio

from swarm.discovery.peer_exchange import (
    COALESCE_SECONDS,
    FOUND_PEERS,
    Introductions,
    PeerExchange,
    dialable,
    is_loopback,
    visible,
)
from swarm.ids import ManifestId, PeerId
from swarm.ports import Announcement, FoundPeer
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import encode
from swarm.protocol.messages import ExchangedPeer, Hello, Peers
from swarm.strategy.peer_book import EXCHANGE

ADDRESS = ("/ip4/192.0.2.1/tcp/1",)
ELSEWHERE = ("/ip4/192.0.2.9/tcp/1",)
LOCAL = ("/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.2/tcp/1")


A, B, C, D, FAR, NEAR = (PeerId(name * 40) for name in "ABCDFN")


def peer(number: int) -> PeerId:
    return PeerId(f"{number:040}".replace("0", "z"))


def told(messages: list[tuple[PeerId, Peers]]) -> dict[PeerId, tuple[set, set]]:
    return {to: ({added.peer for added in m.added}, set(m.dropped)) for to, m in messages}


def test_a_newcomer_hears_of_all_at_once_and_all_hear_of_the_newcomer_a_little_later():
    introductions = Introductions()
    for name in (A, B, C):
        introductions.session_opened(name, ADDRESS, near=False, now=0.0)
    introductions.due(10.0)
    introductions.session_opened(D, ADDRESS, near=False, now=20.0)
    assert told(introductions.due(20.0)) == {D: ({A, B, C}, set())}
    assert introductions.next_due() == 20.0 + COALESCE_SECONDS
    assert told(introductions.due(20.0 + COALESCE_SECONDS)) == {name: ({D}, set()) for name in (A, B, C)}
    assert introductions.next_due() == math.inf


def test_nobody_hears_of_himself_twice_or_too_often():
    introductions = Introductions()
    introductions.session_opened(A, ADDRESS, near=False, now=0.0)
    introductions.session_opened(B, ADDRESS, near=False, now=0.0)
    assert told(introductions.due(0.1)) == {A: ({B}, set()), B: ({A}, set())}
    introductions.session_opened(C, ADDRESS, near=False, now=0.2)
    assert told(introductions.due(0.5)) == {C: ({A, B}, set())}
    introductions.session_closed(B, 0.6)
    assert introductions.due(1.09) == []
    later = told(introductions.due(0.1 + limits.PEERS_INTERVAL))
    assert later == {A: ({C}, {B})}
    assert told(introductions.due(0.5 + limits.PEERS_INTERVAL)) == {C: (set(), {B})}
    assert introductions.due(100.0) == []


def test_who_comes_and_goes_between_two_messages_is_not_mentioned():
    introductions = Introductions()
    introductions.session_opened(A, ADDRESS, near=False, now=0.0)
    introductions.due(1.0)
    introductions.session_opened(B, ADDRESS, near=False, now=2.0)
    introductions.session_closed(B, 2.01)
    assert introductions.due(10.0) == []


def moved(introductions: Introductions, addresses: tuple[str, ...], now: float) -> None:
    """A peer's new session replaces the one that is dead."""
    introductions.session_closed(A, now)
    introductions.session_opened(A, addresses, near=False, now=now)


def test_who_comes_back_elsewhere_between_two_messages_is_named_again():
    introductions = Introductions()
    for name in (A, B):
        introductions.session_opened(name, ADDRESS, near=False, now=0.0)
    assert told(introductions.due(0.0)) == {A: ({B}, set()), B: ({A}, set())}
    moved(introductions, ELSEWHERE, 10.0)
    messages = dict(introductions.due(10.0 + COALESCE_SECONDS))
    assert messages == {A: Peers((ExchangedPeer(B, ADDRESS),)), B: Peers((ExchangedPeer(A, ELSEWHERE),))}
    # Or while no message may be sent: only the last address counts.
    moved(introductions, ADDRESS, 10.2)
    moved(introductions, (*ELSEWHERE, *ADDRESS), 10.3)
    messages = dict(introductions.due(10.0 + COALESCE_SECONDS + limits.PEERS_INTERVAL))
    assert messages[B] == Peers((ExchangedPeer(A, (*ELSEWHERE, *ADDRESS)),))
    introductions.due(20.0)
    assert introductions.next_due() == math.inf


def test_who_comes_back_at_addresses_that_look_the_same_from_outside_is_not_named_again():
    introductions = Introductions()
    for name in (A, NEAR, FAR):
        introductions.session_opened(name, ADDRESS, near=name != FAR, now=0.0)
    introductions.due(0.0)
    moved(introductions, (*LOCAL[:1], *ADDRESS), 10.0)
    messages = dict(introductions.due(11.0))
    assert messages.keys() == {A, NEAR}
    assert messages[NEAR] == Peers((ExchangedPeer(A, (*LOCAL[:1], *ADDRESS)),))
    moved(introductions, (), 20.0)
    assert dict(introductions.due(21.0)).keys() == {A}


def test_many_who_come_back_elsewhere_are_named_again_in_legal_portions():
    names = sorted(peer(number) for number in range(1, 130))
    introductions = Introductions()
    introductions.session_opened(B, ADDRESS, near=False, now=0.0)
    for addresses, now in ((ADDRESS, 0.0), (ELSEWHERE, 100.0)):
        for name in names:
            introductions.session_closed(name, now)
            introductions.session_opened(name, addresses, near=False, now=now)
        heard: list[ExchangedPeer] = []
        while (due := introductions.next_due()) < math.inf:
            messages = dict(introductions.due(due))
            for message in messages.values():
                encode(message)
            heard += messages.get(B, Peers()).added
        assert sorted(heard, key=lambda each: each.peer) == [ExchangedPeer(name, addresses) for name in names]


def test_many_peers_are_told_in_legal_portions():
    introductions = Introductions()
    for number in range(1, 130):
        introductions.session_opened(peer(number), ADDRESS, near=False, now=0.0)
    introductions.due(0.0)
    now = 0.0
    introductions.session_opened(peer(200), ADDRESS, near=False, now=0.0)
    heard: set[PeerId] = set()
    sizes = []
    while introductions.next_due() < math.inf:
        now = introductions.next_due()
        for to, message in introductions.due(now):
            encode(message)
            if to == peer(200):
                sizes.append(len(message.added))
                heard |= {added.peer for added in message.added}
    assert heard == {peer(number) for number in range(1, 130)}
    assert sizes == [50, 50, 29]
    for number in range(1, 130):
        introductions.session_closed(peer(number), 1000.0)
    dropped = []
    while introductions.next_due() < math.inf:
        now = introductions.next_due()
        dropped += [len(message.dropped) for to, message in introductions.due(now) if to == peer(200)]
    assert dropped == [50, 50, 29]


def test_loopback_addresses_are_for_this_machine():
    introductions = Introductions()
    introductions.session_opened(A, LOCAL, near=True, now=0.0)
    introductions.session_opened(B, LOCAL[:1], near=True, now=0.0)
    introductions.session_opened(FAR, ADDRESS, near=False, now=0.0)
    introductions.session_opened(NEAR, ADDRESS, near=True, now=0.0)
    messages = dict(introductions.due(0.1))
    assert ExchangedPeer(A, LOCAL[1:]) in messages[FAR].added
    assert B not in {added.peer for added in messages[FAR].added}
    assert ExchangedPeer(A, LOCAL) in messages[NEAR].added
    assert ExchangedPeer(B, LOCAL[:1]) in messages[NEAR].added


def test_a_peer_without_a_known_address_is_not_passed_on():
    introductions = Introductions()
    introductions.session_opened(A, (), near=False, now=0.0)
    introductions.session_opened(B, ADDRESS, near=False, now=0.0)
    assert told(introductions.due(0.1)) == {A: ({B}, set())}


def test_what_the_wire_would_refuse_is_not_told():
    introductions = Introductions()
    introductions.session_opened(
        peer(1), ("/ip4/192.0.2.1/tcp/1", "no address", "/" + "x" * 300), near=False, now=0.0
    )
    introductions.session_opened("0OIl", ADDRESS, near=False, now=0.0)
    introductions.session_opened(peer(2), (), near=False, now=0.0)
    ((_, message),) = [entry for entry in introductions.due(0.1) if entry[0] == peer(2)]
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


# --- As a source of peers -------------------------------------------------------------------------

ID = ManifestId(bytes(32))
ME = PeerId("M" * 40)


@dataclass
class Origin:
    address: str
    remote_address: str
    inbound: bool = True


OUTSIDE = Origin("/ip4/203.0.113.9/tcp/51234", "/ip4/203.0.113.9/tcp/51234")
INSIDE = Origin("/ip4/127.0.0.1/tcp/51234", "/ip4/127.0.0.1/tcp/51234")


def hello(*addresses: str) -> Hello:
    return Hello(ID, 4, "test", addresses)


async def found_by(exchange: PeerExchange) -> list[FoundPeer]:
    exchange.close()
    return [found async for found in exchange.peers(ID)]


async def test_a_peer_that_greets_is_found_where_it_says_that_it_listens():
    exchange = PeerExchange(ME)
    exchange.session_opened(A, hello("/ip4/10.0.0.5/tcp/7"), OUTSIDE, 0.0)
    exchange.session_opened(B, hello("/ip4/10.0.0.6/tcp/7"), Origin("/ip4/192.0.2.6/tcp/1", "", False), 0.0)
    exchange.session_opened(C, hello(), OUTSIDE, 0.0)
    assert await found_by(exchange) == [
        FoundPeer(A, ("/ip4/10.0.0.5/tcp/7", "/ip4/203.0.113.9/tcp/7"), told_by=A),
        FoundPeer(B, ("/ip4/192.0.2.6/tcp/1", "/ip4/10.0.0.6/tcp/7"), told_by=B),
    ]


async def test_peers_that_others_name_are_found_and_oneself_is_not():
    exchange = PeerExchange(ME)
    named = (ExchangedPeer(B, ADDRESS), ExchangedPeer(ME, ADDRESS), ExchangedPeer(C, ()))
    exchange.peers_received(A, OUTSIDE.remote_address, Peers(named, (D,)))
    assert await found_by(exchange) == [FoundPeer(B, ADDRESS, told_by=A)]


async def test_loopback_addresses_are_believed_of_peers_on_this_machine_only():
    exchange = PeerExchange(ME)
    named = Peers((ExchangedPeer(B, LOCAL),), ())
    exchange.peers_received(A, OUTSIDE.remote_address, named)
    exchange.peers_received(A, INSIDE.remote_address, named)
    exchange.session_opened(C, hello(LOCAL[0]), OUTSIDE, 0.0)
    exchange.session_opened(D, hello(LOCAL[0]), INSIDE, 0.0)
    assert await found_by(exchange) == [
        FoundPeer(B, LOCAL[1:], told_by=A),
        FoundPeer(B, LOCAL, told_by=A),
        FoundPeer(C, ("/ip4/203.0.113.9/tcp/1",), told_by=C),
        FoundPeer(D, LOCAL[:1], told_by=D),
    ]


async def test_no_peer_names_a_relay_of_its_choice():
    """It would be dialled, be it in a network of this node or on its own machine."""
    relays = tuple(f"/ip4/{host}/tcp/80/p2p/{D}/p2p-circuit" for host in ("127.0.0.1", "10.0.0.1", "5.5.5.9"))
    exchange = PeerExchange(ME)
    for teller in (OUTSIDE, INSIDE):
        named = Peers((ExchangedPeer(B, (*relays, *ADDRESS)), ExchangedPeer(C, relays)), ())
        exchange.peers_received(A, teller.remote_address, named)
        exchange.session_opened(A, hello(*relays, ADDRESS[0]), teller, 0.0)
        exchange.session_opened(C, hello(*relays), teller, 0.0)
    found = await found_by(exchange)
    assert {each.peer for each in found} == {A, B}
    own_way = f"{OUTSIDE.remote_address}/p2p/{A}/p2p-circuit"
    assert {text for each in found for text in each.addresses if "p2p-circuit" in text} <= {own_way}
    # Nor is one named to others: they would not use it.
    introductions = Introductions()
    introductions.session_opened(A, (*relays, *ADDRESS), near=False, now=0.0)
    introductions.session_opened(B, (), near=True, now=0.0)
    assert dict(introductions.due(1.0)) == {B: Peers((ExchangedPeer(A, ADDRESS),))}


async def test_peers_that_nobody_takes_are_bounded_and_the_rest_is_forgotten():
    exchange = PeerExchange(ME)
    for number in range(1, 3 * FOUND_PEERS):
        exchange.peers_received(A, "", Peers((ExchangedPeer(peer(number), ADDRESS),), ()))
    found = await found_by(exchange)
    assert [each.peer for each in found] == [peer(number) for number in range(1, FOUND_PEERS + 1)]
    exchange.peers_received(A, "", Peers((ExchangedPeer(B, ADDRESS),), ()))


async def test_peers_are_found_as_they_come(autojump_clock):
    exchange = PeerExchange(ME)
    heard: list[PeerId] = []

    async def listen():
        async for found in exchange.peers(ID):
            heard.append(found.peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for other in (B, C):
            await trio.sleep(1)
            exchange.peers_received(A, "", Peers((ExchangedPeer(other, ADDRESS),), ()))
        await trio.sleep(1)
        assert heard == [B, C]
        exchange.close()


def test_what_it_is_told_of_a_transfer_it_tells_by_its_sessions():
    exchange = PeerExchange(ME)
    exchange.announce(Announcement(ID, ("/ip4/192.0.2.1/tcp/1",), complete=True))
    exchange.withdraw(ID)
    assert exchange.provenance == EXCHANGE
    assert exchange.introductions.next_due() == math.inf


async def test_a_public_teller_is_a_way_to_those_it_names():
    exchange = PeerExchange(ME)
    relayed = f"/ip4/5.5.5.9/tcp/1/p2p/{C}/p2p-circuit"
    for teller in ("/ip4/5.5.5.1/tcp/4001", "/ip4/192.168.1.7/tcp/4001", relayed):
        exchange.peers_received(A, teller, Peers((ExchangedPeer(B, ADDRESS),), ()))
    by_public, by_private, by_circuit = await found_by(exchange)
    assert by_public.addresses == (*ADDRESS, f"/ip4/5.5.5.1/tcp/4001/p2p/{A}/p2p-circuit")
    assert by_private.addresses == by_circuit.addresses == ADDRESS
    exchange = PeerExchange(ME)
    many = tuple(f"/ip4/192.0.2.{number}/tcp/1" for number in range(1, 9))
    exchange.peers_received(A, "/ip4/5.5.5.1/tcp/4001", Peers((ExchangedPeer(B, many),), ()))
    (found,) = await found_by(exchange)
    assert len(found.addresses) == limits.MAX_ADDRESSES_PER_PEER
    assert found.addresses[-1].endswith("/p2p-circuit")
