"""However the link cuts what a peer says, the session hears the same; what came together stays together."""

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.protocol import codec
from swarm.protocol.messages import Have, Interested, KeepAlive, Request
from tests.fuzz.session_surface import MANIFEST, check, content, frame, read

PIECES = list(range(MANIFEST.piece_count))


def told(order: list[int], between: list[int], chunk: int) -> bytes:
    """Every piece in some order, with control messages between DATA and some requests."""
    said = b""
    control = iter(between)
    for number, piece in enumerate(order):
        for at in range(0, len(content(piece)), chunk):
            said += frame(piece, at, chunk)
            kind = next(control, 0)
            if kind == 1:
                said += codec.encode(KeepAlive())
            elif kind == 2:
                said += codec.encode(Interested())
        said += codec.encode(Request(number)) + codec.encode(Have((piece,)))
    return said


@settings(max_examples=30, deadline=None)
@given(
    st.permutations(PIECES),
    st.lists(st.integers(0, 2), max_size=12),
    st.integers(1000, 20_000),
    st.lists(st.integers(1, 6000), min_size=2, max_size=40),
)
def test_the_same_is_heard_in_any_parts(
    order: list[int], between: list[int], chunk: int, sizes: list[int]
) -> None:
    data = told(order, between, chunk)
    parts, at = [], 0
    while at < len(data):
        size = sizes[len(parts) % len(sizes)]
        parts.append(data[at : at + size])
        at += size
    whole = check(data, parts)
    assert whole.ended == "closed"
    assert [each[0] for each in whole.said if isinstance(each, tuple)] == order


def test_small_pieces_that_came_together_are_handed_over_together() -> None:
    small = [piece for piece in PIECES if len(content(piece)) < 100]
    outcome = read([b"".join(map(frame, small))])
    assert outcome.batches == 1
    assert len(outcome.said) == len(small) == 10


def test_what_came_before_a_fault_counts() -> None:
    outcome = read([frame(0) + frame(1) + frame(0)])
    assert [each[0] for each in outcome.said if isinstance(each, tuple)] == [0, 1]
    assert outcome.ended.startswith("fault: data of piece 0")
