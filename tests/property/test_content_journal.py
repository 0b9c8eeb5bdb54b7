from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.content import journal
from swarm.content.journal import HEADER_BYTES, Header
from swarm.ids import ManifestId

SIZE = 12
HEADER = Header(ManifestId(bytes(range(32))), 999, SIZE)

pieces = st.integers(0, SIZE - 1)
batches = st.dictionaries(pieces, st.binary(min_size=16, max_size=16), min_size=1, max_size=4)
Batch = dict[int, bytes]


def history(written: list[Batch]) -> tuple[bytes, list[tuple[int, dict[int, bytes]]]]:
    """The journal and, after each record, its length and what is stored by then."""
    data = journal.encode_header(HEADER)
    known: dict[int, bytes] = {}
    states = [(len(data), dict(known))]
    for batch in written:
        data += journal.encode_stored(HEADER, batch)
        known |= batch
        states.append((len(data), dict(known)))
    return data, states


@settings(deadline=None, max_examples=150)
@given(st.lists(batches, max_size=6))
def test_a_truncated_journal_says_what_was_whole(written: list[Batch]) -> None:
    data, states = history(written)
    for cut in range(len(data) + 1):
        replayed = journal.replay(data[:cut])
        if cut < HEADER_BYTES:
            assert (replayed.header, replayed.valid_length) == (None, 0)
            assert not replayed.fingerprints
        else:
            assert replayed.header == HEADER
            length, known = max(state for state in states if state[0] <= cut)
            assert (replayed.valid_length, dict(replayed.fingerprints)) == (length, known)


@settings(deadline=None, max_examples=60)
@given(st.lists(batches, min_size=1, max_size=4), st.integers(1, 255))
def test_a_changed_byte_ends_the_journal_before_its_record(written: list[Batch], flip: int) -> None:
    data, states = history(written)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= flip
        replayed = journal.replay(bytes(changed))
        if at < HEADER_BYTES:
            assert (replayed.header, replayed.valid_length) == (None, 0)
        else:
            length, known = max(state for state in states if state[0] <= at)
            assert (replayed.valid_length, dict(replayed.fingerprints)) == (length, known)


@settings(deadline=None, max_examples=150)
@given(st.lists(batches, max_size=4), st.binary(max_size=80))
def test_garbage_after_the_end_adds_nothing(written: list[Batch], garbage: bytes) -> None:
    data, states = history(written)
    replayed = journal.replay(data + garbage)
    assert (replayed.valid_length, dict(replayed.fingerprints)) == states[-1]


@settings(deadline=None, max_examples=150)
@given(st.lists(batches, min_size=2, max_size=5), st.data())
def test_a_missing_or_zeroed_stretch_never_invents_a_piece(written: list[Batch], data: st.DataObject) -> None:
    whole, states = history(written)
    start = data.draw(st.integers(HEADER_BYTES, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    zeroed = whole[:start] + bytes(end - start) + whole[end:]
    known = [dict(state[1]) for state in states]
    assert dict(journal.replay(zeroed).fingerprints) in known


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_garbage_is_no_journal(data: bytes) -> None:
    replayed = journal.replay(data)
    assert (replayed.header, len(replayed.fingerprints), replayed.valid_length) == (None, 0, 0)
