"""The small protocols beside the exchange: what a peer offers, and a manifest by its id, whole or in parts.

Specified in docs/protocol.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio

from swarm.content.envelope import Envelope, ForgedEnvelope
from swarm.content.times import MAX_TIMES_BYTES, TIME_BYTES, FileTimes
from swarm.endpoint import Endpoint, Route
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import DIGEST_BYTES, ManifestId, PeerId
from swarm.ports import ByteStream, Network
from swarm.protocol import protocol_limits as limits
from swarm.protocol.advert import (
    LENGTH_BYTES,
    Advert,
    decode_adverts,
    decode_length,
    encode_adverts,
    encode_length,
)
from swarm.protocol.outline import (
    MAX_OUTLINE_BYTES,
    PART_REQUEST_BYTES,
    Outline,
    decode_outline,
    decode_part_request,
    encode_outline,
    encode_part_request,
)
from swarm.transfer.give_up import REFUSED_SESSION

ADVERTISE_PROTOCOL: Final = "/swarm/advertise/1.0.0"
MANIFEST_PROTOCOL: Final = "/swarm/manifest/1.0.0"
"""A whole manifest in one answer: what versions before the other protocol ask and answer."""
PARTS_PROTOCOL: Final = "/swarm/manifest/2.0.0"
"""A manifest in parts, which several peers can send."""
TIMES_PROTOCOL: Final = "/swarm/times/1.0.0"
"""When folders and links of a complete folder were last modified."""
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024 + 1024
"""Bytes of an envelope in one answer. A larger manifest is sent in parts only."""
ENVELOPE_ROOM: Final = 512
"""Bytes of an envelope beside its manifest, if it has neither peers nor times; more than enough."""
MAX_OUTLINES: Final = 32
"""Manifests whose part hashes are remembered."""
CHUNK_BYTES: Final = 1 << 16
"""A manifest is read and sent in parts of this size: memory follows what arrives, not what is claimed."""

QUESTIONS_PER_PEER: Final = 4
"""Questions to one peer at the same time; a peer answers only so many, and takes more for an attack."""


class Questions:
    """Opens the streams on which this node asks peers; a peer that is asked is in use.

    ``answered`` is told when a question has ended. ``ban`` refuses a peer from now on. ``kept`` is the folder
    in which parts of manifests are kept until they are complete, None for memory.
    """

    def __init__(
        self,
        network: Network,
        is_banned: Callable[[PeerId], bool],
        answered: Callable[[PeerId], None],
        ban: Callable[[PeerId], object] = lambda _peer: None,
        kept: Path | None = None,
    ) -> None:
        self._network = network
        self._answered = answered
        self.ban = ban
        """Refuse a peer that broke a rule from now on."""
        self.kept = kept
        """The folder in which parts of manifests are kept; None: in memory."""
        self.is_banned = is_banned
        """Whether a peer is refused by this node."""
        self._limiters: dict[PeerId, trio.CapacityLimiter] = {}
        self._asked: Counter[PeerId] = Counter()

    @property
    def me(self) -> PeerId:
        """This node's id."""
        return self._network.peer_id

    def asking(self, peer: PeerId) -> bool:
        """Whether a question to the peer is open: its connection is not to be closed."""
        return peer in self._asked

    def connected(self, peer: PeerId) -> bool:
        """Whether a connection to the peer is open."""
        return self._network.connected(peer)

    @asynccontextmanager
    async def ask(self, peer: PeerId, where: Sequence[Route], protocol: str) -> AsyncIterator[ByteStream]:
        """A stream to the peer, which is connected to if need be; raises NoPeerReachable, LinkClosed."""
        if self.is_banned(peer):
            raise NoPeerReachable(f"{peer} broke a rule and is banned", telling=REFUSED_SESSION)
        with self.using(peer):
            async with self._limiters.setdefault(peer, trio.CapacityLimiter(QUESTIONS_PER_PEER)):
                await self._network.connect(peer, where)
                stream = await self._network.open_stream(peer, protocol)
                try:
                    yield stream
                finally:
                    await stream.reset()

    @contextmanager
    def using(self, peer: PeerId) -> Iterator[None]:
        """Until the end of the block a question to the peer is open."""
        self._asked[peer] += 1
        try:
            yield
        finally:
            self._asked[peer] -= 1
            if not self._asked[peer]:
                del self._asked[peer]
                self._limiters.pop(peer, None)
            self._answered(peer)


