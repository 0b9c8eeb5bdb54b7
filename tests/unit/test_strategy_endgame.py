"""When a piece is asked of a second peer."""

from __future__ import annotations

import pytest

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId
from swarm.strategy.availability import Availability
from swarm.strategy.download.endgame import ALLOWANCE_SHARE, Endgame
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.requests import DownloadRequests
from swarm.strategy.pieces import Pieces

PIECE = 100_000
SLOW, FAST, THIRD = PeerId("slow"), PeerId("fast"), PeerId("third")
RATES = {SLOW: 10_000, FAST: 1_000_000, THIRD: 1_000_000}


class Finish:
    """A few pieces, three peers with everything, and rates that are known; it is 10 s by the clock."""

    def __init__(self, size: int = 4, *, lacking: int | None = None) -> None:
        self.size = size
        stored = PieceSet(size)
        for piece in range(size if lacking is None else lacking, size):
            stored.add(piece)
        self.pieces = Pieces(Layout(PIECE, [PIECE * size]), stored)
        self.availability, self.requests = Availability(size), DownloadRequests(size)
        self.ranking = Ranking(PIECE)
        for peer, rate in RATES.items():
            self.availability.source_joined(peer)
            self.availability.replace(peer, PieceSet.all(size))
            self.requests.source_joined(peer)
            self.requests.verified(peer)
            self.requests.choked(peer, yes=False)
            self.ranking.source_joined(peer, 0.01, 0.0)
            self.ranking.busy(peer, 0.0)
            for step in range(100):
                self.ranking.received(peer, rate // 10, step / 10 + 0.1)
        self.endgame = Endgame(self.pieces, self.availability, self.requests, self.ranking)

    def ask(self, peer: PeerId, *pieces: int, now: float = 10.0) -> None:
        for piece in pieces:
            self.requests.ask(peer, piece, PIECE, now)
            self.pieces.requested(piece)

    def pick(self, peer: PeerId = FAST, now: float = 10.0) -> int | None:
        pick = self.endgame.pick(peer, now)
        return pick and pick.piece


def test_an_idle_fast_peer_doubles_what_a_slow_one_holds() -> None:
    finish = Finish()
    finish.ask(SLOW, 0, 1, 2, 3)
    pick = finish.endgame.pick(FAST, 10.0)
    assert pick is not None
    assert pick.why.startswith("endgame (")


def test_not_while_a_piece_is_open_that_somebody_has() -> None:
    finish = Finish()
    finish.ask(SLOW, 0, 1, 2)
    assert finish.pick() is None
    assert finish.endgame.may_help(FAST)  # but it is worth looking again


def test_a_piece_that_nobody_has_is_not_waited_for() -> None:
    finish = Finish()
    for peer in RATES:
        finish.availability.withdraw(peer, 3)
    finish.ask(SLOW, 0, 1, 2)
    assert finish.pick() is not None


def test_not_from_a_peer_that_lacks_the_piece() -> None:
    finish = Finish()
    finish.ask(SLOW, 0, 1, 2, 3)
    finish.availability.replace(FAST, PieceSet(finish.size))
    assert finish.pick() is None
    assert not finish.endgame.may_help(FAST)


def test_not_when_it_hardly_helps() -> None:
    finish = Finish(size=2)
    finish.ask(FAST, 0, 1)
    assert finish.pick(THIRD) is None  # 0.2 s of work, of which THIRD could do half in 0.1 s


def test_a_piece_is_asked_of_two_peers_at_most() -> None:
    finish = Finish(size=1)
    finish.ask(SLOW, 0)
    assert finish.pick(FAST) == 0
    finish.ask(FAST, 0)
    assert finish.pick(THIRD) is None


def test_silence_about_a_piece_counts_as_slowness() -> None:
    finish = Finish(size=1)
    finish.ask(FAST, 0, now=10.0)
    assert finish.pick(THIRD, 10.1) is None
    for step in range(50):  # FAST goes on with other things at full speed, but not with this piece
        finish.ranking.received(FAST, 100_000, 10.1 + step / 10)
        finish.ranking.received(THIRD, 100_000, 10.1 + step / 10)
    assert finish.pick(THIRD, 15.0) == 0


def test_a_piece_that_is_nearly_here_is_not_doubled() -> None:
    finish = Finish(size=1)
    finish.ask(SLOW, 0)
    finish.requests.progress(SLOW, 0, PIECE - 1000, 10.0)
    assert finish.pick(FAST) is None


def test_not_a_piece_whose_reply_the_peer_still_owes() -> None:
    finish = Finish(size=1)
    finish.ask(FAST, 0)
    finish.requests.cancel(FAST, 0, 10.0)
    finish.ask(SLOW, 0)
    assert finish.pick(FAST) is None


def test_one_piece_may_come_twice_however_few_there_are() -> None:
    finish = Finish(size=5)
    finish.ask(SLOW, 0, 1, 2, 3, 4)
    piece = finish.pick(FAST)
    assert piece is not None
    finish.ask(FAST, piece)
    assert finish.pick(THIRD) is None
    finish.requests.settle(FAST, piece)
    assert finish.pick(THIRD) is not None
    finish.endgame.wasted(1)
    assert finish.pick(THIRD) is None


def test_the_allowance_is_spent_when_a_quarter_of_its_last_piece_came_twice() -> None:
    finish = Finish()
    finish.endgame.wasted(PIECE // 4)
    assert not finish.endgame.spent
    finish.endgame.wasted(1)
    assert finish.endgame.spent


def test_duplicates_have_an_allowance_that_only_waste_uses_up() -> None:
    finish = Finish(size=2 * ALLOWANCE_SHARE, lacking=3)
    finish.ask(SLOW, *range(3))
    taken = []
    while (piece := finish.pick(FAST)) is not None:
        taken.append(piece)
        finish.ask(THIRD, piece)
    assert len(taken) == 2
    finish.requests.settle(THIRD, taken[0])
    finish.requests.settle(SLOW, taken[0])
    assert finish.pick(FAST) is not None
    finish.endgame.wasted(PIECE)
    assert finish.pick(FAST) is None


def test_a_copy_that_lost_the_race_may_come_until_it_is_settled() -> None:
    finish = Finish(size=ALLOWANCE_SHARE, lacking=2)
    finish.ask(SLOW, 0, 1)
    finish.ask(THIRD, 0)
    finish.requests.settle(THIRD, 0)
    finish.requests.outrun(THIRD, 0, 10.0)
    assert finish.pick(FAST) is None
    finish.requests.settle(SLOW, 0)
    assert finish.pick(FAST) is not None


def creeping(rate: int, until: float, *, others: int = RATES[FAST]) -> Finish:
    """SLOW began with piece 0 at 10 s and sends at ``rate`` since; no more duplicates are allowed."""
    finish = Finish(size=2)
    finish.ask(SLOW, 0, 1)
    finish.endgame.wasted(PIECE)
    now = 10.0
    while now <= until:
        finish.requests.progress(SLOW, 0, rate, now)
        finish.ranking.received(SLOW, rate, now)
        for other in (FAST, THIRD):
            finish.ranking.received(other, others, now)
        now += 1.0
    return finish


@pytest.mark.parametrize(
    ("rate", "until", "doubled"), [(500, 39.0, False), (500, 40.0, True), (7000, 22.0, False)]
)
def test_what_comes_very_slowly_is_doubled_whatever_it_costs(rate: int, until: float, doubled: bool) -> None:
    assert (creeping(rate, until).pick(FAST, until) is not None) == doubled


def test_what_our_own_downlink_makes_slow_is_not_doubled() -> None:
    assert creeping(500, 100.0, others=500).pick(FAST, 100.0) is None


def test_two_that_send_very_slowly_do_not_keep_a_piece_between_them() -> None:
    finish = creeping(500, 40.0)
    finish.ask(FAST, 0, now=40.0)
    assert finish.pick(THIRD, 40.0) == 1
    for second in range(41, 80):
        for other, size in ((SLOW, 500), (FAST, 500), (THIRD, RATES[THIRD])):
            finish.ranking.received(other, size, float(second))
        finish.requests.progress(FAST, 0, 500, float(second))
    finish.ask(FAST, 1, now=79.0)
    assert finish.pick(THIRD, 79.0) == 0
