"""States of pieces as pictures: one letter a piece."""

from __future__ import annotations

import pytest

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.strategy.pieces import Pieces, State

LETTERS = {State.MISSING: " ", State.REQUESTED: "r", State.VERIFYING: "v", State.STORED: "#"}


def setup_pieces(stored: str) -> Pieces:
    field = PieceSet(len(stored))
    for piece, letter in enumerate(stored):
        if letter == "#":
            field.add(piece)
    return Pieces(Layout(10, [10 * len(stored)]), field)


def picture(pieces: Pieces) -> str:
    return "".join(LETTERS[pieces.state(piece)] for piece in range(pieces.size))


def marks(pieces: Pieces, members: object) -> str:
    return "".join("x" if piece in members else "." for piece in range(pieces.size))  # type: ignore[operator]


def test_the_story_of_one_piece() -> None:
    pieces = setup_pieces("#   ")
    pieces.requested(1)
    pieces.requested(2)
    assert picture(pieces) == "#rr "
    pieces.verifying(1)
    assert picture(pieces) == "#vr "
    pieces.now_stored(1)
    assert picture(pieces) == "##r "
    assert marks(pieces, pieces.stored) == "xx.."
    assert marks(pieces, pieces.open) == "...x"
    assert marks(pieces, pieces.lacking) == "..xx"
    assert (pieces.lacking_count, pieces.stored_count, pieces.complete) == (2, 2, False)


def test_released_and_failed_pieces_are_open_again() -> None:
    pieces = setup_pieces("  ")
    pieces.requested(0)
    pieces.requested(1)
    pieces.released(0)
    pieces.verifying(1)
    pieces.failed(1)
    assert picture(pieces) == "  "
    assert marks(pieces, pieces.open) == "xx"


def test_a_second_request_of_a_piece_changes_nothing() -> None:
    pieces = setup_pieces(" ")
    pieces.requested(0)
    pieces.requested(0)
    pieces.released(0)
    assert picture(pieces) == " "


def test_a_piece_lost_on_the_way_is_wanted_again() -> None:
    pieces = setup_pieces("# ")
    pieces.lost(0)
    assert picture(pieces) == "  "
    assert marks(pieces, pieces.open) == "xx"
    assert pieces.lacking_count == 2


def test_a_piece_lost_after_the_end_is_not_wanted_again() -> None:
    pieces = setup_pieces("##")
    pieces.lost(0)
    assert picture(pieces) == " #"
    assert marks(pieces, pieces.open) == ".."
    assert marks(pieces, pieces.stored) == ".x"
    assert pieces.complete


def test_pieces_lost_after_the_end_are_wanted_again_if_the_target_is_not_finished() -> None:
    pieces = setup_pieces("###")
    pieces.lost(0)
    lost = PieceSet.of(3, [0, 1])
    assert pieces.lost_many(lost, again=True) == PieceSet.of(3, [1])
    assert picture(pieces) == "  #"
    assert marks(pieces, pieces.open) == marks(pieces, pieces.lacking) == "xx."
    assert pieces.lacking_count == 2
    pieces.lost_many(lost, again=True)
    assert pieces.lacking_count == 2


@pytest.mark.parametrize(
    ("stored", "move"),
    [
        (" ", Pieces.verifying),
        (" ", Pieces.now_stored),
        (" ", Pieces.released),
        (" ", Pieces.failed),
        (" ", Pieces.lost),
        ("#", Pieces.requested),
        ("#", Pieces.verifying),
        ("#", Pieces.now_stored),
    ],
)
def test_other_moves_are_errors_of_the_program(stored: str, move) -> None:
    pieces = setup_pieces(stored)
    with pytest.raises(ValueError, match="cannot become"):
        move(pieces, 0)
    assert picture(pieces) == stored


def test_a_bitfield_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bits cannot describe 2 pieces"):
        Pieces(Layout(10, [20]), PieceSet(3))


def test_only_what_is_wanted_is_open() -> None:
    wanted = PieceSet(4)
    wanted.add(0)
    wanted.add(2)
    stored = PieceSet(4)
    stored.add(0)
    stored.add(1)
    pieces = Pieces(Layout(10, [40]), stored, wanted)
    assert marks(pieces, pieces.open) == "..x."
    assert marks(pieces, pieces.lacking) == "..x."
    assert picture(pieces) == "##  "
    pieces.lost(1)
    pieces.lost(0)
    assert marks(pieces, pieces.open) == "x.x."
    for piece in (0, 2):
        pieces.requested(piece)
        pieces.verifying(piece)
        pieces.now_stored(piece)
    assert pieces.complete
    assert pieces.stored_count == 2


def test_a_selection_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bits cannot describe 2 pieces"):
        Pieces(Layout(10, [20]), PieceSet(2), PieceSet(3))


def test_an_empty_manifest_is_complete() -> None:
    assert Pieces(Layout(10, [0]), PieceSet(0)).complete
