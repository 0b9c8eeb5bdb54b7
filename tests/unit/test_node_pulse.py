"""The pulse: how often a peer is pinged, and how soon that changes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from swarm.errors import LinkClosed
from swarm.ids import PeerId
from swarm.node.pulse import (
    GROWTH,
    INTERVAL,
    JITTER,
    LOOK_SECONDS,
    PATIENT_INTERVALS,
    QUIET_BYTES,
    QUIET_INTERVAL,
    keep_pulse,
)

PEER = PeerId("12D3KooW")


class Patient:
    """A host whose ping streams break at once, or echo; and what was reported when."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.moved = 0
        self.times: list[float] = []

    async def open_stream(self, peer: PeerId, protocol: str) -> Any:
        await trio.lowlevel.checkpoint()
        if not self.answers:
            raise LinkClosed("gone")
        return Echo()

    def traffic(self, peer: PeerId) -> int:
        return self.moved

    def report(self, seconds: float | None) -> None:
        assert (seconds is not None) == self.answers
        self.times.append(trio.current_time())

    async def watch(self, seconds: float) -> list[float]:
        """The pauses between pings in so much time."""
        with trio.move_on_after(seconds):
            await keep_pulse(self, PEER, self.report, random.Random(1))  # type: ignore[arg-type]
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


class Echo:
    def __init__(self) -> None:
        self.said = b""

    async def write(self, data: bytes) -> None:
        self.said = data
        await trio.lowlevel.checkpoint()

    async def read_exactly(self, size: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.said

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_peer_with_which_nothing_moves_is_pinged_less_and_less(autojump_clock):
    pauses = await Patient().watch(5000)
    for number, pause in enumerate(pauses):
        longer = GROWTH ** max(0, number - PATIENT_INTERVALS)
        assert pause == pytest.approx(min(INTERVAL * longer, QUIET_INTERVAL), rel=JITTER + 0.01)
    assert len(pauses) > 10
    # The promise of an idle processor is about peers that came some minutes ago.
    assert sum(pause < 100 for pause in pauses) <= 6


async def test_a_busy_peer_is_pinged_every_five_seconds(autojump_clock):
    patient = Patient()

    async def work() -> None:
        while True:
            await trio.sleep(1)
            patient.moved += QUIET_BYTES

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        pauses = await patient.watch(100)
        nursery.cancel_scope.cancel()
    assert pauses == [pytest.approx(INTERVAL, rel=JITTER + 0.01)] * len(pauses)
    assert len(pauses) > 15


async def test_it_is_noticed_soon_that_something_moves_again(autojump_clock):
    patient = Patient()
    moved_at = 1800.0

    async def work() -> None:
        await trio.sleep(moved_at)
        patient.moved += QUIET_BYTES

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await patient.watch(3000)
    assert any(moved_at <= at - patient.times[0] <= moved_at + LOOK_SECONDS + 1 for at in patient.times)


async def test_lost_pings_do_not_grow_rare(autojump_clock):
    pauses = await Patient(answers=False).watch(100)
    assert pauses == [pytest.approx(INTERVAL, rel=JITTER + 0.01)] * len(pauses)
    assert len(pauses) > 15
