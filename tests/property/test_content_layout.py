from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.content.layout import Layout


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 40), st.lists(st.one_of(st.just(0), st.integers(0, 300)), max_size=20))
def test_the_pieces_tile_the_files(piece_length: int, lengths: list[int]) -> None:
    layout = Layout(piece_length, lengths)
    owners = [[0] * length for length in lengths]
    for piece in range(layout.piece_count):
        span = layout.span(piece)
        assert span.offset % piece_length == 0
        assert 1 <= span.length == layout.length(piece) <= piece_length
        assert piece in layout.pieces_of(span.file)
        at_the_end = span.offset + span.length == lengths[span.file]
        assert span.length == piece_length or at_the_end
        for offset in range(span.offset, span.offset + span.length):
            owners[span.file][offset] += 1
    assert all(owner == 1 for file in owners for owner in file)
    ranges = [layout.pieces_of(file) for file in range(len(lengths))]
    assert [piece for pieces in ranges for piece in pieces] == list(range(layout.piece_count))
    assert layout.total_length == sum(lengths)
