"""Round trips by Yamux pings, and when a silent peer counts as dead."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise

import pytest
import trio
import trio.testing
from libp2p.stream_muxer.exceptions import MuxedStreamReset

from swarm.mux import frames as yamux
from swarm.mux.frames import ACK, DATA, PING, SYN, WINDOW_UPDATE, Frame, FrameReader
from swarm.net import liveness
from swarm.net.libp2p.noise_session import NoiseSession
from swarm.net.liveness import (
    CHECK_INTERVAL,
    PING_DEADLINE,
    QUIET_BYTES,
    SECOND_CHECK_DELAY,
    LivenessProbe,
    OutstandingPings,
)
from tests.support.connection_pair import hostile_peer, muxed_pair

MIB = 1024 * 1024


# --- LivenessProbe ----------------------------------------------------------------------------------


class Peer:
    """Answers pings after ``delay`` seconds, never if that is None."""

    def __init__(self, delay: float | None = 0.25) -> None:
        self.received_bytes = 0
        self.delay = delay
        self.pings = 0
        self.probe = LivenessProbe(lambda: self.received_bytes, self.ping)

    async def ping(self, deadline: float) -> float | None:
        self.pings += 1
        if self.delay is None:
            await trio.sleep(deadline)
            return None
        await trio.sleep(self.delay)
        self.received_bytes += 28
        return self.delay


async def test_a_silent_peer_is_pinged_at_every_check(autojump_clock):
    peer = Peer()
    assert [await peer.probe.check() for _ in range(4)] == [SECOND_CHECK_DELAY, *[CHECK_INTERVAL] * 3]
    assert peer.pings == 4
    assert not peer.probe.failure


async def test_a_quiet_peer_that_sent_something_is_not_pinged(autojump_clock):
    peer = Peer()
    for _ in range(2):
        await peer.probe.check()
    peer.received_bytes += 100
    await peer.probe.check()
    assert peer.pings == 2
    await peer.probe.check()
    assert peer.pings == 3
    peer.received_bytes += 100
    await peer.probe.check(surely=True)
    assert peer.pings == 4


async def test_a_busy_peer_is_pinged_for_its_round_trip(autojump_clock):
    peer = Peer()
    for _ in range(4):
        peer.received_bytes += QUIET_BYTES + 1
        await peer.probe.check()
    assert peer.pings == 4


async def test_a_peer_that_sends_nothing_after_a_ping_is_dead(autojump_clock):
    peer = Peer(delay=None)
    began = trio.current_time()
    await peer.probe.check()
    assert trio.current_time() - began == pytest.approx(PING_DEADLINE)
    assert "nothing was received" in peer.probe.failure


async def test_a_peer_that_sends_something_but_no_answer_is_alive(autojump_clock):
    peer = Peer(delay=None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.probe.check)
        await trio.sleep(1)
        peer.received_bytes += 1
    assert not peer.probe.failure


# --- OutstandingPings -------------------------------------------------------------------------------


class Scripted(random.Random):
    """Draws the given values, one after the other."""

    def __init__(self, *values: int) -> None:
        super().__init__(0)
        self.values = list(values)

    def getrandbits(self, k: int, /) -> int:
        assert k == 32
        return self.values.pop(0)


class Transport:
    """Keeps the values that were sent, and answers each after its delay in seconds."""

    def __init__(self, rng: random.Random, *delays: float) -> None:
        self.sent: list[int] = []
        self.delays = list(delays)
        self.pings = OutstandingPings(self.send, rng)

    def send(self, value: int) -> None:
        self.sent.append(value)
        if self.delays:
            trio.lowlevel.spawn_system_task(self.answer, value, self.delays.pop(0))

    async def answer(self, value: int, delay: float) -> None:
        await trio.sleep(delay)
        self.pings.answered(value)


async def gathered(*calls: Callable[[], Awaitable[float | None]]) -> list[float | None]:
    """Run the calls at the same time; return their results in order."""
    results: list[float | None] = [None] * len(calls)

    async def run(index: int, call: Callable[[], Awaitable[float | None]]) -> None:
        results[index] = await call()

    async with trio.open_nursery() as nursery:
        for index, call in enumerate(calls):
            nursery.start_soon(run, index, call)
    return results


async def test_the_round_trip_is_smoothed(autojump_clock):
    transport = Transport(random.Random(1), 0.2, 0.4)
    assert transport.pings.round_trip == 0.0
    assert await transport.pings.ping(1.0) == pytest.approx(0.2)
    assert await transport.pings.ping(1.0) == pytest.approx(0.4)
    assert transport.pings.round_trip == pytest.approx(0.3)


async def test_an_answer_after_the_deadline_does_not_count(autojump_clock):
    transport = Transport(random.Random(1), 1.5, 0.1)
    assert await transport.pings.ping(1.0) is None
    await trio.sleep(1)
    assert transport.pings.round_trip == 0.0
    assert await transport.pings.ping(1.0) == pytest.approx(0.1)


async def test_an_answer_that_a_busy_process_reads_after_the_deadline_does_not_count(mock_clock):
    transport = Transport(Scripted(7))
    results: list[float | None] = []

    async def ping() -> None:
        results.append(await transport.pings.ping(1.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(2.0)
        transport.pings.answered(7)
    assert results == [None]
    assert transport.pings.round_trip == 0.0


async def test_forged_and_duplicate_answers_do_not_count(autojump_clock):
    transport = Transport(Scripted(7, 9))
    results: list[float | None] = []

    async def ping() -> None:
        results.append(await transport.pings.ping(10.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping)
        await trio.sleep(1)
        for forged in (0, 6, 8, 9, 2**32 - 1):
            transport.pings.answered(forged)
        await trio.sleep(1)
        assert results == []
        transport.pings.answered(7)
        transport.pings.answered(7)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping)
        await trio.sleep(3)
        transport.pings.answered(7)
        transport.pings.answered(9)
    assert results == [pytest.approx(2.0), pytest.approx(3.0)]


async def test_a_cancelled_ping_leaves_nothing_behind(autojump_clock):
    transport = Transport(Scripted(7, 7))
    with trio.move_on_after(1) as scope:
        await transport.pings.ping(10.0)
    assert scope.cancelled_caught
    transport.delays = [0.5]
    # The value of the cancelled ping is free again, and its wait does not touch the new one.
    assert await transport.pings.ping(10.0) == pytest.approx(0.5)
    assert transport.sent == [7, 7]


async def test_a_value_in_use_is_not_drawn_twice(autojump_clock):
    transport = Transport(Scripted(7, 7, 8), 0.5, 0.2)
    ping = transport.pings.ping
    results = await gathered(lambda: ping(1.0), lambda: ping(1.0))
    assert sorted(result or 0.0 for result in results) == [pytest.approx(0.2), pytest.approx(0.5)]
    assert transport.sent == [7, 8]


async def test_a_ping_that_was_cancelled_before_it_began_sends_nothing():
    transport = Transport(random.Random(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.pings.ping(1.0)
    assert scope.cancelled_caught
    assert transport.sent == []


async def test_the_end_of_the_connection_ends_every_ping(autojump_clock):
    transport = Transport(random.Random(1))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        results = []

        async def ping() -> None:
            results.append(await transport.pings.ping(60.0))

        nursery.start_soon(ping)
        nursery.start_soon(ping)
        await trio.sleep(1)
        transport.pings.end()
    assert await transport.pings.ping(60.0) is None
    assert results == [None, None]
    assert trio.current_time() - began == pytest.approx(1.0)
    assert len(transport.sent) == 2


# --- Whole connections ------------------------------------------------------------------------------


@pytest.fixture
def one_check(monkeypatch):
    """A connection checks its peer once, at its start, and not again within a test."""
    monkeypatch.setattr(liveness, "SECOND_CHECK_DELAY", 1000.0)
    monkeypatch.setattr(liveness, "CHECK_INTERVAL", 1000.0)


async def hear_ping(session: NoiseSession) -> int:
    """Read one frame, which is a ping; return its value."""
    (frame,) = FrameReader().read(memoryview(await session.read(12)))
    assert isinstance(frame, Frame)
    assert (frame.kind, frame.flags, frame.stream) == (PING, SYN, 0)
    return frame.length


async def answer(session: NoiseSession, value: int) -> None:
    await session.write(yamux.encode(PING, ACK, 0, value))


async def test_each_end_measures_its_round_trip():
    async with muxed_pair() as (one, two):
        for end in (one, two):
            seconds = await end.ping(5.0)
            assert seconds is not None
            assert 0 < seconds < 1


async def test_many_pings_at_once_are_all_answered_beside_bulk_data():
    async with muxed_pair() as (one, two):
        bulk = await one.open_stream()
        there = await two.accept_stream()

        async def sink() -> None:
            with suppress(MuxedStreamReset):  # by the cancelled write
                while True:
                    await there.read(MIB)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink)
            nursery.start_soon(bulk.write, bytes(16 * MIB))
            with trio.fail_after(20):
                results = await gathered(*[lambda end=end: end.ping(10.0) for end in [one, two] * 50])
            nursery.cancel_scope.cancel()
        assert None not in results


async def test_the_measured_time_is_that_of_the_peer(one_check):
    async with hostile_peer() as (session, connection):
        await hear_ping(session)

        async def reply() -> None:
            value = await hear_ping(session)
            await trio.sleep(0.1)
            await answer(session, value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            began = trio.current_time()
            seconds = await connection.ping(5.0)
            took = trio.current_time() - began
        assert seconds is not None
        assert 0.1 <= seconds <= took


async def test_answers_in_another_order_belong_to_their_pings(one_check):
    async with hostile_peer() as (session, connection):
        await hear_ping(session)

        async def reply() -> None:
            first, second = await hear_ping(session), await hear_ping(session)
            await answer(session, second)
            await trio.sleep(0.1)
            await answer(session, first)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            results = await gathered(lambda: connection.ping(5.0), lambda: connection.ping(5.0))
        quick, slow = sorted(result for result in results if result is not None)
        assert slow >= 0.1
        assert quick < slow


async def test_a_peer_that_answers_with_other_values_has_no_round_trip(one_check):
    async with hostile_peer() as (session, connection):
        known = await hear_ping(session)

        async def forge() -> None:
            value = await hear_ping(session)
            for forged in (known, known, value ^ 1, (value + 1) % 2**32, 0):
                await answer(session, forged)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forge)
            assert await connection.ping(0.3) is None
        assert 0.3 <= trio.current_time() - began < 3
        assert not connection.is_closed


async def test_a_late_answer_does_not_count_for_the_next_ping(one_check):
    async with hostile_peer() as (session, connection):
        await hear_ping(session)
        assert await connection.ping(0.05) is None
        late = await hear_ping(session)
        await answer(session, late)
        assert await connection.ping(0.2) is None
        assert await hear_ping(session) != late


async def test_a_connection_answers_again_after_a_cancelled_ping(one_check):
    async with hostile_peer() as (session, connection):
        await hear_ping(session)
        with trio.move_on_after(0.05) as scope:
            await connection.ping(5.0)
        assert scope.cancelled_caught
        cancelled = await hear_ping(session)

        async def reply() -> None:
            value = await hear_ping(session)
            await answer(session, cancelled)
            await trio.sleep(0.1)
            await answer(session, value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            seconds = await connection.ping(5.0)
        assert seconds is not None
        assert seconds >= 0.1


async def test_the_values_of_pings_cannot_be_guessed(one_check):
    async with hostile_peer() as (session, connection):
        values = [await hear_ping(session)]
        for _ in range(7):
            assert await connection.ping(0.01) is None
            values.append(await hear_ping(session))
    steps = {(after - before) % 2**32 for before, after in pairwise(values)}
    assert len(set(values)) == len(values)
    assert len(steps) == len(values) - 1
    assert max(values) > 2**24


async def test_a_waiting_ping_is_lost_with_its_connection(one_check):
    async with muxed_pair() as (one, two):
        await two.close()
        with trio.fail_after(3):
            assert await one.ping(60.0) is None
            assert await two.ping(60.0) is None


async def test_a_ping_waits_behind_a_peer_that_reads_nothing_and_is_lost(one_check):
    async with hostile_peer() as (session, connection):
        await session.write(yamux.encode(WINDOW_UPDATE, SYN, 1, 2**31) + yamux.encode(DATA, 0, 1, 1) + b"x")
        stream = await connection.accept_stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(64 * MIB))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert await connection.ping(0.1) is None
            nursery.cancel_scope.cancel()
