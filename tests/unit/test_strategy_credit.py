"""Who comes first because it gives."""

from __future__ import annotations

from swarm.ids import PeerId
from swarm.strategy.upload.credit import GIVING_SECONDS, UNPASSED, Credit

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def of(*peers: PeerId) -> Credit:
    credit = Credit()
    for peer in peers:
        credit.peer_joined(peer, 0.0)
    return credit


def test_a_leecher_knows_who_gives_to_it() -> None:
    credit = of(A, B, C)
    assert not any(credit.gives(peer, 0.0, seeding=False) for peer in (A, B, C))
    for second in range(1, 10):
        credit.received(A, 100_000, second)
        credit.received(B, 1_000, second)
    assert [credit.gives(peer, 10.0, seeding=False) for peer in (A, B, C)] == [True, False, False]


def test_what_was_given_long_ago_counts_no_more_beside_what_is_given_now() -> None:
    credit = of(A, B)
    credit.received(A, 1_000_000, 1.0)
    for second in range(1, 200):
        credit.received(B, 100_000, second)
    assert not credit.gives(A, 1.0 + 8 * GIVING_SECONDS, seeding=False)
    assert credit.gives(B, 1.0 + 8 * GIVING_SECONDS, seeding=False)


def test_a_seeder_puts_those_last_that_pass_nothing_on() -> None:
    credit = of(A, B)
    for piece in range(UNPASSED):
        assert credit.gives(A, 0.0, seeding=True)
        credit.given(A, piece, first=True)
    assert not credit.gives(A, 0.0, seeding=True)
    credit.has(A, 0)  # it has it: that proves nothing
    assert not credit.gives(A, 0.0, seeding=True)
    credit.has(B, 0)  # nobody but A can have given it
    assert credit.gives(A, 0.0, seeding=True)


def test_a_piece_that_the_seeder_gave_to_another_says_nothing_of_the_first() -> None:
    credit = of(A, B)
    for piece in range(UNPASSED):
        credit.given(A, piece, first=True)
    credit.given(B, 0, first=False)
    assert credit.gives(A, 0.0, seeding=True)  # it can no longer be seen whether it passes the piece on
    credit.peer_left(A)
    credit.has(B, 1)
    assert credit.gives(B, 0.0, seeding=True)
