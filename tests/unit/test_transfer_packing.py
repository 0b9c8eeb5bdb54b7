"""Payload in compressed form: when it is sent, and what becomes of a peer that sends it wrongly."""

from __future__ import annotations

import random
import tracemalloc

import pytest
import trio
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from swarm.config import TransferOptions
from swarm.content.layout import Layout
from swarm.errors import RemoteError
from swarm.events import BytesReceived, BytesSent, BytesSpared
from swarm.ids import PeerId
from swarm.protocol.codec import PACKED, decode_header, decode_packed_head, encode, encode_packed_head
from swarm.protocol.messages import (
    PACK_EXTENSION,
    Data,
    HaveAll,
    HaveNone,
    Hello,
    Interested,
    Packed,
    Request,
    Unchoke,
)
from swarm.protocol.packing import pack, unpack
from swarm.storage.memory_store import MemoryStore
from swarm.transfer import buffers, pacing, packer, session_io
from swarm.transfer.buffers import UPLOAD_BYTES
from swarm.transfer.packer import CHUNKS_UNTRIED, SLOW_RATE, Packer
from tests.support.contents import file_manifest
from tests.support.exchanges import Member
from tests.support.memory_link import memory_link_pair
from tests.support.raw_peer import RawPeer

ME, RAW = PeerId("M" * 40), PeerId("R" * 40)
PIECE = 256 * 1024
CONTENT = random.Random(5).randbytes(3 * PIECE // 2).hex().encode()
"""It shrinks to a little more than half."""
MANIFEST = file_manifest("text", CONTENT, piece_length=PIECE)
FAR = "/ip4/192.0.2.1/tcp/4001"
SLOW = TransferOptions(upload_limit=2_000_000)


def _streamed(payload: bytes, window_bits: int = 18) -> bytes:
    """A frame that does not say how long its payload is."""
    options = {
        zstd.CompressionParameter.window_log: window_bits,
        zstd.CompressionParameter.content_size_flag: 0,
    }
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(payload[:100]) + compressor.compress(payload[100:]) + compressor.flush()


# --- The frame ------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 40))
def test_what_is_packed_comes_out_again(part: bytes, times: int) -> None:
    payload = part * times
    frame = pack(payload)
    if frame is not None:
        assert len(frame) < len(payload)
        assert unpack(frame, len(payload)) == payload
        for size in (len(payload) - 1, len(payload) + 1):
            with pytest.raises(RemoteError):
                unpack(frame, size)


def test_what_does_not_shrink_is_not_packed() -> None:
    assert pack(random.Random(1).randbytes(5000)) is None


def test_a_bomb_is_refused_within_the_claimed_size() -> None:
    bomb = _streamed(bytes(1 << 28))
    unpack(pack(bytes(2000)) or b"", 2000)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteError, match="not one frame of 262144 bytes"):
            unpack(bomb, PIECE)
        assert tracemalloc.get_traced_memory()[1] < 3 * PIECE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no frame at all",
        zstd.compress(bytes(1000))[:-1],
        zstd.compress(bytes(1000)) + b"x",
        zstd.compress(bytes(500)) + zstd.compress(bytes(500)),
        _streamed(bytes(2000)),
        # It asks for a window of 128 MiB.
        _streamed(bytes(1000), 27),
    ],
)
def test_anything_but_one_sound_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(RemoteError):
        unpack(frame, 1000)


def test_the_head_is_coded_and_an_impossible_one_refused() -> None:
    head = encode_packed_head(3, 65536, 1000, 200)
    kind, size = decode_header(head[:5])
    assert kind == PACKED
    assert decode_packed_head(head[5:], size) == Packed(3, 65536, 1000, 200)
    assert encode(Packed(3, 65536, 1000, 200)) == head
    for size_, packed in ((1000, 1000), ((1 << 20) + 1, 10)):
        body = b"".join(number.to_bytes(4, "big") for number in (3, 0, size_))
        with pytest.raises(RemoteError):
            decode_packed_head(body, 12 + packed)


# --- When to pack ---------------------------------------------------------------------------------


