from __future__ import annotations

import math
import random

from swarm.ids import PeerId
from swarm.strategy.peer_book import (
    LASTING_SECONDS,
    MAX_ADDRESSES,
    MAX_STRANGERS,
    MAX_STRANGERS_PER_HOST,
    MAX_STRANGERS_PER_PROVENANCE,
    MAX_STRANGERS_PER_TELLER,
    MOST_NAMED_DELAY,
    MOST_STRANGER_DELAY,
    NAMED,
    STRANGER_FAILURES,
    PeerBook,
)

A, B, C, ME = PeerId("a"), PeerId("b"), PeerId("c"), PeerId("source")


def at(host: int, port: int = 4001) -> str:
    return f"/ip4/10.{host >> 16}.{host >> 8 & 255}.{host & 255}/tcp/{port}"


def book(**options: int) -> PeerBook:
    return PeerBook(random.Random(1), **options)


def session(made: PeerBook, peer: PeerId, begin: float, end: float, *, useful: bool = True) -> float:
    """Dial the peer at ``begin`` and have a session until ``end``."""
    dial = made.next_dial(begin)
    assert dial is not None
    assert dial.peer == peer
    made.connected(peer)
    return made.disconnected(peer, end, useful=useful)


def test_a_peer_is_dialled_once_at_a_time() -> None:
    made = book()
    made.add(A, [at(1), at(2)], provenance=NAMED)
    dial = made.next_dial(0.0)
    assert dial == (A, (at(1), at(2)), "named by the user, not tried yet")
    assert made.next_dial(0.0) is None
    assert made.next_wakeup() == math.inf  # only an input can change that


def test_the_back_off_of_a_named_peer_doubles_up_to_eight_seconds() -> None:
    made = book()
    made.add(A, [at(1)], provenance=NAMED)
    now, delays = 0.0, []
    for _ in range(12):
        assert made.next_dial(now) is not None
        delay = made.failed(A, now)
        assert made.next_dial(now + delay - 0.001) is None
        assert made.next_wakeup() == now + delay
        now += delay
        delays.append(delay)
    assert delays[0] <= 0.25
    assert all(
        longest * 0.75 <= d <= longest for d, longest in zip(delays[:5], (0.25, 0.5, 1, 2, 4), strict=True)
    )
    assert all(0.75 * MOST_NAMED_DELAY <= delay <= MOST_NAMED_DELAY for delay in delays[6:])
    assert len(set(delays[6:])) > 3  # jitter


def test_a_stranger_waits_longer_and_is_forgotten_in_the_end() -> None:
    made = book()
    made.add(A, [at(1)])
    now, delays = 0.0, []
    while made.next_dial(now):
        delay = made.failed(A, now)
        delays.append(delay)
        now += min(delay, 1e6)
    assert len(delays) == STRANGER_FAILURES
    assert delays[-1] == math.inf
    assert max(delays[:-1]) <= MOST_STRANGER_DELAY
    assert len(made) == 0
    assert made.failed(A, now) == math.inf


def test_a_session_that_lasts_forgives_failures() -> None:
    made = book()
    made.add(A, [at(1)], provenance=NAMED)
    for now in (0.0, 10.0, 20.0, 30.0):
        made.next_dial(now)
        made.failed(A, now)
    assert session(made, A, 100.0, 100.0 + LASTING_SECONDS) <= 0.25


def test_whoever_hangs_up_at_once_is_not_dialled_in_a_loop() -> None:
    made = book()
    made.add(A, [at(1)], provenance=NAMED)
    now = 0.0
    for _ in range(8):
        now += session(made, A, now, now + 0.01) + 0.02
    assert session(made, A, now, now + 0.01) >= 0.75 * MOST_NAMED_DELAY


def test_named_peers_go_before_strangers() -> None:
    made = book()
    made.add(A, [at(1)])
    made.add(B, [at(2)])
    made.add(C, [at(3)], provenance=NAMED)
    assert made.next_dial(0.0).peer == C
    assert {made.next_dial(0.0).peer, made.next_dial(0.0).peer} == {A, B}


