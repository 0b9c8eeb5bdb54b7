import pytest
import trio

from swarm.events import BytesReceived, BytesSent, PeerBanned, PieceStored
from swarm.ids import ManifestId, PeerId
from swarm.observe.event_stream import PROGRESS_SECONDS, EventStream

MANIFEST = ManifestId(bytes(32))
A, B = PeerId("A"), PeerId("B")


async def test_every_observer_gets_every_event_in_order(autojump_clock):
    stream = EventStream()
    first, second = stream.subscribe(), stream.subscribe()
    events = [PieceStored(MANIFEST, piece, 1, A) for piece in range(3)]
    for event in events:
        stream.publish(event)
    stream.close()
    assert [event async for event in first] == events
    assert [event async for event in second] == events


async def test_moved_bytes_are_merged_by_peer_and_direction(autojump_clock):
    stream = EventStream()
    observer = stream.subscribe()
    for _ in range(100_000):
        stream.publish(BytesReceived(MANIFEST, A, 10))
    stream.publish(BytesSent(MANIFEST, A, 7))
    stream.publish(BytesReceived(MANIFEST, B, 5))
    stream.close()
    assert [event async for event in observer] == [
        BytesReceived(MANIFEST, A, 1_000_000),
        BytesSent(MANIFEST, A, 7),
        BytesReceived(MANIFEST, B, 5),
    ]


async def test_progress_alone_wakes_an_observer_ten_times_a_second(autojump_clock, nursery):
    stream = EventStream()
    seen = []

    async def observe():
        async for event in stream.subscribe():
            seen.append((trio.current_time(), event.size))

    nursery.start_soon(observe)
    for _ in range(200):
        await trio.sleep(0.005)
        stream.publish(BytesReceived(MANIFEST, A, 1))
    await trio.sleep(1)
    assert sum(size for _, size in seen) == 200
    assert 9 <= len(seen) <= 1 / PROGRESS_SECONDS + 2
    nursery.cancel_scope.cancel()


async def test_an_observer_that_sleeps_is_woken_at_once_by_a_real_event(autojump_clock, nursery):
    stream = EventStream()
    observer = stream.subscribe()
    stream.publish(BytesReceived(MANIFEST, A, 1))
    assert await anext(observer) == BytesReceived(MANIFEST, A, 1)
    stream.publish(BytesReceived(MANIFEST, A, 1))
    before = trio.current_time()

    async def ban_soon():
        await trio.sleep(PROGRESS_SECONDS / 4)
        stream.publish(PeerBanned(B, "why"))

    nursery.start_soon(ban_soon)
    assert await anext(observer) == PeerBanned(B, "why")
    assert trio.current_time() - before == pytest.approx(PROGRESS_SECONDS / 4)


async def test_a_slow_observer_loses_single_pieces_first_and_keeps_what_matters(autojump_clock):
    stream = EventStream()
    slow, fast = stream.subscribe(10), stream.subscribe()
    stream.publish(PeerBanned(A, "why"))
    for piece in range(100):
        stream.publish(PieceStored(MANIFEST, piece, 1, A))
    stream.publish(PeerBanned(B, "why"))
    stream.close()
    kept = [event async for event in slow]
    assert len(kept) == 10
    assert kept[0] == PeerBanned(A, "why")
    assert kept[-1] == PeerBanned(B, "why")
    assert kept[-2] == PieceStored(MANIFEST, 99, 1, A)
    assert slow.lost == 92
    assert len([event async for event in fast]) == 102


async def test_a_queue_of_nothing_but_important_events_is_bounded_too(autojump_clock):
    stream = EventStream()
    observer = stream.subscribe(5)
    for _ in range(100):
        stream.publish(PeerBanned(A, "why"))
    stream.close()
    assert len([event async for event in observer]) == 5


async def test_a_closed_subscription_gets_nothing_more(autojump_clock):
    stream = EventStream()
    with stream.subscribe() as observer:
        stream.publish(PeerBanned(A, "1"))
    stream.publish(PeerBanned(A, "2"))
    assert [event async for event in observer] == [PeerBanned(A, "1")]
    stream.close()
    assert [event async for event in stream.subscribe()] == []
