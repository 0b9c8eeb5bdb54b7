"""Sources of peers and of pieces: a folder on this machine, and those of the program itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import swarm
from tests.support.nodes import loopback_node, observe, until
from tests.support.sharing import MIB, random_file, sha256, tree

PIECE = 64 * 1024


def _folder(folder: Path) -> Path:
    random_file(folder / "one", 3 * MIB + 17, 1)
    random_file(folder / "deep" / "two", MIB, 2)
    return folder


async def test_a_folder_with_the_same_content_supplies_all_pieces(tmp_path: Path) -> None:
    content = _folder(tmp_path / "content")
    base = _folder(tmp_path / "older" / "content")
    async with (
        loopback_node(tmp_path / "a") as sharer,
        loopback_node(tmp_path / "b") as node,
        trio.open_nursery() as nursery,
    ):
        envelope = (await sharer.share(content, piece_length=PIECE)).envelope
        observed = await observe(node, nursery)
        # Nobody else has it, and nobody is named.
        options = swarm.TransferOptions(bases=(base,))
        async with node.fetch(envelope, into=tmp_path / "received", options=options) as transfer:
            with trio.fail_after(20):
                path = await transfer.complete()
        assert tree(path) == tree(content)
        await node.aclose()
    size = envelope.manifest.total_length
    assert {event.source for event in observed.of(swarm.PiecesReused)} == {f"base:{base}"}
    assert sum(event.size for event in observed.of(swarm.PiecesReused)) == size
    assert observed.of(swarm.BytesReceived) == []
    (complete,) = observed.of(swarm.TransferComplete)
    assert (complete.bytes_received, complete.bytes_reused, complete.bytes_patched) == (0, size, 0)
    (joined,) = observed.of(swarm.SourceJoined)
    assert joined.source == f"base:{base}"
    assert len(observed.of(swarm.SourceLeft)) == 1
    assert observed.of(swarm.PeerConnected) == []


async def test_what_is_damaged_in_a_folder_comes_from_the_peer(tmp_path: Path) -> None:
    content = _folder(tmp_path / "content")
    base = _folder(tmp_path / "older" / "content")
    manifest_pieces = {2, 5}
    with (base / "one").open("r+b") as file:
        for piece in manifest_pieces:
            file.seek(piece * PIECE + 100)
            file.write(b"damage")
    (base / "deep" / "two").unlink()
    async with (
        loopback_node(tmp_path / "a") as sharer,
        loopback_node(tmp_path / "b") as node,
        trio.open_nursery() as nursery,
    ):
        shared = await sharer.share(content, piece_length=PIECE)
        observed = await observe(node, nursery)
        # The peer is not there until the folder has given all that it can.
        await shared.pause()
        options = swarm.TransferOptions(bases=(base,))
        of_one = len(range(0, 3 * MIB + 17, PIECE))
        async with node.fetch(shared.link, into=tmp_path / "received", options=options) as transfer:
            supplied = of_one - len(manifest_pieces)
            await until(lambda: transfer.now().pieces_done == supplied, "the folder has given all it can")
            await shared.resume()
            with trio.fail_after(20):
                path = await transfer.complete()
        assert tree(path) == tree(content)
        await node.aclose()
    stored = {event.piece: event.source for event in observed.of(swarm.PieceStored)}
    layout = shared.manifest.layout
    damaged = {
        piece
        for piece in range(layout.piece_count)
        if shared.manifest.files[layout.span(piece).file].path == ("one",)
        and layout.span(piece).offset // PIECE in manifest_pieces
    }
    assert len(damaged) == 2
    missing = {
        piece
        for piece in range(layout.piece_count)
        if shared.manifest.files[layout.span(piece).file].path != ("one",)
    }
    assert all(stored[piece] == sharer.peer_id for piece in damaged | missing)
    assert set(stored) == damaged | missing
    assert sum(event.pieces for event in observed.of(swarm.PiecesReused)) == supplied
    assert observed.of(swarm.PieceRefused) == []
    assert observed.of(swarm.SourceBanned) == []


@pytest.mark.parametrize("what", ["missing", "empty"])
async def test_a_folder_of_no_use_costs_nothing(tmp_path: Path, what: str) -> None:
    content = random_file(tmp_path / "content", MIB)
    base = tmp_path / "base"
    if what == "empty":
        base.mkdir()
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        shared = await sharer.share(content)
        options = swarm.TransferOptions(bases=(base,))
        async with node.fetch(shared.link, into=tmp_path / "received", options=options) as transfer:
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)


class OneFile:
    """A source of pieces such as a program could write; ``spoils`` is a piece that it gets wrong."""

    def __init__(self, path: Path, spoils: int | None = None) -> None:
        self.id = swarm.SourceId("one-file")
        self.description = "one file"
        self._path = path
        self._spoils = spoils

    async def deliver(self, desk: swarm.RequestDesk) -> None:
        desk.offer(swarm.PieceSet.all(desk.manifest.piece_count))
        while True:
            piece = await desk.next_request()
            span = desk.manifest.layout.span(piece)
            data = bytearray(self._path.read_bytes()[span.offset : span.offset + span.length])
            if piece == self._spoils:
                data[0] ^= 1
            await desk.supply(piece, memoryview(data))


async def test_a_program_s_own_source_of_pieces_suffices(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB + 5)
    source: swarm.PieceSource = OneFile(content)
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        envelope = (await sharer.share(content, piece_length=PIECE)).envelope
        transfer = node.fetch(envelope, into=tmp_path / "received")
        transfer.add_piece_source(source)
        async with transfer:
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)


async def test_a_source_of_pieces_that_is_wrong_is_not_asked_again(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with (
        loopback_node(tmp_path / "a") as sharer,
        loopback_node(tmp_path / "b") as node,
        trio.open_nursery() as nursery,
    ):
        shared = await sharer.share(content, piece_length=PIECE)
        observed = await observe(node, nursery)
        await shared.pause()
        transfer = node.fetch(shared.link, into=tmp_path / "received")
        transfer.add_piece_source(OneFile(content, spoils=3))
        async with transfer:
            await until(lambda: observed.of(swarm.SourceBanned), "it is banned")
            await shared.resume()
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)
        (banned,) = observed.of(swarm.SourceBanned)
        assert (banned.source, banned.piece) == ("one-file", 3)
        assert not node.is_banned(sharer.peer_id)
        await node.aclose()
    assert observed.of(swarm.PieceStored)
    assert all(event.source == sharer.peer_id for event in observed.of(swarm.PieceStored) if event.piece == 3)


class Rendezvous:
    """A source of peers such as a program could write: knows who has what, and notes what it is told."""

    provenance = "rendezvous"

    def __init__(self) -> None:
        self.known: dict[swarm.ManifestId, list[swarm.FoundPeer]] = {}
        self.announced: list[swarm.Announcement] = []
        self.withdrawn: list[swarm.ManifestId] = []

    def know(self, manifest: swarm.ManifestId, node: swarm.Node) -> None:
        addresses = tuple(address.partition("/p2p/")[0] for address in node.addresses)
        self.known.setdefault(manifest, []).append(swarm.FoundPeer(node.peer_id, addresses))

    async def peers(self, manifest: swarm.ManifestId) -> AsyncIterator[swarm.FoundPeer]:
        told = 0
        while True:
            found = self.known.get(manifest, [])
            while told < len(found):
                yield found[told]
                told += 1
            await trio.sleep(0.1)

    def announce(self, announcement: swarm.Announcement) -> None:
        self.announced.append(announcement)

    def withdraw(self, manifest: swarm.ManifestId) -> None:
        self.withdrawn.append(manifest)


@pytest.mark.parametrize("by", ["envelope", "id"])
async def test_a_program_s_own_source_of_peers(tmp_path: Path, by: str) -> None:
    content = random_file(tmp_path / "content", MIB)
    source: swarm.PeerSource
    source = rendezvous = Rendezvous()
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        shared = await sharer.share(content)
        node.add_peer_source(source)
        what = shared.envelope if by == "envelope" else shared.id
        async with node.fetch(what, into=tmp_path / "received") as transfer:
            await trio.sleep(0.3)
            rendezvous.know(shared.id, sharer)
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)
            await until(lambda: len(rendezvous.announced) == 2, "it is told of the completion")
            assert [each.complete for each in rendezvous.announced] == [False, True]
            assert {each.manifest for each in rendezvous.announced} == {shared.id}
            assert {each.addresses for each in rendezvous.announced} == {node.addresses}
            assert rendezvous.withdrawn == []
        assert rendezvous.withdrawn == [shared.id]


async def test_a_source_of_peers_that_fails_ends_only_itself(tmp_path: Path) -> None:
    class Broken(Rendezvous):
        async def peers(self, manifest: swarm.ManifestId) -> AsyncIterator[swarm.FoundPeer]:
            raise OSError("broken")
            yield

    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        shared = await sharer.share(content)
        node.add_peer_source(Broken())
        async with node.fetch(shared.link, into=tmp_path / "received") as transfer:
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)
