"""Observers learn how much each peer has, once a second at most."""

from __future__ import annotations

import pytest
import trio

from swarm.events import Event, PeerComplete, PeerHas
from swarm.ids import PeerId, TransferId
from swarm.transfer.holdings import Holdings

ANN, BEN = PeerId("12D3KooWAnn"), PeerId("12D3KooWBen")
ONE = TransferId(1)


class Record:
    """Takes events as the record of a transfer does."""

    transfer = ONE

    def __init__(self) -> None:
        self.told: list[tuple[Event, float]] = []

    def publish(self, event: Event) -> None:
        self.told.append((event, trio.current_time()))


@pytest.fixture
def held() -> dict[PeerId, int]:
    return {ANN: 0, BEN: 0}


async def test_many_announcements_are_one_event_a_second(
    autojump_clock: object, held: dict[PeerId, int]
) -> None:
    record = Record()
    holdings = Holdings(record, held.__getitem__, 200, trio.current_time)  # type: ignore[arg-type]
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(holdings.run)
        for _ in range(100):
            held[ANN] += 1
            holdings.changed(ANN)
            await trio.sleep(0.05)
        await trio.sleep(10)
        holdings.changed(ANN)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    counts = [event.pieces for event, _ in record.told if isinstance(event, PeerHas)]
    assert 5 <= len(counts) <= 7
    assert counts == sorted(set(counts))
    assert counts[-1] == 100, "the last is told, and once"
    assert record.told[0][1] == start, "the first at once"


async def test_a_peer_that_leaves_with_everything_is_counted(held: dict[PeerId, int]) -> None:
    record = Record()
    holdings = Holdings(record, held.__getitem__, 200, trio.current_time)  # type: ignore[arg-type]
    held[ANN] = 7
    holdings.changed(ANN)
    holdings.leaves(ANN)
    holdings.leaves(BEN)
    assert [event for event, _ in record.told] == [PeerHas(ONE, ANN, 7)]


async def test_who_has_everything_is_told_at_once_and_once_with_the_same_count(
    autojump_clock: object, held: dict[PeerId, int]
) -> None:
    record = Record()
    holdings = Holdings(record, held.__getitem__, 8, trio.current_time)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(holdings.run)
        for pieces in (3, 5, 8, 8):
            held[ANN] = pieces
            holdings.changed(ANN)
            await trio.sleep(0.1)
        held[BEN] = 8
        holdings.changed(BEN)
        await trio.sleep(3)
        holdings.leaves(ANN)
        # It comes back, says anew what it has, loses some, and has all again.
        for pieces in (8, 2, 8):
            held[ANN] = pieces
            holdings.changed(ANN)
            await trio.sleep(2)
        nursery.cancel_scope.cancel()
    told = [event for event, _ in record.told]
    completed = [event for event in told if isinstance(event, PeerComplete)]
    assert completed == [PeerComplete(ONE, ANN, fetched=True), PeerComplete(ONE, BEN, fetched=False)]
    for event in completed:
        before = [each for each in told[: told.index(event)] if isinstance(each, PeerHas)]
        assert [each.pieces for each in before if each.peer == event.peer][-1] == 8
    assert [event.pieces for event in told if isinstance(event, PeerHas) and event.peer == ANN] == [
        3,
        8,
        8,
        2,
        8,
    ]
