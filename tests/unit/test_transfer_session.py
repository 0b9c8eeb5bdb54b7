"""One real exchange with its brain, and a peer that says what the test tells it to."""

import random
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from swarm.bits import PieceSet
from swarm.config import TransferOptions
from swarm.errors import DiskError, LinkClosed, RemoteError
from swarm.events import PeerComplete, PeerDisconnected, PeerHas, PieceRefused, SourceBanned
from swarm.ids import ManifestId, PeerId
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import encode
from swarm.protocol.messages import (
    PACK_EXTENSION,
    RESTATE_EXTENSION,
    Cancel,
    Data,
    ExchangedPeer,
    Goodbye,
    Have,
    HaveAll,
    HaveNone,
    Hello,
    Interested,
    KeepAlive,
    Peers,
    Reject,
    RejectReason,
    Request,
    Restate,
    Unchoke,
    Withdraw,
)
from swarm.storage.memory_store import MemoryStore
from swarm.strategy.commands import Send
from swarm.transfer import buffers
from swarm.transfer.buffers import UNSTORED_BYTES
from swarm.transfer.exchange import AGENT
from swarm.transfer.pacing import LEAST_KEPT_BYTES
from swarm.transfer.session import GOODBYE_TIMEOUT, SessionOrigin, read_greeting, refuse_stream
from swarm.transfer.session_io import JOIN_BYTES, RUN_BYTES, WRITE_TIMEOUT
from tests.support.contents import file_manifest, folder_manifest
from tests.support.exchanges import TRANSFER, Member
from tests.support.memory_link import MemoryLink, memory_link_pair
from tests.support.raw_peer import RawPeer

ME, RAW, OTHER = PeerId("M" * 40), PeerId("R" * 40), PeerId("S" * 40)
PIECE = 1 << 20
DATA = random.Random(7).randbytes(3 * PIECE + 1000)
MANIFEST = file_manifest("file", DATA, piece_length=PIECE)


class Opened:
    """An exchange on ``store`` and what became of its sessions."""

    def __init__(self, store: MemoryStore, options: TransferOptions | None = None) -> None:
        self.member = Member(ME, store, options, addresses=("/ip4/10.0.0.1/tcp/1",) * 20)
        self.exchange = self.member.exchange
        self.memory = self.member.services.memory
        self.store = store
        self.events = self.member.events.subscribe()
        self.ends: dict[PeerId, list] = {}
        self.nursery: trio.Nursery

    @property
    def banned(self) -> set[PeerId]:
        return self.member.banned

    def peer(self, peer: PeerId = RAW, *, window: int = 256 * 1024, inbound: bool = True) -> RawPeer:
        """Open a session with a raw peer."""
        ours, theirs = memory_link_pair(ME, peer, window=window)
        self.nursery.start_soon(self._host, ours, inbound)
        return RawPeer(theirs, self.store.manifest)

    async def _host(self, link, inbound: bool) -> None:
        end = await self.exchange.add_stream(link, SessionOrigin(inbound=inbound))
        self.ends.setdefault(link.peer, []).append(end)

    async def end(self, peer: PeerId = RAW):
        await trio.sleep(0)
        while peer not in self.ends:
            await trio.sleep(0.01)
        return self.ends[peer][-1]

    def nothing_is_held(self) -> bool:
        return self.member.nothing_is_held()

    async def seen(self) -> list:
        """All events so far; there are none afterwards."""
        self.member.events.close()
        return [event async for event in self.events]


@asynccontextmanager
async def transfer(store: MemoryStore, options: TransferOptions | None = None):
    async with trio.open_nursery() as nursery:
        made = Opened(store, options)
        made.nursery = nursery
        nursery.start_soon(made.exchange.run)
        yield made
        await made.exchange.stop("the transfer ended")
        assert made.nothing_is_held()


def seeding() -> MemoryStore:
    return MemoryStore(MANIFEST, DATA)


def piece_of(index: int) -> bytes:
    return DATA[index * PIECE : (index + 1) * PIECE]


async def unchoked(peer: RawPeer) -> None:
    await peer.greet()
    await peer.say(Interested())
    await peer.hear_until(Unchoke)


# --- Serving --------------------------------------------------------------------------------------


async def test_greeting_announcement_unchoke_and_a_piece(autojump_clock):
    async with transfer(seeding()) as made:
        peer = made.peer()
        await peer.greet()
        hello, announcement = await peer.hear(), await peer.hear()
        assert hello.message == Hello(
            MANIFEST.id, 4, AGENT, ("/ip4/10.0.0.1/tcp/1",) * 8, ((RESTATE_EXTENSION, 1), (PACK_EXTENSION, 1))
        )
        assert announcement.message == HaveAll()
        await peer.say(Interested())
        await peer.hear_until(Unchoke)
        await peer.say(Request(3), Request(0))
        assert {await peer.hear_piece(3), await peer.hear_piece(0)} == {piece_of(3), piece_of(0)}
        await trio.testing.wait_all_tasks_blocked()
        status = made.exchange.peers()[0]
        assert (status.peer, status.sent, status.agent) == (RAW, PIECE + 1000, "raw")