@pytest.fixture
def idle_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process counts as idle, whatever the tests make it do."""
    monkeypatch.setattr(packer, "BUSY_SHARE", 1e9)


def _packer(address: str = FAR, files: int = 2) -> Packer:
    return Packer(Layout(PIECE, [3 * PIECE] * files), address)


@pytest.mark.usefixtures("idle_processor")
def test_it_packs_for_a_slow_link_only() -> None:
    text = memoryview(CONTENT)
    assert _packer().pack(0, text, 65536, SLOW_RATE / 2) is not None
    assert _packer().pack(0, text, 65536, 2 * SLOW_RATE) is None
    assert _packer("/ip4/127.0.0.1/tcp/1").pack(0, text, 65536, SLOW_RATE / 2) is None
    assert _packer("/ip6/::1/tcp/1").pack(0, text, 65536, SLOW_RATE / 2) is None


@pytest.mark.usefixtures("idle_processor")
def test_the_chunk_grows_as_the_payload_shrinks() -> None:
    chosen, text = _packer(), memoryview(CONTENT)
    sizes = [
        len(frame) for _ in range(8) if (found := chosen.pack(0, text, 20_000, 1e6)) for frame in [found[1]]
    ]
    assert sizes[0] < 13_000
    assert 17_000 < sizes[-1] < 25_000


@pytest.mark.usefixtures("idle_processor")
def test_a_file_that_does_not_shrink_is_tried_again_rarely_and_others_are_tried() -> None:
    chosen, noise = _packer(), memoryview(random.Random(3).randbytes(65536))
    assert chosen.pack(0, noise, 65536, 1e6) is None
    tries = [chosen.pack(1, memoryview(CONTENT), 65536, 1e6) is not None for _ in range(CHUNKS_UNTRIED + 1)]
    assert tries == [False] * CHUNKS_UNTRIED + [True]
    assert chosen.pack(3, memoryview(CONTENT), 65536, 1e6) is not None


def test_a_busy_process_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now, used = [10.0], [0.0]
    monkeypatch.setattr(packer.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(packer.time, "process_time", lambda: used[0])
    chosen, text = _packer(), memoryview(CONTENT)
    assert chosen.pack(0, text, 65536, 1e6) is not None
    now[0], used[0] = 11.5, 1.4
    assert chosen.pack(0, text, 65536, 1e6) is None
    now[0], used[0] = 13.0, 1.6
    assert chosen.pack(0, text, 65536, 1e6) is not None


# --- In a session ---------------------------------------------------------------------------------


async def _greet(peer: RawPeer, *extensions: tuple[str, int], have: HaveAll | HaveNone) -> None:
    await peer.say(Hello(MANIFEST.id, MANIFEST.piece_count, "raw", (), extensions), have)


class _Opened:
    def __init__(self, store: MemoryStore, options: TransferOptions | None = None) -> None:
        self.store = store
        self.member = Member(ME, store, options)
        self.events = self.member.events.subscribe()
        ours, theirs = memory_link_pair(ME, RAW)
        ours.remote_address = FAR
        self.link = ours
        self.peer = RawPeer(theirs, store.manifest)
        self.end = None

    async def run(self, nursery: trio.Nursery) -> None:
        from swarm.transfer.session import SessionOrigin

        nursery.start_soon(self.member.exchange.run)

        async def session() -> None:
            self.end = await self.member.exchange.add_stream(self.link, SessionOrigin(inbound=True))

        nursery.start_soon(session)

    async def stop(self) -> list:
        await self.member.exchange.stop("the transfer ended")
        assert self.member.nothing_is_held()
        self.member.events.close()
        return [event async for event in self.events]


@pytest.mark.usefixtures("idle_processor")
@pytest.mark.parametrize("memory", [UPLOAD_BYTES, 1], ids=["whole", "in-parts"])
@pytest.mark.parametrize("extensions", [(), ((PACK_EXTENSION, 1),), ((PACK_EXTENSION, 2),)])
async def test_it_is_sent_only_to_a_peer_that_understands_it(
    autojump_clock, monkeypatch: pytest.MonkeyPatch, extensions, memory: int
) -> None:
    """Also while memory is so short that a piece is read again for each part of it."""
    monkeypatch.setattr(buffers, "UPLOAD_BYTES", memory)
    for module in (pacing, session_io):
        monkeypatch.setattr(module, "LEAST_KEPT_BYTES", 16 * 1024)
    async with trio.open_nursery() as nursery:
        made = _Opened(MemoryStore(MANIFEST, CONTENT), SLOW)
        await made.run(nursery)
        await _greet(made.peer, *extensions, have=HaveNone())
        await made.peer.say(Interested())
        await made.peer.hear_until(Unchoke)
        await made.peer.say(Request(0), Request(2))
        began = trio.current_time()
        found, wire = {0: bytearray(), 2: bytearray()}, 0
        while sum(map(len, found.values())) < 2 * PIECE:
            message, payload = await made.peer.hear()
            if isinstance(message, Data | Packed):
                wire += len(payload)
                whole = unpack(payload, message.size) if isinstance(message, Packed) else payload
                assert len(found[message.piece]) == message.offset
                found[message.piece] += whole
        took = trio.current_time() - began
        assert found == {piece: CONTENT[piece * PIECE : (piece + 1) * PIECE] for piece in found}
        seen = await made.stop()
        spared = sum(event.sent for event in seen if isinstance(event, BytesSpared))
        assert sum(event.size for event in seen if isinstance(event, BytesSent)) == 2 * PIECE
        assert wire + spared == 2 * PIECE
        assert (spared > 0.7 * PIECE) == (extensions == ((PACK_EXTENSION, 1),))
        # The limit is one of bytes on the wire, less the burst that may pass at once.
        assert took == pytest.approx(max(0.0, wire / 2_000_000 - 0.2), abs=0.1)


async def test_what_a_peer_packs_is_stored_and_counted(autojump_clock) -> None:
    async with trio.open_nursery() as nursery:
        made = _Opened(MemoryStore(MANIFEST))
        await made.run(nursery)
        await _greet(made.peer, (PACK_EXTENSION, 1), have=HaveAll())
        await made.peer.hear_until(Interested)
        await made.peer.say(Unchoke())
        wire = 0
        for _ in range(3):
            piece = (await made.peer.hear_until(Request))[-1].message.piece
            for offset in range(0, PIECE, PIECE // 4):
                part = CONTENT[piece * PIECE + offset :][: PIECE // 4]
                frame = pack(part)
                wire += len(frame)
                await made.peer.say(encode_packed_head(piece, offset, len(part), len(frame)) + frame)
        with trio.fail_after(5):
            await made.member.exchange.complete.wait()
        assert made.store.content() == CONTENT
        seen = await made.stop()
        assert sum(event.size for event in seen if isinstance(event, BytesReceived)) == len(CONTENT)
        assert sum(event.received for event in seen if isinstance(event, BytesSpared)) == len(CONTENT) - wire


BOMB = _streamed(bytes(1 << 26))


@pytest.mark.parametrize(
    ("extensions", "frame", "why"),
    [
        (((PACK_EXTENSION, 1),), BOMB, "not one frame of 262144 bytes"),
        (((PACK_EXTENSION, 1),), zstd.compress(CONTENT[:PIECE])[:-9], "not one frame of 262144 bytes"),
        (((PACK_EXTENSION, 1),), b"\0" * 100, "no zstd frame"),
        (((PACK_EXTENSION, 1),), zstd.compress(bytes(PIECE)), "piece 0 does not match its hash"),
        ((), zstd.compress(CONTENT[:PIECE]), "needs an extension that both sides name"),
    ],
)
async def test_who_packs_wrongly_is_banned_and_nothing_is_stored(
    autojump_clock, extensions, frame, why
) -> None:
    manifest = file_manifest("text", CONTENT[:PIECE], piece_length=PIECE)
    async with trio.open_nursery() as nursery:
        made = _Opened(MemoryStore(manifest))
        await made.run(nursery)
        await made.peer.say(Hello(manifest.id, 1, "raw", (), extensions), HaveAll())
        await made.peer.hear_until(Interested)
        await made.peer.say(Unchoke())
        await made.peer.hear_until(Request)
        await made.peer.say(encode_packed_head(0, 0, PIECE, len(frame)) + frame)
        await made.peer.hear_to_the_end()
        while made.end is None:
            await trio.sleep(0.01)
        assert why in made.end.reason
        assert made.member.banned == {RAW}
        assert made.store.stored.count == 0
        await made.stop()
