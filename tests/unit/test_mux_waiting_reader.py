"""Payload goes straight to a reader that waits, and long frames to a peer whose window allows them."""

import os

import pytest

from swarm.mux import frames as yamux
from swarm.mux.connection import Connection
from swarm.mux.frames import ACK, DATA, FIN, RST, SYN, WINDOW_UPDATE
from swarm.mux.mux_limits import FRAME_BYTES, NOISE_MAX_PLAINTEXT, SHARED_FRAME_BYTES
from swarm.mux.records import Blocks, Opener, Sealer
from swarm.mux.stream import Ending, Read, Stream, WindowBudget
from tests.support.records import Arriving, take_all

KEY = bytes(32)


class Waiting:
    """One end whose only stream has a reader with a buffer of ``size`` bytes."""

    def __init__(self, size: int) -> None:
        self.blocks = Blocks()
        self.core = Connection(initiator=True, blocks=self.blocks, budget=WindowBudget())
        self.stream = self.core.open()
        self.buffer = bytearray(size)
        self.stream.reading = self.read = Read(memoryview(self.buffer), size)
        self._sealer = Sealer(KEY, 0)
        self._arriving = Arriving(Opener(KEY, 0), self.blocks)

    def hears(self, *frames: bytes) -> None:
        self._arriving.feed(self._sealer.seal(b"".join(frames)), self.core)

    def data(self, payload: bytes, flags: int = 0) -> bytes:
        return yamux.encode(DATA, flags, self.stream.id, len(payload)) + payload


@pytest.mark.parametrize("size", [1, 5000, NOISE_MAX_PLAINTEXT, 150_000, 200_000])
def test_what_fits_goes_into_the_buffer_and_the_rest_into_the_inbox(size):
    end = Waiting(size)
    payload = os.urandom(180_000)
    end.hears(end.data(payload[:100_000]), end.data(payload[100_000:]))
    assert end.buffer[: end.read.filled] == payload[:size]
    assert end.read.done == (size <= len(payload))
    assert end.stream.inbox.take(10**6) == payload[size:]


def test_records_of_payload_alone_take_no_block():
    end = Waiting(4 * NOISE_MAX_PLAINTEXT)
    first = end.blocks.take()
    end.blocks.give(first)
    end.hears(end.data(os.urandom(3 * NOISE_MAX_PLAINTEXT)))
    assert end.stream.inbox.size == 0
    assert end.blocks.take() is first
    assert end.blocks.take() is not first, "one block was enough, for the record with the header"


def test_credit_for_what_a_reader_got_comes_as_for_what_was_read():
    end = Waiting(200_000)
    end.hears(end.data(bytes(200_000)))
    assert end.core.consumed(end.stream, 0.0)
    take_all(end.core)
    assert end.stream.window.credit == end.stream.window.target


def test_fin_behind_payload_that_a_reader_got():
    end = Waiting(150_000)
    end.hears(end.data(bytes(150_000), FIN))
    assert end.read.done
    assert not end.stream.receiving


@pytest.mark.parametrize("ending", ["reset", "close"])
def test_a_stream_that_ends_in_the_middle_of_a_frame_fills_no_buffer(ending):
    end = Waiting(150_000)
    whole = end.data(bytes([1]) * 150_000)
    end.hears(whole[:70_000])
    filled = end.read.filled
    if ending == "reset":
        end.core.reset(end.stream)
    else:
        end.core.close(end.stream, 0.0)
    end.hears(whole[70_000:])
    assert end.read.filled == filled
    assert end.stream.inbox.size == 0
    assert end.stream.ending == (Ending.RESET_HERE if ending == "reset" else None)


def test_a_reset_of_the_peer_behind_payload_is_not_lost():
    end = Waiting(10)
    end.hears(end.data(bytes(10)), yamux.encode(WINDOW_UPDATE, RST, end.stream.id, 0))
    assert end.read.done
    assert end.stream.ending is Ending.RESET_BY_PEER


def frame_sizes(core: Connection, most: int) -> list[tuple[int, int]]:
    """Stream and size of every DATA frame that is sent."""
    items = yamux.FrameReader().read(memoryview(take_all(core, most)))
    return [
        (item.stream, item.length) for item in items if isinstance(item, yamux.Frame) and item.kind == DATA
    ]


def ready(core: Connection, window: int, *parts: int) -> Stream:
    stream = core.open()
    block = bytearray(yamux.encode(WINDOW_UPDATE, ACK, stream.id, window))
    core.receive(block, len(block))
    for part in parts:
        core.write(stream, memoryview(bytes(part)))
    return stream


def test_one_frame_holds_what_was_written_in_parts_and_may_be_longer_than_a_record():
    core = Connection(initiator=True, blocks=Blocks(), budget=WindowBudget())
    stream = ready(core, 2 * FRAME_BYTES, 20, FRAME_BYTES)
    assert frame_sizes(core, 17 * NOISE_MAX_PLAINTEXT) == [(stream.id, FRAME_BYTES), (stream.id, 20)]


def test_frames_are_short_while_another_stream_waits():
    core = Connection(initiator=True, blocks=Blocks(), budget=WindowBudget())
    first, second = ready(core, 0, 200_000), ready(core, 0, 100_000)
    sizes = frame_sizes(core, 16 * NOISE_MAX_PLAINTEXT)
    shared = SHARED_FRAME_BYTES
    assert sizes[:3] == [(first.id, shared), (second.id, shared), (first.id, shared)]
    assert sum(size for stream, size in sizes if stream == first.id) == 200_000


def test_a_frame_is_never_longer_than_a_step_however_much_the_window_allows():
    core = Connection(initiator=True, blocks=Blocks(), budget=WindowBudget())
    ready(core, FRAME_BYTES, FRAME_BYTES)
    parts = core.take(NOISE_MAX_PLAINTEXT)
    assert sum(map(len, parts)) == NOISE_MAX_PLAINTEXT


def test_what_arrives_with_syn_waits_for_a_reader():
    core = Connection(initiator=True, blocks=Blocks(), budget=WindowBudget())
    data = yamux.encode(DATA, SYN, 2, 3) + b"abc"
    core.receive(bytearray(data), len(data))
    stream = core.accept()
    assert stream is not None
    assert stream.inbox.take(9) == b"abc"
