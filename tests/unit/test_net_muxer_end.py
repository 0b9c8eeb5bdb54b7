"""How connections end: goodbyes, losses, silence, and peers that break the rules."""

from contextlib import suppress

import pytest
import trio
import trio.testing
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamReset

from swarm.errors import LinkClosed
from swarm.mux import frames as yamux
from swarm.mux.frames import ACK, DATA, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, Frame, FrameReader
from swarm.mux.mux_limits import FRAME_BURST, INITIAL_WINDOW, MuxLimits
from swarm.mux.stream import WindowBudget
from swarm.net import liveness, muxed_connection
from swarm.net.muxed_connection import MuxedConnection
from tests.support.connection_pair import (
    Identity,
    hostile_peer,
    muxed_pair,
    read_exactly,
    read_to_end,
    secure_pair,
    socket_pair,
)

MIB = 1024 * 1024


async def hear(session, count):
    """Read ``count`` frames, each without a payload."""
    data = b""
    while len(data) < 12 * count:
        data += await session.read(12)
    return list(FrameReader().read(memoryview(data)))


async def until(condition):
    """Wait until something is so, at most 5 s."""
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.005)


async def test_closing_lets_the_other_end_read_what_was_written():
    async with muxed_pair() as (one, two):
        first = await one.open_stream()
        second = await two.accept_stream()
        await first.write(bytes(200_000))
        await first.write(b"tail")
        await first.close_write()
        with trio.fail_after(5):
            await one.close()
            assert await read_to_end(second) == bytes(200_000) + b"tail"


async def test_a_stream_that_was_not_finished_ends_with_a_reset_not_with_eof():
    async with muxed_pair() as (one, two):
        first = await one.open_stream()
        second = await two.accept_stream()
        await first.write(b"half of it")

        async def read():
            assert await read_exactly(second, 10) == b"half of it"
            with pytest.raises(MuxedStreamReset, match="lost"):
                await second.read(1)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await one.close()


async def test_closing_ends_every_wait_at_both_ends():
    async with muxed_pair() as (one, two):
        readers = [await one.open_stream(), await two.accept_stream()]
        writers = [await one.open_stream(), await two.accept_stream()]

        async def fails(error, what, *arguments):
            with pytest.raises(error):
                await what(*arguments)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for stream in readers:
                    nursery.start_soon(fails, MuxedStreamReset, stream.read, 1)
                for stream in writers:
                    nursery.start_soon(fails, MuxedStreamReset, stream.write, bytes(MIB))
                for end in (one, two):
                    nursery.start_soon(fails, MuxedConnUnavailable, end.accept_stream)
                await trio.testing.wait_all_tasks_blocked(0.01)
                await one.close()
        for end in (one, two):
            assert end.is_closed
            assert not end.is_established
            with pytest.raises(MuxedConnUnavailable):
                await end.open_stream()


async def test_the_owner_is_told_once_and_its_failure_is_ours_to_bear(caplog):
    told = []

    async def on_close():
        told.append(1)
        raise RuntimeError("the owner is broken")

    async with muxed_pair() as (one, two):
        two.on_close = on_close
        await one.close()
        await until(lambda: told)
        await two.close()
        await two.close()
    assert told == [1]
    assert "close callback" in caplog.text


async def test_a_connection_that_never_started_can_be_closed():
    one, two = Identity("ours"), Identity("ours")
    secured = await secure_pair(one, two)
    connection = MuxedConnection(secured[0], two.peer_id)
    await connection.close()
    assert connection.is_closed
    await connection.start()
    with pytest.raises(MuxedConnUnavailable):
        await connection.accept_stream()
    await secured[1].close()


async def test_closing_towards_a_peer_that_does_nothing_takes_a_second():
    async with hostile_peer() as (_, connection):
        began = trio.current_time()
        await connection.close()
        assert 0.5 < trio.current_time() - began < 10
        assert connection.is_closed


async def test_a_lost_socket_ends_the_connection():
    async with hostile_peer() as (session, connection):
        stream = await connection.open_stream()
        await session.close()
        with trio.fail_after(5), pytest.raises(MuxedStreamReset):
            await stream.read(1)
        await until(lambda: connection.is_closed)
        with pytest.raises(MuxedConnUnavailable):
            await connection.accept_stream()