def test_without_strangers_neither_dials_nor_wakes_for_one() -> None:
    made = book()
    made.add(A, [at(1)])
    made.next_dial(0.0)
    made.failed(A, 0.0)
    assert made.next_dial(500.0, strangers=False) is None
    assert made.next_wakeup() == math.inf
    assert made.next_dial(500.0) is not None


def test_places_are_kept_for_named_peers() -> None:
    made = book(max_peers=4)
    made.add(A, [at(1)], provenance=NAMED)
    for number in range(10):
        made.add(PeerId(f"stranger{number}"), [at(10 + number)])
    made.next_dial(0.0)
    made.failed(A, 0.0)  # absent: a place is kept
    taken = [made.next_dial(0.0) for _ in range(4)]
    assert [dial is not None for dial in taken] == [True, True, True, False]
    assert made.next_dial(10.0).peer == A
    assert made.next_dial(10.0) is None
    assert made.next_wakeup() == math.inf


def test_named_peers_keep_half_of_the_places_at_most() -> None:
    made = book(max_peers=4)
    for number in range(10):
        made.add(PeerId(f"named{number}"), [at(number)], provenance=NAMED)
        while made.next_dial(0.0):
            made.failed(PeerId(f"named{number}"), 0.0)
    for number in range(10):
        made.add(PeerId(f"stranger{number}"), [at(100 + number)])
    assert [made.next_dial(0.0) is not None for _ in range(3)] == [True, True, False]


def test_the_nearest_peer_goes_first_and_one_never_met_last() -> None:
    made = book()
    for peer, rtt in ((A, 0.2), (B, 0.01)):
        made.add(peer, [at(1)])
        session(made, peer, 0.0, 10.0)
        made.round_trip(peer, rtt)
    made.round_trip(B, None)  # a lost ping says nothing about distance
    made.add(C, [at(3)])
    assert [made.next_dial(100.0).peer for _ in range(3)] == [B, A, C]


def test_a_peer_that_failed_goes_later_than_a_farther_one_until_a_session_lasts() -> None:
    made = book()
    for peer, rtt in ((A, 0.010), (B, 0.015)):
        made.add(peer, [at(1)])
        session(made, peer, 0.0, 10.0)
        made.round_trip(peer, rtt)
    made.connected(A)
    made.disconnected(A, 100.0, useful=False)
    assert [made.next_dial(1000.0).peer for _ in range(2)] == [B, A]
    for peer in (A, B):
        made.connected(peer)
        made.disconnected(peer, 1010.0, useful=True)
    assert made.next_dial(2000.0).peer == A


def test_equals_are_dialled_in_random_order() -> None:
    firsts = set()
    for seed in range(20):
        made = PeerBook(random.Random(seed))
        for peer in (A, B):
            made.add(peer, [at(1)])
        firsts.add(made.next_dial(0.0).peer)
    assert firsts == {A, B}


def test_a_peer_that_is_forgotten_is_not_dialled_when_its_session_ends() -> None:
    made = book()
    made.add(A, [at(1)], provenance=NAMED)
    made.connected(A)
    made.forget(A)
    made.connected(A)
    assert made.next_dial(0.0) is None
    assert made.disconnected(A, 1.0, useful=True) == math.inf
    assert len(made) == 0


def test_addresses_are_ordered_by_who_said_them() -> None:
    made = book()
    made.add(A, [at(1)], told_by=B)
    made.add(A, [at(2)], provenance="tracker")
    made.add(A, [at(3)], told_by=A)
    made.add(A, [at(4)], provenance=NAMED)
    assert made.next_dial(0.0).addresses == (at(4), at(3), at(2))
    made.failed(A, 0.0)
    assert made.next_dial(10.0).addresses == (at(4), at(3), at(2), at(1))


def test_a_worse_source_never_displaces_a_better_one() -> None:
    made = book()
    made.add(A, [at(1)], provenance=NAMED)
    made.add(A, [at(2)], told_by=A)
    made.add(A, [at(100 + number) for number in range(50)], provenance="tracker")
    addresses = made.next_dial(0.0).addresses
    assert len(addresses) == MAX_ADDRESSES
    assert addresses[:2] == (at(1), at(2))
    made.add(A, [at(3)], told_by=A)
    made.failed(A, 0.0)
    assert made.next_dial(10.0).addresses[:3] == (at(1), at(2), at(3))


