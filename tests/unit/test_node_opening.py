"""How content is opened: what a link, an id, a file and options come to, with a network in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from swarm.config import TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.link import SwarmLink
from swarm.content.signature import sign
from swarm.discovery.named_peers import NamedPeers
from swarm.endpoint import Endpoint
from swarm.errors import LinkClosed, ManifestError, NoPeerReachable, UsageError
from swarm.events import Event, FilesSelected, HashingProgress, ManifestReady, TransferResumed, Warned
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.net.addresses import parse_peer_address
from swarm.node.catalogue import Catalogue, Questions
from swarm.node.opening import (
    HASHING_SECONDS,
    ContentOpener,
    FetchRequest,
    ShareRequest,
    open_fetch,
    open_share,
)
from swarm.ports import ByteStream, FoundPeer
from swarm.storage.hash_cache import HashCache
from swarm.transfer.transfer import OpenContent
from tests.support.contents import folder_manifest
from tests.support.memory_link import memory_link_pair

RELEASES: Any = None
"""No series is fetched here."""
KEY = bytes(range(32))
ONE = TransferId(1)
FILES = {name: random.Random(name).randbytes(50_000) for name in ("a.jpg", "b.jpg", "notes/c.txt")}
MANIFEST = folder_manifest("photos", FILES)
ENVELOPE = Envelope(MANIFEST, sign(KEY, MANIFEST.encode()))
ANN = PeerId("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo")
BEN = PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
AT_ANN, AT_ANN_TOO = f"/ip4/192.0.2.1/tcp/1/p2p/{ANN}", f"/ip4/192.0.2.9/tcp/1/ipfs/{ANN}"
AT_BEN = f"/dns4/example.org/tcp/2/p2p/{BEN}"


class Peers:
    """A network on which every peer has the manifest, or nobody is there."""

    peer_id = PeerId("me")

    def __init__(self, *, reachable: bool = True) -> None:
        self.reachable = reachable
        self.dialled: dict[str, tuple[str, ...]] = {}
        self.nursery: trio.Nursery

    async def connect(self, peer: PeerId, where: Sequence[Endpoint]) -> str:
        self.dialled[peer] = tuple(map(str, where))
        await trio.lowlevel.checkpoint()
        if not self.reachable:
            raise NoPeerReachable(f"{where[0]}: connection refused")
        return str(where[0])

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        here, there = memory_link_pair(self.peer_id, peer)
        self.nursery.start_soon(self._serve, there)
        await trio.lowlevel.checkpoint()
        return here

    async def _serve(self, stream: ByteStream) -> None:
        with suppress(LinkClosed):
            await Catalogue(lambda _: [], {MANIFEST.id: ENVELOPE}.get).parts(stream)


class Opening:
    """A node's part in opening content, without the node."""

    def __init__(self, *, reachable: bool = True) -> None:
        self.network = Peers(reachable=reachable)
        self.events: list[Event] = []
        self.claimed: list[ManifestId] = []
        self.refuse_claims = False
        self.sources: list[NamedPeers] = []
        self.opener = ContentOpener(
            Questions(self.network, lambda _: False, lambda _: None),  # type: ignore[arg-type]
            KEY,
            self.events.append,
            self._claim,
            lambda: self.sources,
            # Nothing can be written there, which costs only the memory of what was hashed.
            HashCache(Path("/proc/nowhere")),
            RELEASES,
            lambda _further: (),
        )
        self.transfer: Any = SimpleNamespace(number=ONE, piece_sources=(), peers=tuple)

    def _claim(self, transfer: Any, manifest: ManifestId) -> None:
        assert transfer is self.transfer
        if self.refuse_claims:
            raise UsageError("taken")
        self.claimed.append(manifest)

    @asynccontextmanager
    async def fetch(self, what: Any, into: Path, **fields: Any) -> AsyncIterator[OpenContent]:
        options = TransferOptions(**fields)
        request = FetchRequest.read(what, into, options.peers, options)
        async with trio.open_nursery() as self.network.nursery:
            async with open_fetch(self.opener, self.transfer, request) as content:
                yield content
            self.network.nursery.cancel_scope.cancel()

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def named_by(content: OpenContent) -> list[FoundPeer]:
    return [found for source in content.peer_sources async for found in source.peers(MANIFEST.id)]


async def fails(work: Callable[[], Awaitable[None]]) -> BaseException:
    """The one error out of the groups that nurseries make."""
    try:
        await work()
    except Exception as error:
        found: BaseException = error
        while isinstance(found, BaseExceptionGroup):
            assert len(found.exceptions) == 1
            found = found.exceptions[0]
        return found
    pytest.fail("nothing was raised")


# --- Whom to ask ----------------------------------------------------------------------------------


