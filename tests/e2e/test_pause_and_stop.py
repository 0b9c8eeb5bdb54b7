"""Pause, resume, stop and cancel from several tasks at once: each returns, and nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import swarm
from tests.support.nodes import loopback_node, until
from tests.support.sharing import random_file

PIECE = 16 * 1024
SIZE = 128 * PIECE
SLOW = 64 * 1024
"""Bytes per second: every transfer here is under way for half a minute."""


@asynccontextmanager
async def under_way(folder: Path) -> AsyncIterator[swarm.Transfer]:
    """A fetch that has a session and is far from complete."""
    async with (
        loopback_node(folder / "a") as seeder,
        loopback_node(folder / "b", download_limit=SLOW) as leecher,
    ):
        shared = await seeder.share(random_file(folder / "content", SIZE), piece_length=PIECE)
        transfer = leecher.fetch(shared.link, into=folder / "into")
        await until(transfer.peers, "a session")
        yield transfer


async def returns(what: Callable[[], Awaitable[object]]) -> None:
    with trio.fail_after(20):
        await what()


async def test_pause_returns_when_the_transfer_is_stopped_meanwhile(tmp_path: Path) -> None:
    async with under_way(tmp_path) as transfer, trio.open_nursery() as nursery:
        nursery.start_soon(returns, transfer.pause)
        await trio.sleep(0.01)
        await returns(transfer.stop)


async def test_pause_returns_though_it_was_resumed_meanwhile(tmp_path: Path) -> None:
    async with under_way(tmp_path) as transfer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(returns, transfer.pause)
            await trio.sleep(0.01)
            await transfer.resume()
            nursery.start_soon(returns, transfer.pause)
        await returns(transfer.stop)


@pytest.mark.parametrize("checkpoints", range(8))
async def test_stop_after_cancel_returns(tmp_path: Path, checkpoints: int) -> None:
    async with under_way(tmp_path) as transfer:
        transfer.cancel()
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        await returns(transfer.stop)
        assert not transfer.peers()


async def test_a_source_of_peers_may_stop_its_own_transfer(tmp_path: Path) -> None:
    class Stopping:
        provenance = "lan"
        transfer: swarm.Transfer

        async def peers(self, manifest: swarm.ManifestId) -> AsyncIterator[swarm.FoundPeer]:
            await trio.sleep(0.1)
            await self.transfer.stop()
            nobody: list[swarm.FoundPeer] = []
            for found in nobody:
                yield found

        def announce(self, announcement: swarm.Announcement) -> None:
            pass

        def withdraw(self, manifest: swarm.ManifestId) -> None:
            pass

    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b", download_limit=SLOW) as leecher,
    ):
        shared = await seeder.share(random_file(tmp_path / "content", SIZE), piece_length=PIECE)
        source = Stopping()
        leecher.add_peer_source(source)
        source.transfer = leecher.fetch(shared.link, into=tmp_path / "into")
        await until(lambda: not leecher.transfers, "the end of the transfer", 20.0)


async def test_a_source_that_lied_is_not_asked_again_after_a_pause(tmp_path: Path) -> None:
    class Liar:
        id = swarm.SourceId("liar:1")
        description = "a liar"
        runs = 0

        async def deliver(self, desk: swarm.RequestDesk) -> None:
            self.runs += 1
            desk.offer(swarm.PieceSet.all(desk.manifest.piece_count))
            piece = await desk.next_request()
            await desk.supply(piece, memoryview(bytes(desk.manifest.layout.length(piece))))

    async with under_way(tmp_path) as transfer:
        liar = Liar()
        events = transfer.events()
        transfer.add_piece_source(liar)
        with trio.fail_after(20):
            async for event in events:
                if isinstance(event, swarm.SourceBanned):
                    assert event.source == liar.id
                    break
        await returns(transfer.pause)
        await transfer.resume()
        await until(transfer.peers, "a session")
        assert liar.runs == 1
        await transfer.stop()
