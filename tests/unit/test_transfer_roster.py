import random
from dataclasses import dataclass

import pytest

from swarm.ids import PeerId
from swarm.strategy.peer_book import NAMED, PeerBook
from swarm.transfer.roster import DEAD_SECONDS, Roster


@dataclass(eq=False)
class Seat:
    peer: PeerId
    inbound: bool = False
    heard_at: float = 0.0


def roster(me: str = "M", max_peers: int = 4, named: tuple[str, ...] = ()) -> Roster:
    return Roster(PeerId(me), max_peers, book_of(*named))


def book_of(*named: str) -> PeerBook:
    book = PeerBook(random.Random(1))
    for peer in named:
        book.add(PeerId(peer), ["/ip4/192.0.2.1/tcp/1"], provenance=NAMED)
    return book


def fill(room: Roster, *peers: str) -> None:
    for peer in peers:
        assert room.admit(PeerId(peer), inbound=True, now=0.0).refusal is None, peer
        room.enter(Seat(PeerId(peer)))


def test_neither_oneself_nor_too_many_get_in():
    room = roster(max_peers=2)
    assert room.admit("M", inbound=False, now=0.0).refusal
    fill(room, "A", "B")
    assert room.admit("C", inbound=True, now=0.0).refusal
    room.leave(room.get("A"))
    assert room.admit("C", inbound=True, now=0.0).refusal is None


def test_strangers_leave_room_for_the_peers_that_the_user_named():
    room = roster(max_peers=4, named=("N1", "N2"))
    fill(room, "A", "B")
    assert room.admit("C", inbound=True, now=0.0).refusal
    fill(room, "N1")
    assert room.admit("C", inbound=True, now=0.0).refusal
    fill(room, "N2")
    assert room.admit("C", inbound=True, now=0.0).refusal
    room.leave(room.get("A"))
    fill(room, "C")


def test_absent_named_peers_keep_at_most_half_of_the_places():
    room = roster(max_peers=4, named=tuple(f"N{number}" for number in range(100)))
    fill(room, "A", "B")
    assert room.admit("C", inbound=True, now=0.0).refusal
    fill(room, "N1", "N2")
    assert room.admit("N3", inbound=True, now=0.0).refusal


def test_a_peer_that_is_named_later_gets_a_place_and_one_that_is_banned_gives_it_back():
    book = book_of()
    room = Roster(PeerId("M"), 2, book)
    fill(room, "A")
    book.add(PeerId("N"), ["/ip4/192.0.2.1/tcp/1"], provenance=NAMED)
    assert room.admit("C", inbound=True, now=0.0).refusal == "no place is free"
    book.forget(PeerId("N"))
    assert room.admit("C", inbound=True, now=0.0).refusal is None


@pytest.mark.parametrize(("small", "large"), [("A", "B"), ("12D3A", "QmZ")])
@pytest.mark.parametrize("first_at_small", ["mine", "theirs"])
@pytest.mark.parametrize("first_at_large", ["mine", "theirs"])
def test_of_two_sessions_opened_at_once_both_ends_keep_the_same(small, large, first_at_small, first_at_large):
    """In whatever order the two arrive at either end, the one that the smaller id opened stays."""
    survivors = []
    for me, other, first in ((small, large, first_at_small), (large, small, first_at_large)):
        room = roster(me)
        kept = None
        for inbound in (first == "theirs", first == "mine"):
            verdict = room.admit(other, inbound=inbound, now=1.0)
            if verdict.refusal is None:
                if verdict.replaces is not None:
                    room.leave(verdict.replaces)
                kept = Seat(other, inbound, heard_at=1.0)
                room.enter(kept)
        survivors.append(other if kept.inbound else me)
    assert survivors == [small, small]


def test_a_second_session_in_the_same_direction_replaces_a_dead_one_only():
    room = roster()
    old = Seat(PeerId("A"), inbound=True, heard_at=10.0)
    room.enter(old)
    assert room.admit("A", inbound=True, now=10.0 + DEAD_SECONDS).refusal
    verdict = room.admit("A", inbound=True, now=10.1 + DEAD_SECONDS)
    assert verdict.replaces is old


def test_a_replaced_session_that_leaves_late_does_not_take_the_new_ones_place():
    room = roster()
    old, new = Seat(PeerId("A")), Seat(PeerId("A"))
    room.enter(old)
    room.enter(new)
    room.leave(old)
    assert room.get("A") is new