async def test_the_peers_of_a_link_come_after_those_that_were_given_and_each_once(tmp_path: Path) -> None:
    opening = Opening()
    link = SwarmLink(MANIFEST.id, (AT_ANN, "/ip4/192.0.2.9/tcp/1", AT_BEN, AT_ANN_TOO), "photos")
    async with opening.fetch(str(link), tmp_path, peers=(AT_BEN, AT_BEN)) as content:
        assert content.envelope == ENVELOPE
        assert len(content.peer_sources) == 1
        assert await named_by(content) == [
            FoundPeer(BEN, ("/dns4/example.org/tcp/2",)),
            FoundPeer(ANN, ("/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.9/tcp/1")),
        ]
    assert opening.of(Warned) == [
        Warned(
            "the address '/ip4/192.0.2.9/tcp/1' in the link or manifest cannot be used and is left out", ONE
        )
    ]
    assert set(opening.network.dialled) <= {ANN, BEN}
    assert opening.claimed == [MANIFEST.id]


@pytest.mark.parametrize("what", [str(MANIFEST.id), MANIFEST.id, f"swarm:{MANIFEST.id}"])
async def test_an_id_alone_needs_a_peer(tmp_path: Path, what: str | ManifestId) -> None:
    async def fetch() -> None:
        async with Opening().fetch(what, tmp_path):
            pytest.fail("there is nobody to ask")

    error = await fails(fetch)
    assert isinstance(error, UsageError)
    assert "names no peer" in str(error)
    async with Opening().fetch(what, tmp_path, peers=(AT_ANN,)) as content:
        assert content.envelope == ENVELOPE


async def test_a_link_whose_peer_is_malformed_is_not_said_to_name_none(tmp_path: Path) -> None:
    async def fetch() -> None:
        async with Opening().fetch(str(SwarmLink(MANIFEST.id, (f"{AT_ANN}0",))), tmp_path):
            pytest.fail("there is nobody to ask")

    assert (
        str(await fails(fetch))
        == "no address in the link can be used: look whether it is whole, or add a peer"
    )
    opening = Opening()
    opening.sources = [NamedPeers([parse_peer_address(AT_BEN)])]
    async with opening.fetch(str(SwarmLink(MANIFEST.id, (f"{AT_ANN}0",))), tmp_path) as content:
        assert content.envelope == ENVELOPE
    words = f"the address '{AT_ANN}0' in the link or manifest cannot be used and is left out"
    assert opening.of(Warned) == [Warned(words, ONE)]


async def test_an_address_in_a_manifest_is_named_shortly_and_without_secrets(tmp_path: Path) -> None:
    opening = Opening()
    peers = (f"{AT_ANN}0{'x' * 300}", "/origin/ftp://user:word@192.0.2.1/?key=1", AT_BEN)
    async with opening.fetch(ENVELOPE.with_peers(peers), tmp_path):
        pass
    first, second = (event.message for event in opening.of(Warned))
    assert f"the address '{AT_ANN}0" in first
    assert len(first) < 250
    assert second == "the address '/origin/…' in the link or manifest cannot be used and is left out"


async def test_a_manifest_that_is_at_hand_is_not_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "photos.swarm"
    file.write_bytes(ENVELOPE.to_bytes())
    for what in (str(file), file, ENVELOPE):
        opening = Opening(reachable=False)
        async with opening.fetch(what, tmp_path, peers=(AT_ANN,)) as content:
            assert content.envelope == ENVELOPE
            assert content.size == 150_000
        assert opening.network.dialled == {}


async def test_nobody_to_fetch_from_is_a_wrong_call_unless_somebody_may_come(tmp_path: Path) -> None:
    async def fetch() -> None:
        async with Opening().fetch(ENVELOPE, tmp_path):
            pytest.fail("there is nobody to fetch from")

    error = await fails(fetch)
    assert isinstance(error, UsageError)
    assert "nobody to fetch from" in str(error)
    async with Opening().fetch(ENVELOPE, tmp_path, seed=True) as content:
        assert not content.piece_sources
    async with Opening().fetch(ENVELOPE, tmp_path, bases=(tmp_path,)) as content:
        assert [source.description for source in content.piece_sources] == [str(tmp_path)]
    given = Opening()
    given.transfer.piece_sources = (object(),)
    async with given.fetch(ENVELOPE, tmp_path) as content:
        assert not content.piece_sources


async def test_the_peers_of_the_nodes_own_sources_are_asked_too(tmp_path: Path) -> None:
    opening = Opening()
    opening.sources = [NamedPeers([parse_peer_address(AT_BEN)])]
    async with opening.fetch(MANIFEST.id, tmp_path) as content:
        assert content.envelope == ENVELOPE
        assert await named_by(content) == [], "the transfer asks the node for its sources itself"
        assert not content.piece_sources
    assert opening.network.dialled == {BEN: ("/dns4/example.org/tcp/2",)}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nothing.swarm", "there is no file nothing.swarm"),
        (".", ". is a folder: give a"),
        ("warm:" + "x" * 300, "there is no file warm:x"),
    ],
)
async def test_what_is_neither_file_nor_id_nor_link_is_a_wrong_call(
    tmp_path: Path, what: str, words: str
) -> None:
    async def fetch() -> None:
        async with Opening().fetch(what, tmp_path, peers=(AT_ANN,)):
            pytest.fail("that is nothing")

    error = await fails(fetch)
    assert isinstance(error, UsageError)
    assert words in str(error)


