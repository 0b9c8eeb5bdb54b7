"""Bytes through our muxer over real sockets, with itself and with stock py-libp2p."""

import contextlib
import gc
import hashlib
import os
import random
import weakref
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import (
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)

from swarm.ids import PeerId
from swarm.mux.mux_limits import (
    INITIAL_WINDOW,
    NOISE_LENGTH_PREFIX,
    NOISE_TAG,
    YAMUX_HEADER,
    MuxLimits,
)
from swarm.mux.stream import WindowBudget
from swarm.net.record_socket import TURN_BYTES
from swarm.net.streams import WRITE_COST, NegotiatedStream
from tests.support.connection_pair import muxed_pair, read_exactly, read_to_end

MIB = 1024 * 1024
SEALING_BYTES = NOISE_LENGTH_PREFIX + NOISE_TAG
PAIRS = [("ours", "ours"), ("ours", "stock"), ("stock", "ours")]


async def send(stream, size, seed):
    rng, digest = random.Random(seed), hashlib.blake2b()
    while size:
        part = rng.randbytes(min(size, rng.choice((10, 70_000, MIB))))
        digest.update(part)
        await stream.write(part)
        size -= len(part)
    return digest.digest()


async def receive(stream, size):
    digest = hashlib.blake2b()
    while size:
        part = await stream.read(min(size, MIB))
        digest.update(part)
        size -= len(part)
    return digest.digest()


async def opened(one, two):
    """Open a stream from one end and accept it at the other."""
    stream = await one.open_stream()
    return stream, await two.accept_stream()


async def exchange(first, second, size):
    """Send ``size`` bytes each way at once and compare."""
    sums = {}

    async def run(what, key, *arguments):
        sums[key] = await what(*arguments)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, send, "out", first, size, 1)
        nursery.start_soon(run, receive, "out'", second, size)
        nursery.start_soon(run, send, "back", second, size, 2)
        nursery.start_soon(run, receive, "back'", first, size)
    assert sums["out"] == sums["out'"]
    assert sums["back"] == sums["back'"]


async def test_bulk_in_both_directions_at_once_does_not_deadlock():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        with trio.fail_after(60):
            await exchange(first, second, 64 * MIB)


@pytest.mark.parametrize(("dialler", "listener"), PAIRS)
async def test_sixteen_mebibytes_each_way(dialler, listener):
    async with muxed_pair(dialler, listener) as (one, two):
        for here, there in ((one, two), (two, one)):
            first, second = await opened(here, there)
            with trio.fail_after(60):
                sums = {}

                async def write(stream=first, sums=sums):
                    sums["sent"] = await send(stream, 16 * MIB, 3)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(write)
                    sums["received"] = await receive(second, 16 * MIB)
                assert sums["sent"] == sums["received"]


@pytest.mark.parametrize(("dialler", "listener"), PAIRS)
async def test_half_close(dialler, listener):
    async with muxed_pair(dialler, listener) as (one, two):
        first, second = await opened(one, two)
        await first.write(b"question")
        await (first.close_write() if dialler == "ours" else first.close())
        with trio.fail_after(5):
            assert await read_to_end(second) == b"question"
            await second.write(b"answer")
            await (second.close_write() if listener == "ours" else second.close())
            assert await read_to_end(first) == b"answer"
        if dialler == "ours":
            with pytest.raises(MuxedStreamClosed):
                await first.write(b"late")


async def test_read_gives_what_there_is():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        await first.write(b"abcdefgh")
        assert await second.read(3) == b"abc"
        assert await second.read(0) == b""
        assert await second.read(100) == b"defgh"
        await first.write(b"ijkl")
        assert await second.read() == b"ijkl"
        await first.write(b"mn")
        assert await second.read(-1) == b"mn"
        buffer = bytearray(4)
        await first.write(b"opq")
        assert await second.readinto(memoryview(buffer)) == 3
        assert buffer == b"opq\x00"
        assert await second.readinto(memoryview(b"")) == 0


async def test_readinto_makes_room_for_more():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        data = random.Random(4).randbytes(4 * MIB)
        buffer = bytearray(len(data))

        async def fill():
            filled = 0
            while filled < len(buffer):
                filled += await second.readinto(memoryview(buffer)[filled : filled + 300_000])

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fill)
                await first.write(data)
        assert buffer == data


async def test_any_buffer_can_be_written_and_reused_after_it():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        buffer = bytearray(b"first")
        await first.write(buffer)
        buffer[:] = b"other"
        await first.write(memoryview(buffer)[1:3])
        await first.write(b"")
        assert await read_exactly(second, 7) == b"firstth"