async def test_what_a_peer_restates_is_told_to_observers(autojump_clock):
    async with transfer(seeding()) as made:
        peer = made.peer()
        await peer.say(Hello(MANIFEST.id, 4, "raw", (), ((RESTATE_EXTENSION, 1),)), HaveAll())
        await trio.sleep(2)
        await peer.say(Restate(b"\x80"))
        await trio.sleep(2)
        told = [event for event in await made.seen() if isinstance(event, PeerHas | PeerComplete)]
        assert told == [
            PeerHas(TRANSFER, RAW, 4),
            PeerComplete(TRANSFER, RAW, False),
            PeerHas(TRANSFER, RAW, 1),
        ]


async def test_a_cancelled_upload_stops_midway_and_control_overtakes_it(autojump_clock):
    async with transfer(seeding()) as made:
        peer = made.peer(window=32 * 1024)
        await unchoked(peer)
        await peer.say(Request(0))
        await trio.sleep(1)
        await peer.say(Cancel(0))
        await trio.sleep(1)
        frames = await peer.hear_until(Reject)
        assert frames[-1].message == Reject(0, RejectReason.CANCELLED)
        sent = sum(len(frame.payload) for frame in frames)
        assert 0 < sent <= 256 * 1024
        await peer.say(Request(0))
        assert await peer.hear_piece(0) == piece_of(0)


async def test_a_cancel_that_comes_too_late_gets_no_second_reply(autojump_clock):
    async with transfer(seeding()) as made:
        peer = made.peer()
        await unchoked(peer)
        await peer.say(Request(3))
        assert await peer.hear_piece(3) == piece_of(3)
        await peer.say(Cancel(3), Request(0))
        await peer.hear_piece(0)
        await peer.say(Goodbye("enough"))
        assert not [frame for frame in await peer.hear_to_the_end() if isinstance(frame.message, Reject)]
        assert (await made.end()).reason == "the peer left: enough"


async def test_a_rotten_piece_is_rejected_and_withdrawn_from_all(autojump_clock):
    async with transfer(seeding()) as made:
        peer, witness = made.peer(), made.peer(OTHER)
        await unchoked(peer)
        await witness.greet()
        made.store.damage(1)
        await peer.say(Request(1))
        frames = await peer.hear_until(Reject)
        replies = [frame.message for frame in frames if isinstance(frame.message, Withdraw | Reject | Data)]
        assert replies == [Withdraw(1), Reject(1, RejectReason.NOT_STORED)]
        assert (await witness.hear_until(Withdraw))[-1].message == Withdraw(1)
        await peer.say(Request(0))
        assert await peer.hear_piece(0) == piece_of(0)


async def test_a_piece_that_cannot_be_read_is_rejected_and_the_next_one_sent(autojump_clock):
    class Unreadable(MemoryStore):
        async def get(self, piece):
            if piece < 3:
                raise DiskError("I/O error")
            return await super().get(piece)

    async with transfer(Unreadable(MANIFEST, DATA)) as made:
        peer = made.peer()
        await unchoked(peer)
        await peer.say(Request(0), Request(1), Request(2), Request(3))
        frames = await peer.hear_until(Data)
        rejects = {frame.message for frame in frames if isinstance(frame.message, Reject)}
        assert rejects == {Reject(piece, RejectReason.READ_FAILED) for piece in range(3)}
        assert frames[-1].payload == piece_of(3)


async def test_small_pieces_that_wait_share_writes(autojump_clock):
    files = {f"{index:03}": bytes([index]) * 1000 for index in range(200)}
    manifest = folder_manifest("folder", files)
    store = MemoryStore(manifest, b"".join(files[name] for name in sorted(files)))
    async with transfer(store) as made:
        peer = made.peer(window=1000)
        await unchoked(peer)
        written = []
        sound = peer.link.incoming.write

        async def counted(data):
            written.append(len(data))
            await sound(data)

        peer.link.incoming.write = counted
        await peer.say(*[Request(piece) for piece in range(200)])
        await trio.testing.wait_all_tasks_blocked()
        got = {}
        while len(got) < 200:
            frame = await peer.hear()
            if isinstance(frame.message, Data):
                got[frame.message.piece] = frame.payload
        assert all(got[piece] == bytes([piece]) * 1000 for piece in range(200))
        assert len(written) < 10


