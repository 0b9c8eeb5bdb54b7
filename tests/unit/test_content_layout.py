from __future__ import annotations

import pytest

from swarm.content.layout import Layout, Span, piece_counts


def test_every_file_begins_with_a_piece_of_its_own() -> None:
    layout = Layout(10, [25, 0, 10, 1])
    assert layout.piece_count == 5
    assert layout.total_length == 36
    assert [layout.span(piece) for piece in range(5)] == [
        Span(0, 0, 10),
        Span(0, 10, 10),
        Span(0, 20, 5),
        Span(2, 0, 10),
        Span(3, 0, 1),
    ]
    assert [layout.pieces_of(file) for file in range(4)] == [range(3), range(3, 3), range(3, 4), range(4, 5)]
    assert layout.length(2) == 5
    assert layout.piece_length == 10


@pytest.mark.parametrize("lengths", [[], [0, 1, 9, 10], [0, 1, 10, 11], [100, 0, 101]])
def test_pieces_are_counted_for_each_file(lengths: list[int]) -> None:
    layout = Layout(10, lengths)
    counts = list(piece_counts(10, lengths))
    assert counts == [len(layout.pieces_of(file)) for file in range(len(lengths))]
    assert counts == [(length + 9) // 10 for length in lengths]
    assert list(layout.files_of_many_pieces()) == [file for file, count in enumerate(counts) if count > 1]


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_nothing_has_no_piece(lengths: list[int]) -> None:
    layout = Layout(16, lengths)
    assert layout.piece_count == 0
    assert layout.total_length == 0
    with pytest.raises(IndexError):
        layout.span(0)


def test_empty_files_around_others_have_no_piece() -> None:
    layout = Layout(4, [0, 0, 5, 0, 0, 3, 0])
    assert [layout.span(piece).file for piece in range(layout.piece_count)] == [2, 2, 5]


@pytest.mark.parametrize("piece", [-1, 3])
def test_no_other_piece_exists(piece: int) -> None:
    with pytest.raises(IndexError):
        Layout(4, [9]).span(piece)
    with pytest.raises(IndexError):
        Layout(4, [9]).length(piece)


@pytest.mark.parametrize("file", [-1, 1])
def test_no_other_file_exists(file: int) -> None:
    with pytest.raises(IndexError):
        Layout(4, [9]).pieces_of(file)


def test_senseless_lengths_are_refused() -> None:
    with pytest.raises(ValueError):
        Layout(0, [1])
    with pytest.raises(ValueError):
        Layout(4, [1, -1])
