"""Another program changes what a fetch has written: those pieces are fetched again, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import swarm
from swarm.storage import target_files
from swarm.storage.target import Target
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


async def test_who_had_it_and_was_named_by_nobody_is_dialled_again_for_what_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = random_file(tmp_path / "source" / "image.bin", SIZE)

    class Tracker:
        provenance = "tracker"

        async def peers(self, manifest: swarm.ManifestId) -> AsyncIterator[swarm.FoundPeer]:
            assert manifest == shared.id
            yield swarm.FoundPeer(
                seeder.peer_id, tuple(each.partition("/p2p/")[0] for each in seeder.addresses)
            )
            await trio.sleep_forever()

        def announce(self, announcement: swarm.Announcement) -> None: ...
        def withdraw(self, manifest: swarm.ManifestId) -> None: ...

    synced = Target.sync
    left = 0

    async def sync(target: Target) -> None:
        nonlocal left
        if target.complete and not left:
            left += 1
            with (tmp_path / "out" / "image.bin.swarm-part").open("r+b") as file:
                file.write(b"changed")
            await shared.pause()
            await until(lambda: not transfer.peers(), "the seeder has left")
            await shared.resume()
            # Long enough that it may be dialled again.
            await trio.sleep(3)
        await synced(target)

    monkeypatch.setattr(Target, "sync", sync)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(source, piece_length=PIECE)
        leecher.add_peer_source(Tracker())
        async with leecher.fetch(shared.envelope, into=tmp_path / "out") as transfer:
            with trio.fail_after(30):
                path = await transfer.complete()
        assert left == 1
        assert path.read_bytes() == source.read_bytes()


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