async def test_a_peer_that_takes_nothing_is_ended_and_holds_nothing(autojump_clock):
    async with transfer(seeding()) as made:
        stuck = made.peer(window=4096)
        await unchoked(stuck)
        await stuck.say(Request(0), Request(1))
        await trio.sleep(1)
        assert made.memory.uploads.used > 0
        other = made.peer(OTHER)
        await unchoked(other)
        await other.say(Request(2))
        assert await other.hear_piece(2) == piece_of(2)
        started = trio.current_time()
        end = await made.end()
        assert "does not take" in end.reason
        assert trio.current_time() - started <= WRITE_TIMEOUT + 2
        assert made.memory.uploads.used == 0


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_peer_that_reads_no_control_gets_no_memory_for_a_piece(autojump_clock, monkeypatch, at_once):
    monkeypatch.setattr(buffers, "UPLOAD_BYTES", PIECE)
    async with transfer(seeding()) as made:
        stuck = made.peer(window=24)
        await unchoked(stuck)
        used_up = made.memory.uploads.reserve(PIECE, lambda: None)
        unread = [Request(3), Cancel(3)] * 5
        if at_once:
            await stuck.say(Request(1), *unread)
        else:
            for message in (Request(1), *unread):
                await stuck.say(message)
                await trio.sleep(0.1)
        await trio.sleep(1)
        used_up.release()
        await trio.sleep(1)
        assert made.memory.uploads.used == 0
        other = made.peer(OTHER)
        await unchoked(other)
        await other.say(Request(2))
        with trio.fail_after(10):
            assert await other.hear_piece(2) == piece_of(2)
        assert RAW not in made.ends
        assert "does not take" in (await made.end()).reason


async def test_control_that_needs_no_wait_costs_no_place_in_the_queue_for_memory(autojump_clock, monkeypatch):
    def write_now(link, data) -> bool:
        if link.outgoing.size + len(data) > link.outgoing.window:
            return False
        link.outgoing.parts.append((trio.current_time(), bytes(data)))
        link.outgoing.size += len(data)
        link.outgoing.notify()
        return True

    monkeypatch.setattr(buffers, "UPLOAD_BYTES", PIECE)
    monkeypatch.setattr(MemoryLink, "write_now", write_now)
    async with transfer(seeding()) as made:
        peer = made.peer()
        await unchoked(peer)
        used_up = made.memory.uploads.reserve(PIECE, lambda: None)
        await peer.say(Request(1))
        await trio.sleep(0.1)
        behind = made.memory.uploads.reserve(PIECE, lambda: None)
        await peer.say(Request(3), Cancel(3))
        assert (await peer.hear_until(Reject))[-1].message == Reject(3, RejectReason.CANCELLED)
        await peer.hear_until(KeepAlive)
        used_up.release()
        assert not behind.granted
        behind.release()
        assert await peer.hear_piece(1) == piece_of(1)


def read_slowly(peer: RawPeer, rate: int) -> None:
    """From now on the peer takes so many bytes per second."""
    sound = peer.link.incoming.read_some

    async def slow(limit: int) -> bytes:
        part = await sound(min(limit, 16 * 1024))
        await trio.sleep(len(part) / rate)
        return part

    peer.link.incoming.read_some = slow


class CountedReads(MemoryStore):
    """Counts how often a piece is read."""

    reads = 0

    async def get(self, piece):
        self.reads += 1
        return await super().get(piece)


async def test_slow_peers_that_want_all_memory_stop_no_fast_one(autojump_clock, monkeypatch):
    monkeypatch.setattr(buffers, "UPLOAD_BYTES", 2 * PIECE)
    data = random.Random(8).randbytes(6 * PIECE)
    pieces = [data[start : start + PIECE] for start in range(0, 6 * PIECE, PIECE)]
    store = CountedReads(file_manifest("file", data, piece_length=PIECE), data)
    heard: dict[int, bytes] = {}
    async with transfer(store) as made, trio.open_nursery() as slow_ones:

        async def take_slowly(piece: int) -> None:
            peer = made.peer(PeerId(str(piece + 1) * 40))
            await unchoked(peer)
            read_slowly(peer, 20_000)
            await peer.say(Request(piece))
            heard[piece] = await peer.hear_piece(piece)

        for piece in range(3):
            slow_ones.start_soon(take_slowly, piece)
        # The upload queue begins with another peer once one has been slow for ten seconds.
        await trio.sleep(35)
        fast = made.peer(OTHER)
        await unchoked(fast)
        began = trio.current_time()
        for piece in range(3, 6):
            await fast.say(Request(piece))
            assert await fast.hear_piece(piece) == pieces[piece]
            assert made.memory.uploads.used <= 2 * PIECE
        assert trio.current_time() - began < 1
        assert not heard
    assert heard == dict(enumerate(pieces[:3]))
    # Some were read again: at most once for each part that was kept.
    assert 6 < store.reads <= 6 * PIECE // LEAST_KEPT_BYTES


