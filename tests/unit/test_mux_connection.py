"""One end of Yamux against hand-made frames."""

import pytest

from swarm.errors import LinkClosed, RemoteError
from swarm.mux import frames as yamux
from swarm.mux.connection import Connection
from swarm.mux.frames import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, Frame, FrameReader
from swarm.mux.mux_limits import ABANDONED_SECONDS, INITIAL_WINDOW, MuxLimits
from swarm.mux.records import Blocks
from swarm.mux.stream import Ending, Stream, WindowBudget
from tests.support.records import take_all


class Peer:
    """The other end: sends frames, reads frames."""

    def __init__(self, *, initiator: bool = False, **limits: int) -> None:
        self.blocks = Blocks()
        self.budget = WindowBudget()
        self.core = Connection(
            initiator=initiator, blocks=self.blocks, budget=self.budget, limits=MuxLimits(**limits)
        )

    def says(self, *frames: Frame | bytes) -> None:
        for frame in frames:
            data = frame if isinstance(frame, bytes) else yamux.encode(*frame)
            for start in range(0, len(data), 60_000):
                part = data[start : start + 60_000]
                block = self.blocks.take()
                block[: len(part)] = part
                self.core.receive(block, len(part))

    def sends(self, stream: int, data: bytes, flags: int = 0) -> None:
        self.says(yamux.encode(DATA, flags, stream, len(data)) + data)

    def hears(self) -> list[Frame | bytes]:
        items = FrameReader().read(memoryview(take_all(self.core)))
        return [item if isinstance(item, Frame) else bytes(item) for item in items]

    def opens(self, stream: int) -> Stream:
        self.says(Frame(WINDOW_UPDATE, SYN, stream, 0))
        accepted = self.core.accept()
        assert accepted is not None
        self.hears()
        self.core.take_results()
        return accepted


def read(peer: Peer, stream: Stream, now: float = 0.0) -> bytes:
    data = stream.inbox.take(stream.inbox.size)
    peer.core.consumed(stream, now)
    return data


def test_opening_is_announced_before_data_and_the_answer_clears_the_backlog():
    peer = Peer(initiator=True, unacknowledged=1)
    stream = peer.core.open()
    peer.core.write(stream, memoryview(b"hello"))
    assert peer.hears() == [Frame(WINDOW_UPDATE, SYN, 1, 0), Frame(DATA, 0, 1, 5), b"hello"]
    assert not peer.core.may_open
    peer.says(Frame(WINDOW_UPDATE, ACK, 1, 0))
    assert peer.core.may_open
    assert peer.core.open().id == 3


def test_a_stream_of_the_peer_is_acknowledged_and_accepted():
    peer = Peer(initiator=True)
    peer.says(Frame(WINDOW_UPDATE, SYN, 2, 0), Frame(DATA, SYN, 4, 3), b"abc")
    assert peer.core.take_results().acceptable
    assert peer.hears() == [Frame(WINDOW_UPDATE, ACK, 2, 0), Frame(WINDOW_UPDATE, ACK, 4, 0)]
    first, second = peer.core.accept(), peer.core.accept()
    assert (first.id, second.id) == (2, 4)
    assert read(peer, second) == b"abc"
    assert peer.core.accept() is None


def test_data_waits_for_the_window_and_goes_on_with_its_update():
    peer = Peer()
    stream = peer.opens(1)
    write = peer.core.write(stream, memoryview(bytes(INITIAL_WINDOW + 10)))
    sent = sum(len(item) for item in peer.hears() if isinstance(item, bytes))
    assert (sent, write.left) == (INITIAL_WINDOW, 10)
    assert stream not in peer.core.take_results().touched
    peer.says(Frame(WINDOW_UPDATE, 0, 1, 4))
    assert peer.hears() == [Frame(DATA, 0, 1, 4), bytes(4)]
    peer.says(Frame(WINDOW_UPDATE, 0, 1, 100))
    assert peer.hears() == [Frame(DATA, 0, 1, 6), bytes(6)]
    assert write.left == 0
    assert stream in peer.core.take_results().touched


def test_a_window_never_counts_beyond_32_bits():
    peer = Peer()
    stream = peer.opens(1)
    peer.says(*[Frame(WINDOW_UPDATE, 0, 1, 2**32 - 1)] * 3)
    assert stream.send_window == 2**32 - 1


