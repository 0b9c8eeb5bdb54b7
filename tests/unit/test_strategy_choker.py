"""Who is unchoked, as pictures in time: one letter a peer, upper case while it is unchoked."""

from __future__ import annotations

import math
import random

from swarm.ids import PeerId
from swarm.strategy.rates import Meter
from swarm.strategy.timers import Timers, Wakeup
from swarm.strategy.upload.choker import (
    ROUND_SECONDS,
    SLOT_SECONDS,
    TAKEN_BYTES,
    Choker,
    UploadSlot,
    by_reciprocity,
)

PIECE = 1 << 20


class Stage:
    """Peers named by letters before one choker."""

    def __init__(self, names: str, *, slots: int = 5, seeding: bool = False, seed: int = 1) -> None:
        self.timers = Timers()
        self.choker = Choker(slots, self.timers, random.Random(seed))
        self.names, self.seeding, self.snubbing = names, seeding, set()
        self.now = 0.0
        for name in names:
            self.choker.peer_joined(PeerId(name), 0.0)

    def picture(self) -> str:
        return "".join(n.upper() if self.choker.is_unchoked(PeerId(n)) else n for n in self.names)

    def interested(self, names: str, *, yes: bool = True) -> str:
        for name in names:
            self.choker.interested(PeerId(name), self.now, yes=yes)
            self.choker.give(self.snubbing, self.now, seeding=self.seeding)
        return self.picture()

    def leave(self, name: str) -> str:
        self.choker.peer_left(PeerId(name))
        self.names = self.names.replace(name, "")
        self.choker.give(self.snubbing, self.now, seeding=self.seeding)
        return self.picture()

    def gives(self, **rates: int) -> None:
        """Peers give us so many bytes a second for the ten seconds before now."""
        for name, rate in rates.items():
            for step in range(10):
                self.choker.received(PeerId(name), rate, self.now + step - 10.0)

    def rounds_until(self, at: float) -> str:
        picture = self.picture()
        while self.timers.next() <= at:
            picture = self.next_round()
        return picture

    def next_round(self) -> str:
        at = self.timers.next()
        assert at < math.inf
        self.now = at
        assert self.timers.due(at) == [(Wakeup.CHOKER, None)]
        self.choker.round(self.snubbing, at, seeding=self.seeding)
        return self.picture()


def test_while_there_is_room_everybody_interested_is_served_at_once() -> None:
    stage = Stage("abcde")
    assert stage.interested("ace") == "AbCdE"
    assert stage.timers.next() == math.inf  # no round is due


def test_a_free_slot_is_given_at_once() -> None:
    stage = Stage("abcdefg")
    assert stage.interested("abcdefg") == "ABCDEfg"
    assert stage.interested("b", yes=False) == "AbCDEFg"
    assert stage.leave("a") == "bCDEFG"


def test_a_slot_of_a_seeder_that_comes_free_goes_to_whoever_waited_longest() -> None:
    stage = Stage("abcdefg", seeding=True)
    stage.interested("abcde")
    stage.now = 1.0
    stage.interested("g")
    stage.now = 2.0
    stage.interested("f")
    assert stage.leave("a") == "BCDEfG"


def test_a_round_is_due_only_while_somebody_waits() -> None:
    stage = Stage("abcdef")
    stage.now = 3.0
    stage.interested("abcdef")
    assert stage.timers.next() == 3.0 + ROUND_SECONDS
    stage.leave("a")
    stage.next_round()
    assert stage.timers.next() == math.inf


def test_a_leecher_serves_those_who_give_most_and_one_more() -> None:
    stage = Stage("abcdefgh")
    stage.interested("abcdefgh")
    stage.now = 10.0
    stage.gives(h=900, g=800, f=700, e=600, d=500, c=400)
    picture = stage.next_round()
    assert picture[4:] == "EFGH"
    assert sum(letter.isupper() for letter in picture) == 5


def test_who_lets_our_requests_wait_gets_no_regular_slot() -> None:
    standings = []
    for name, rate in (("a", 900), ("b", 100), ("c", 200)):
        standing = UploadSlot(PeerId(name), Meter(20.0, 0.0), interested_at=0.0)
        standing.rate.add(rate * 10, 5.0)
        standings.append(standing)
    names = [standing.peer for standing in by_reciprocity(standings, {PeerId("a")}, 10.0, random.Random(1))]
    assert names == ["c", "b", "a"]


def test_of_those_that_give_nothing_who_took_least_comes_first() -> None:
    standings = [UploadSlot(PeerId(name), Meter(20.0, 0.0), interested_at=0.0) for name in "abc"]
    standings[0].taken, standings[0].unchoked_at = PIECE, 1.0
    standings[1].taken = 5 * PIECE
    order = by_reciprocity(standings, set(), 10.0, random.Random(1))
    assert [standing.peer for standing in order] == ["c", "a", "b"]
    standings[1].rate.add(1, 10.0)
    assert by_reciprocity(standings, set(), 10.0, random.Random(1))[0] is standings[1]