async def ask_adverts(stream: ByteStream) -> tuple[Advert, ...]:
    """Return what the peer offers.

    Raises RemoteError for a malformed answer, LinkClosed when none comes in `limits.ANSWER_TIMEOUT`.
    """
    with trio.move_on_after(limits.ANSWER_TIMEOUT):
        size = decode_length(await stream.read_exactly(LENGTH_BYTES), limits.MAX_ADVERTS_BYTES)
        return decode_adverts(await stream.read_exactly(size))
    raise LinkClosed("the peer did not say in time what it offers")


async def ask_manifest(stream: ByteStream, manifest: ManifestId) -> Envelope | None:
    """Return the manifest with that id and its signature, or None when the peer does not know it.

    The answer is checked against the id before it is parsed. Raises RemoteError when it is not that
    manifest, LinkClosed when the peer falls silent, ManifestError when the manifest of this id is not valid.
    """
    await stream.write(manifest.digest)
    size = decode_length(await _in_time(stream, LENGTH_BYTES), MAX_ANSWER_BYTES)
    chunks = [await _in_time(stream, min(CHUNK_BYTES, size - start)) for start in range(0, size, CHUNK_BYTES)]
    if not size:
        return None
    try:
        return await trio.to_thread.run_sync(lambda: Envelope.from_bytes(b"".join(chunks), manifest))
    except ForgedEnvelope as error:
        raise RemoteError(f"the manifest from {stream.peer} is not to be used: {error}") from error


async def ask_outline(stream: ByteStream, manifest: ManifestId) -> Outline | None:
    """Return what the peer says of the manifest with that id, or None when it does not know it.

    Raises RemoteError when that is malformed, LinkClosed when the peer falls silent.
    """
    await stream.write(manifest.digest)
    size = decode_length(await _in_time(stream, LENGTH_BYTES), MAX_OUTLINE_BYTES)
    return decode_outline(await _in_time(stream, size), manifest) if size else None


async def ask_part(stream: ByteStream, outline: Outline, part: int) -> bytes:
    """Return the bytes of one part, not yet checked; raises LinkClosed when the peer falls silent."""
    start, end = outline.span(part)
    data = bytearray()
    await stream.write(encode_part_request(part))
    while len(data) < end - start:
        data += await _in_time(stream, min(CHUNK_BYTES, end - start - len(data)))
    return bytes(data)


async def ask_tree_times(stream: ByteStream, manifest: ManifestId, count: int) -> FileTimes | None:
    """Return the times of the ``count`` folders and links, or None when the peer does not know them.

    Raises RemoteError for more than there are, LinkClosed when the peer falls silent.
    """
    await stream.write(manifest.digest)
    size = decode_length(await _in_time(stream, LENGTH_BYTES), min(count * TIME_BYTES, MAX_TIMES_BYTES))
    chunks = [await _in_time(stream, min(CHUNK_BYTES, size - start)) for start in range(0, size, CHUNK_BYTES)]
    return FileTimes(b"".join(chunks)) if size and size == count * TIME_BYTES else None


async def _in_time(stream: ByteStream, size: int) -> bytes:
    with trio.move_on_after(limits.ANSWER_TIMEOUT):
        return await stream.read_exactly(size)
    raise LinkClosed("the peer fell silent while it sent a manifest")


