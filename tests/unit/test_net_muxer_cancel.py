"""Cancellation at any point leaves the connection and the other streams sound."""

import gc
import random
import weakref
from functools import partial

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedStreamError, MuxedStreamReset

from swarm.errors import LinkClosed
from swarm.ids import PeerId
from swarm.mux.mux_limits import INITIAL_WINDOW
from swarm.mux.stream import WindowBudget
from swarm.net.streams import NegotiatedStream
from tests.support.connection_pair import muxed_pair, read_exactly, read_to_end

MIB = 1024 * 1024
PEER = PeerId("peer")


class _Holder:
    """As much of a libp2p stream as is needed over one of our muxed streams."""

    def __init__(self, muxed):
        self.muxed_stream = muxed
        self.read = muxed.read


async def cancelled_after(seconds, what, *arguments):
    """Run something and cancel it; return what it returned, or None."""
    with trio.move_on_after(seconds):
        return await what(*arguments)
    return None


async def test_a_cancelled_read_takes_nothing():
    async with muxed_pair() as (one, two):
        first = await one.open_stream()
        second = await two.accept_stream()
        assert await cancelled_after(0.01, second.read, 10) is None
        buffer = bytearray(10)
        assert await cancelled_after(0.01, second.readinto, memoryview(buffer)) is None
        await first.write(b"0123456789")
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.CancelScope() as scope:
            scope.cancel()
            await second.read(5)
        assert scope.cancelled_caught
        assert buffer == bytes(10)
        assert await read_exactly(second, 10) == b"0123456789"


async def test_a_cancelled_write_resets_its_stream_alone():
    async with muxed_pair() as (one, two):
        first, other = await one.open_stream(), await one.open_stream()
        second, other_there = await two.accept_stream(), await two.accept_stream()
        assert await cancelled_after(0.02, first.write, bytes(2 * INITIAL_WINDOW)) is None
        with pytest.raises(MuxedStreamReset):
            await first.write(b"more")
        with trio.fail_after(5), pytest.raises(MuxedStreamReset):
            while True:
                await second.read(MIB)
        await other.write(b"fine")
        assert await read_exactly(other_there, 4) == b"fine"


async def test_a_write_waits_no_longer_than_it_may_and_then_resets_its_stream_alone():
    async with muxed_pair() as (one, two):
        first, other = await one.open_stream(), await one.open_stream()
        second, other_there = await two.accept_stream(), await two.accept_stream()
        await first.write(b"at once", within=0.0)
        assert await read_exactly(second, 7) == b"at once"
        with trio.fail_after(5), pytest.raises(trio.TooSlowError):
            await first.write(bytes(2 * INITIAL_WINDOW), within=0.02)
        with pytest.raises(MuxedStreamReset):
            await first.write(b"more")
        with trio.fail_after(5), pytest.raises(LinkClosed, match="does not take"):
            await NegotiatedStream(_Holder(other), PEER, "").write(bytes(2 * INITIAL_WINDOW), within=0.02)
        with pytest.raises(MuxedStreamReset):
            await other_there.read_exactly(2 * INITIAL_WINDOW)


async def test_a_write_that_was_cancelled_before_it_began_changes_nothing():
    async with muxed_pair() as (one, two):
        first = await one.open_stream()
        second = await two.accept_stream()
        with trio.CancelScope() as scope:
            scope.cancel()
            await first.write(b"never")
        await first.write(b"this")
        await first.close_write()
        assert await read_to_end(second) == b"this"


async def churn(one, two, rng, cancellations, *, done, used):
    """Open streams and cancel their reads and writes at random times; ``used`` gets references to them."""
    for _ in range(cancellations // 4):
        stream = await one.open_stream()
        there = await two.accept_stream()
        used += [weakref.ref(stream), weakref.ref(there)]
        try:
            await cancelled_after(
                rng.random() * 0.002, stream.write, bytes(rng.choice((10, 400_000, 2 * MIB)))
            )
            await cancelled_after(rng.random() * 0.002, there.read, rng.choice((1, 70_000)))
            await cancelled_after(rng.random() * 0.002, there.write, bytes(rng.choice((10, 400_000))))
            await cancelled_after(rng.random() * 0.002, stream.read, MIB)
        except MuxedStreamError:
            pass
        await rng.choice((stream, there)).reset()
        await stream.close()
        await there.close()
    done.set()


@pytest.mark.parametrize("cancellations", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_thousands_of_cancellations_beside_streams_that_lose_nothing(cancellations):
    rng = random.Random(7)
    pattern = random.Random(8).randbytes(MIB)
    budgets = WindowBudget(), WindowBudget()
    used = []
    async with muxed_pair(buffer=128 * 1024, dialler_budget=budgets[0], budget=budgets[1]) as (one, two):
        done = trio.Event()
        first, back = await one.open_stream(), await one.open_stream()
        second, back_there = await two.accept_stream(), await two.accept_stream()
        moved = 0

        async def source(stream):
            while not done.is_set():
                await stream.write(pattern)
            await stream.close_write()

        async def sink(stream):
            nonlocal moved
            data = await read_exactly(stream, MIB)
            while data:
                assert data == pattern
                moved += len(data)
                data = await stream_rest(stream)

        async def stream_rest(stream):
            try:
                head = await stream.read(1)
            except MuxedStreamError:
                return b""
            return head + await read_exactly(stream, MIB - 1)

        with trio.fail_after(cancellations / 10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source, first)
                nursery.start_soon(source, back_there)
                nursery.start_soon(sink, second)
                nursery.start_soon(sink, back)
                nursery.start_soon(partial(churn, one, two, rng, cancellations, done=done, used=used))
        assert moved >= 2 * MIB
        await first.close()
        await back.close()
        await second.close()
        await back_there.close()
        await trio.testing.wait_all_tasks_blocked(0.05)
        gc.collect()
        assert not one.is_closed
        assert not two.is_closed
        assert [ref() for ref in used if ref()] == []
        for budget in budgets:
            assert budget.held == 0
            assert budget.growth_left == WindowBudget().growth_left


async def test_a_cancelled_open_and_accept_leave_nothing():
    async with muxed_pair() as (one, two):
        assert await cancelled_after(0.01, two.accept_stream) is None
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.open_stream()
        first = await one.open_stream()
        assert first.stream_id == 1
        await first.write(b"x")
        second = await two.accept_stream()
        assert await second.read(1) == b"x"
