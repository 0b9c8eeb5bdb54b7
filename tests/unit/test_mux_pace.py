"""How many frames that move nothing, and records with little in them, a peer may send before it is let go."""

import pytest

from swarm.errors import RemoteError
from swarm.mux import frames as yamux
from swarm.mux.connection import Connection
from swarm.mux.frames import DATA, FIN, PING, RST, SYN, WINDOW_UPDATE, Frame, FramePace
from swarm.mux.mux_limits import (
    FRAME_BURST,
    FRAME_EARNINGS,
    FRAME_RATE,
    FRAMES_PER_STREAM,
    INITIAL_WINDOW,
    MAX_WINDOW,
    NOISE_MAX_PLAINTEXT,
    SMALL_RECORD,
)
from swarm.mux.records import Blocks, Opener, Sealer
from swarm.mux.stream import Read, WindowBudget

PING_FRAME = Frame(PING, SYN, 0, 7)


def opened(pace, streams, now):
    """Open and end ``streams`` streams with 32 bytes in each."""
    for number in range(streams):
        stream = 2 * number + 1
        pace.refill(now)
        for frame in (
            Frame(WINDOW_UPDATE, SYN, stream, 0),
            Frame(DATA, 0, stream, 32),
            Frame(DATA, FIN, stream, 0),
        ):
            pace.take(frame)


def test_a_thousand_streams_in_a_row_are_nothing_unusual():
    opened(FramePace(), 1000, now=0.0)


def test_who_goes_on_opening_a_thousand_a_second_is_gone_within_seconds():
    pace = FramePace()
    with pytest.raises(RemoteError, match="without payload"):
        for second in range(10):
            opened(pace, 1000, now=float(second))


def test_what_is_slow_enough_goes_on_for_ever():
    pace = FramePace()
    for second in range(100):
        opened(pace, int(FRAME_RATE / (FRAMES_PER_STREAM + 3)), now=float(second))


@pytest.mark.parametrize("frame", [PING_FRAME, Frame(WINDOW_UPDATE, 0, 1, 0), Frame(DATA, 0, 1, 0)])
def test_empty_frames_have_a_burst_and_no_more(frame):
    pace = FramePace()
    for _ in range(int(FRAME_BURST)):
        pace.take(frame)
    with pytest.raises(RemoteError, match="without payload"):
        pace.take(PING_FRAME)


def test_bulk_pays_for_its_frames_and_for_others():
    pace = FramePace()
    for _ in range(2 * int(FRAME_BURST)):
        pace.take(Frame(DATA, 0, 1, 2 * FRAME_EARNINGS))
        pace.take(PING_FRAME)


class Records:
    """One end of a connection that is sent records."""

    def __init__(self) -> None:
        self.core = Connection(initiator=True, blocks=Blocks(), budget=WindowBudget())
        self.blocks = Blocks()
        self.sealer, self.opener = Sealer(bytes(32), 0), Opener(bytes(32), 0)
        self.out = memoryview(bytearray(100_000))
        self.at(0.0)

    def at(self, now):
        self.core.pace.refill(now)

    def come(self, *plaintexts):
        """Each plaintext in a record of its own."""
        for plaintext in plaintexts:
            size = self.sealer.seal_into(memoryview(plaintext), self.out)
            self.opener.open(self.out[:size], self.blocks, self.core)
        self.core.take(NOISE_MAX_PLAINTEXT)

    def opened(self):
        self.come(yamux.encode(WINDOW_UPDATE, SYN, 2, 0))
        return self.core.accept()

    def read(self, stream, now):
        stream.inbox.take(stream.inbox.size)
        self.core.consumed(stream, now)
        self.core.take_results()


def test_empty_records_have_a_burst_and_no_more():
    records = Records()
    records.come(*[b""] * int(FRAME_BURST))
    with pytest.raises(RemoteError, match="hardly anything"):
        records.come(b"")


def test_empty_records_that_are_rare_go_on_for_ever():
    records = Records()
    for second in range(20):
        records.at(float(second))
        records.come(*[b""] * int(FRAME_RATE))


def test_a_long_frame_does_not_pay_for_its_payload_byte_by_byte():
    records = Records()
    records.opened()
    records.come(yamux.encode(WINDOW_UPDATE, RST, 2, 0))
    # Nobody takes what belongs to this stream, so no window limits it.
    records.come(yamux.encode(DATA, 0, 2, MAX_WINDOW))
    with pytest.raises(RemoteError, match="hardly anything"):
        records.come(*[b"x"] * int(FRAME_BURST + 10))


def test_a_reader_that_waits_makes_no_small_record_free():
    records = Records()
    stream = records.opened()
    stream.reading = Read(memoryview(bytearray(INITIAL_WINDOW)), INITIAL_WINDOW)
    records.come(yamux.encode(DATA, 0, 2, INITIAL_WINDOW))
    with pytest.raises(RemoteError, match="hardly anything"):
        records.come(*[b"x"] * int(FRAME_BURST + 10))
    # What came before counts, and is where the reader wants it.
    assert bytes(stream.reading.buffer[: stream.reading.filled]) == b"x" * stream.reading.filled
    assert stream.reading.filled >= FRAME_BURST


@pytest.mark.parametrize("size", [1, 100, SMALL_RECORD, 2000])
def test_a_header_and_a_body_in_records_of_their_own_cost_no_more_than_their_frame(size):
    records = Records()
    stream = records.opened()
    frame = yamux.encode(DATA, 0, 2, size), bytes(size)
    for second in range(1, 21):
        records.at(float(second))
        for _ in range(int(FRAME_RATE) // 100):
            records.come(*frame * 100)
            records.read(stream, float(second))
    assert records.core.pace._bucket.tokens >= FRAME_BURST - FRAME_RATE


def test_bulk_pays_for_small_headers_and_small_ends_of_its_frames():
    records = Records()
    stream = records.opened()
    body = bytes(NOISE_MAX_PLAINTEXT)
    header = yamux.encode(DATA, 0, 2, len(body) + 3)
    for _ in range(int(FRAME_BURST) // 8):
        # The header in two parts, and the end of the body in three.
        records.come(header[:5], header[5:], body, b"x", b"y", b"z")
        records.read(stream, 0.0)
    assert records.core.pace._bucket.tokens >= FRAME_BURST - 2
