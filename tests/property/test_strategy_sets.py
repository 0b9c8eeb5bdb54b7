"""Sets of pieces, counts of copies and alarms against plain models."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarm.bits import CHUNK_PIECES, CHUNK_SHIFT, PieceSet, draw
from swarm.ids import PeerId
from swarm.strategy.availability import Availability
from swarm.strategy.download.picker import narrow
from swarm.strategy.timers import Timers, Wakeup

SIZES = st.sampled_from(
    [1, 7, 8, 9, 100, CHUNK_PIECES - 1, CHUNK_PIECES, CHUNK_PIECES + 1, 2 * CHUNK_PIECES + 5]
)


@st.composite
def subsets(draw_from: st.DrawFn) -> tuple[int, set[int]]:
    size = draw_from(SIZES)
    return size, draw_from(st.sets(st.integers(0, size - 1), max_size=60))


def a_set(size: int, members: set[int]) -> PieceSet:
    pieces = PieceSet(size)
    for piece in members:
        pieces.add(piece)
    return pieces


@given(subsets())
@settings(max_examples=100, deadline=None)
def test_a_piece_set_reads_and_writes_bitfields(given_set: tuple[int, set[int]]) -> None:
    size, members = given_set
    field = PieceSet(size)
    for piece in members:
        field.add(piece)
    pieces = PieceSet.from_bytes(field.to_bytes(), size)
    assert list(pieces) == sorted(members)
    assert pieces.to_bytes() == field.to_bytes()
    assert pieces.count == len(members)
    assert bool(pieces) == bool(members)
    assert [piece in pieces for piece in range(size)] == [piece in members for piece in range(size)]


def test_the_whole_set_and_the_empty_one() -> None:
    assert PieceSet.all(9) == PieceSet.from_bytes(b"\xff\x80", 9)
    assert list(PieceSet(0)) == []
    assert PieceSet(20).count == 0


@given(subsets(), st.data())
@settings(max_examples=100, deadline=None)
def test_operators_are_those_of_sets(given_set: tuple[int, set[int]], data: st.DataObject) -> None:
    size, members = given_set
    others = data.draw(st.sets(st.integers(0, size - 1), max_size=60))
    one, other = a_set(size, members), a_set(size, others)
    assert set(one & other) == members & others
    assert set(one | other) == members | others
    assert set(one - other) == members - others
    assert set(one.missing()) == set(range(size)) - members
    assert one.first_common(other) == min(members & others, default=None)
    grown, cut = one.copy(), one.copy()
    grown |= other
    cut -= other
    assert (set(grown), set(cut), set(one)) == (members | others, members - others, members)


@given(subsets(), st.data())
@settings(max_examples=100, deadline=None)
def test_adding_and_discarding_say_what_changed(given_set: tuple[int, set[int]], data: st.DataObject) -> None:
    size, members = given_set
    pieces = a_set(size, members)
    twin = pieces.copy()
    piece = data.draw(st.integers(0, size - 1))
    assert pieces.add(piece) == (piece not in members)
    assert piece in pieces
    assert pieces.discard(piece)
    assert not pieces.discard(piece)
    assert piece not in pieces
    assert set(twin) == members
    other = data.draw(st.sets(st.integers(0, size - 1), max_size=5))
    assert twin.meets(a_set(size, other)) == bool(members & other)


@given(st.sets(st.integers(0, 3 * CHUNK_PIECES - 1), min_size=1, max_size=200), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_a_draw_is_a_candidate(members: set[int], seed: int) -> None:
    candidates = [(i, chunk) for i, chunk in enumerate(a_set(3 * CHUNK_PIECES, members).chunks) if chunk]
    assert draw(candidates, random.Random(seed)) in members


def test_a_draw_is_even_over_dense_and_sparse_chunks() -> None:
    members = {*range(100), CHUNK_PIECES + 7, CHUNK_PIECES + 2000, 2 * CHUNK_PIECES}
    candidates = [(i, chunk) for i, chunk in enumerate(a_set(3 * CHUNK_PIECES, members).chunks) if chunk]
    rng = random.Random(1)
    counts = Counter(draw(candidates, rng) for _ in range(103 * 200))
    assert set(counts) == members
    assert all(130 < count < 280 for count in counts.values())


def test_a_draw_from_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty range"):
        draw([], random.Random(1))


@given(st.lists(st.sets(st.integers(0, 40)), max_size=12), st.sets(st.integers(0, 40), min_size=1))
@settings(max_examples=150, deadline=None)
def test_narrowing_leaves_exactly_the_rarest(peers: list[set[int]], wanted: set[int]) -> None:
    availability = Availability(41)
    for number, has in enumerate(peers):
        availability.source_joined(PeerId(str(number)))
        availability.replace(PeerId(str(number)), a_set(41, has - {40}))
    copies = {piece: sum(piece in has - {40} for has in peers) for piece in wanted}
    least = min(copies.values())
    left, count = narrow([(0, a_set(41, wanted).chunks[0])], availability.planes)
    assert count == least
    rarest = [(index << CHUNK_SHIFT) + bit for index, bits in left for bit in range(41) if bits >> bit & 1]
    assert rarest == sorted(piece for piece in wanted if copies[piece] == least)


class Crowd(RuleBasedStateMachine):
    """Peers that come, go, gain and lose pieces, against a dictionary of sets."""

    SIZE = CHUNK_PIECES + 3
    PIECES = st.sampled_from([0, 1, 2, CHUNK_PIECES - 1, CHUNK_PIECES, CHUNK_PIECES + 2])
    NAMES = st.sampled_from([PeerId(name) for name in "abcdefghij"])

    def __init__(self) -> None:
        super().__init__()
        self.real = Availability(self.SIZE)
        self.model: dict[PeerId, set[int]] = {}

    @rule(name=NAMES)
    def join(self, name: PeerId) -> None:
        if name not in self.model:
            self.real.source_joined(name)
            self.model[name] = set()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        self.real.source_left(name)
        del self.model[name]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), has=st.sets(PIECES), everything=st.booleans())
    def replace(self, data: st.DataObject, has: set[int], everything: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        self.model[name] = set(range(self.SIZE)) if everything else set(has)
        self.real.replace(name, PieceSet.all(self.SIZE) if everything else a_set(self.SIZE, has))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), piece=PIECES, lose=st.booleans())
    def change(self, data: st.DataObject, piece: int, lose: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        had = piece in self.model[name]
        if lose:
            assert self.real.withdraw(name, piece) == had
            self.model[name].discard(piece)
        else:
            assert self.real.have(name, piece) == (not had)
            self.model[name].add(piece)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), pieces=st.lists(PIECES))
    def get_many(self, data: st.DataObject, pieces: list[int]) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        assert self.real.have_many(name, pieces) == (not self.model[name].issuperset(pieces))
        self.model[name].update(pieces)

    @invariant()
    def counts_are_right(self) -> None:
        for piece in (0, 1, 2, CHUNK_PIECES - 1, CHUNK_PIECES, CHUNK_PIECES + 2, 77):
            copies = self.real.spread((piece,))[0] + self.real.full_sources
            assert copies == sum(piece in has for has in self.model.values())
        full = [name for name, has in self.model.items() if len(has) == self.SIZE]
        assert self.real.full_sources == len(full)
        partial = Counter(piece for has in self.model.values() if len(has) < self.SIZE for piece in has)
        assert len(self.real.planes) == max(partial.values(), default=0).bit_length()

    @invariant()
    def reach_is_right(self) -> None:
        some = {0, 2, CHUNK_PIECES, 77}
        reached = set().union(*self.model.values()) if self.model else set()
        assert list(self.real.unreachable(a_set(self.SIZE, some))) == sorted(some - reached)
        assert self.real.reachable(a_set(self.SIZE, some)) == bool(some & reached)
        assert not self.real.reachable(PieceSet(self.SIZE))


Crowd.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestCrowd = Crowd.TestCase


def test_a_leecher_that_gets_its_last_piece_counts_as_full() -> None:
    availability = Availability(3)
    peer = PeerId("peer")
    availability.source_joined(peer)
    for piece in range(3):
        assert availability.have(peer, piece)
    assert availability.is_full(peer)
    assert availability.planes == []
    assert not availability.have(peer, 1)
    assert availability.withdraw(peer, 1)
    assert availability.spread(range(3)) == [1, 0, 1]
    assert availability.full_sources == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "due", "clear", "forget"]),
            st.sampled_from([Wakeup.REQUESTS, Wakeup.RETRY]),
            st.sampled_from([None, PeerId("a"), PeerId("b")]),
            st.integers(0, 20),
        ),
        max_size=40,
    )
)
@settings(max_examples=200, deadline=None)
def test_alarms_ring_once_at_the_earliest_time_asked_for(steps: list[tuple]) -> None:
    timers, model = Timers(), {}
    for action, alarm, peer, at in steps:
        key = (alarm, peer)
        if action == "set":
            timers.set(alarm, float(at), peer)
            model[key] = min(model.get(key, math.inf), float(at))
        elif action == "clear":
            timers.clear(alarm, peer)
            model.pop(key, None)
        elif action == "forget" and peer is not None:
            timers.forget(peer)
            model = {k: v for k, v in model.items() if k[1] != peer}
        elif action == "due":
            ringing = timers.due(float(at))
            assert sorted(map(repr, ringing)) == sorted(repr(k) for k, v in model.items() if v <= at)
            times = [model.pop(k) for k in ringing]
            assert times == sorted(times)
        assert timers.next() == min(model.values(), default=math.inf)


def test_an_alarm_at_infinity_never_rings() -> None:
    timers = Timers()
    timers.set(Wakeup.IDLE, math.inf)
    assert timers.next() == math.inf
    assert timers.due(1e300) == []