def test_streams_take_turns_and_control_frames_go_first():
    peer = Peer()
    bulk, small = peer.opens(1), peer.opens(3)
    peer.core.write(bulk, memoryview(bytes(200_000)))
    peer.core.write(small, memoryview(b"ping"))
    peer.says(Frame(PING, SYN, 0, 9))
    heard = [item for item in peer.hears() if isinstance(item, Frame)]
    assert heard[0] == Frame(PING, ACK, 0, 9)
    assert [frame.stream for frame in heard[1:4]] == [1, 3, 1]
    assert sum(frame.length for frame in heard if frame.stream == 1) == 200_000


def test_one_bulk_frame_fills_one_record():
    peer = Peer()
    stream = peer.opens(1)
    peer.core.write(stream, memoryview(bytes(200_000)))
    parts = peer.core.take(65_519)
    assert sum(map(len, parts)) == 65_519
    assert yamux.decode(parts[0]).length == 65_507


def test_credit_follows_consumption():
    peer = Peer()
    stream = peer.opens(1)
    peer.sends(1, bytes(INITIAL_WINDOW // 2))
    assert peer.hears() == []
    read(peer, stream)
    assert peer.hears() == [Frame(WINDOW_UPDATE, 0, 1, INITIAL_WINDOW // 2)]


def test_an_overrun_is_the_end_of_the_connection():
    peer = Peer()
    peer.opens(1)
    peer.sends(1, bytes(INITIAL_WINDOW))
    with pytest.raises(RemoteError, match="window of 0"):
        peer.sends(1, b"x")


def test_an_overrun_is_found_at_the_header():
    peer = Peer()
    peer.opens(1)
    with pytest.raises(RemoteError, match="window"):
        peer.says(Frame(DATA, 0, 1, INITIAL_WINDOW + 1))


def test_fin_after_everything_written_and_reading_goes_on():
    peer = Peer()
    stream = peer.opens(1)
    peer.core.write(stream, memoryview(bytes(70_000)))
    peer.core.finish(stream)
    with pytest.raises(LinkClosed):
        peer.core.write(stream, memoryview(b"late"))
    heard = peer.hears()
    assert heard.index(Frame(WINDOW_UPDATE, FIN, 1, 0)) == len(heard) - 1
    assert sum(len(item) for item in heard if isinstance(item, bytes)) == 70_000
    peer.sends(1, b"answer", FIN)
    assert peer.core.streams == {}
    assert read(peer, stream) == b"answer"
    assert not stream.receiving
    assert stream.ending is None


def test_fin_on_data_counts_after_the_whole_payload():
    peer = Peer()
    stream = peer.opens(1)
    frame = yamux.encode(DATA, FIN, 1, 6) + b"abcdef"
    peer.says(frame[:15])
    assert stream.receiving
    peer.says(frame[15:])
    assert not stream.receiving
    assert read(peer, stream) == b"abcdef"


@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE])
def test_reset_by_the_peer_drops_what_waits_in_both_directions(kind):
    peer = Peer()
    stream = peer.opens(1)
    peer.core.write(stream, memoryview(bytes(INITIAL_WINDOW * 2)))
    peer.hears()
    peer.sends(1, b"unread")
    peer.core.take_results()
    peer.says(Frame(kind, RST, 1, 0), Frame(WINDOW_UPDATE, 0, 1, 1000))
    assert stream.ending is Ending.RESET_BY_PEER
    assert stream.inbox.size == 0
    assert peer.core.streams == {}
    assert stream in peer.core.take_results().touched
    assert peer.hears() == []
    with pytest.raises(LinkClosed):
        peer.core.write(stream, memoryview(b"late"))


def test_late_data_of_a_stream_reset_here_is_dropped_without_end():
    peer = Peer()
    stream = peer.opens(1)
    peer.core.reset(stream)
    assert peer.hears() == [Frame(WINDOW_UPDATE, RST, 1, 0)]
    for _ in range(10):
        peer.sends(1, bytes(INITIAL_WINDOW))
    assert peer.hears() == []
    assert stream.inbox.size == 0


def test_a_stream_reset_in_the_middle_of_a_payload_takes_no_more_of_it():
    peer = Peer()
    stream = peer.opens(1)
    frame = yamux.encode(DATA, FIN, 1, 6) + b"abcdef"
    peer.says(frame[:15])
    peer.core.reset(stream)
    peer.core.take_results()
    peer.says(frame[15:])
    assert stream.inbox.size == 0
    assert stream not in peer.core.take_results().touched


def test_data_after_fin_resets_that_stream_alone():
    peer = Peer()
    stream, other = peer.opens(1), peer.opens(3)
    peer.says(Frame(WINDOW_UPDATE, FIN, 1, 0))
    peer.sends(1, b"late")
    assert peer.hears() == [Frame(WINDOW_UPDATE, RST, 1, 0)]
    assert stream.ending is Ending.RESET_HERE
    peer.sends(3, b"fine")
    assert read(peer, other) == b"fine"


def test_closing_drops_what_arrives_gives_no_credit_and_resets_a_peer_that_stays():
    peer = Peer()
    stream = peer.opens(1)
    peer.sends(1, b"unread")
    peer.core.close(stream, 100.0)
    peer.sends(1, bytes(INITIAL_WINDOW // 2))
    assert stream.inbox.size == 0
    assert peer.hears() == [Frame(WINDOW_UPDATE, FIN, 1, 0)]
    peer.core.reset_abandoned(100.0 + ABANDONED_SECONDS - 1)
    assert peer.core.streams
    peer.core.reset_abandoned(100.0 + ABANDONED_SECONDS)
    assert peer.hears() == [Frame(WINDOW_UPDATE, RST, 1, 0)]
    assert peer.core.streams == {}


def test_a_closed_stream_that_the_peer_finishes_is_forgotten():
    peer = Peer()
    stream = peer.opens(1)
    peer.core.close(stream, 0.0)
    peer.sends(1, b"tail", FIN)
    assert peer.core.streams == {}
    assert peer.core.take_results().touched == {stream}


def test_streams_beyond_the_cap_are_reset_and_the_rest_lives():
    peer = Peer(inbound_streams=2)
    peer.says(*[Frame(WINDOW_UPDATE, SYN, stream, 0) for stream in (1, 3, 5)])
    heard = peer.hears()
    assert heard[2] == Frame(WINDOW_UPDATE, RST, 5, 0)
    peer.sends(5, b"unaware")
    first = peer.core.accept()
    peer.core.reset(first)
    peer.hears()
    peer.says(Frame(WINDOW_UPDATE, SYN, 7, 0))
    assert peer.hears() == [Frame(WINDOW_UPDATE, ACK, 7, 0)]


def test_streams_beyond_the_backlog_are_reset():
    peer = Peer(accept_backlog=1)
    peer.says(Frame(WINDOW_UPDATE, SYN, 1, 0), Frame(WINDOW_UPDATE, SYN, 3, 0))
    assert peer.hears() == [Frame(WINDOW_UPDATE, ACK, 1, 0), Frame(WINDOW_UPDATE, RST, 3, 0)]


def test_a_stream_reset_before_it_was_accepted_is_never_offered():
    peer = Peer()
    peer.says(Frame(WINDOW_UPDATE, SYN, 1, 0), Frame(WINDOW_UPDATE, RST, 1, 0))
    assert peer.core.accept() is None


@pytest.mark.parametrize(
    "frames",
    [
        [Frame(WINDOW_UPDATE, SYN, 2, 0)],
        [Frame(WINDOW_UPDATE, SYN, 1, 0), Frame(WINDOW_UPDATE, SYN, 1, 0)],
        [Frame(WINDOW_UPDATE, SYN, 1, 0), Frame(WINDOW_UPDATE, RST, 1, 0), Frame(DATA, SYN, 1, 0)],
        [Frame(DATA, 0, 1, 1)],
        [Frame(WINDOW_UPDATE, 0, 2, 1)],
        [Frame(WINDOW_UPDATE, SYN, 9, 0), Frame(WINDOW_UPDATE, FIN, 3, 0)],
    ],
)
def test_ids_that_are_not_the_peers_or_not_open_end_the_connection(frames):
    with pytest.raises(RemoteError, match=r"stream \d"):
        Peer().says(*frames)


def test_ids_may_come_slightly_out_of_order():
    peer = Peer(skipped_ids=2)
    peer.says(*[Frame(WINDOW_UPDATE, SYN, stream, 0) for stream in (9, 5, 7)])
    assert sorted(peer.core.streams) == [5, 7, 9]
    with pytest.raises(RemoteError, match="stream 3"):
        peer.says(Frame(WINDOW_UPDATE, SYN, 3, 0))


def test_only_the_last_ids_that_were_jumped_over_are_remembered():
    peer = Peer(skipped_ids=2)
    peer.says(Frame(WINDOW_UPDATE, SYN, 2001, 0), Frame(WINDOW_UPDATE, SYN, 2005, 0))
    peer.says(Frame(WINDOW_UPDATE, SYN, 1999, 0), Frame(WINDOW_UPDATE, SYN, 2003, 0))
    with pytest.raises(RemoteError, match="stream 1997"):
        peer.says(Frame(WINDOW_UPDATE, SYN, 1997, 0))


def test_our_ids_are_not_used_beyond_32_bits():
    assert MuxLimits().last_stream_id == 2**32 - 1
    peer = Peer(initiator=True, last_stream_id=3)
    assert [peer.core.open().id, peer.core.open().id] == [1, 3]
    with pytest.raises(LinkClosed, match="stream ids"):
        peer.core.open()


def test_pings_are_answered_and_answers_reported():
    peer = Peer()
    peer.core.ping(5)
    assert peer.hears() == [Frame(PING, SYN, 0, 5)]
    peer.says(Frame(PING, ACK, 0, 5))
    assert peer.core.take_results().pongs == [5]


def test_answers_that_the_peer_does_not_read_end_the_connection():
    peer = Peer(control_frames=10)
    peer.says(*[Frame(PING, SYN, 0, number) for number in range(10)])
    assert peer.core.should_flush
    with pytest.raises(RemoteError, match="control frames"):
        peer.says(Frame(PING, SYN, 0, 10))


def test_window_updates_are_merged():
    peer = Peer(control_frames=2)
    stream = peer.opens(1)
    for _ in range(20):
        peer.sends(1, bytes(INITIAL_WINDOW // 2))
        read(peer, stream, now=1000.0)
    updates = peer.hears()
    assert len(updates) == 1
    assert INITIAL_WINDOW + updates[0].length == 20 * (INITIAL_WINDOW // 2) + stream.window.credit


def test_after_go_away_of_the_peer_nothing_is_opened_and_open_streams_go_on():
    peer = Peer()
    stream = peer.opens(1)
    peer.says(Frame(GO_AWAY, 0, 0, 0))
    assert peer.core.peer_leaving
    with pytest.raises(LinkClosed):
        peer.core.open()
    peer.sends(1, b"more")
    assert read(peer, stream) == b"more"


def test_leaving_says_so_gives_up_streams_and_refuses_new_ones():
    peer = Peer()
    stream = peer.opens(1)
    peer.core.write(stream, memoryview(bytes(2 * INITIAL_WINDOW)))
    peer.core.go_away()
    assert stream.ending is Ending.CONNECTION_LOST
    assert peer.hears() == [Frame(GO_AWAY, 0, 0, 0)]
    peer.says(Frame(WINDOW_UPDATE, SYN, 3, 0))
    assert peer.hears() == [Frame(WINDOW_UPDATE, RST, 3, 0)]
    with pytest.raises(LinkClosed):
        peer.core.open()


def test_what_was_received_stays_readable_when_the_connection_is_lost():
    peer = Peer()
    stream = peer.opens(1)
    peer.sends(1, b"tail")
    peer.core.connection_lost()
    assert stream.ending is Ending.CONNECTION_LOST
    assert read(peer, stream) == b"tail"


def test_grown_windows_go_back_to_the_budget_however_a_stream_ends():
    peer = Peer()
    whole = peer.budget.growth_left
    for number, end in enumerate(("reset", "rst", "fin", "lose")):
        stream = peer.opens(1 + 2 * number)
        for step in range(8):
            peer.sends(stream.id, bytes(min(stream.window.credit, 400_000)))
            read(peer, stream, now=step * 0.001)
        assert peer.budget.growth_left < whole
        if end == "reset":
            peer.core.reset(stream)
        elif end == "rst":
            peer.says(Frame(WINDOW_UPDATE, RST, stream.id, 0))
        elif end == "fin":
            peer.core.finish(stream)
            peer.says(Frame(WINDOW_UPDATE, FIN, stream.id, 0))
        else:
            peer.core.connection_lost()
        assert peer.budget.growth_left == whole
        peer.hears()