async def test_a_piece_that_rots_while_it_is_sent_in_parts_is_rejected_midway(autojump_clock, monkeypatch):
    monkeypatch.setattr(buffers, "UPLOAD_BYTES", PIECE)
    async with transfer(seeding()) as made:
        peer = made.peer(window=32 * 1024)
        await unchoked(peer)
        await peer.say(Request(1))
        await trio.sleep(1)
        assert 0 < made.memory.uploads.used <= LEAST_KEPT_BYTES
        made.store.damage(1)
        frames = await peer.hear_until(Reject)
        assert [frame.message for frame in frames[-2:]] == [Withdraw(1), Reject(1, RejectReason.NOT_STORED)]
        sent = b"".join(frame.payload for frame in frames)
        assert len(sent) == LEAST_KEPT_BYTES
        assert piece_of(1).startswith(sent)
        await peer.say(Request(0))
        assert await peer.hear_piece(0) == piece_of(0)


async def test_a_limited_upload_holds_no_memory_that_others_need(autojump_clock, monkeypatch):
    monkeypatch.setattr(buffers, "UPLOAD_BYTES", PIECE)
    async with transfer(seeding(), TransferOptions(upload_limit=50_000)) as made:
        peer = made.peer()
        await unchoked(peer)
        await peer.say(Request(1))
        async with trio.open_nursery() as nursery:
            heard = []

            @nursery.start_soon
            async def _() -> None:
                heard.append(await peer.hear_piece(1))

            await trio.sleep(5)
            grant = made.memory.uploads.reserve(PIECE // 2, lambda: None)
            assert grant.granted
            grant.release()
        assert heard == [piece_of(1)]


async def test_both_directions_at_once_through_a_tiny_window_do_not_deadlock(autojump_clock):
    half = PieceSet(4)
    half.add(0)
    half.add(2)
    async with transfer(MemoryStore(MANIFEST, DATA, half)) as made:
        peer = made.peer(window=4096)
        await peer.greet(HaveAll())
        await peer.say(Interested(), Unchoke())
        got: dict[int, bytes] = {}
        with trio.fail_after(5):
            while not (made.exchange.complete.is_set() and sorted(map(len, got.values())) == [PIECE, PIECE]):
                message, payload = await peer.hear()
                if isinstance(message, Unchoke):
                    made.nursery.start_soon(peer.say, Request(0), Request(2))
                elif isinstance(message, Request):
                    made.nursery.start_soon(peer.send_piece, message.piece, piece_of(message.piece))
                elif isinstance(message, Data):
                    got[message.piece] = got.get(message.piece, b"") + payload
        assert got == {0: piece_of(0), 2: piece_of(2)}
        assert made.store.content() == DATA


# --- Fetching -------------------------------------------------------------------------------------


async def serve(peer: RawPeer, wrong: int | None = None) -> None:
    """Answer every request of the exchange until the link ends; one bit of the piece ``wrong`` is flipped."""
    try:
        await peer.greet(HaveAll())
        await peer.say(Unchoke())
        await answer(peer, wrong)
    except LinkClosed:
        return


async def answer(peer: RawPeer, wrong: int | None = None) -> None:
    try:
        while True:
            message, _ = await peer.hear()
            if isinstance(message, Request):
                data = bytearray(piece_of(message.piece))
                if message.piece == wrong:
                    data[-1] ^= 1
                await peer.send_piece(message.piece, bytes(data), chunk=100_000)
    except LinkClosed:
        return


async def requests_of(peer: RawPeer, count: int) -> list[int]:
    """The first pieces that the exchange asks for."""
    found: list[int] = []
    while len(found) < count:
        message, _ = await peer.hear()
        if isinstance(message, Request):
            found.append(message.piece)
    return found


async def test_pieces_are_stored_and_announced(autojump_clock):
    async with transfer(MemoryStore(MANIFEST)) as made:
        witness = made.peer(OTHER)
        await witness.greet()
        made.nursery.start_soon(serve, made.peer())
        with trio.fail_after(5):
            await made.exchange.complete.wait()
        assert made.store.content() == DATA
        heard: list[int] = []
        while len(heard) < 4:
            heard += (await witness.hear_until(Have))[-1].message.pieces
        assert sorted(heard) == [0, 1, 2, 3]
        assert made.exchange.missing() == ()


async def test_one_wrong_bit_is_never_stored_and_its_sender_is_banned(autojump_clock):
    async with transfer(MemoryStore(MANIFEST)) as made:
        made.nursery.start_soon(serve, made.peer(), 2)
        end = await made.end()
        assert end.joined
        assert 2 not in made.store.stored
        assert made.banned == {RAW}
        assert (await made.end(RAW)).reason == "piece 2 does not match its hash"
        assert [frame async for frame in refused_at_the_door(made)] == ["the peer is banned"]
        made.nursery.start_soon(serve, made.peer(OTHER))
        with trio.fail_after(5):
            await made.exchange.complete.wait()
        assert made.store.content() == DATA
        assert made.banned == {RAW}
        seen = await made.seen()
        assert [event.piece for event in seen if isinstance(event, PieceRefused)] == [2]
        assert [(e.source, e.piece) for e in seen if isinstance(e, SourceBanned)] == [(RAW, 2)]
        ended = [e.reason for e in seen if isinstance(e, PeerDisconnected) and e.peer == RAW]
        assert ended == ["piece 2 does not match its hash"]
        assert {e.transfer for e in seen} == {TRANSFER}


async def refused_at_the_door(made: Opened):
    peer = made.peer()
    for message, _ in await peer.hear_to_the_end():
        yield message.reason


async def test_a_reject_midway_gives_the_memory_back_and_the_piece_is_asked_again(autojump_clock):
    async with transfer(MemoryStore(MANIFEST)) as made:
        peer = made.peer()
        await peer.greet(HaveAll())
        await peer.say(Unchoke())
        (piece,) = await requests_of(peer, 1)
        await peer.say(encode(Data(piece, 0, 5)) + piece_of(piece)[:5])
        await trio.sleep(0.1)
        assert made.memory.pool.used == len(piece_of(piece))
        await peer.say(Reject(piece, RejectReason.READ_FAILED))
        await trio.sleep(0)
        await trio.testing.wait_all_tasks_blocked()
        assert made.memory.pool.used == 0
        made.nursery.start_soon(answer, peer)
        with trio.fail_after(20):
            await made.exchange.complete.wait()
        assert made.store.content() == DATA


async def test_a_stalling_peer_loses_its_requests_and_its_late_data_is_thrown_away(autojump_clock):
    async with transfer(MemoryStore(MANIFEST)) as made:
        slow = made.peer()
        await slow.greet(HaveAll())
        await slow.say(Unchoke())
        (piece,) = await requests_of(slow, 1)
        data = piece_of(piece)
        await slow.say(encode(Data(piece, 0, 1000)) + data[:1000])
        made.nursery.start_soon(serve, made.peer(OTHER))
        with trio.fail_after(15):
            await made.exchange.complete.wait()
        assert made.store.content() == DATA
        await slow.hear_until(Cancel)
        await slow.say(encode(Data(piece, 1000, 500)) + data[1000:1500])
        await trio.sleep(1)
        assert made.memory.pool.used == 0, "its memory is free before its end"
        await slow.say(encode(Data(piece, 1500, len(data) - 1500)) + data[1500:])
        await trio.sleep(1)
        assert made.memory.pool.used == 0
        assert not made.banned
        assert RAW in {status.peer for status in made.exchange.peers()}


async def test_a_piece_that_is_cancelled_in_its_last_chunk_is_dropped_when_it_is_whole(autojump_clock):
    async with transfer(MemoryStore(MANIFEST)) as made:
        slow = made.peer()
        await slow.greet(HaveAll())
        await slow.say(Unchoke())
        (piece,) = await requests_of(slow, 1)
        data = piece_of(piece)
        await slow.say(encode(Data(piece, 0, len(data))) + data[:500])
        made.nursery.start_soon(serve, made.peer(OTHER))
        with trio.fail_after(15):
            await made.exchange.complete.wait()
        assert made.memory.pool.used == len(data)
        await slow.say(data[500:])
        await trio.sleep(1)
        assert made.memory.pool.used == 0
        assert made.store.content() == DATA


async def test_a_stalled_piece_gives_way_when_its_memory_is_needed(autojump_clock):
    async with transfer(MemoryStore(MANIFEST)) as made:
        made.memory.pool._budget._capacity = PIECE
        slow = made.peer()
        await slow.greet(HaveAll())
        await slow.say(Unchoke())
        await trio.sleep(0.1)
        (piece,) = await requests_of(slow, 1)
        # A header that promises a whole piece, and silence.
        await slow.say(encode(Data(piece, 0, len(piece_of(piece)))))
        await trio.sleep(0.1)
        made.nursery.start_soon(serve, made.peer(OTHER))
        with trio.fail_after(20):
            await made.exchange.complete.wait()
        assert "stalled" in (await made.end()).reason
        assert made.store.content() == DATA


async def test_whole_pieces_for_a_fast_peer_are_written_together(autojump_clock, monkeypatch):
    data = random.Random(9).randbytes(1 << 20) * 8
    manifest = file_manifest("large", data, piece_length=PIECE // 4)
    length, count = manifest.layout.piece_length, manifest.piece_count
    written: list[int] = []
    write = MemoryLink.write

    async def noting(link, *parts, **options):
        if link.peer == RAW:
            written.append(sum(len(part) > JOIN_BYTES for part in parts))
        await write(link, *parts, **options)

    class Cached(MemoryStore):
        """Needs no wait to read."""

        def get_now(self, pieces, room):
            return [memoryview(data)[piece * length : (piece + 1) * length] for piece in pieces]

    monkeypatch.setattr(MemoryLink, "write", noting)
    async with transfer(Cached(manifest, data)) as made:
        peer = made.peer(window=64 << 20)
        await unchoked(peer)
        await peer.say(*map(Request, range(count)))
        found = [bytearray(length) for _ in range(count)]
        left = len(data)
        while left:
            frame = await peer.hear()
            if isinstance(frame.message, Data):
                at = frame.message.offset
                found[frame.message.piece][at : at + len(frame.payload)] = frame.payload
                left -= len(frame.payload)
    assert b"".join(found) == data
    assert 1 < max(written) <= RUN_BYTES // length
    assert sum(many > 1 for many in written) > count // 8


async def test_a_disk_that_is_slower_than_the_network_does_not_fill_the_memory(autojump_clock):
    """All that comes is whole pieces: none of them is worth memory before the disk takes those before it."""
    data = random.Random(8).randbytes(1 << 20) * 40
    manifest = file_manifest("large", data, piece_length=PIECE // 4)
    length = manifest.layout.piece_length

    class Slow(MemoryStore):
        async def put(self, piece, data):
            await trio.sleep(0.3)
            await super().put(piece, data)

    async with transfer(Slow(manifest)) as made, trio.open_nursery() as nursery:
        peer = made.peer()
        await peer.greet(HaveAll())
        await peer.say(Unchoke())
        most = 0

        async def serve() -> None:
            nonlocal most
            while True:
                piece = (await peer.hear_until(Request))[-1].message.piece
                await peer.send_piece(piece, data[piece * length : (piece + 1) * length])
                most = max(most, made.memory.pool.used)

        nursery.start_soon(serve)
        await made.exchange.complete.wait()
        nursery.cancel_scope.cancel()
    assert made.store.content() == data
    assert most <= UNSTORED_BYTES + 2 * length


async def test_a_full_disk_ends_the_transfer_with_its_own_error(autojump_clock):
    class Full(MemoryStore):
        puts = 0

        async def put(self, piece, data):
            self.puts += 1
            if self.puts == 2:
                raise DiskError("no space left on the disk")
            # A thread that writes cannot be cancelled: pieces still come while the transfer ends.
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    made = Opened(Full(MANIFEST))
    async with trio.open_nursery() as made.nursery:
        made.nursery.start_soon(serve, made.peer())
        with pytest.raises(DiskError, match="no space"):
            await made.exchange.run()
        assert made.store.puts == 2
        assert (await made.end()).reason == "the transfer ended"
    assert made.nothing_is_held()


# --- Peers that break rules -----------------------------------------------------------------------

GARBAGE = bytes.fromhex("ffffffff ff") + bytes(100)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([GARBAGE], "unknown message kind 255"),
        ([encode(Data(0, 0, 10)) + bytes(10)], "not requested"),
        ([Request(4)], "no piece 4"),
        ([Request(0), Request(0)], "requested already"),
        ([HaveAll()], "HaveAll"),
        ([Have((9,))], "does not exist"),
        ([KeepAlive()] * 5000, "too many"),
        ([bytes.fromhex("00000005 10") + b"a\nb\nc"], "printable"),
    ],
)
async def test_a_broken_rule_ends_the_session_and_bans_the_peer(autojump_clock, said, why):
    async with transfer(seeding()) as made:
        witness, peer = made.peer(OTHER), made.peer()
        await unchoked(witness)
        await unchoked(peer)
        heard: list = []
        made.nursery.start_soon(until_closed, peer, said, heard)
        end = await made.end()
        assert why in end.reason
        await trio.testing.wait_all_tasks_blocked()
        assert heard[-1].message == Goodbye(end.reason), "the peer is told why"
        assert made.banned == {RAW}
        await witness.say(Request(0))
        assert await witness.hear_piece(0) == piece_of(0)


async def until_closed(peer: RawPeer, said, heard: list) -> None:
    try:
        await peer.say(*said)
    finally:
        heard += await peer.hear_to_the_end()


@pytest.mark.parametrize(
    "said",
    [
        [GARBAGE],
        [Hello(ManifestId(b"x" * 32), 4), HaveNone()],
        [Hello(MANIFEST.id, 5), HaveNone()],
        [Hello(MANIFEST.id, 4, version=9), HaveNone()],
        [HaveNone()],
    ],
)
async def test_a_wrong_greeting_ends_the_session_without_a_ban(autojump_clock, said):
    async with transfer(seeding()) as made:
        peer = made.peer()
        made.nursery.start_soon(until_closed, peer, said, [])
        assert not (await made.end()).joined
        assert not made.banned
        assert not made.exchange.has_session(RAW)


async def test_a_peer_that_does_not_greet_is_ended(autojump_clock):
    async with transfer(seeding()) as made:
        made.peer()
        half = made.peer(OTHER)
        await half.say(Hello(MANIFEST.id, 4))
        started = trio.current_time()
        assert "greeting" in (await made.end()).reason
        assert "greeting" in (await made.end(OTHER)).reason
        assert trio.current_time() - started == pytest.approx(limits.HELLO_TIMEOUT, abs=0.1)


async def test_a_silent_peer_is_kept_alive_towards_and_ended_at_last(autojump_clock):
    async with transfer(seeding()) as made:
        peer = made.peer()
        await peer.greet()
        started = trio.current_time()
        for number in (1, 2, 3):
            await peer.hear_until(KeepAlive)
            assert trio.current_time() - started == pytest.approx(
                number * limits.KEEP_ALIVE_INTERVAL, abs=0.1
            )
        assert "nothing was heard" in (await made.end()).reason
        assert trio.current_time() - started == pytest.approx(limits.IDLE_TIMEOUT, abs=0.1)


async def test_a_peer_that_keeps_alive_stays(autojump_clock):
    async with transfer(seeding()) as made:
        peer = made.peer()
        await peer.greet()
        for _ in range(10):
            await trio.sleep(limits.KEEP_ALIVE_INTERVAL)
            await peer.say(KeepAlive())
        assert made.exchange.has_session(RAW)


async def test_control_that_is_never_read_is_bounded(autojump_clock):
    async with transfer(seeding()) as made:
        peer = made.peer(window=1024)
        await peer.greet()
        await trio.testing.wait_all_tasks_blocked()
        (stay,) = made.exchange._roster
        addresses = tuple(f"/{number}{'a' * 200}" for number in range(8))
        many = tuple(ExchangedPeer(PeerId(f"{number}" * 40), addresses) for number in range(1, 10))
        for _ in range(100):
            stay.session.send(Peers(many))
            stay.session.flush()
        assert "does not read" in (await made.end()).reason
        assert not made.banned


# --- Ends -----------------------------------------------------------------------------------------


async def test_stop_says_goodbye_and_does_not_wait_for_a_peer_that_does_not_listen(autojump_clock):
    made = Opened(seeding())
    async with trio.open_nursery() as made.nursery:
        made.nursery.start_soon(made.exchange.run)
        polite, deaf = made.peer(), made.peer(OTHER, window=16)
        await polite.greet()
        await trio.testing.wait_all_tasks_blocked()
        heard: list = []

        async def listen():
            heard.extend(await polite.hear_to_the_end())

        made.nursery.start_soon(listen)
        made.nursery.start_soon(deaf.greet)
        started = trio.current_time()
        await made.exchange.stop("time to go")
        assert trio.current_time() - started <= GOODBYE_TIMEOUT + 0.1
        made.nursery.cancel_scope.cancel()
    assert heard[-1].message == Goodbye("time to go")
    assert made.nothing_is_held()


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.01, 0.5])
async def test_cancelling_a_session_anywhere_leaves_nothing_behind(autojump_clock, seconds):
    async with transfer(MemoryStore(MANIFEST)) as made:
        ours, theirs = memory_link_pair(ME, RAW, window=4096, latency=0.001)
        made.nursery.start_soon(serve, RawPeer(theirs, MANIFEST))
        with trio.move_on_after(seconds):
            await made.exchange.add_stream(ours, SessionOrigin(inbound=True))
        assert theirs.incoming.broken or made.exchange.complete.is_set()
        assert not made.exchange.has_session(RAW)
        await trio.testing.wait_all_tasks_blocked()
        assert made.nothing_is_held()
        made.nursery.start_soon(serve, made.peer())
        with trio.fail_after(15):
            await made.exchange.complete.wait()
        assert made.store.content() == DATA


