"""Round trips: how often a peer is pinged, how soon that changes, and when it ends."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio
import trio.testing

from swarm.ids import PeerId
from swarm.node.round_trips import (
    GROWTH,
    INTERVAL,
    JITTER,
    LOOK_SECONDS,
    PATIENT_INTERVALS,
    QUIET_BYTES,
    QUIET_INTERVAL,
    RoundTrips,
)

PEER, OTHER = PeerId("12D3KooW"), PeerId("12D3KooX")


class Pinged:
    """A network whose peers answer each ping, or none; and what was reported when."""

    def __init__(self, *, answers: bool = True, delay: float = 0.0) -> None:
        self.answers = answers
        self.delay = delay
        self.moved = 0
        self.times: list[float] = []
        self.reports: Counter[PeerId] = Counter()

    async def ping(self, peer: PeerId) -> float | None:
        await trio.sleep(self.delay)
        return 0.001 if self.answers else None

    def traffic(self, peer: PeerId) -> int:
        return self.moved

    def report(self, peer: PeerId, seconds: float | None) -> None:
        assert (seconds is not None) == self.answers
        self.reports[peer] += 1
        self.times.append(trio.current_time())

    def round_trips(self, nursery: trio.Nursery) -> RoundTrips:
        return RoundTrips(self, self.report, nursery, random.Random(1))

    async def watch(self, seconds: float) -> list[float]:
        """The pauses between pings in so much time."""
        async with trio.open_nursery() as nursery:
            self.round_trips(nursery).begin(PEER)
            await trio.sleep(seconds)
            nursery.cancel_scope.cancel()
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


async def test_a_peer_with_which_nothing_moves_is_pinged_less_and_less(autojump_clock):
    pauses = await Pinged().watch(5000)
    for number, pause in enumerate(pauses):
        longer = GROWTH ** max(0, number - PATIENT_INTERVALS)
        assert pause == pytest.approx(min(INTERVAL * longer, QUIET_INTERVAL), rel=JITTER + 0.01)
    assert len(pauses) > 10
    # The promise of an idle processor is about peers that came some minutes ago.
    assert sum(pause < 100 for pause in pauses) <= 6


async def test_a_busy_peer_is_pinged_every_five_seconds(autojump_clock):
    pinged = Pinged()

    async def work() -> None:
        while True:
            await trio.sleep(1)
            pinged.moved += QUIET_BYTES

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        pauses = await pinged.watch(100)
        nursery.cancel_scope.cancel()
    assert pauses == [pytest.approx(INTERVAL, rel=JITTER + 0.01)] * len(pauses)
    assert len(pauses) > 15


async def test_it_is_noticed_soon_that_something_moves_again(autojump_clock):
    pinged = Pinged()
    moved_at = 1800.0

    async def work() -> None:
        await trio.sleep(moved_at)
        pinged.moved += QUIET_BYTES

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await pinged.watch(3000)
    assert any(moved_at <= at - pinged.times[0] <= moved_at + LOOK_SECONDS + 1 for at in pinged.times)


async def test_lost_pings_do_not_grow_rare(autojump_clock):
    pauses = await Pinged(answers=False).watch(100)
    assert pauses == [pytest.approx(INTERVAL, rel=JITTER + 0.01)] * len(pauses)
    assert len(pauses) > 15


async def test_one_connection_is_measured_once_however_many_sessions_use_it(autojump_clock, nursery):
    pinged = Pinged()
    trips = pinged.round_trips(nursery)
    for peer in (PEER, OTHER, PEER, PEER):
        trips.begin(peer)
    await trio.testing.wait_all_tasks_blocked()
    assert pinged.reports == {PEER: 1, OTHER: 1}
    await trio.sleep(3 * INTERVAL)
    assert pinged.reports[PEER] <= 4
    trips.end(PEER)
    trips.end(OTHER)


async def test_after_the_end_nothing_is_reported_until_it_begins_again(autojump_clock, nursery):
    pinged = Pinged(delay=1.0)
    trips = pinged.round_trips(nursery)
    trips.begin(PEER)
    await trio.sleep(0.5)
    trips.end(PEER)
    trips.end(PEER)
    await trio.sleep(20)
    assert not pinged.reports, "not even the ping that was under way"
    trips.begin(PEER)
    await trio.sleep(2)
    assert pinged.reports == {PEER: 1}
    trips.end(PEER)
    await trio.testing.wait_all_tasks_blocked()
    assert not nursery.child_tasks
