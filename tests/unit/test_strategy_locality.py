"""What is fetched over far links."""

from __future__ import annotations

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId, SourceId
from swarm.strategy.availability import Availability
from swarm.strategy.download.locality import TURN_SECONDS, Locality
from swarm.strategy.download.picker import Pick
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.pieces import Pieces

SIZE = 40
LATER = 10 * TURN_SECONDS
NEAR = [PeerId(f"near{number}") for number in range(3)]
FAR = [PeerId(f"far{number}") for number in range(3)]


class Site:
    """One peer's view of three near and three far peers, who have nothing yet."""

    def __init__(
        self,
        me: str = "me",
        near: list[PeerId] = NEAR,
        far: list[PeerId] = FAR,
        *,
        enabled: bool = True,
        stored: PieceSet | None = None,
        spared: frozenset[PeerId] = frozenset(),
    ) -> None:
        pieces = Pieces(Layout(10, [10 * SIZE]), stored or PieceSet(SIZE))
        self.availability = Availability(SIZE)
        self.ranking = Ranking(10)
        known = pieces, self.availability, self.ranking
        self.nearness = Locality(PeerId(me), *known, enabled=enabled, spared=frozenset[SourceId](spared))
        for peers, seconds in ((near, 0.001), (far, 0.08)):
            for peer in peers:
                self.join(peer, seconds)

    def join(self, peer: PeerId, seconds: float | None) -> None:
        self.availability.source_joined(peer)
        self.ranking.source_joined(peer, seconds, 0.0)
        self.nearness.source_joined(peer)

    def measured(self, peer: PeerId, seconds: float | None) -> None:
        self.ranking.pinged(peer, seconds)
        self.nearness.measured(peer)

    def have(self, peer: PeerId, *pieces: int) -> None:
        for piece in pieces:
            self.availability.have(peer, piece)
        self.nearness.has(peer, pieces)

    def may_ask(self, now: float) -> set[int]:
        """What may be asked of a far peer that has everything."""
        found: set[int] = set()

        def first(without: PieceSet) -> Pick | None:
            rest = (piece for piece in range(SIZE) if piece not in without and piece not in found)
            return next((Pick(piece, "") for piece in rest), None)

        while (pick := self.nearness.pick(first, None, now)[0]) is not None:
            found.add(pick.piece)
        return found


def test_round_trips_with_a_gap_are_two_sites() -> None:
    site = Site()
    assert [site.nearness.is_far(peer) for peer in (*NEAR, *FAR)] == [False] * 3 + [True] * 3


def test_without_a_gap_or_without_company_nobody_is_far() -> None:
    assert not Site(near=NEAR[:1]).nearness.is_far(FAR[0])
    site = Site(far=[])
    for number, seconds in enumerate((0.004, 0.015, 0.06, 0.2)):
        site.join(PeerId(str(number)), seconds)
    assert not any(site.nearness.is_far(PeerId(str(number))) for number in range(4))


def test_a_peer_that_was_never_pinged_is_not_far_and_a_shorter_round_trip_counts() -> None:
    site = Site()
    site.join(PeerId("unknown"), None)
    assert not site.nearness.is_far(PeerId("unknown"))
    site.measured(PeerId("unknown"), 0.09)
    assert site.nearness.is_far(PeerId("unknown"))
    site.measured(PeerId("unknown"), 0.001)
    assert not site.nearness.is_far(PeerId("unknown"))


def test_nobody_is_far_unless_that_is_wanted() -> None:
    assert not any(Site(enabled=False).nearness.is_far(peer) for peer in FAR)


def test_a_queue_makes_nobody_far() -> None:
    site = Site()
    for peer in NEAR:
        site.measured(peer, 3.0)
        site.measured(peer, None)
    assert not any(site.nearness.is_far(peer) for peer in NEAR)


def test_what_is_near_is_not_asked_from_afar() -> None:
    site = Site()
    site.nearness.is_far(FAR[0])
    site.have(NEAR[0], 3, 4)
    assert site.may_ask(LATER) | site.may_ask(2 * LATER) <= set(range(SIZE)) - {3, 4}
    site.nearness.source_left(NEAR[0])
    site.availability.source_left(NEAR[0])
    assert not site.nearness.is_far(NEAR[1])
    assert {3, 4} <= site.may_ask(0.0) | site.may_ask(2 * LATER)


def test_the_peers_of_a_site_take_turns_and_each_piece_has_one_first() -> None:
    members = [*NEAR, PeerId("me")]
    sites = [Site(me, [peer for peer in members if peer != me]) for me in members]
    at_once = [site.may_ask(0.0) for site in sites]
    for piece in range(10):
        assert sum(piece in asked for asked in at_once) == 1
    assert all(1 <= len(asked & set(range(10))) <= 7 for asked in at_once)


def test_a_piece_that_stays_away_is_asked_by_the_next() -> None:
    site = Site()
    pick, again = site.nearness.pick(lambda without: None if 7 in without else Pick(7, ""), None, 0.0)
    turns = 0
    while pick is None:
        assert again is not None
        assert again % TURN_SECONDS == 0
        turns += 1
        pick, again = site.nearness.pick(lambda without: None if 7 in without else Pick(7, ""), None, again)
    assert turns <= 1
    assert pick.piece == 7


def test_the_only_seeder_near_by_does_not_keep_a_site_from_what_others_have() -> None:
    site = Site()
    site.availability.replace(NEAR[0], PieceSet.all(SIZE))
    near = [*NEAR, *(PeerId(f"more{number}") for number in range(3))]
    for peer in near[3:]:
        site.join(peer, 0.001)
    assert site.may_ask(0.0)
    for peer in near[1:4]:
        site.availability.replace(peer, PieceSet.all(SIZE))
    site.nearness.restated()
    assert not site.may_ask(2 * LATER)


def test_a_spared_peer_is_far_whatever_its_round_trip_once_there_are_others() -> None:
    publisher = NEAR[0]
    site = Site(near=NEAR[:2], far=[], enabled=False, spared=frozenset({publisher}))
    assert not site.nearness.is_far(publisher), "there is nobody to share a copy with"
    site.join(NEAR[2], None)
    assert [site.nearness.is_far(peer) for peer in NEAR] == [True, False, False]
    site.have(NEAR[1], 3, 4)
    assert 0 < len(site.may_ask(LATER) | site.may_ask(2 * LATER)) <= SIZE - 2
    assert not {3, 4} & site.may_ask(2 * LATER)
    site.nearness.source_left(NEAR[2])
    assert not site.nearness.is_far(publisher)


def test_those_who_spare_a_peer_share_what_only_it_has() -> None:
    publisher, members = PeerId("publisher"), ["a", "b", "c"]
    asked = []
    for me in members:
        others = [PeerId(other) for other in members if other != me]
        site = Site(me, near=[*others, publisher], far=[], enabled=False, spared=frozenset({publisher}))
        assert site.nearness.is_far(publisher)
        asked.append(site.may_ask(0.0))
    assert all(asked)
    assert sum(map(len, asked)) == len(set.union(*asked)), "nothing is asked for by two of them"