class Catalogue:
    """Answers these protocols from what this node shares; never more than a bounded answer each."""

    def __init__(
        self,
        adverts: Callable[[ByteStream], Sequence[Advert]],
        envelope: Callable[[ManifestId], Envelope | None],
        tree_times: Callable[[ManifestId], Awaitable[bytes]] | None = None,
    ) -> None:
        self._adverts = adverts
        self._tree_times = tree_times
        self._envelope = envelope
        self._hashes: dict[ManifestId, bytes] = {}

    async def advertise(self, stream: ByteStream) -> None:
        """Tell the peer what this node offers to it."""
        body = encode_adverts(self._adverts(stream)[: limits.MAX_ADVERTS])
        await _send(stream, body)

    async def manifest(self, stream: ByteStream) -> None:
        """Send the manifest whose id the peer names; an empty answer when it is not known here."""
        digest = await _in_time(stream, DIGEST_BYTES)
        envelope = self._envelope(ManifestId(digest))
        fits = envelope is not None and len(envelope.manifest.encode()) < MAX_ANSWER_BYTES - ENVELOPE_ROOM
        if envelope is None or not fits:
            await _send(stream, b"")
        else:
            await _send(stream, await trio.to_thread.run_sync(envelope.plain_bytes))

    async def times(self, stream: ByteStream) -> None:
        """Send the times of folders and links of what the peer names; an empty answer when there are none."""
        manifest = ManifestId(await _in_time(stream, DIGEST_BYTES))
        await _send(stream, await self._tree_times(manifest) if self._tree_times is not None else b"")

    async def parts(self, stream: ByteStream) -> None:
        """Send the outline of the manifest whose id the peer names, and then the parts that it asks for.

        An empty answer when it is not known here.
        """
        manifest = ManifestId(await _in_time(stream, DIGEST_BYTES))
        envelope = self._envelope(manifest)
        if envelope is None:
            await _send(stream, b"")
            return
        encoded = envelope.manifest.encode()
        times = b"" if envelope.times is None else envelope.times.packed
        outline = Outline(len(encoded), await self._hashes_of(envelope), len(times), envelope.signature)
        await _send(stream, encode_outline(outline))
        while True:
            request = await _in_time(stream, PART_REQUEST_BYTES)
            part = decode_part_request(request, outline)
            if self._envelope(manifest) is None:
                raise LinkClosed("the manifest is not served any more")
            start, end = outline.span(part)
            await _send_body(stream, memoryview(encoded if part < outline.parts else times)[start:end])

    async def _hashes_of(self, envelope: Envelope) -> bytes:
        manifest = envelope.manifest
        hashes = self._hashes.pop(manifest.id, None)
        if hashes is None:
            hashes = (await trio.to_thread.run_sync(Outline.of, manifest.encode())).hashes
        self._hashes[manifest.id] = hashes
        if len(self._hashes) > MAX_OUTLINES:
            del self._hashes[next(iter(self._hashes))]
        return hashes


def same_machine(remote_address: str, own: Iterable[str]) -> bool:
    """Whether a connection from this multiaddr comes from the machine that has the ``own`` addresses."""
    remote = Endpoint.read(remote_address)
    if remote is None:
        return False
    mine = (Endpoint.read(text.partition("/p2p/")[0]) for text in own)
    return remote.is_loopback or any(each is not None and each.same_host(remote) for each in mine)


async def _send(stream: ByteStream, body: bytes) -> None:
    await _write_in_time(stream, encode_length(len(body)))
    await _send_body(stream, memoryview(body))


async def _send_body(stream: ByteStream, view: memoryview) -> None:
    for start in range(0, len(view), CHUNK_BYTES):
        await _write_in_time(stream, view[start : start + CHUNK_BYTES])


async def _write_in_time(stream: ByteStream, data: bytes | memoryview) -> None:
    # A peer that does not take its answer is dropped; nothing is held for it for long.
    with trio.move_on_after(limits.ANSWER_TIMEOUT) as scope:
        await stream.write(data)
    if scope.cancelled_caught:
        raise LinkClosed("the peer does not read the answer that it asked for")
