"""Signs of life: who is asked, how often, and when it is given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from swarm.net.muxed_connection import (
    KEEPALIVE_DEADLINE,
    KEEPALIVE_INTERVAL,
    LIFE_BYTES,
    SECOND_PING,
    LivenessProbe,
)


class Peer:
    """Answers after ``delay`` seconds, never if that is None."""

    def __init__(self, delay: float | None = 0.25) -> None:
        self.wire: Any = SimpleNamespace(received_bytes=0)
        self.delay = delay
        self.asked: list[int] = []
        self.life = LivenessProbe(self.wire, self.ask)

    def ask(self, number: int) -> None:
        self.asked.append(number)
        if self.delay is not None:
            trio.lowlevel.spawn_system_task(self.answer, self.delay)

    async def answer(self, delay: float) -> None:
        await trio.sleep(delay)
        self.wire.received_bytes += 28
        self.life.answered()


async def test_a_peer_that_says_nothing_by_itself_is_asked_each_time(autojump_clock):
    peer = Peer()
    assert [await peer.life.look() for _ in range(4)] == [SECOND_PING, *[KEEPALIVE_INTERVAL] * 3]
    assert peer.asked == [1, 2, 3, 4]
    assert peer.life.round_trip == pytest.approx(0.25)
    assert not peer.life.gone


async def test_a_quiet_peer_that_was_heard_is_not_asked(autojump_clock):
    peer = Peer()
    for _ in range(2):
        await peer.life.look()
    peer.wire.received_bytes += 100
    await peer.life.look()
    assert peer.asked == [1, 2]
    await peer.life.look()
    assert peer.asked == [1, 2, 4]


async def test_the_round_trip_of_a_busy_peer_stays_fresh(autojump_clock):
    peer = Peer()
    for _ in range(4):
        peer.wire.received_bytes += LIFE_BYTES + 1
        await peer.life.look()
    assert peer.asked == [1, 2, 3, 4]


async def test_who_is_not_heard_after_a_question_is_gone(autojump_clock):
    peer = Peer(delay=None)
    began = trio.current_time()
    await peer.life.look()
    assert trio.current_time() - began == pytest.approx(KEEPALIVE_DEADLINE)
    assert "nothing was received" in peer.life.gone


async def test_who_is_late_but_heard_is_not_gone(autojump_clock):
    peer = Peer(delay=None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.life.look)
        await trio.sleep(1)
        peer.wire.received_bytes += 1
    assert not peer.life.gone
