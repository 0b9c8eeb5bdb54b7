import gc

import pytest
import trio
import trio.testing

from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    FilesSelected,
    HashingProgress,
    ManifestReady,
    NodeListening,
    PeerConnected,
    PieceLost,
    PieceRequested,
    PieceStored,
    RoundTrip,
    SourceBanned,
    TransferComplete,
    TransferContinued,
    TransferEnded,
    TransferPaused,
    TransferResumed,
    TransferStarted,
    Warned,
)
from swarm.ids import ManifestId, PeerId, SourceId, TransferId
from swarm.observe.event_stream import (
    EVENTS_IN_A_ROW,
    MAX_WARNINGS,
    PIECES_SECONDS,
    PROGRESS_SECONDS,
    EventStream,
)

ONE, TWO = TransferId(1), TransferId(2)
A, B = PeerId("A"), PeerId("B")


def ban(source: SourceId, reason: str) -> SourceBanned:
    return SourceBanned(ONE, source, reason)


async def test_every_observer_gets_every_event_in_order(autojump_clock):
    stream = EventStream()
    first, second = stream.subscribe(), stream.subscribe()
    events = [PieceStored(ONE, piece, 1, A) for piece in range(3)]
    for event in events:
        stream.publish(event)
    stream.close()
    assert [event async for event in first] == events
    assert [event async for event in second] == events


async def test_stored_pieces_that_wait_can_be_taken_together_but_not_past_another_event(autojump_clock):
    stream = EventStream()
    observer = stream.subscribe()
    events = [PieceStored(ONE, piece, 1, A) for piece in range(3 + EVENTS_IN_A_ROW)]
    stream.publish(*events[:2])
    stream.publish(ban(B, "forged"))
    stream.publish(*events[2:])
    stream.close()
    assert [await anext(observer), *observer.take_stored()] == events[:2]
    assert observer.take_stored() == []
    assert await anext(observer) == ban(B, "forged")
    assert observer.take_stored() == events[2 : 2 + EVENTS_IN_A_ROW], "others have their turn"
    assert [event async for event in observer] == events[2 + EVENTS_IN_A_ROW :]


