"""Picking as pictures: a row of letters for each peer, one letter a piece."""

from __future__ import annotations

import random
from collections import Counter

from swarm.bits import CHUNK_PIECES, PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId
from swarm.strategy.availability import Availability
from swarm.strategy.download.picker import IN_ORDER_SHARE, WINDOW_CHUNKS, InOrder, InView, RarestFirst
from swarm.strategy.pieces import Pieces


class Picture:
    """``ours``: '#' stored, 'r' requested. ``peers``: '#' has. The first peer is the one that is asked."""

    def __init__(self, ours: str, *peers: str, seed: int = 1) -> None:
        size = len(ours)
        field = PieceSet.of(size, (piece for piece, letter in enumerate(ours) if letter == "#"))
        self.pieces = Pieces(Layout(10, [10 * size]), field)
        for piece, letter in enumerate(ours):
            if letter == "r":
                self.pieces.requested(piece)
        self.availability = Availability(size)
        self.names = [PeerId(f"peer{number}") for number in range(len(peers))]
        for name, row in zip(self.names, peers, strict=True):
            self.availability.source_joined(name)
            for piece, letter in enumerate(row):
                if letter == "#":
                    self.availability.have(name, piece)
        self.picker = RarestFirst(self.pieces, self.availability, random.Random(seed))

    def pick(self, without: PieceSet | None = None) -> int | None:
        pick = self.picker.pick(self.names[0], without)
        return pick and pick.piece

    def picks(self, times: int = 400) -> Counter[int | None]:
        return Counter(self.pick() for _ in range(times))


def test_the_rarest_piece_goes_first() -> None:
    picture = Picture(
        "    ",
        "####",
        "## #",
        "#  #",
    )
    assert picture.picks() == {2: 400}
    assert picture.picker.pick(picture.names[0]).why == "rarest (1 have it)"


def test_only_pieces_that_the_peer_has() -> None:
    picture = Picture(
        "    ",
        "#  #",
        "#  #",
        "#   ",
    )
    assert picture.picks() == {3: 400}


def test_only_missing_pieces() -> None:
    picture = Picture(
        "#r  ",
        "### ",
        "    ",
    )
    assert picture.picks() == {2: 400}


def test_nothing_to_pick() -> None:
    assert Picture("#r ", "## ").pick() is None
    assert Picture("   ", "   ").pick() is None


def test_equals_are_drawn_evenly() -> None:
    picture = Picture(
        "      ",
        "######",
        "    ##",
    )
    counts = picture.picks(4000)
    assert set(counts) == {0, 1, 2, 3}
    assert all(850 < count < 1150 for count in counts.values())


def test_peers_with_everything_make_no_piece_rarer() -> None:
    picture = Picture(
        "    ",
        "####",
        "##  ",
    )
    everything = PieceSet.all(picture.pieces.size)
    for number in range(3):
        picture.availability.source_joined(PeerId(f"seed{number}"))
        picture.availability.replace(PeerId(f"seed{number}"), everything)
    assert set(picture.picks()) == {2, 3}
    assert picture.picker.pick(picture.names[0]).why == "rarest (4 have it)"


def test_what_is_left_out_is_not_picked() -> None:
    picture = Picture("   ", "###", "## ")
    without = PieceSet(picture.pieces.size)
    without.add(2)
    assert {picture.pick(without) for _ in range(50)} == {0, 1}


def test_a_window_of_a_huge_manifest_still_finds_the_only_candidate() -> None:
    size = CHUNK_PIECES * WINDOW_CHUNKS * 3
    pieces = Pieces(Layout(10, [10 * size]), PieceSet(size))
    availability = Availability(size)
    peer = PeerId("peer")
    availability.source_joined(peer)
    availability.have(peer, size - 1)
    picker = RarestFirst(pieces, availability, random.Random(1))
    assert {picker.pick(peer).piece for _ in range(30)} == {size - 1}


def test_a_window_of_a_huge_manifest_begins_anywhere() -> None:
    size = CHUNK_PIECES * WINDOW_CHUNKS * 3
    pieces = Pieces(Layout(10, [10 * size]), PieceSet(size))
    availability = Availability(size)
    peer = PeerId("peer")
    availability.source_joined(peer)
    availability.replace(peer, PieceSet.all(size))
    picker = RarestFirst(pieces, availability, random.Random(1))
    thirds = Counter(picker.pick(peer).piece * 3 // size for _ in range(300))
    assert set(thirds) == {0, 1, 2}


def in_order(picture: Picture) -> InOrder:
    return InOrder(picture.picker, picture.pieces, picture.availability, random.Random(1))


def test_in_order_takes_the_first_missing_piece_mostly() -> None:
    picture = Picture("#r    ", "####  ", "### ##")
    picker = in_order(picture)
    counts = Counter(picker.pick(picture.names[0]).piece for _ in range(1000))
    assert set(counts) == {2, 3}  # the rarest is 3
    assert abs(counts[2] - 1000 * IN_ORDER_SHARE) < 60
    assert {picker.pick(picture.names[0]).why for _ in range(50)} == {
        "the next in order",
        "rarest (1 have it)",
    }


def test_in_order_leaves_out_what_it_is_told_to() -> None:
    picture = Picture("   ", "###")
    without = PieceSet(picture.pieces.size)
    without.add(0)
    assert {in_order(picture).pick(picture.names[0], without).piece for _ in range(50)} == {1}
    assert in_order(Picture("#r ", "## ")).pick(picture.names[0]) is None


def test_in_order_finds_the_first_piece_of_a_huge_manifest() -> None:
    size = CHUNK_PIECES * 3
    pieces = Pieces(Layout(10, [10 * size]), PieceSet(size))
    availability = Availability(size)
    peer = PeerId("peer")
    availability.source_joined(peer)
    availability.have(peer, size - 1)
    availability.have(peer, CHUNK_PIECES + 5)
    picker = InOrder(
        RarestFirst(pieces, availability, random.Random(1)), pieces, availability, random.Random(2)
    )
    assert picker.pick(peer).piece == CHUNK_PIECES + 5


def test_what_a_reader_waits_for_goes_first() -> None:
    """The latest reader's window from its beginning, then the other's, and then what is rarest."""
    picture = Picture(
        "#r        ",
        "########  ",
        "######### ",
    )
    in_view = InView(picture.picker, picture.pieces, picture.availability)
    asked = picture.names[0]

    def picks(times: int) -> list[int]:
        found = []
        for _ in range(times):
            pick = in_view.pick(asked)
            assert pick is not None
            picture.pieces.requested(pick.piece)
            found.append(pick.piece)
        return found

    in_view.watch(1, range(4))
    in_view.watch(2, range(6, 10))
    assert picks(2) == [6, 7]
    # What nobody has is not waited for by asking for nothing.
    assert picks(1) == [2]
    in_view.watch(2, range(0))
    assert picks(1) == [3]
    in_view.watch(1, range(0))
    assert in_view.pick(asked).why.startswith("rarest")
    without = PieceSet.of(10, [4])
    in_view.watch(3, range(4, 6))
    assert in_view.pick(asked, without).piece == 5