def test_the_optimistic_slot_turns_every_thirty_seconds() -> None:
    stage = Stage("abcdefgh", slots=2)
    stage.interested("abcdefgh")
    optimistic = []
    rounds = int(SLOT_SECONDS / ROUND_SECONDS)
    for _ in range(10 * rounds):
        stage.now = stage.timers.next()
        stage.gives(a=1000)
        picture = stage.next_round()
        assert picture[0] == "A"
        optimistic.append(next(letter for letter in picture[1:] if letter.isupper()))
    turns = [optimistic[at : at + rounds] for at in range(0, 10 * rounds, rounds)]
    assert all(len(set(turn)) == 1 for turn in turns)
    assert len(set(optimistic)) >= 5


def test_an_optimistic_peer_that_earns_a_regular_slot_leaves_its_own_to_another() -> None:
    stage = Stage("abcd", slots=2)
    stage.interested("abcd")
    stage.now = stage.timers.next()
    stage.gives(a=1000)
    picture = stage.next_round()
    optimistic = next(letter for letter in picture[1:] if letter.isupper()).lower()
    stage.now = stage.timers.next()
    stage.gives(**{optimistic: 5000})
    picture = stage.next_round()
    assert optimistic.upper() in picture
    assert sum(letter.isupper() for letter in picture) == 2


def test_peers_who_give_nothing_are_not_shuffled_about() -> None:
    stage = Stage("abcdefgh")
    stage.interested("abcdefgh")
    first = stage.next_round()
    assert [first[i] for i in range(4)] == list("ABCD")


def test_a_seeder_passes_a_slot_on_after_half_a_minute_whatever_was_sent() -> None:
    stage = Stage("abc", slots=1, seeding=True)
    stage.interested("abc")
    pictures = []
    for _ in range(int(3 * SLOT_SECONDS / ROUND_SECONDS)):
        for name in "abc":
            stage.choker.sent(PeerId(name), 1, stage.now + ROUND_SECONDS - 1)
        pictures.append(stage.next_round())
    rounds = int(SLOT_SECONDS / ROUND_SECONDS)
    assert pictures[rounds - 2 : rounds] == ["Abc", "aBc"]
    assert pictures[2 * rounds - 1] == "abC"
    assert pictures[3 * rounds - 1] == "Abc"  # nobody starves


def test_a_seeder_takes_nothing_from_anybody_while_nobody_waits() -> None:
    stage = Stage("ab", slots=2, seeding=True)
    stage.interested("ab")
    stage.choker.sent(PeerId("a"), 100 * 20 * PIECE, 0.0)
    stage.choker.round(set(), 500.0, seeding=True)
    assert stage.picture() == "AB"


def test_strangers_get_no_more_than_half_of_the_slots_that_others_want() -> None:
    stage = Stage("abcdstuvw", slots=4, seeding=True)
    stage.interested("abcd")
    for name in "abcd":
        stage.choker.sent(PeerId(name), TAKEN_BYTES, 0.0)
    stage.interested("stuvw")
    for second in range(1, 5 * int(SLOT_SECONDS)):
        for name in stage.picture():
            if name in "ABCD":
                stage.choker.sent(PeerId(name.lower()), PIECE, float(second))
        picture = stage.rounds_until(float(second))
        assert sum(name in picture for name in "STUVW") <= 2
    assert sum(name in picture for name in "ABCD") >= 2


def test_strangers_get_all_slots_that_nobody_else_wants_and_the_only_slot_in_their_turn() -> None:
    assert Stage("stuv", slots=4, seeding=True).interested("stuv") == "STUV"
    stage = Stage("as", slots=1, seeding=True)
    stage.interested("as")
    stage.choker.sent(PeerId("a"), 20 * PIECE, 0.0)
    assert stage.rounds_until(SLOT_SECONDS) == "aS"


def test_who_leaves_a_slot_of_a_seeder_unused_loses_it_and_comes_last_from_then_on() -> None:
    stage = Stage("abcdh", slots=2, seeding=True)
    assert stage.interested("abcdh") == "ABcdh"
    assert stage.rounds_until(6.0) == "abCDh"  # nothing was taken
    stage.choker.sent(PeerId("c"), PIECE, 11.0)
    assert stage.rounds_until(12.0) == "abCdH"  # h was never tried, a and b were
    for now in (16.0, 20.0, 24.0):
        stage.choker.sent(PeerId("c"), 100 * PIECE, now)
        stage.choker.sent(PeerId("h"), 100 * PIECE, now)
        assert stage.rounds_until(now) == "abCdH"


def test_being_no_longer_interested_gives_the_slot_back_and_nothing_twice() -> None:
    stage = Stage("a")
    stage.interested("a")
    assert [v.unchoked for v in stage.choker.interested(PeerId("a"), 1.0, yes=False)] == [False]
    assert stage.choker.interested(PeerId("a"), 2.0, yes=False) == []
    assert stage.picture() == "a"


def test_those_that_give_nothing_are_drawn_at_random_and_not_by_who_came_first() -> None:
    served = {Stage("abcdefgh", slots=2, seed=seed).interested("abcdefgh") for seed in range(3)}
    assert served == {"ABcdefgh"}  # while there is room nobody waits
    after = set()
    for seed in range(20):
        stage = Stage("abcdefgh", slots=2, seed=seed)
        stage.interested("abcdefgh")
        after.add(stage.leave("a"))
    assert len(after) > 3
