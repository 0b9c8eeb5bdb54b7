"""What others tell of a peer whose own addresses are known: when it is tried, and how little a liar gets."""

from __future__ import annotations

import random

import pytest

from swarm.endpoint import Circuit, Endpoint, PeerAddress
from swarm.ids import PeerId
from swarm.strategy.peer_book import DHT, EXCHANGE, MAX_ADDRESSES, NAMED, NEAR_DHT, PeerBook
from tests.unit.test_reach_kad import peer

A, B, C = PeerId("a"), peer(1), peer(2)
TRACKER = "tracker"


def at(host: int) -> str:
    return f"/ip4/5.5.{host >> 8 & 255}.{host & 255}/tcp/4001"


def own_of(book: PeerBook, how: str, *addresses: str) -> None:
    """Note what the user, a tracker or the peer itself says of A."""
    provenance = {"user": NAMED, "tracker": TRACKER, "itself": EXCHANGE}[how]
    book.add(A, addresses, provenance=provenance, told_by=A if how == "itself" else None)


def fail(book: PeerBook, now: float) -> tuple[str, ...]:
    """Dial A in vain; returns where."""
    dial = book.next_dial(now)
    assert dial is not None
    assert dial.peer == A
    book.failed(A, now)
    return dial.addresses


HOWS = pytest.mark.parametrize("how", ["user", "tracker", "itself"])


@HOWS
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("own", [1, MAX_ADDRESSES])
def test_what_others_tell_is_tried_once_after_all_own_addresses_have_failed(
    how: str, first: bool, own: int
) -> None:
    book = PeerBook(random.Random(1))
    mine, theirs = [at(number) for number in range(own)], [at(100), at(101)]
    if first:
        book.add(A, theirs, told_by=B)
    own_of(book, how, *mine)
    if not first:
        book.add(A, theirs, told_by=B)
    assert fail(book, 0.0) == tuple(mine)
    assert fail(book, 100.0) == (*mine, *theirs)
    assert fail(book, 300.0) == tuple(mine)
    # What is told again and again is not tried again.
    book.add(A, theirs, told_by=B)
    assert fail(book, 600.0) == tuple(mine)


@HOWS
def test_what_others_tell_while_the_own_addresses_fail_is_tried_next(how: str) -> None:
    book = PeerBook(random.Random(1))
    own_of(book, how, at(1))
    fail(book, 0.0)
    fail(book, 100.0)
    book.add(A, [at(2)], told_by=B)
    assert fail(book, 200.0) == (at(1), at(2))


@HOWS
def test_tellers_crowd_out_no_own_address(how: str) -> None:
    book = PeerBook(random.Random(1))
    own_of(book, how, at(1), at(2))
    for teller in range(10):
        book.add(A, [at(100 + 8 * teller + number) for number in range(8)], told_by=peer(teller))
    book.add(A, [at(500 + number) for number in range(8)], provenance=DHT)
    assert fail(book, 0.0)[:2] == (at(1), at(2))


@pytest.mark.parametrize("table", [DHT, NEAR_DHT])
def test_what_the_nodes_of_a_hash_table_tell_is_hearsay(table: str) -> None:
    book = PeerBook(random.Random(1))
    own_of(book, "tracker", at(1))
    book.add(A, [at(100 + number) for number in range(2 * MAX_ADDRESSES)], provenance=table)
    assert fail(book, 0.0) == (at(1),)
    assert len(fail(book, 100.0)) == 1 + MAX_ADDRESSES // 2
    assert fail(book, 200.0) == (at(1),)


@HOWS
def test_no_teller_makes_this_node_dial_many_addresses(how: str) -> None:
    """However often he tells others; and for as long as the peer is away."""
    book = PeerBook(random.Random(1))
    own_of(book, how, at(1))
    dialled: set[str] = set()
    for number in range(7):
        book.add(A, [at(100 + 8 * number + each) for each in range(8)], told_by=C)
        dialled.update(fail(book, 200.0 * number))
    assert len(dialled) <= 1 + MAX_ADDRESSES // 2
    # Nor do many tellers together.
    own_of(book, "user", at(1))
    for teller in range(50):
        book.add(A, [at(1000 + 8 * teller + each) for each in range(8)], told_by=peer(10 + teller))
        dialled.update(fail(book, 2000.0 + 10 * teller))
    assert len(dialled) <= 1 + 2 * MAX_ADDRESSES


@HOWS
def test_one_teller_does_not_keep_another_from_being_heard(how: str) -> None:
    book = PeerBook(random.Random(1))
    own_of(book, how, at(1))
    for number in range(10):
        book.add(A, [at(100 + 8 * number + each) for each in range(8)], told_by=C)
    book.add(A, [at(2)], told_by=B)
    fail(book, 0.0)
    assert at(2) in fail(book, 100.0)


def test_hearsay_that_the_peer_or_the_user_confirms_is_an_own_address() -> None:
    book = PeerBook(random.Random(1))
    own_of(book, "itself", at(1))
    book.add(A, [at(2), at(3)], told_by=B)
    own_of(book, "itself", at(2))
    own_of(book, "user", at(3))
    assert fail(book, 0.0) == fail(book, 10.0) == (at(3), at(1), at(2))


def test_after_a_session_hearsay_waits_again_and_may_be_told_anew() -> None:
    book = PeerBook(random.Random(1))
    own_of(book, "user", at(1))
    book.add(A, [at(2)], told_by=B)
    fail(book, 0.0)
    assert fail(book, 10.0) == (at(1), at(2))
    book.connected(A)
    book.disconnected(A, 100.0, useful=True)
    book.add(A, [at(2)], told_by=B)
    assert fail(book, 200.0) == (at(1),)
    assert fail(book, 210.0) == (at(1), at(2))


def test_a_way_through_the_teller_is_always_tried_and_one_through_others_counts_as_hearsay() -> None:
    """It leads over the connection to the teller, who coordinates a punch; any other may lead anywhere."""
    book = PeerBook(random.Random(1))
    by_teller, by_other = (str(Circuit(PeerAddress(each, Endpoint.parse(at(9))))) for each in (B, C))
    own_of(book, "user", at(1))
    book.add(A, [at(2), by_other, by_teller], told_by=B)
    assert fail(book, 0.0) == (at(1), by_teller)
    assert fail(book, 10.0) == (at(1), by_teller, at(2), by_other)
    assert fail(book, 20.0) == (at(1), by_teller)


@pytest.mark.parametrize("own", [False, True])
def test_the_way_through_each_teller_stays_whoever_told_first_and_whatever_is_told_later(own: bool) -> None:
    book = PeerBook(random.Random(1))
    ways = {each: str(Circuit(PeerAddress(each, Endpoint.parse(at(9))))) for each in (B, C)}
    for teller, way in ways.items():
        book.add(A, [at(1), way], told_by=teller)
    book.add(A, [at(100 + number) for number in range(MAX_ADDRESSES)], told_by=peer(3))
    if own:
        own_of(book, "itself", at(2))
    for number in range(3):
        dialled = fail(book, 100.0 * number)
        assert set(ways.values()) <= set(dialled)
        assert len(dialled) == len(set(dialled))


def test_of_a_peer_that_only_others_tell_of_their_addresses_are_tried_each_time() -> None:
    book = PeerBook(random.Random(1))
    book.add(A, [at(1), at(2)], told_by=B)
    assert fail(book, 0.0) == fail(book, 100.0) == (at(1), at(2))