async def test_a_window_overrun_ends_the_connection():
    async with hostile_peer() as (session, connection):
        await session.write(yamux.encode(WINDOW_UPDATE, SYN, 1, 0))
        for _ in range(INITIAL_WINDOW // 32_768):
            await session.write(yamux.encode(DATA, 0, 1, 32_768) + bytes(32_768))
        await connection.accept_stream()
        assert not connection.is_closed
        await session.write(yamux.encode(DATA, 0, 1, 1) + b"x")
        await until(lambda: connection.is_closed)
        frames = await hear(session, 3)
        assert Frame(GO_AWAY, 0, 0, yamux.PROTOCOL_ERROR) in frames


@pytest.mark.parametrize(
    "attack",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        yamux.encode(DATA, 0, 99, 5) + b"hello",
        yamux.encode(WINDOW_UPDATE, SYN, 2, 0),
        b"".join(yamux.encode(PING, SYN, 0, number) for number in range(5000)),
    ],
    ids=["garbage", "unknown stream", "wrong parity", "ping flood"],
)
async def test_whoever_breaks_the_protocol_loses_the_connection(attack):
    async with hostile_peer() as (session, connection):
        await session.write(attack)
        await until(lambda: connection.is_closed)


async def test_empty_records_without_end_end_the_connection():
    async with hostile_peer() as (session, connection):
        records, _ = session.take_over()
        # Each is 18 bytes on the wire, and in none is any frame.
        flood = memoryview(bytearray(18 * 2 * int(FRAME_BURST)))
        for start in range(0, len(flood), 18):
            records._sealer.seal_into(memoryview(b""), flood[start:])
        records._unsent = flood
        with suppress(LinkClosed), trio.fail_after(5):
            await records.flush()
        await until(lambda: connection.is_closed)


async def test_a_forged_record_ends_the_connection():
    ends = socket_pair()
    async with hostile_peer(streams=ends) as (_, connection):
        await ends[0].send_all(b"\x00\x20" + bytes(32))
        await until(lambda: connection.is_closed)


async def test_a_flood_of_streams_is_reset_beyond_the_cap():
    async with hostile_peer(limits=MuxLimits(inbound_streams=3)) as (session, connection):
        for number in range(400):
            await session.write(yamux.encode(WINDOW_UPDATE, SYN, 1 + 2 * number, 0))
        frames = []
        with trio.fail_after(10):
            while sum(frame.kind == WINDOW_UPDATE for frame in frames) < 400:
                frames += await hear(session, 1)
        assert sum(frame.flags == ACK for frame in frames if frame.kind == WINDOW_UPDATE) == 3
        assert sum(frame.flags == RST for frame in frames if frame.kind == WINDOW_UPDATE) == 397
        assert not connection.is_closed
        for _ in range(3):
            await connection.accept_stream()
        with trio.move_on_after(0.05) as scope:
            await connection.accept_stream()
        assert scope.cancelled_caught


async def test_a_burst_of_pings_in_one_batch_is_answered_as_it_is_read():
    async with hostile_peer() as (session, connection):
        records, _ = session.take_over()
        for first in range(0, 3000, 100):
            frames = [yamux.encode(PING, SYN, 0, number) for number in range(first, first + 100)]
            records.queue(b"".join(frames))
        await records.flush()
        heard = []
        with trio.fail_after(10):
            while sum(frame.kind == PING and frame.flags == ACK for frame in heard) < 3000:
                heard += await hear(session, 1)
        assert not connection.is_closed


async def test_the_owner_is_told_of_a_loss_when_the_readers_have_had_their_data():
    async with muxed_pair() as (one, two):
        first = await one.open_stream()
        second = await two.accept_stream()
        told = trio.Event()

        async def on_close():
            told.set()

        two.on_close = on_close
        await first.write(bytes(150_000))
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.close)
            for _ in range(15):
                assert await read_exactly(second, 10_000)
                assert not told.is_set()
                await trio.sleep(0.01)
        with trio.fail_after(5):
            await told.wait()


async def test_a_closing_end_says_so_ends_its_sending_and_still_listens(monkeypatch):
    # It ends when the other end does, and not because it has waited long enough.
    monkeypatch.setattr(muxed_connection, "CLOSE_SECONDS", 60.0)
    async with hostile_peer() as (session, connection), trio.open_nursery() as nursery:
        closed = trio.Event()

        async def close():
            await connection.close()
            closed.set()

        nursery.start_soon(close)
        frames = await hear(session, 2)
        assert frames[1] == Frame(GO_AWAY, 0, 0, yamux.NORMAL)
        with trio.fail_after(20), pytest.raises(ConnectionClosedError):
            await session.read(1)
        await session.write(yamux.encode(PING, SYN, 0, 1))
        assert not closed.is_set()
        await session.close()
        with trio.fail_after(20):
            await closed.wait()


