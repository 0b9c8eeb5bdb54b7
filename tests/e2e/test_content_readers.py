"""Who reads the content of a transfer while its files are changed or moved away by another program."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import swarm
from swarm.storage.target import Target
from tests.support.nodes import loopback_node, observe, until
from tests.support.sharing import random_file

PIECE = 16 * 1024
PIECES = 24


async def read_all(transfer: swarm.Transfer, stop: int | None = None) -> bytes:
    return b"".join([bytes(data) async for data in transfer.read(0, 0, stop)])


def change(part: Path) -> None:
    with part.open("r+b") as file:
        file.seek(10)
        file.write(b"changed")


async def test_a_change_that_a_reader_finds_is_fetched_again_and_then_read(tmp_path: Path) -> None:
    source = random_file(tmp_path / "source" / "film.bin", PIECES * PIECE)
    part = tmp_path / "out" / "film.bin.swarm-part"
    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b") as leecher,
        trio.open_nursery() as nursery,
    ):
        shared = await seeder.share(source, piece_length=PIECE)
        seen = await observe(leecher, nursery)
        options = swarm.TransferOptions(sequential=True, download_limit=8 * PIECE)
        async with leecher.fetch(shared.link, into=tmp_path / "out", options=options) as transfer:
            await read_all(transfer, PIECE)
            change(part)
            with pytest.raises(swarm.PieceWithdrawn):
                await read_all(transfer, PIECE)
            with trio.fail_after(60):
                assert await read_all(transfer, PIECE) == source.read_bytes()[:PIECE]
                transfer.limit(upload=None, download=None)
                path = await transfer.complete()
            assert path.read_bytes() == source.read_bytes()
            assert transfer.now().pieces_done == PIECES
        await until(lambda: [event.piece for event in seen.of(swarm.PieceLost)] == [0], "it is told")
        nursery.cancel_scope.cancel()


async def test_a_change_that_a_reader_finds_while_all_is_synced_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random_file(tmp_path / "source" / "film.bin", PIECES * PIECE)
    found = 0
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(source, piece_length=PIECE)
        async with leecher.fetch(shared.link, into=tmp_path / "out") as transfer:
            synced = Target.sync

            async def sync(target: Target) -> None:
                nonlocal found
                if target.complete and not found:
                    change(tmp_path / "out" / "film.bin.swarm-part")
                    found += 1
                    with pytest.raises(swarm.PieceWithdrawn):
                        await read_all(transfer, PIECE)
                    found += 1
                await synced(target)

            monkeypatch.setattr(Target, "sync", sync)
            with trio.fail_after(60):
                path = await transfer.complete()
            assert found == 2
            assert path.read_bytes() == source.read_bytes()
            assert transfer.now().pieces_done == PIECES


async def test_a_reader_of_a_share_does_not_wait_for_a_file_that_is_away(tmp_path: Path) -> None:
    source = tmp_path / "folder"
    one = random_file(source / "one", 2 * PIECE)
    random_file(source / "two", 2 * PIECE, 8)
    async with loopback_node(tmp_path / "a") as node, trio.open_nursery() as nursery:
        seen = await observe(node, nursery)
        shared = await node.share(source, piece_length=PIECE)
        one.rename(tmp_path / "away")
        with trio.fail_after(60):
            for _ in range(3):
                with pytest.raises(swarm.PieceWithdrawn):
                    await read_all(shared)
            with pytest.raises(swarm.PieceWithdrawn):
                _ = [data async for data in shared.chunks()]
            (tmp_path / "away").rename(one)
            await until(lambda: seen.of(swarm.ContentRestored), "it is back")
            assert await read_all(shared) == one.read_bytes()
        assert len(seen.of(swarm.ContentWithdrawn)) == len(seen.of(swarm.ContentRestored)) == 1
        nursery.cancel_scope.cancel()
