from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.bits import PieceSet

sizes = st.integers(0, 70)


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[tuple[bool, int]]]:
    size = draw(st.integers(1, 70))
    return size, draw(st.lists(st.tuples(st.booleans(), st.integers(0, size - 1)), max_size=80))


@settings(deadline=None, max_examples=300)
@given(histories())
def test_it_is_a_set(history: tuple[int, list[tuple[bool, int]]]) -> None:
    size, steps = history
    field, model = PieceSet(size), set[int]()
    for adding, piece in steps:
        assert (piece in field) == (piece in model)
        if adding:
            assert field.add(piece) == (piece not in model)
            model.add(piece)
        else:
            assert field.discard(piece) == (piece in model)
            model.discard(piece)
        assert field.count == len(model)
    assert list(field) == sorted(model)
    assert list(field.missing()) == sorted(set(range(size)) - model)
    assert field.full == (len(model) == size)
    assert field.copy() == field == PieceSet.from_bytes(field.to_bytes(), size)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=10), sizes)
def test_bytes_are_read_exactly_or_refused(data: bytes, size: int) -> None:
    spare = -size % 8
    sound = len(data) == (size + 7) // 8 and not (data and data[-1] & ((1 << spare) - 1))
    try:
        field = PieceSet.from_bytes(data, size)
    except ValueError:
        assert not sound
    else:
        assert sound
        assert field.to_bytes() == data
        assert field.count == sum(byte.bit_count() for byte in data)