async def test_several_buffers_are_one_write():
    parts = [b"head", b"", random.Random(1).randbytes(4 * MIB), b"tail", b""]
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        done = trio.Event()

        async def write():
            await first.write(*parts)
            done.set()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await trio.testing.wait_all_tasks_blocked(0.05)
                # An empty last part is no sign that the others are on their way.
                assert not done.is_set()
                whole = b"".join(parts)
                assert await read_exactly(second, len(whole)) == whole
            await first.write(b"", b"")
            await first.write()
        assert done.is_set()


async def test_writes_that_wait_for_nothing_let_other_tasks_in():
    async with muxed_pair() as (one, two):
        first, _ = await opened(one, two)
        stream = NegotiatedStream(SimpleNamespace(muxed_stream=first), PeerId("there"), "")
        turns = []

        async def other():
            while True:
                await trio.lowlevel.checkpoint()
                turns.append(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await trio.lowlevel.checkpoint()
            before = len(turns)
            for _ in range(20 * TURN_BYTES // WRITE_COST):
                await stream.write(b"ping", b"pong")
            assert len(turns) - before >= 18
            nursery.cancel_scope.cancel()


async def nearly_full(one, two):
    """A stream whose window has 1000 bytes left, with nothing on its way, and its other end."""
    first, second = await opened(one, two)
    await first.write(bytes(INITIAL_WINDOW - 1000))
    assert await one.ping(5) is not None
    return first, second


async def test_the_short_end_of_a_write_waits_for_the_window_without_its_writer():
    async with muxed_pair() as (one, two):
        first, _ = await nearly_full(one, two)
        with trio.fail_after(5):
            await first.write(bytes(1100))
        with trio.move_on_after(0.2) as scope:
            await first.write(b"behind it")
        assert scope.cancelled_caught, "one short end is kept, not any number of them"


async def test_what_is_kept_comes_before_what_is_written_later():
    async with muxed_pair() as (one, two):
        first, second = await nearly_full(one, two)
        data = bytearray(os.urandom(1100))
        sent = bytes(data)
        await first.write(data)
        data[:] = bytes(len(data))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.write, b"behind it")
            await read_exactly(second, INITIAL_WINDOW - 1000)
            assert await read_exactly(second, 1109) == sent + b"behind it"


async def test_one_stalled_reader_stops_nobody_and_costs_no_more_than_its_window():
    budget = WindowBudget()
    async with muxed_pair(budget=budget) as (one, two):
        pairs = [await opened(one, two) for _ in range(8)]
        received = [0] * 8

        async def write(stream):
            with trio.CancelScope():
                while True:
                    await stream.write(bytes(200_000))

        async def read(index, stream):
            while received[index] < 8 * MIB:
                received[index] += len(await stream.read(MIB))

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for first, _ in pairs:
                    nursery.start_soon(write, first)
                async with trio.open_nursery() as readers:
                    for index, (_, second) in enumerate(pairs[1:], 1):
                        readers.start_soon(read, index, second)
                assert pairs[0][1].state.inbox.size == INITIAL_WINDOW
                assert budget.held <= INITIAL_WINDOW + sum(pair[1].state.window.target for pair in pairs[1:])
                nursery.cancel_scope.cancel()


async def test_a_small_write_does_not_wait_for_bulk():
    async with muxed_pair(buffer=256 * 1024) as (one, two):
        bulk, bulk_there = await opened(one, two)
        small, small_there = await opened(one, two)

        async def sink():
            with contextlib.suppress(MuxedStreamReset):  # by the cancelled source
                while True:
                    await bulk_there.read(MIB)

        async def source():
            while True:
                await bulk.write(bytes(4 * MIB))

        waited = []
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sink)
                nursery.start_soon(source)
                await trio.sleep(0.05)
                for _ in range(20):
                    before = bulk_there.muxed_conn.traffic
                    await small.write(b"now")
                    await read_exactly(small_there, 3)
                    waited.append(bulk_there.muxed_conn.traffic - before)
                nursery.cancel_scope.cancel()
        # What overtakes is what was sealed, in the kernel's buffers and in one received batch.
        assert sorted(waited)[10] <= 3 * MIB


async def test_windows_grow_with_use_and_shrink_the_budget_only_while_they_live():
    budget = WindowBudget()
    whole = budget.growth_left
    async with muxed_pair(budget=budget) as (one, two):
        first, second = await opened(one, two)

        async def write():
            await first.write(bytes(32 * MIB))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await receive(second, 32 * MIB)
        assert second.state.window.target >= MIB
        assert budget.growth_left < whole
        await second.reset()
        assert budget.growth_left == whole


