"""What a node can do without may fail: it is logged, begun again after a pause, and the node lives on."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing

from swarm.config import NodeOptions
from swarm.discovery.hash_table import HashTable
from swarm.discovery.lan import LanPeers
from swarm.discovery.meeting_point import MeetingPoint
from swarm.net.port_mapper import PortMapper
from swarm.node.keep_running import FIRST_PAUSE, LONGEST_PAUSE, keep_running
from swarm.node.open_node import open_node
from tests.unit.test_reach_kad import peer


async def test_what_fails_is_logged_and_begun_again_later_and_later(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    began: list[float] = []

    async def fail() -> None:
        began.append(trio.current_time())
        async with trio.open_nursery():
            await trio.sleep(LONGEST_PAUSE + 1 if len(began) == 12 else 0)
            raise RuntimeError("out of order")

    with trio.move_on_after(10 * LONGEST_PAUSE), caplog.at_level(logging.ERROR):
        await keep_running(fail, "the helper")
    pauses = [later - earlier for earlier, later in pairwise(began)]
    assert pauses[:3] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE])
    assert max(pauses[:11]) == pytest.approx(LONGEST_PAUSE)
    # What has run for long begins anew.
    assert pauses[11:13] == pytest.approx([LONGEST_PAUSE + 1 + FIRST_PAUSE, 2 * FIRST_PAUSE])
    assert "the helper failed" in caplog.text
    assert "out of order" in caplog.text


async def test_what_returns_or_is_cancelled_is_not_begun_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    runs = []

    async def once() -> None:
        runs.append("once")

    async def on_and_on() -> None:
        runs.append("on and on")
        await trio.sleep_forever()

    await keep_running(once, "one")
    with trio.move_on_after(LONGEST_PAUSE):
        await keep_running(on_and_on, "the other")
    assert runs == ["once", "on and on"]


@pytest.mark.parametrize("helper", [LanPeers, PortMapper, MeetingPoint, HashTable])
async def test_a_helper_that_fails_does_not_end_the_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, helper: type
) -> None:
    failed = trio.Event()

    async def fail(_self: object) -> None:
        failed.set()
        raise OSError("too many open files")

    async def wait(_self: object) -> None:
        await trio.sleep_forever()

    for each in (LanPeers, PortMapper, MeetingPoint, HashTable):
        monkeypatch.setattr(each, "run", fail if each is helper else wait)
    elsewhere = f"/ip4/192.0.2.1/tcp/1/p2p/{peer(1)}"
    options = NodeOptions(
        home=tmp_path / "home",
        listen=("/ip4/127.0.0.1/tcp/0",),
        lan=True,
        map_port=True,
        meet=(elsewhere,),
        dht=(elsewhere,),
    )
    content = tmp_path / "content"
    content.write_bytes(b"content")
    async with open_node(options) as node:
        transfer = await node.share(content)
        await failed.wait()
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert node.transfers == (transfer,)
    assert "too many open files" in caplog.text
