"""The end of a transfer leaves the connection to pings and questions, and none open after them."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.support.nodes import Census, loopback_node, until
from tests.support.sharing import random_file

PIECE = 16 * 1024
ROUNDS = 20
"""So many that the first connection kept open after a question is due to be closed beside later ones."""


async def test_pings_and_questions_go_on_while_transfers_end(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        before = Census.take()
        shared = await seeder.share(random_file(tmp_path / "content", 4 * PIECE), piece_length=PIECE)
        address = seeder.addresses[0]
        lost: list[object] = []

        async def ping() -> None:
            lost.extend([s async for s in leecher.ping(address, count=8, interval=0.02) if s.seconds is None])

        async def ask() -> None:
            for _ in range(5):
                assert [advert.manifest for advert in await leecher.list(address)] == [shared.id]

        for number in range(ROUNDS):
            transfer = leecher.fetch(shared.link, into=tmp_path / f"into-{number}")
            await transfer.complete()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ping)
                await trio.sleep(0.03)
                nursery.start_soon(ask)
                await transfer.stop()
        assert not lost
        await shared.stop()
        await until(lambda: Census.take().descriptors == before.descriptors, "closed connections", 15)
        await until(lambda: Census.take().tasks == before.tasks, "no pinger", 15)