async def test_a_lost_connection_is_nobodys_fault(autojump_clock):
    async with transfer(MemoryStore(MANIFEST)) as made:
        peer = made.peer()
        await peer.greet(HaveAll())
        await peer.say(Unchoke())
        (piece,) = await requests_of(peer, 1)
        await peer.say(encode(Data(piece, 0, 1000)) + piece_of(piece)[:1000])
        await peer.link.reset()
        assert (await made.end()).joined
        assert not made.banned
        assert made.nothing_is_held()


async def test_an_error_in_our_own_code_ends_one_session_only(autojump_clock):
    async with transfer(seeding()) as made:
        witness = made.peer(OTHER)
        await unchoked(witness)
        ours, theirs = memory_link_pair(ME, RAW)
        peer = RawPeer(theirs, MANIFEST)
        brain_received = made.exchange._brain.received

        def broken(peer, message, now):
            if peer == RAW:
                raise KeyError("bug")
            return brain_received(peer, message, now)

        made.exchange._brain.received = broken
        made.nursery.start_soon(peer.greet)
        with pytest.raises(ExceptionGroup):
            await made.exchange.add_stream(ours, SessionOrigin(inbound=True))
        assert not made.exchange.has_session(RAW)
        await witness.say(Request(0))
        assert await witness.hear_piece(0) == piece_of(0)


