"""A manifest in parts from several peers: who sends what, who is to blame, and what a later run finds."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import cbor2
import pytest
import trio
import trio.testing
from blake3 import blake3

from swarm.content.envelope import Envelope
from swarm.content.manifest import FileEntry, Manifest
from swarm.content.signature import sign
from swarm.content.times import FileTimes
from swarm.discovery.named_peers import NamedPeers
from swarm.endpoint import Endpoint, PeerAddress
from swarm.errors import LinkClosed, ManifestError, NoPeerReachable, RemoteError, SwarmError
from swarm.ids import ManifestId, PeerId
from swarm.node import manifest_assembly
from swarm.node.catalogue import PARTS_PROTOCOL, Catalogue, Questions
from swarm.node.manifest_search import find_manifest
from swarm.ports import Announcement, ByteStream, FoundPeer, PeerSource
from swarm.protocol.outline import PART_BYTES, Outline, decode_outline, encode_outline
from swarm.storage.kept_parts import MAX_KEPT_FILES, MAX_KEPT_SECONDS, KeptParts
from tests.support.memory_link import memory_link_pair

KEY = bytes(range(32))
ENDPOINT = Endpoint.parse("/ip4/192.0.2.1/tcp/1")
MOVED = Endpoint.parse("/ip4/192.0.2.2/tcp/1")
PIECES = 5 * PART_BYTES // 32


def manifest_of(seed: int) -> Manifest:
    """A manifest of a little more than five parts."""
    hashes = random.Random(seed).randbytes(32 * PIECES)
    return Manifest("big", False, 16384, [FileEntry(("big",), PIECES * 16384, False, hashes[:32], hashes)])


MANIFEST = manifest_of(1)
TIMES = FileTimes.of([1_700_000_000 * 10**9])
ENVELOPE = Envelope(MANIFEST, sign(KEY, MANIFEST.encode()), (), TIMES)
OUTLINE = Outline.of(MANIFEST.encode(), TIMES.packed, ENVELOPE.signature)
Serve = Callable[[ByteStream], Awaitable[None]]


class Serving:
    """A peer that answers in parts; ``part`` may change what it sends."""

    def __init__(
        self,
        envelope: Envelope = ENVELOPE,
        outline: Outline | None = None,
        part: Callable[[int, bytes], bytes] = lambda _number, data: data,
    ) -> None:
        times = b"" if envelope.times is None else envelope.times.packed
        self.encoded = envelope.manifest.encode()
        self.times = times
        self.outline = outline or Outline.of(self.encoded, times, envelope.signature)
        self.part = part
        self.asked: list[int] = []

    async def __call__(self, stream: ByteStream) -> None:
        await stream.read_exactly(32)
        body = encode_outline(self.outline)
        await stream.write(len(body).to_bytes(4, "big"), body)
        while True:
            number = int.from_bytes(await stream.read_exactly(4), "big")
            self.asked.append(number)
            start, end = self.outline.span(number)
            source = self.encoded if number < self.outline.parts else self.times
            await stream.write(self.part(number, source[start:end]))
            # So that all peers take part.
            await trio.sleep(0.01)


class Peers:
    """A `swarm.ports.Network` of peers that each speak the new protocol; a function speaks the old one."""

    peer_id = PeerId("here")

    def __init__(self, kept: Path | None = None, **serving: Serving | Serve) -> None:
        self.serving = serving
        self.kept = kept
        self.nursery: trio.Nursery
        self.banned: set[PeerId] = set()

    async def connect(self, peer: PeerId, where: Sequence[Endpoint]) -> str:
        await trio.lowlevel.checkpoint()
        return str(where[0])

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        await trio.lowlevel.checkpoint()
        serve = self.serving[peer]
        if (protocol == PARTS_PROTOCOL) != isinstance(serve, Serving):
            raise LinkClosed(f"{peer} does not answer {protocol}")
        here, there = memory_link_pair(self.peer_id, peer)
        self.nursery.start_soon(self._serve, serve, there)
        return here

    async def _serve(self, serve: Serve, stream: ByteStream) -> None:
        try:
            await serve(stream)
        except SwarmError:
            await stream.reset()

    async def find(
        self, manifest: ManifestId = MANIFEST.id, patience: float = 20.0, *besides: PeerSource
    ) -> Envelope:
        named = NamedPeers(PeerAddress(PeerId(name), ENDPOINT) for name in self.serving)
        questions = Questions(self, self.banned.__contains__, lambda _: None, self.banned.add, self.kept)
        found: Envelope | SwarmError
        async with trio.open_nursery() as self.nursery:
            try:
                found = await find_manifest(questions, manifest, [named, *besides], (), patience)
            except SwarmError as error:
                found = error
            self.nursery.cancel_scope.cancel()
        if isinstance(found, SwarmError):
            raise found
        return found


async def test_several_peers_each_send_some_of_the_parts() -> None:
    peers = {name: Serving() for name in ("a", "b", "c")}
    found = await Peers(**peers).find()
    assert found == ENVELOPE
    assert found.times == TIMES
    asked = sorted(number for peer in peers.values() for number in peer.asked)
    assert [number for number in asked if number < OUTLINE.parts] == list(range(OUTLINE.parts))
    assert sum(bool(peer.asked) for peer in peers.values()) == 3


async def test_who_is_asked_once_is_asked_where_another_source_names_it_later() -> None:
    class Moved(Peers):
        async def connect(self, peer: PeerId, where: Sequence[Endpoint]) -> str:
            tried.append(where)
            if MOVED not in where:
                raise NoPeerReachable(f"{where[0]}: connection refused")
            return await super().connect(peer, where)

    class Later:
        provenance = "later"

        async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
            assert manifest == MANIFEST.id
            await trio.testing.wait_all_tasks_blocked(0.05)
            for _ in range(3):
                yield FoundPeer(PeerId("a"), (str(ENDPOINT),))
            yield FoundPeer(PeerId("a"), (str(MOVED),))
            await trio.sleep_forever()

        def announce(self, announcement: Announcement) -> None: ...
        def withdraw(self, manifest: ManifestId) -> None: ...

    tried: list[Sequence[Endpoint]] = []
    with trio.fail_after(10):
        assert await Moved(a=Serving()).find(MANIFEST.id, 0.0, Later()) == ENVELOPE
    assert tried == [(ENDPOINT,), (ENDPOINT, MOVED)]


async def test_a_wrong_part_is_the_senders_fault_and_spoils_nothing() -> None:
    good, liar = Serving(), Serving(part=lambda _number, data: bytes(len(data)))
    network = Peers(liar=liar, good=good)
    assert await network.find() == ENVELOPE
    assert network.banned == {"liar"}
    assert len(liar.asked) == 1


async def test_an_outline_that_is_not_of_the_manifest_is_the_fault_of_all_who_gave_it() -> None:
    other = Envelope(manifest_of(2))
    liars = {name: Serving(other) for name in ("x", "y")}
    network = Peers(**liars, good=Serving(part=lambda _number, data: data))
    assert await network.find() == ENVELOPE
    alone = Peers(**{name: Serving(other) for name in ("x", "y")})
    with pytest.raises(SwarmError, match="outline of a manifest was false"):
        await alone.find(patience=5)
    assert alone.banned == {"x", "y"}
    assert network.banned <= {"x", "y"}


async def test_a_peer_that_vanishes_costs_nothing_but_its_part() -> None:
    def vanish(number: int, data: bytes) -> bytes:
        if number:
            raise LinkClosed("gone")
        return data

    network = Peers(gone=Serving(part=vanish), good=Serving())
    assert await network.find() == ENVELOPE
    assert network.banned == set()


async def test_a_peer_that_hesitates_at_the_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_assembly, "STALLED_SECONDS", 0.1)

    class Hesitating(Serving):
        async def __call__(self, stream: ByteStream) -> None:
            await stream.read_exactly(32)
            body = encode_outline(self.outline)
            await stream.write(len(body).to_bytes(4, "big"), body)
            await trio.sleep_forever()

    with trio.fail_after(9):
        assert await Peers(slow=Hesitating(), good=Serving()).find() == ENVELOPE


async def test_what_one_run_received_the_next_one_does_not_ask_for(tmp_path: Path) -> None:
    def give_up(number: int, data: bytes) -> bytes:
        if number == 3:
            raise LinkClosed("gone")
        return data

    kept = tmp_path / "manifests"
    with pytest.raises(SwarmError):
        await Peers(kept, first=Serving(part=give_up)).find(patience=0)
    (file,) = kept.iterdir()
    # A part that rotted on the disk is asked for again.
    with file.open("r+b") as parts:
        parts.seek(PART_BYTES + 5)
        parts.write(b"rot")
    second = Serving()
    assert await Peers(kept, second=second).find() == ENVELOPE
    assert [number for number in second.asked if number < OUTLINE.parts] == [1, 3, 4, 5]
    assert list(kept.iterdir()) == []


async def test_a_home_that_cannot_be_written_to_costs_only_the_resumption(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert await Peers(tmp_path / "file" / "manifests", good=Serving()).find() == ENVELOPE


async def test_what_is_kept_is_bounded_and_locked(tmp_path: Path) -> None:
    for number in range(3 * MAX_KEPT_FILES):
        kept = KeptParts(tmp_path, f"{number:03}")
        kept.write(0, b"part")
        kept.close()
        os.utime(tmp_path / f"{number:03}.part", (10**9 + number, 10**9 + number))
    held = KeptParts(tmp_path, "held")
    assert len(list(tmp_path.iterdir())) <= MAX_KEPT_FILES + 1
    assert KeptParts(tmp_path, "held").path is None, "another process has it"
    held.close()
    old = tmp_path / "held.part"
    os.utime(old, (old.stat().st_mtime - MAX_KEPT_SECONDS - 5,) * 2)
    KeptParts(tmp_path, "new").close()
    assert [path.name for path in tmp_path.iterdir()] == ["new.part"]


async def test_old_peers_and_new_ones_give_each_other_small_manifests() -> None:
    small = Manifest(
        "a", False, 16384, [FileEntry(("a",), 1, False, blake3(b"1").digest(), blake3(b"1").digest())]
    )
    envelope = Envelope(small, sign(KEY, small.encode()), (), TIMES)
    catalogue = Catalogue(lambda _: [], {small.id: envelope}.get)
    found = await Peers(old=catalogue.manifest).find(small.id)
    assert found == Envelope(small, envelope.signature)
    assert await Peers(new=Serving(envelope)).find(small.id) == envelope
    # What an old peer reads is the old format.
    here, there = memory_link_pair(PeerId("here"), PeerId("there"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalogue.manifest, there)
        await here.write(small.id.digest)
        size = int.from_bytes(await here.read_exactly(4), "big")
        assert cbor2.loads(await here.read_exactly(size))["v"] == 1


async def test_the_real_catalogue_serves_parts_and_times() -> None:
    catalogue = Catalogue(lambda _: [], {MANIFEST.id: ENVELOPE}.get)

    class Real(Serving):
        async def __call__(self, stream: ByteStream) -> None:
            await catalogue.parts(stream)

    assert await Peers(a=Real(), b=Real()).find() == ENVELOPE
    with pytest.raises(SwarmError, match="does not have it"):
        await Peers(a=Real()).find(manifest_of(3).id, patience=0)


async def test_a_manifest_that_is_not_valid_is_nobodys_fault() -> None:
    broken = b"\xa0" * (2 * PART_BYTES)

    class Broken(Serving):
        def __init__(self) -> None:
            super().__init__(outline=Outline.of(broken))
            self.encoded = broken

    network = Peers(a=Broken())
    with trio.fail_after(5), pytest.raises(ManifestError, match="not a swarm manifest"):
        await network.find(ManifestId(blake3(broken).digest()))
    assert network.banned == set()


async def test_a_wrong_signature_is_the_fault_of_who_gave_it() -> None:
    forged = Outline(OUTLINE.size, OUTLINE.hashes, 0, sign(KEY, b"something else"))
    network = Peers(forger=Serving(outline=forged))
    with pytest.raises(SwarmError, match="signature of this manifest is wrong"):
        await network.find(patience=3)
    assert network.banned == {"forger"}
    both = Peers(forger=Serving(outline=forged), good=Serving())
    assert (await both.find()).signer == ENVELOPE.signer


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 0, "parts": b""},
        {"size": -1},
        {"size": 1 << 40},
        {"size": True},
        {"size": OUTLINE.size + PART_BYTES},
        {"size": 1000, "parts": bytes(32)},
        {"parts": OUTLINE.hashes[1:]},
        {"parts": "text"},
        {"times": 1 << 40},
        {"times": ...},
        {"signature": bytes(64)},
        {"signature": bytes(63), "public_key": bytes(32)},
        {"more": 1},
    ],
)
def test_malformed_outlines_are_refused(changes: dict[str, object]) -> None:
    plain = Outline(OUTLINE.size, OUTLINE.hashes)
    fields = cbor2.loads(encode_outline(plain)) | changes
    body = cbor2.dumps({key: value for key, value in fields.items() if value is not ...}, canonical=True)
    with pytest.raises(RemoteError, match="malformed outline"):
        decode_outline(body, MANIFEST.id)
    assert decode_outline(encode_outline(OUTLINE), MANIFEST.id) == OUTLINE
