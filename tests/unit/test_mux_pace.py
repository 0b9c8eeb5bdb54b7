"""How many frames that move nothing a peer may send before its connection is closed."""

import pytest

from swarm.errors import RemoteError
from swarm.mux.frames import DATA, FIN, PING, SYN, WINDOW_UPDATE, Frame, FramePace
from swarm.mux.mux_limits import FRAME_BURST, FRAME_EARNINGS, FRAME_RATE, FRAMES_PER_STREAM

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
