"""When an origin is left alone, and for how long; what it holds meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from swarm.bits import PieceSet
from swarm.origin_url import OriginUrl
from swarm.protocol.http_range import Concerns, Fault
from swarm.sources.origin_check import _CheckDesk
from swarm.sources.origin_source import (
    FAULTS,
    FIRST_PAUSE,
    IDLE_SECONDS,
    LONG_PAUSE,
    LONGEST_PAUSE,
    STREAM_SECONDS,
    OriginSettings,
    OriginSource,
    _Taken,
    _Worker,
)
from tests.support.contents import folder_manifest

MANIFEST = folder_manifest("f", {"a": bytes(40_000), "b": bytes(40_000)}, piece_length=16384)
ANSWER = Fault(Concerns.ANSWER, "it sends less than was asked for")


class Desk:
    """Hands out nothing; keeps what it is told."""

    manifest = MANIFEST

    def __init__(self) -> None:
        self.told: list[tuple[str, float | None]] = []
        self.abandoned: list[int] = []
        self.offered: list[PieceSet] = []
        self.paused = 0

    async def next_run(self, _most: int) -> range:
        await trio.sleep_forever()
        raise AssertionError

    def trouble(self, reason: str, retry_in: float | None) -> None:
        self.told.append((reason, retry_in))

    def offer(self, pieces: PieceSet) -> None:
        self.offered.append(pieces.copy())

    def abandon(self, piece: int) -> None:
        self.abandoned.append(piece)

    def pause(self) -> None:
        self.paused += 1

    def unpause(self) -> None:
        self.paused = 0


def source_at(desk: Desk) -> OriginSource:
    source = OriginSource(OriginUrl("http://127.0.0.1:1/"), OriginSettings(trio.CapacityLimiter(8)))
    source._desk = desk  # type: ignore[assignment]
    source._usable = PieceSet.all(MANIFEST.piece_count)
    return source


async def test_pauses_grow_from_the_third_fault_in_a_row_and_a_whole_piece_ends_that(
    autojump_clock: trio.testing.MockClock,
) -> None:
    desk: Any = Desk()
    source = source_at(desk)
    for _ in range(FAULTS + 6):
        began = trio.current_time()
        await source.deal_with(ANSWER, 0, desk, _Taken(range(1)))
        assert trio.current_time() - began == pytest.approx(desk.told[-1][1])
        assert not desk.paused
    growing = [LONG_PAUSE * 2**number for number in range(4)]
    assert [pause for _, pause in desk.told] == [FIRST_PAUSE] * (FAULTS - 1) + growing + [LONGEST_PAUSE] * 3
    source.delivered()
    await source.deal_with(ANSWER, 0, desk, _Taken(range(1)))
    assert desk.told[-1] == ("/f/a: it sends less than was asked for", FIRST_PAUSE)
    assert desk.abandoned == [0] * (FAULTS + 7)


async def test_a_server_that_is_busy_rests_as_long_as_it_says_and_both_workers_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    desk: Any = Desk()
    source = source_at(desk)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.deal_with, Fault(Concerns.SERVER, "busy", 30.0), 0, desk, _Taken(range(1)))
        nursery.start_soon(source.deal_with, Fault(Concerns.SERVER, "busy", 10.0), 1, desk, _Taken(range(1)))
        await trio.sleep(20)
        assert desk.paused
    assert trio.current_time() - began == pytest.approx(30)
    assert not desk.paused


async def test_a_fault_of_a_file_takes_that_file_and_no_time(autojump_clock: trio.testing.MockClock) -> None:
    desk: Any = Desk()
    source = source_at(desk)
    began = trio.current_time()
    for _ in range(2):  # by both workers
        await source.deal_with(Fault(Concerns.FILE, "gone"), 0, desk, _Taken(range(2)))
    assert trio.current_time() == began
    assert desk.told == [("/f/a: gone", None)]
    assert not desk.paused
    own = MANIFEST.layout.pieces_of(1)
    assert desk.offered == [PieceSet.between(MANIFEST.piece_count, own.start, own.stop)]
    assert desk.abandoned == [0, 1] * 2


async def test_an_idle_connection_is_closed_before_the_server_does_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Connection:
        closed_at = 0.0

        def close(self) -> None:
            self.closed_at = trio.current_time()

    desk: Any = Desk()
    connection: Any = Connection()
    settings = OriginSettings(trio.CapacityLimiter(1))
    worker = _Worker(source_at(desk), desk, settings)
    worker._connection, worker._token = connection, object()
    await settings.connections.acquire_on_behalf_of(worker._token)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await trio.sleep(IDLE_SECONDS - 0.1)
        assert not connection.closed_at
        # Another origin has its place then.
        async with settings.connections:
            assert connection.closed_at - began == pytest.approx(IDLE_SECONDS)
        nursery.cancel_scope.cancel()


async def test_an_origin_without_a_good_file_ends_also_when_it_is_begun_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    source = source_at(Desk())
    desk = _CheckDesk(MANIFEST, source, ())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.deliver, desk)
        await trio.testing.wait_all_tasks_blocked()
        for piece in range(MANIFEST.piece_count):
            source.piece_refused(piece)
    with trio.fail_after(5):
        await source.deliver(desk)


# --- A server that ignores ranges -----------------------------------------------------------------


async def test_a_run_waits_for_who_reads_the_file_and_is_taken_where_that_one_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    source = source_at(Desk())
    passed: list[tuple[int, bool]] = []

    async def pass_on(run: range) -> None:
        passed.append((run.start, await source.passes_on(run, 0)))

    async with trio.open_nursery() as nursery:
        with source.reading(0, 4) as whole:
            source.answered(0, whole, ignores_ranges=True)
            nursery.start_soon(pass_on, range(4, 8))
            await trio.sleep(10 * STREAM_SECONDS)
            assert passed == []
            assert await source.next_of_whole(whole) == range(4, 8)
            await trio.testing.wait_all_tasks_blocked()
            assert passed == [(4, True)]
            # What lies before it, in another file, or behind a gap does not come here.
            assert not await source.passes_on(range(4), 0)
            assert not await source.passes_on(range(8, 9), 1)
            nursery.start_soon(pass_on, range(9, 10))
            assert await source.next_of_whole(whole) is None
            assert passed[1:] == [(9, False)]
            nursery.start_soon(pass_on, range(8, 9))
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert passed[1:] == [(9, False), (8, False)], "who reads it has ended"


async def test_from_the_second_file_on_a_run_waits_for_the_answer_that_tells(
    autojump_clock: trio.testing.MockClock,
) -> None:
    source = source_at(Desk())
    with source.reading(0, 4) as whole:
        assert not source.is_read_whole(0), "it is not known yet"
        source.answered(0, whole, ignores_ranges=True)
        assert source.is_read_whole(0)
    with source.reading(1, 4) as whole:
        assert source.is_read_whole(1)
        source.answered(1, whole, ignores_ranges=False)
        assert not await source.passes_on(range(4, 8), 1)
    with source.reading(1, 4):
        assert not source.is_read_whole(1)
