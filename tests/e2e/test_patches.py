"""A patch in a transfer: what it makes is not asked of peers, and what it cannot make is."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
import trio

import swarm
from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.sources.patch_source import PatchSource
from swarm.storage.patch_maker import make_patch
from swarm.storage.scan import scan
from tests.support.nodes import loopback_node, observe, until
from tests.support.sharing import MIB, tree

PIECE = 64 * 1024


def _versions(folder: Path) -> tuple[Path, Path]:
    """Two versions: the content of a file of 6 MiB has moved by 1,000 bytes, another has changed a little."""
    old, new = folder / "old", folder / "new"
    large, small = random.Random(1).randbytes(6 * MIB), random.Random(2).randbytes(100_000)
    for path, first, second in ((old, b"", b""), (new, bytes(1000), b"more")):
        path.mkdir()
        (path / "large").write_bytes(first + large)
        (path / "small").write_bytes(small[:50_000] + second + small[50_000:])
    return old, new


async def _patch(old: Path, new: Manifest, new_path: Path, patch: Path) -> Manifest:
    """Make the patch; return the old manifest."""
    before = (await scan(old, name="it", piece_length=PIECE)).manifest
    size = await trio.to_thread.run_sync(make_patch, before, old, new, new_path, patch)
    assert size is not None
    assert size < 10_000
    return before


@pytest.mark.parametrize("fault", ["none", "edited", "damaged", "another"])
async def test_a_patch_makes_what_it_can_and_peers_supply_the_rest(tmp_path: Path, fault: str) -> None:
    old, new = _versions(tmp_path)
    patch = tmp_path / "patch"
    async with (
        loopback_node(tmp_path / "a") as sharer,
        loopback_node(tmp_path / "b") as node,
        trio.open_nursery() as nursery,
    ):
        shared = await sharer.share(new, name="it", piece_length=PIECE)
        before = await _patch(old, shared.manifest, new, patch)
        if fault == "edited":
            with (old / "large").open("r+b") as file:
                file.seek(5 * MIB)
                file.write(bytes(100))
        elif fault == "damaged":
            data = bytearray(patch.read_bytes())
            data[-3] ^= 1
            patch.write_bytes(data)
        elif fault == "another":
            before = shared.manifest
        observed = await observe(node, nursery)
        # The peer is not there until the patch has given all that it can.
        await shared.pause()
        transfer = node.fetch(shared.link, into=tmp_path / "received")
        source = PatchSource(patch, before, [old])
        transfer.add_piece_source(source)
        async with transfer:
            if fault == "another":
                await until(lambda: observed.of(swarm.SourceLeft), "the patch is refused")
            elif fault != "none":
                await until(lambda: transfer.now().pieces_done > 60, "the patch makes pieces")
            if fault != "none":
                await shared.resume()
            with trio.fail_after(30):
                assert tree(await transfer.complete()) == tree(new)
        assert not node.is_banned(sharer.peer_id)
        await node.aclose()
    by_peer = [event.piece for event in observed.of(swarm.PieceStored) if event.source != source.id]
    pieces = shared.manifest.piece_count
    assert observed.of(swarm.SourceBanned) == observed.of(swarm.PieceRefused) == []
    if fault == "none":
        assert by_peer == []
    elif fault == "another":
        assert len(by_peer) == pieces
        (left,) = [event for event in observed.of(swarm.SourceLeft) if event.source == source.id]
        assert left.reason == "this patch leads from another version"
    else:
        assert 0 < len(by_peer) < pieces


async def test_a_prepared_patch_is_offered_before_anything_else_runs(tmp_path: Path) -> None:
    """Peers would be asked for what it makes, while it is opened."""
    old, new = _versions(tmp_path)
    manifest = (await scan(new, name="it", piece_length=PIECE)).manifest
    source = PatchSource(tmp_path / "patch", await _patch(old, manifest, new, tmp_path / "patch"), [old])
    offered: list[int] = []

    class Asked(Exception):
        """It waits for requests."""

    class Desk:
        def offer(self, pieces: PieceSet) -> None:
            offered.extend(pieces)

        async def next_request(self) -> int:
            raise Asked

    await source.prepare(manifest)
    first_step = source.deliver(Desk())  # type: ignore[arg-type]
    with pytest.raises(Asked):
        first_step.send(None)
    assert offered == list(range(manifest.piece_count))
    # What is prepared and not asked for leaves no thread.
    await source.prepare(manifest)
    source.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patch")]