async def test_a_brain_that_would_break_a_rule_loses_that_session_only(autojump_clock):
    async with transfer(seeding()) as made:
        witness, peer = made.peer(OTHER), made.peer()
        await unchoked(witness)
        await peer.greet()
        await peer.hear_until(HaveAll)
        made.exchange._performer.perform([Send(RAW, Have((0,)))])
        assert "announced twice" in (await made.end()).reason
        assert not made.banned
        await witness.say(Request(0))
        assert await witness.hear_piece(0) == piece_of(0)


async def test_a_greeting_after_the_dismissal_changes_nothing(autojump_clock):
    async with transfer(seeding()) as made:
        peer = made.peer()
        await trio.testing.wait_all_tasks_blocked()
        made.exchange.expel(RAW, "known to be bad", None)
        await peer.greet()
        await trio.testing.wait_all_tasks_blocked()
        assert made.exchange.sources == 0
        assert (await made.end()).reason == "known to be bad"
        assert await made.seen() == [SourceBanned(TRANSFER, RAW, "known to be bad")]


# --- Before a transfer is known -------------------------------------------------------------------


async def test_the_hello_is_read_and_the_session_goes_on_from_there(autojump_clock):
    async with transfer(seeding()) as made:
        ours, theirs = memory_link_pair(ME, RAW)
        peer = RawPeer(theirs, MANIFEST)
        await peer.greet()
        hello = await read_greeting(ours)
        assert hello.agent == "raw"

        async def host():
            await made.exchange.add_stream(ours, SessionOrigin(inbound=True, hello=hello))

        made.nursery.start_soon(host)
        await peer.say(Interested())
        await peer.hear_until(Unchoke)


