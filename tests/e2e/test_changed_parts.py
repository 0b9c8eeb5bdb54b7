"""Another program changes what a fetch has written: those pieces are fetched again, once."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import swarm
from swarm.storage import target_files
from tests.support.nodes import loopback_node, observe, until
from tests.support.sharing import random_file

PIECE = 16 * 1024
SIZE = 64 * PIECE


@pytest.mark.parametrize("base", [False, True], ids=["from a peer", "from a base"])
async def test_a_part_that_another_program_changed_is_fetched_again_by_itself(
    tmp_path: Path, base: bool
) -> None:
    source = random_file(tmp_path / "source" / "image.bin", SIZE)
    part = tmp_path / "out" / "image.bin.swarm-part"
    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b") as leecher,
        trio.open_nursery() as nursery,
    ):
        shared = await seeder.share(source, piece_length=PIECE)
        seen = await observe(leecher, nursery)
        half = tmp_path / "old.bin"
        half.write_bytes(source.read_bytes()[: 32 * PIECE])
        options = swarm.TransferOptions(bases=(half,) if base else (), download_limit=8 * PIECE)
        async with leecher.fetch(shared.link, into=tmp_path / "out", options=options) as transfer:
            await until(lambda: len(seen.of(swarm.PieceStored)) > 3, "some pieces")
            if base:
                await until(
                    lambda: sum(event.pieces for event in seen.of(swarm.PiecesReused)) == 32, "a half"
                )
            changed = [3, 17] if base else [event.piece for event in seen.of(swarm.PieceStored)[:2]]
            await trio.sleep(0.02)
            with part.open("r+b") as file:
                for piece in changed:
                    file.seek(piece * PIECE + 9)
                    file.write(b"changed")
            transfer.limit(upload=None, download=None)
            path = await transfer.complete()
            assert path.read_bytes() == source.read_bytes()
            assert transfer.now().pieces_done == transfer.now().pieces == 64
        (told,) = seen.of(swarm.ContentWithdrawn)
        assert (told.path, told.pieces, told.size) == (str(part), 2, 2 * PIECE)
        assert "changed by another program" in told.reason
        stored = [event.piece for event in seen.of(swarm.PieceStored)]
        if base:
            assert set(stored) == set(range(32, 64))
            assert sum(event.pieces for event in seen.of(swarm.PiecesReused)) == 34
        else:
            assert sorted(stored[64:]) == sorted(changed)
        nursery.cancel_scope.cancel()


async def test_a_program_that_goes_on_changing_a_piece_ends_the_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random_file(tmp_path / "source" / "image.bin", SIZE)
    looks = 0

    def changed_again(*_of: object) -> list[int]:
        nonlocal looks
        looks += 1
        return [looks, 5]

    monkeypatch.setattr(target_files, "_changed_pieces", changed_again)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(source, piece_length=PIECE)
        async with leecher.fetch(shared.link, into=tmp_path / "out") as transfer:
            with pytest.raises(
                swarm.DiskError, match="another program changed it during the fetch, and again"
            ):
                await transfer.complete()
    assert looks == 2
