"""Records and frames: any cut of the input gives the same result; garbage gives the declared error."""

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import RemoteError
from swarm.mux import frames as yamux
from swarm.mux.connection import Connection
from swarm.mux.frames import DATA, Frame, FrameReader
from swarm.mux.mux_limits import MEMORY_BUDGET, NOISE_LENGTH_PREFIX, NOISE_MAX_SEALED, MuxLimits
from swarm.mux.records import Blocks, Opener, Sealer, missing
from swarm.mux.stream import WindowBudget
from tests.support.records import Arriving, Plaintexts, take_all

KEY = bytes(32)
cuts = st.lists(st.integers(1, 400), max_size=30)
stream_ids = st.integers(1, 9)
flags = st.sampled_from([0, 1, 2, 4, 8, 5])


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [*pieces, data[start:]]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=12), cuts)
def test_records_survive_any_cut(messages, sizes):
    sealer = Sealer(KEY, 0)
    room = memoryview(bytearray(NOISE_MAX_SEALED))
    data = b"".join(bytes(room[: sealer.seal_into(memoryview(message), room)]) for message in messages)
    arriving, out = Arriving(Opener(KEY, 0)), []
    for piece in cut(data, sizes):
        out += arriving.opened(piece)
    assert out == messages
    assert missing(arriving.rest) == NOISE_LENGTH_PREFIX


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 200), cuts)
def test_damaged_records_give_what_was_whole_and_then_the_declared_error(garbage, keep, sizes):
    good = Sealer(KEY, 0).seal(bytes(50)) + Sealer(KEY, 1).seal(bytes(60))
    arriving, sink = Arriving(Opener(KEY, 0)), Plaintexts()
    try:
        for piece in cut(good[:keep] + garbage, sizes):
            arriving.feed(piece, sink)
    except RemoteError:
        pass
    assert sink.found == [bytes(50), bytes(60)][: len(sink.found)]
    assert missing(arriving.rest) <= NOISE_MAX_SEALED


@st.composite
def frames(draw):
    kind = draw(st.sampled_from([0, 0, 1, 2, 3]))
    if kind == DATA:
        body = draw(st.binary(max_size=60))
        return yamux.encode(DATA, draw(flags), draw(stream_ids), len(body)) + body
    if kind == 1:
        return yamux.encode(1, draw(flags), draw(stream_ids), draw(st.integers(0, 2**32 - 1)))
    return yamux.encode(kind, 1 if kind == 2 else 0, 0, draw(st.integers(0, 2**32 - 1)))


def parsed(pieces: list[bytes]) -> list[Frame | bytes]:
    """Frames with each DATA frame's parts put together again."""
    reader, items = FrameReader(), []
    for piece in pieces:
        for item in reader.read(memoryview(piece)):
            if isinstance(item, Frame):
                items.append(item)
            elif items and isinstance(items[-1], bytes):
                items[-1] += bytes(item)
            else:
                items.append(bytes(item))
    return items


@settings(max_examples=150, deadline=None)
@given(st.lists(frames(), max_size=20), cuts)
def test_frames_survive_any_cut(sequence, sizes):
    data = b"".join(sequence)
    assert parsed(cut(data, sizes)) == parsed([data])
    assert b"".join(yamux.encode(*i) if isinstance(i, Frame) else i for i in parsed([data])) == data


def outcome(pieces: list[bytes]) -> tuple[object, ...]:
    """Everything that one end makes of what it receives."""
    blocks, budget = Blocks(), WindowBudget()
    core = Connection(
        initiator=True,
        blocks=blocks,
        budget=budget,
        limits=MuxLimits(control_frames=10**6, inbound_streams=4),
    )
    for _ in range(2):
        core.open()
    known = dict(core.streams)
    error = ""
    try:
        for piece in pieces:
            block = blocks.take()
            block[: len(piece)] = piece
            core.receive(block, len(piece))
            known.update(core.streams)
            assert sum(stream.inbox.size for stream in known.values()) <= len(b"".join(pieces))
    except RemoteError as caught:
        error = str(caught)
    answers = take_all(core)
    states = {
        number: (stream.inbox.take(10**9), stream.ending, stream.receiving, stream.send_window)
        for number, stream in core.streams.items()
    }
    return error, answers, states, core.peer_leaving


@settings(max_examples=200, deadline=None)
@given(st.lists(frames(), max_size=25), cuts)
def test_one_end_does_the_same_under_any_cut(sequence, sizes):
    data = b"".join(sequence)
    assert outcome(cut(data, sizes)) == outcome([data])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(frames(), st.binary(max_size=40)), max_size=25), cuts)
def test_garbage_gives_nothing_but_the_declared_error(sequence, sizes):
    outcome(cut(b"".join(sequence), sizes))


def test_the_memory_budget_is_what_the_threat_model_promises():
    assert MEMORY_BUDGET <= 64 * 1024 * 1024
