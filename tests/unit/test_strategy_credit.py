"""Who comes first because it gives."""

from __future__ import annotations

from swarm.ids import PeerId
from swarm.strategy.upload.credit import UNPASSED, Credit

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def of(*peers: PeerId, rates: dict[PeerId, float] | None = None) -> Credit:
    """The credit of peers that give us bytes at these rates."""
    credit = Credit(lambda peer, _now: (rates or {}).get(peer, 0.0))
    for peer in peers:
        credit.peer_joined(peer)
    return credit


def test_a_leecher_knows_who_gives_to_it() -> None:
    assert not any(of(A, B, C).gives(peer, 0.0, seeding=False) for peer in (A, B, C))
    credit = of(A, B, C, rates={A: 100_000.0, B: 1_000.0})
    assert [credit.gives(peer, 10.0, seeding=False) for peer in (A, B, C)] == [True, False, False]


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
