"""When an inbound connection is closed because nobody uses it: looks at it, in a time that jumps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from swarm.ids import PeerId
from swarm.net import network_limits as limits
from swarm.net.admission import Admission


async def test_short_questions_between_two_looks_are_a_use(autojump_clock: trio.testing.MockClock) -> None:
    muxed = SimpleNamespace(opened=0)
    connection: Any = SimpleNamespace(streams=set(), event_closed=trio.Event(), muxed_conn=muxed)
    admission: Any = SimpleNamespace(_kept=lambda *_: False)
    closed = trio.Event()

    async def host() -> None:
        await Admission._while_used(admission, connection, PeerId("peer"))
        closed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(host)
        for _ in range(10):
            await trio.sleep(limits.UNUSED_SECONDS / 4)
            muxed.opened += 1
            assert not closed.is_set()
        with trio.fail_after(1.1 * limits.UNUSED_SECONDS):
            await closed.wait()