async def test_many_short_streams_leave_nothing_behind():
    used = []
    # A stream that was not forgotten would count against the limit, and one after it would be reset.
    async with muxed_pair(limits=MuxLimits(inbound_streams=4)) as (one, two):

        async def echo():
            while True:
                stream = await two.accept_stream()
                used.append(weakref.ref(stream))
                nursery.start_soon(answer, stream)

        async def answer(stream):
            await stream.write(await read_to_end(stream))
            await stream.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            for number in range(300):
                stream = await one.open_stream()
                used.append(weakref.ref(stream))
                await stream.write(b"%d" % number)
                await stream.close_write()
                assert await read_to_end(stream) == b"%d" % number
                if number % 3:
                    await stream.close()
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        del stream
        gc.collect()
        assert len(used) == 600
        assert [ref() for ref in used if ref()] == []


@pytest.mark.parametrize(("act", "error"), [("close", MuxedStreamEOF), ("reset", MuxedStreamReset)])
async def test_ending_a_stream_here_wakes_its_reader(act, error):
    async with muxed_pair() as (one, two):
        first, _ = await opened(one, two)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:

                async def read():
                    with pytest.raises(error):
                        await first.read(1)

                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                await getattr(first, act)()
        assert first.is_closed()


async def test_reset_reaches_reader_and_writer_of_the_other_end():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:

                async def fails(what, *arguments):
                    with pytest.raises(MuxedStreamReset, match="peer"):
                        await what(*arguments)

                nursery.start_soon(fails, first.read, 1)
                nursery.start_soon(fails, first.write, bytes(2 * INITIAL_WINDOW))
                await trio.testing.wait_all_tasks_blocked(0.01)
                await second.reset()
        with pytest.raises(MuxedStreamReset):
            await first.write(b"late")
        with pytest.raises(MuxedStreamReset):
            await first.read(1)


async def test_a_deadline_ends_a_wait():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        with pytest.raises(ValueError, match="future"):
            first.set_deadline(-1)
        first.set_deadline(0)
        second.set_deadline(60)
        with pytest.raises(MuxedStreamError, match="deadline"):
            await first.read(1)
        with pytest.raises(MuxedStreamError, match="deadline"):
            await first.write(bytes(2 * INITIAL_WINDOW))
        assert first.is_closed()


async def test_a_reader_takes_what_has_arrived_without_a_turn_of_any_other_task():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        turns = []

        async def other():
            while True:
                await trio.lowlevel.checkpoint()
                turns.append(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await trio.lowlevel.checkpoint()
            data, buffer = bytes(range(256)) * 400, bytearray(256 * 400)
            before = len(turns)
            await first.write(data)
            await second.readinto_exactly(memoryview(buffer))
            assert len(turns) == before
            assert buffer == data
            nursery.cancel_scope.cancel()


async def test_held_credit_travels_with_the_answer():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        buffer = memoryview(bytearray(INITIAL_WINDOW))
        await first.write(buffer)
        second.hold_credit()
        await second.readinto_exactly(buffer)
        before = two._socket.sent_bytes
        await second.write(b"answer")
        assert two._socket.sent_bytes - before == 2 * YAMUX_HEADER + len(b"answer") + SEALING_BYTES
        with trio.fail_after(5):
            # What was read last may be too little for credit, so the peer cannot write a whole window now.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.write, buffer)
                await second.readinto_exactly(memoryview(bytearray(len(buffer))))
            second.give_credit()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.write, buffer)
                await second.readinto_exactly(memoryview(bytearray(len(buffer))))


async def test_held_credit_is_given_by_a_reader_that_waits():
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        buffer = memoryview(bytearray(2 * INITIAL_WINDOW))
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.write, bytes(range(256)) * (len(buffer) // 256))
                await trio.testing.wait_all_tasks_blocked()
                second.hold_credit()
                before = two._socket.sent_bytes
                await second.readinto_exactly(buffer[:INITIAL_WINDOW])
                assert two._socket.sent_bytes == before
                await second.readinto_exactly(buffer[INITIAL_WINDOW:])
        assert buffer == bytes(range(256)) * (len(buffer) // 256)


@pytest.mark.parametrize("forged", [b"\x00\x20" + bytes(32), b"\x00\x0f" + bytes(15)])
async def test_a_forged_record_found_by_a_reader_ends_the_connection_as_any(forged):
    async with muxed_pair() as (one, two):
        first, second = await opened(one, two)
        await first.write(b"fine")
        assert await second.read(4) == b"fine"
        os.write(one._socket._fileno(), forged)
        with pytest.raises(MuxedStreamError), trio.fail_after(5):
            await second.readinto_exactly(memoryview(bytearray(10)))
        with trio.fail_after(5):
            await two._driver.ended.wait()
        assert "tag" in two._driver.cause or "forged" in two._driver.cause