@pytest.mark.parametrize("said", [GARBAGE, encode(HaveNone()), encode(Hello(MANIFEST.id, 4))[:-1], b""])
async def test_a_greeting_refuses_what_is_no_hello(autojump_clock, said):
    ours, theirs = memory_link_pair(ME, RAW)
    await theirs.write(said)
    with pytest.raises(RemoteError, match=r"kind|greeting"):
        await read_greeting(ours)
    with pytest.raises(LinkClosed):
        await theirs.read_exactly(1)


async def test_who_needs_no_session_any_more_breaks_no_rule(autojump_clock):
    ours, theirs = memory_link_pair(ME, RAW)
    await theirs.write(encode(Goodbye("a session is open already")))
    with pytest.raises(LinkClosed):
        await read_greeting(ours)


async def test_an_own_stream_that_came_too_late_ends_without_a_word(autojump_clock):
    async with transfer(seeding()) as made:
        ours, theirs = memory_link_pair(ME, RAW)
        made.nursery.start_soon(made.exchange.add_stream, ours, SessionOrigin(inbound=False))
        await RawPeer(theirs, MANIFEST).greet()
        await trio.testing.wait_all_tasks_blocked()
        late, other = memory_link_pair(ME, RAW)
        end = await made.exchange.add_stream(late, SessionOrigin(inbound=False))
        assert end.reason == "a session is open already"
        # The other end waits for a greeting there: anything else would break its rules.
        with pytest.raises(LinkClosed):
            await other.read_exactly(1)


async def test_a_refusal_says_why_and_never_waits_long(autojump_clock):
    ours, theirs = memory_link_pair(ME, RAW)
    await refuse_stream(ours, "no such manifest")
    (frame,) = await RawPeer(theirs, MANIFEST).hear_to_the_end()
    assert frame.message == Goodbye("no such manifest")
    ours, theirs = memory_link_pair(ME, RAW, window=2)
    with trio.fail_after(3):
        await refuse_stream(ours, "no such manifest")
    ours, theirs = memory_link_pair(ME, RAW)
    await refuse_stream(ours, "two\nlines " + "é" * 500)
    (frame,) = await RawPeer(theirs, MANIFEST).hear_to_the_end()
    assert frame.message.reason.startswith("two\\x0alines ééé")
