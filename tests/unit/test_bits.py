from __future__ import annotations

import pytest

from swarm.bits import CHUNK_PIECES, PieceSet


def test_the_most_significant_bit_comes_first() -> None:
    field = PieceSet(12)
    for piece in (0, 7, 8, 11):
        field.add(piece)
    assert field.to_bytes() == bytes((0b10000001, 0b10010000))
    assert PieceSet.from_bytes(field.to_bytes(), 12) == field


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 17])
def test_all_is_full_without_spare_bits(size: int) -> None:
    field = PieceSet.all(size)
    assert field.full
    assert field.count == size
    assert list(field) == list(range(size))
    assert list(field.missing()) == []
    assert PieceSet.from_bytes(field.to_bytes(), size) == field


def test_adding_and_removing_say_whether_they_changed_something() -> None:
    field = PieceSet(9)
    assert field.add(8)
    assert not field.add(8)
    assert field.count == 1
    assert field.discard(8)
    assert not field.discard(8)
    assert field.count == 0


def test_adding_many_tells_what_was_not_there() -> None:
    size = CHUNK_PIECES + 3
    field = PieceSet.of(size, [1])
    assert field.add_many([2, 1, CHUNK_PIECES, 2]) == [(0, 1 << 2), (1, 1)]
    assert field.add_many([2, CHUNK_PIECES]) == []
    for outside in (-1, size):
        with pytest.raises(IndexError):
            field.add_many([5, outside])
    assert list(field) == [1, 2, CHUNK_PIECES]


@pytest.mark.parametrize("piece", [-1, 3, 8, 1 << 70])
def test_a_piece_outside_is_never_contained(piece: int) -> None:
    field = PieceSet.all(3)
    assert piece not in field
    with pytest.raises(IndexError):
        field.add(piece)
    with pytest.raises(IndexError):
        field.discard(piece)
    assert field.count == 3


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 1),
        (b"\x00", 0),
        (b"\x00\x00", 8),
        (b"\x00", 9),
        (b"\x01", 7),
        (b"\xff\x40", 9),
        (b"\xff\xff", 15),
    ],
)
def test_wrong_lengths_and_spare_bits_are_refused(data: bytes, size: int) -> None:
    with pytest.raises(ValueError):
        PieceSet.from_bytes(data, size)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError):
        PieceSet(-1)


def test_a_copy_is_independent() -> None:
    field = PieceSet(20)
    field.add(3)
    twin = field.copy()
    twin.add(4)
    field.discard(3)
    assert list(field) == []
    assert list(twin) == [3, 4]
    assert twin.size == 20


def test_what_was_given_and_taken_is_not_shared() -> None:
    data = bytearray(b"\x80")
    field = PieceSet.from_bytes(data, 8)
    data[0] = 0
    assert list(field) == [0]


def test_changing_while_iterating_changes_nothing_in_the_iteration() -> None:
    field = PieceSet.all(100)
    for piece in field:
        field.discard(piece)
    assert field.count == 0
    for piece in field.missing():
        field.add(piece)
    assert field.full


def test_equality_is_of_size_and_pieces() -> None:
    assert PieceSet(8) != PieceSet(7)
    assert PieceSet(8) != PieceSet.all(8)
    assert PieceSet(8) != "00"
    with pytest.raises(TypeError):
        hash(PieceSet(8))


def test_a_million_pieces() -> None:
    field = PieceSet.all(1_000_000)
    for piece in (0, 499_999, 999_999):
        field.discard(piece)
    assert list(field.missing()) == [0, 499_999, 999_999]
    assert sum(1 for _ in field) == field.count == 999_997
    assert repr(field) == "<PieceSet 999997/1000000>"