def test_what_is_malformed_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        FetchRequest.read("swarm:nonsense", tmp_path, (), TransferOptions())
    with pytest.raises(UsageError, match="is not a signer"):
        FetchRequest.read(ENVELOPE, tmp_path, (), TransferOptions(trusted=("me",)))


async def test_a_signature_of_the_trusted_is_required(tmp_path: Path) -> None:
    assert ENVELOPE.signer is not None

    async def fetch() -> None:
        async with Opening().fetch(ENVELOPE, tmp_path, peers=(AT_ANN,), trusted=(BEN,)):
            pytest.fail("it is signed by somebody else")

    assert isinstance(await fails(fetch), ManifestError)
    assert list(tmp_path.iterdir()) == [], "nothing is put into the folder"
    async with Opening().fetch(MANIFEST.id, tmp_path, peers=(AT_ANN,), trusted=(ENVELOPE.signer,)) as content:
        assert content.envelope.signer == ENVELOPE.signer


async def test_a_manifest_that_another_transfer_has_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    opening = Opening()
    opening.refuse_claims = True

    async def fetch() -> None:
        async with opening.fetch(ENVELOPE, tmp_path, peers=(AT_ANN,)):
            pytest.fail("it belongs to another")

    assert str(await fails(fetch)) == "taken"
    assert list(tmp_path.iterdir()) == []
    assert opening.events == []


# --- What is told ---------------------------------------------------------------------------------


async def test_the_manifest_the_selection_and_what_is_there_already_are_told(tmp_path: Path) -> None:
    opening = Opening()
    async with opening.fetch(ENVELOPE, tmp_path, peers=(AT_ANN,), only=("*.jpg",)) as content:
        assert content.size == 100_000
        assert content.wanted.count == 8
        for piece in list(content.wanted)[:3]:
            await content.store.put(piece, memoryview(_piece(piece)))
    assert opening.of(ManifestReady) == [
        ManifestReady(ONE, MANIFEST.id, "photos", 150_000, 12, 16384, 3, ENVELOPE.signer)
    ]
    assert opening.of(FilesSelected) == [FilesSelected(ONE, 2, 8, 100_000)]
    assert opening.of(TransferResumed) == []
    again = Opening()
    async with again.fetch(ENVELOPE, tmp_path, peers=(AT_ANN,)) as content:
        assert content.store.stored.count == 3
    assert again.of(FilesSelected) == []
    assert again.of(TransferResumed) == [TransferResumed(ONE, 3, 3 * 16384)]


def _piece(piece: int) -> bytes:
    span = MANIFEST.layout.span(piece)
    data = FILES["/".join(MANIFEST.files[span.file].path)]
    return data[span.offset : span.offset + span.length]


async def test_what_is_shared_is_hashed_signed_and_told(tmp_path: Path) -> None:
    for name, data in FILES.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "photos" / "link").symlink_to("/a.jpg")
    opening = Opening()
    request = ShareRequest(tmp_path / "photos", 16384, (AT_ANN, AT_ANN_TOO))
    async with open_share(opening.opener, opening.transfer, request) as content:
        assert content.envelope.manifest == MANIFEST
        assert content.envelope.signer == ENVELOPE.signer
        assert content.store.stored.full
        assert content.wanted.full
        assert len(content.peer_sources) == 1
        assert [found.peer for found in await named_by(content)] == [ANN]
        assert await content.finish() == tmp_path / "photos"
    assert opening.claimed == [MANIFEST.id]
    (warned,) = opening.of(Warned)
    assert warned.transfer == ONE
    assert "link" in warned.message
    assert opening.of(HashingProgress)[-1] == HashingProgress(ONE, 150_000, 150_000)
    assert [event.manifest for event in opening.of(ManifestReady)] == [MANIFEST.id]


async def test_hashing_is_told_a_few_times_a_second_and_at_its_end(tmp_path: Path) -> None:
    """However many small files there are."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number}").write_bytes(b"x" * 100)
    opening = Opening()
    request = ShareRequest(folder, None, ())
    began = trio.current_time()
    async with open_share(opening.opener, opening.transfer, request):
        seconds = trio.current_time() - began
    told = opening.of(HashingProgress)
    assert 1 <= len(told) <= seconds / HASHING_SECONDS + 2
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1] == HashingProgress(ONE, 200_000, 200_000)