def test_of_a_peer_known_by_hearsay_alone_the_newest_addresses_are_kept() -> None:
    made = book()
    made.add(A, [at(number) for number in range(MAX_ADDRESSES)], told_by=B)
    made.add(A, [at(100)], told_by=C)
    assert made.next_dial(0.0).addresses == (*(at(number) for number in range(1, MAX_ADDRESSES)), at(100))


def test_who_is_known_by_hearsay_may_be_named_by_the_user() -> None:
    made = book()
    made.add(A, [at(1), at(2)], told_by=B)
    made.add(A, [at(2)], provenance=NAMED)
    assert made.next_dial(0.0).addresses == (at(2),)
    assert made.named == {A}
    assert made.is_named(A)


def test_the_address_that_worked_goes_first_among_its_equals() -> None:
    made = book()
    made.add(A, [at(1), at(2)], provenance=NAMED)
    made.next_dial(0.0)
    made.connected(A, at(2))
    made.disconnected(A, 10.0, useful=True)
    assert made.next_dial(20.0).addresses == (at(2), at(1))


def test_a_peer_that_came_by_itself_and_cannot_be_dialled_is_forgotten_when_it_leaves() -> None:
    made = book()
    made.connected(A)
    assert len(made) == 1
    assert made.disconnected(A, 1.0, useful=True) == math.inf
    assert len(made) == 0


def test_one_source_and_one_host_fill_only_their_share() -> None:
    made = book()
    for number in range(2 * MAX_STRANGERS_PER_TELLER):
        made.add(PeerId(f"x{number}"), [at(number)], told_by=B)
    assert len(made) == MAX_STRANGERS_PER_TELLER
    made = book()
    for number in range(2 * MAX_STRANGERS_PER_HOST):
        made.add(PeerId(f"x{number}"), [at(7, port=1 + number)], told_by=PeerId(f"source{number}"))
    assert len(made) == MAX_STRANGERS_PER_HOST


def test_one_way_of_finding_peers_fills_half_of_the_book_at_most() -> None:
    made = book()
    for number in range(MAX_STRANGERS):
        made.add(PeerId(f"x{number}"), [at(number)], provenance="dht")
    assert len(made) == MAX_STRANGERS_PER_PROVENANCE
    made.add(A, [at(MAX_STRANGERS)], provenance="lan")
    assert A in made


def test_a_full_book_gives_up_only_strangers_that_failed() -> None:
    made = book(max_peers=10)
    made.add(ME, [at(5)], provenance=NAMED)
    for number in range(MAX_STRANGERS + 10):
        found = f"way {number % 4}"
        made.add(PeerId(f"x{number}"), [at(1000 + number)], provenance=found, told_by=PeerId(f"t{number}"))
    assert len(made) == MAX_STRANGERS + 1
    assert made.next_dial(0.0).peer == ME
    failing = made.next_dial(0.0).peer
    made.failed(failing, 0.0)
    made.add(A, [at(1)], told_by=B)
    made.add(C, [at(2)], told_by=B)
    assert len(made) == MAX_STRANGERS + 1
    assert failing not in made
    assert A in made
    assert C not in made
    made.add(PeerId("friend"), [at(3)], provenance=NAMED)
    assert PeerId("friend") in made


def test_nothing_is_taken_in_without_an_address() -> None:
    made = book()
    made.add(A, [])
    assert len(made) == 0
    assert made.next_dial(0.0) is None


def test_the_words_for_observers() -> None:
    made = book()
    made.add(A, [at(1)], told_by=B)
    assert made.next_dial(0.0).why == "found by exchange, not tried yet"
    made.failed(A, 0.0)
    assert made.next_dial(10.0).why == "found by exchange, rtt unknown, 0 sessions, 1 failures in a row"
    made.connected(A)
    made.round_trip(A, 0.0123)
    made.disconnected(A, 20.0, useful=True)
    assert made.next_dial(30.0).why == "found by exchange, rtt 12.3 ms, 1 sessions, 0 failures in a row"