async def test_unread_streams_cannot_fill_the_memory():
    budget = WindowBudget(held_limit=INITIAL_WINDOW * 3)
    async with hostile_peer(budget=budget) as (session, connection):
        streams = []
        for number in range(10):
            identity = 1 + 2 * number
            await session.write(yamux.encode(WINDOW_UPDATE, SYN, identity, 0))
            await session.write(yamux.encode(DATA, 0, identity, 250_000) + bytes(250_000))
            streams.append(await connection.accept_stream())
            await until(lambda stream=streams[-1]: stream.state.inbox.size == 250_000 or stream.state.ending)
        assert budget.held <= INITIAL_WINDOW * 3
        with pytest.raises(MuxedStreamReset):
            await streams[0].read(1)
        assert len(await streams[-1].read(250_000)) > 0
        assert not connection.is_closed


async def test_a_peer_that_goes_away_and_stays_is_let_go():
    async with hostile_peer() as (session, connection):
        stream = await connection.open_stream()
        await session.write(yamux.encode(GO_AWAY, 0, 0, 0))
        await session.write(yamux.encode(DATA, 0, 2, 4) + b"last")
        assert await read_exactly(stream, 4) == b"last"
        with trio.move_on_after(0.05) as scope:
            while True:
                assert (await hear(session, 1))[0].kind != GO_AWAY
        assert scope.cancelled_caught
        await stream.reset()
        with trio.fail_after(5):
            while (await hear(session, 1))[0].kind != GO_AWAY:
                pass


async def test_silence_ends_the_connection(monkeypatch):
    monkeypatch.setattr(liveness, "CHECK_INTERVAL", 0.02)
    monkeypatch.setattr(liveness, "PING_DEADLINE", 0.6)
    async with hostile_peer() as (session, connection):
        first = (await hear(session, 1))[0]
        assert (first.kind, first.flags) == (PING, SYN)
        await session.write(yamux.encode(PING, ACK, 0, first.length))
        second = (await hear(session, 1))[0]
        await session.write(yamux.encode(PING, ACK, 0, second.length))
        assert not connection.is_closed
        with trio.fail_after(10), pytest.raises(MuxedConnUnavailable, match="nothing was received"):
            await connection.accept_stream()


async def test_a_peer_that_takes_nothing_is_let_go(monkeypatch):
    monkeypatch.setattr(muxed_connection, "STALL_SECONDS", 0.1)
    async with hostile_peer() as (session, connection):
        await session.write(yamux.encode(WINDOW_UPDATE, SYN, 1, 2**31))
        stream = await connection.accept_stream()
        with trio.fail_after(20), pytest.raises(MuxedStreamReset):
            await stream.write(bytes(64 * MIB))
        assert connection.is_closed


async def test_answers_wait_for_a_peer_that_does_not_read_only_up_to_the_cap():
    async with hostile_peer() as (session, connection):
        await session.write(yamux.encode(WINDOW_UPDATE, SYN, 1, 2**31))
        stream = await connection.accept_stream()

        async def fill():
            with pytest.raises(MuxedStreamReset):
                await stream.write(bytes(64 * MIB))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            # The socket is full.
            await trio.testing.wait_all_tasks_blocked(0.05)
            for number in range(2000):
                await session.write(yamux.encode(PING, SYN, 0, number))
            await until(lambda: connection.is_closed)


async def test_opening_waits_while_the_peer_acknowledges_nothing():
    async with hostile_peer(limits=MuxLimits(unacknowledged=2)) as (session, connection):
        for _ in range(2):
            await connection.open_stream()
        with trio.move_on_after(0.05) as scope:
            await connection.open_stream()
        assert scope.cancelled_caught
        await session.write(yamux.encode(WINDOW_UPDATE, ACK, 2, 0))
        with trio.fail_after(5):
            assert (await connection.open_stream()).stream_id == 6


async def test_waiting_to_open_ends_with_the_connection():
    async with hostile_peer(limits=MuxLimits(unacknowledged=1)) as (_, connection):
        await connection.open_stream()
        async with trio.open_nursery() as nursery:

            async def fails():
                with pytest.raises(MuxedConnUnavailable):
                    await connection.open_stream()

            nursery.start_soon(fails)
            await trio.testing.wait_all_tasks_blocked(0.01)
            with trio.fail_after(5):
                await connection.close()


async def test_data_behind_the_negotiation_of_the_muxer_is_not_lost():
    attacker, victim = Identity("ours"), Identity("ours")
    session, secured = await secure_pair(attacker, victim)
    messages = b"".join(bytes([len(text)]) + text for text in (b"/multistream/1.0.0\n", b"/yamux/1.0.0\n"))
    data = yamux.encode(DATA, SYN, 1, 200_000) + bytes(200_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.write, messages + data)
        with trio.fail_after(5):
            connection = await victim.muxer.new_conn(secured, attacker.peer_id)
            nursery.start_soon(connection.start)
            stream = await connection.accept_stream()
            assert await read_exactly(stream, 200_000) == bytes(200_000)
        await session.close()
        await connection.close()
