"""Shares of something scarce: bounded for everybody, for a network and, once it is scarce, for a peer."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from swarm.reach.shares import Refused, Shares
from tests.unit.test_reach_registers import peer


def test_a_newcomer_gets_the_newest_of_who_has_most() -> None:
    shares = Shares[int](6, 4)
    assert [shares.take(thing, peer(1), "a") for thing in range(4)] == [None] * 4
    with pytest.raises(Refused):
        shares.take(4, peer(1), "a")
    assert shares.take(5, peer(2), "a") == 3
    assert shares.take(6, peer(3), "a") == 2
    # Two of one and one of each other: nobody gains by taking one more.
    with pytest.raises(Refused):
        shares.take(7, peer(2), "a")
    assert shares.take(8, peer(4), "b") is None
    assert shares.take(9, peer(5), "b") is None
    assert len(shares) == 6
    # All are taken: one of the network that has most goes.
    assert shares.take(10, peer(6), "c") == 1
    with pytest.raises(Refused):
        shares.take(11, peer(4), "b")
    shares.leave(10)
    shares.leave(10)
    assert shares.take(12, peer(4), "b") is None


def test_whatever_comes_and_goes_the_bounds_hold() -> None:
    rng = random.Random(5)
    shares = Shares[int](20, 8)
    held: dict[int, tuple[str, int]] = {}
    refused = ended = 0
    for thing in range(5000):
        number = rng.randrange(12)
        network = f"net{number % 4}"
        if held and rng.random() < 0.3:
            gone = rng.choice(list(held))
            shares.leave(gone)
            del held[gone]
        try:
            leaving = shares.take(thing, peer(number), network)
        except Refused:
            refused += 1
        else:
            if leaving is not None:
                ended += 1
                del held[leaving]
            held[thing] = network, number
        counts = Counter(network for network, _ in held.values())
        assert len(shares) == len(held) <= 20
        assert max(counts.values()) <= 8
        assert shares._networks == counts
    assert refused
    assert ended