async def test_moved_bytes_are_merged_by_transfer_source_and_direction(autojump_clock):
    stream = EventStream()
    observer = stream.subscribe()
    for _ in range(100_000):
        stream.publish(BytesReceived(ONE, A, 10))
    stream.publish(BytesSent(ONE, A, 7))
    stream.publish(BytesReceived(ONE, B, 5))
    stream.publish(BytesReceived(TWO, A, 3))
    stream.publish(BytesReceived(ONE, SourceId("folder:/old"), 2))
    stream.close()
    assert [event async for event in observer] == [
        BytesReceived(ONE, A, 1_000_000),
        BytesSent(ONE, A, 7),
        BytesReceived(ONE, B, 5),
        BytesReceived(TWO, A, 3),
        BytesReceived(ONE, SourceId("folder:/old"), 2),
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
        stream.publish(BytesReceived(ONE, A, 1))
    await trio.sleep(1)
    assert sum(size for _, size in seen) == 200
    assert 9 <= len(seen) <= 1 / PROGRESS_SECONDS + 2
    nursery.cancel_scope.cancel()


async def test_an_observer_that_sleeps_is_woken_at_once_by_a_real_event(autojump_clock, nursery):
    stream = EventStream()
    observer = stream.subscribe()
    stream.publish(BytesReceived(ONE, A, 1))
    assert await anext(observer) == BytesReceived(ONE, A, 1)
    stream.publish(BytesReceived(ONE, A, 1))
    before = trio.current_time()

    async def ban_soon():
        await trio.sleep(PROGRESS_SECONDS / 4)
        stream.publish(ban(B, "why"))

    nursery.start_soon(ban_soon)
    assert await anext(observer) == ban(B, "why")
    assert trio.current_time() - before == pytest.approx(PROGRESS_SECONDS / 4)


async def test_pieces_that_come_in_a_rush_wake_an_observer_fifty_times_a_second(autojump_clock, nursery):
    stream = EventStream()
    seen = []

    async def observe():
        async for event in stream.subscribe():
            seen.append((trio.current_time(), event))

    nursery.start_soon(observe)
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    stream.publish(PieceStored(ONE, 0, 1, A))
    await trio.testing.wait_all_tasks_blocked()
    assert seen == [(began, PieceStored(ONE, 0, 1, A))], "the first is told at once"
    for step in range(1, 101):
        await trio.sleep(0.001)
        stream.publish(*(PieceStored(ONE, 2 * step + each, 1, A) for each in range(2)))
    stream.publish(ban(B, "why"))
    await trio.testing.wait_all_tasks_blocked()
    assert [event.piece for _, event in seen[:-1]] == [0, *range(2, 202)]
    assert seen[-1] == (trio.current_time(), ban(B, "why")), "others do not wait"
    assert len({at for at, _ in seen}) <= 0.1 / PIECES_SECONDS + 2
    nursery.cancel_scope.cancel()


async def test_a_slow_observer_loses_single_pieces_first_and_keeps_what_matters(autojump_clock):
    stream = EventStream()
    slow, fast = stream.subscribe(capacity=10), stream.subscribe()
    stream.publish(ban(A, "why"))
    for piece in range(100):
        stream.publish(PieceStored(ONE, piece, 1, A))
    stream.publish(ban(B, "why"))
    stream.close()
    kept = [event async for event in slow]
    assert len(kept) == 10
    assert kept[0] == ban(A, "why")
    assert kept[-1] == ban(B, "why")
    assert kept[-2] == PieceStored(ONE, 99, 1, A)
    assert slow.lost == 92
    assert len([event async for event in fast]) == 102


async def test_a_queue_of_nothing_but_important_events_is_bounded_too(autojump_clock):
    stream = EventStream()
    observer = stream.subscribe(capacity=5)
    for _ in range(100):
        stream.publish(ban(A, "why"))
    stream.close()
    assert len([event async for event in observer]) == 5


async def test_a_closed_subscription_gets_nothing_more(autojump_clock):
    stream = EventStream()
    with stream.subscribe() as observer:
        stream.publish(ban(A, "1"))
    stream.publish(ban(A, "2"))
    assert [event async for event in observer] == [ban(A, "1")]
    stream.close()
    assert [event async for event in stream.subscribe()] == []


# --- Who comes late, and who wants one transfer only -----------------------------------------------

ID = ManifestId(bytes(32))


def lasting(transfer: TransferId) -> list[Event]:
    """What means something to whoever comes later."""
    return [
        TransferStarted(transfer, "fetch"),
        ManifestReady(transfer, ID, "photos", 10, 1, 16384, 1, None),
        FilesSelected(transfer, 1, 1, 10),
        Warned("a bad hint", transfer),
        TransferResumed(transfer, 1, 10),
        TransferComplete(transfer, ID, "/tmp/photos", 10, 1.0),
    ]


def passing(transfer: TransferId) -> list[Event]:
    return [
        HashingProgress(transfer, 1, 2),
        PeerConnected(transfer, A, "/a", inbound=False),
        PieceStored(transfer, 0, 10, A),
        BytesReceived(transfer, A, 10),
        TransferPaused(transfer),
    ]


def publish(stream: EventStream, *events: Event) -> None:
    for event in events:
        stream.publish(event)


async def heard(stream: EventStream, observer) -> list[Event]:
    stream.close()
    return [event async for event in observer]


async def test_who_comes_late_is_told_what_lasts_and_nothing_else(autojump_clock):
    stream = EventStream()
    node = [NodeListening(A, ("/a",)), Warned("of the node")]
    publish(stream, *node, *lasting(ONE), *passing(ONE), RoundTrip(A, 0.1), *lasting(TWO))
    late = stream.subscribe()
    new = PieceStored(TWO, 1, 1, A)
    stream.publish(new)
    first = [TransferResumed(ONE, 2, 20) if isinstance(e, TransferResumed) else e for e in lasting(ONE)]
    assert await heard(stream, late) == [*node, *first, TransferPaused(ONE), *lasting(TWO), new]


async def test_who_comes_late_is_told_how_much_is_stored_and_whether_it_is_paused(autojump_clock):
    stream = EventStream()
    publish(stream, TransferStarted(ONE, "fetch"), PieceStored(ONE, 0, 10, A), PieceStored(ONE, 1, 10, A))
    publish(stream, PieceLost(ONE, 0, 10), TransferPaused(ONE))
    late = stream.subscribe()
    publish(stream, TransferContinued(ONE))
    later = stream.subscribe()
    stored = TransferResumed(ONE, 1, 10)
    continued = TransferContinued(ONE)
    assert await heard(stream, later) == [TransferStarted(ONE, "fetch"), stored]
    assert [event async for event in late] == [
        TransferStarted(ONE, "fetch"),
        TransferPaused(ONE),
        stored,
        continued,
    ]


async def test_who_wants_no_replay_gets_none(autojump_clock):
    stream = EventStream()
    publish(stream, NodeListening(A, ("/a",)), *lasting(ONE))
    late = stream.subscribe(replay=False)
    new = PieceStored(ONE, 1, 1, A)
    stream.publish(new)
    assert await heard(stream, late) == [new]


async def test_of_a_transfer_that_has_ended_nothing_is_repeated(autojump_clock):
    stream = EventStream()
    publish(stream, *lasting(ONE), *lasting(TWO), TransferEnded(ONE))
    assert await heard(stream, stream.subscribe()) == lasting(TWO)


async def test_an_observer_of_one_transfer_hears_it_from_its_first_event_to_its_last(autojump_clock):
    stream = EventStream()
    publish(stream, NodeListening(A, ("/a",)), *lasting(ONE), *lasting(TWO))
    observer = stream.subscribe(ONE)
    publish(stream, *passing(TWO), *passing(ONE), RoundTrip(A, 0.1), Warned("of the node"))
    publish(stream, Warned("of the other", TWO), TransferEnded(ONE, "failed"), PieceStored(ONE, 9, 1, A))
    events = [event async for event in observer]
    moved = BytesReceived(ONE, A, 10)
    assert [event for event in events if event != moved] == [
        *lasting(ONE),
        *[event for event in passing(ONE) if event != moved],
        TransferEnded(ONE, "failed"),
    ]
    assert moved in events


async def test_an_observer_of_a_transfer_that_is_over_or_unknown_hears_nothing(autojump_clock):
    stream = EventStream()
    publish(stream, *lasting(ONE), TransferEnded(ONE))
    assert [event async for event in stream.subscribe(ONE)] == []
    assert [event async for event in stream.subscribe(TWO)] == []


async def test_what_is_kept_for_those_who_come_late_is_bounded(autojump_clock):
    """And warnings never take the place of what the other events need."""
    stream = EventStream()
    publish(stream, NodeListening(A, ("/a",)), lasting(ONE)[0])
    for number in range(1000):
        publish(stream, Warned(f"{number}"), Warned(f"{number}", ONE))
    publish(stream, *lasting(ONE)[1:])
    events = await heard(stream, stream.subscribe())
    assert events[0] == NodeListening(A, ("/a",))
    of_node = [event.message for event in events if isinstance(event, Warned) and event.transfer is None]
    assert of_node == [str(number) for number in range(1000 - MAX_WARNINGS, 1000)]
    of_transfer = [event for event in events if isinstance(event, Warned) and event.transfer == ONE]
    assert of_transfer == [Warned(str(number), ONE) for number in range(MAX_WARNINGS)]
    others = [event for event in events[1:] if not isinstance(event, Warned)]
    assert others == [event for event in lasting(ONE) if not isinstance(event, Warned)]


async def test_what_comes_after_the_end_of_a_transfer_is_not_kept(autojump_clock):
    stream = EventStream()
    publish(stream, *lasting(ONE), TransferEnded(ONE), Warned("late", ONE))
    assert [event async for event in stream.subscribe(ONE)] == []
    assert await heard(stream, stream.subscribe()) == []


async def test_who_comes_late_is_told_what_is_left_of_a_share_that_lost_a_piece(autojump_clock):
    stream = EventStream()
    publish(stream, TransferStarted(ONE, "share"), ManifestReady(ONE, ID, "photos", 40, 4, 10, 1, None))
    publish(stream, PieceLost(ONE, 2, 10))
    assert (await heard(stream, stream.subscribe()))[-1] == TransferResumed(ONE, 3, 30)


async def test_requested_pieces_are_told_only_to_who_wants_them():
    stream = EventStream()
    assert not stream.requests_observed
    plain = stream.subscribe(requests=False)
    assert not stream.requests_observed
    with stream.subscribe() as curious:
        assert stream.requests_observed
        stream.publish(PieceRequested(TransferId(1), 4, SourceId("a"), "why"))
        stream.publish(Warned("end"))
        assert isinstance(await anext(curious), PieceRequested)
        assert isinstance(await anext(plain), Warned)
    assert not stream.requests_observed
    dropped = stream.subscribe()
    assert stream.requests_observed
    del dropped
    gc.collect()
    assert not stream.requests_observed
