"""A source of pieces that is no peer, at the desk of one exchange."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from swarm.bits import PieceSet
from swarm.config import TransferOptions
from swarm.errors import DiskError
from swarm.events import (
    BytesReceived,
    Event,
    PieceRefused,
    PieceStored,
    PieceWasted,
    SourceBanned,
    SourceJoined,
    SourceLeft,
)
from swarm.ids import PeerId, SourceId
from swarm.ports import RequestDesk
from swarm.protocol.messages import Cancel, Choke, Goodbye, HaveAll, Reject, RejectReason, Request, Unchoke
from swarm.storage.memory_store import MemoryStore
from swarm.transfer.buffers import ArrivedPieces, TransferMemory
from swarm.transfer.pacing import Pacer, RateLimit
from swarm.transfer.session import SessionOrigin
from swarm.transfer.session_io import SessionResources
from swarm.transfer.source_desk import SourceDesk
from tests.support.contents import file_manifest
from tests.support.exchanges import TRANSFER, Member
from tests.support.memory_link import memory_link_pair
from tests.support.raw_peer import RawPeer

ME, RAW = PeerId("M" * 40), PeerId("R" * 40)
PIECE = 64 * 1024
DATA = random.Random(9).randbytes(20 * PIECE + 100)
MANIFEST = file_manifest("file", DATA, piece_length=PIECE)
COUNT = MANIFEST.piece_count
OLD = SourceId("copy:old")


def piece_of(piece: int) -> bytes:
    return DATA[piece * PIECE : (piece + 1) * PIECE]


class Scripted:
    """A `swarm.ports.PieceSource` that does what the test says."""

    def __init__(
        self,
        conduct: Callable[[RequestDesk], Awaitable[None]],
        source: SourceId = OLD,
        said: str = "old copy",
    ) -> None:
        self.id = source
        self.description = said
        self.conduct = conduct
        self.ended = False

    async def deliver(self, desk: RequestDesk) -> None:
        try:
            await self.conduct(desk)
        finally:
            self.ended = True


class Patch(Scripted):
    """A `swarm.ports.LocalSource` likewise."""

    local = True
    patched = True


async def honest(desk: RequestDesk) -> None:
    desk.offer(PieceSet.all(COUNT))
    while True:
        piece = await desk.next_request()
        await desk.supply(piece, memoryview(piece_of(piece)))


class Fetching:
    """A fetch, and what was told about it."""

    def __init__(self, options: TransferOptions | None = None) -> None:
        self.store = MemoryStore(MANIFEST)
        self.member = Member(ME, self.store, options)
        self.exchange = self.member.exchange
        self.subscription = self.member.events.subscribe()
        self.nursery: trio.Nursery

    def ask(self, *sources: Scripted) -> None:
        for source in sources:
            self.nursery.start_soon(self.exchange.run_source, source)

    async def peer(self) -> RawPeer:
        """A session with a peer that has everything."""
        ours, theirs = memory_link_pair(ME, RAW)
        self.nursery.start_soon(self.exchange.add_stream, ours, SessionOrigin(inbound=True))
        peer = RawPeer(theirs, MANIFEST)
        await peer.greet(HaveAll())
        await peer.say(Unchoke())
        return peer

    async def complete(self, seconds: float = 30) -> None:
        with trio.fail_after(seconds):
            await self.exchange.complete.wait()
        assert self.store.content() == DATA

    async def told(self, *kinds: type[Event]) -> list:
        """The events of these kinds so far; there are none afterwards."""
        self.member.events.close()
        return [event async for event in self.subscription if isinstance(event, kinds)]


@asynccontextmanager
async def fetching(options: TransferOptions | None = None) -> AsyncIterator[Fetching]:
    async with trio.open_nursery() as nursery:
        made = Fetching(options)
        made.nursery = nursery
        nursery.start_soon(made.exchange.run)
        yield made
        await made.exchange.stop("the transfer ended")
        assert made.exchange.sources == 0
        assert made.member.nothing_is_held()


async def answer(peer: RawPeer) -> None:
    while True:
        message, _ = await peer.hear()
        if isinstance(message, Request):
            await peer.send_piece(message.piece, piece_of(message.piece))
        if isinstance(message, Goodbye):
            return


# --- What goes well -------------------------------------------------------------------------------


async def test_a_source_supplies_everything_and_is_accounted_for_like_a_peer(autojump_clock):
    async with fetching() as made:
        source = Scripted(honest)
        made.ask(source)
        await made.complete()
        assert made.exchange.peers() == ()
        assert made.exchange.sources == 1
    assert source.ended
    told = await made.told(SourceJoined, SourceLeft, PieceStored, BytesReceived, PieceWasted)
    assert told[0] == SourceJoined(TRANSFER, OLD, "old copy")
    assert [e for e in told if isinstance(e, SourceLeft)] == [SourceLeft(TRANSFER, OLD, "the transfer ended")]
    assert {e.piece for e in told if isinstance(e, PieceStored)} == set(range(COUNT))
    assert {e.source for e in told if isinstance(e, PieceStored)} == {OLD}
    assert sum(e.size for e in told if isinstance(e, BytesReceived)) == len(DATA)
    assert not [e for e in told if isinstance(e, PieceWasted)]
    assert not made.member.node.measured, "it is nobody who could be pinged"


async def test_what_is_made_on_this_machine_is_not_received_at_any_time(autojump_clock):
    async def half(desk: RequestDesk) -> None:
        desk.offer(PieceSet.between(COUNT, 0, COUNT - 3))
        while True:
            piece = await desk.next_request()
            await desk.supply(piece, memoryview(piece_of(piece)))

    async with fetching() as made:
        made.ask(Patch(half, SourceId("patch:/p")))
        made.nursery.start_soon(answer, await made.peer())
        await made.complete()
        received = sum(map(len, map(piece_of, range(COUNT - 3, COUNT))))
        assert made.member.record.received == received
        assert made.member.record.patched == len(DATA) - received
    told = await made.told(BytesReceived)
    assert {event.source for event in told} == {RAW}
    assert sum(event.size for event in told) == received


async def test_nothing_is_requested_before_something_is_offered(autojump_clock):
    requested: list[int] = []

    async def slow(desk: RequestDesk) -> None:
        with trio.move_on_after(5):
            requested.append(await desk.next_request())
        some = PieceSet(COUNT)
        some.add(3)
        desk.offer(some)
        requested.append(await desk.next_request())
        await desk.supply(3, memoryview(piece_of(3)))
        with trio.move_on_after(5):
            requested.append(await desk.next_request())

    async with fetching() as made:
        made.ask(Scripted(slow))
        await trio.sleep(15)
        assert requested == [3]
        assert list(made.store.stored) == [3]
        assert made.exchange.missing() == tuple(piece for piece in range(COUNT) if piece != 3)
    left = await made.told(SourceLeft)
    assert left == [SourceLeft(TRANSFER, OLD, "it has nothing more")]


async def test_a_source_and_a_peer_share_the_work(autojump_clock):
    async def half(desk: RequestDesk) -> None:
        some = PieceSet(COUNT)
        for piece in range(0, COUNT, 2):
            some.add(piece)
        desk.offer(some)
        while True:
            piece = await desk.next_request()
            assert piece % 2 == 0
            await desk.supply(piece, memoryview(piece_of(piece)))

    async with fetching() as made:
        made.ask(Scripted(half))
        made.nursery.start_soon(answer, await made.peer())
        await made.complete()
    stored = await made.told(PieceStored)
    assert {e.source for e in stored} == {OLD, RAW}
    assert all(e.source == RAW for e in stored if e.piece % 2)


async def test_what_is_refused_comes_from_a_peer(autojump_clock):
    async def refusing(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        while True:
            desk.refuse(await desk.next_request())

    async with fetching() as made:
        made.ask(Scripted(refusing))
        made.nursery.start_soon(answer, await made.peer())
        await made.complete()
        assert not made.member.banned
    stored = await made.told(PieceStored, SourceBanned)
    assert {e.source for e in stored} == {RAW}


async def test_a_source_does_not_wait_for_a_limit_that_was_lifted(autojump_clock):
    async with fetching(TransferOptions(download_limit=200)) as made:
        made.ask(Scripted(honest))
        await trio.sleep(1)
        assert not made.exchange.complete.is_set()
        made.exchange.limit(upload=None, download=None)
        with trio.fail_after(1):
            await made.exchange.complete.wait()


async def test_a_source_obeys_the_download_limit(autojump_clock):
    async with fetching(TransferOptions(download_limit=200_000)) as made:
        made.ask(Scripted(honest))
        began = trio.current_time()
        await trio.sleep(3)
        received = made.exchange.progress(paused=False).received
        assert received == pytest.approx(3 * 200_000, rel=0.1)
        await made.complete()
        assert trio.current_time() - began == pytest.approx(len(DATA) / 200_000, rel=0.1)


async def test_several_sources_serve_side_by_side_and_one_name_is_taken_once(autojump_clock):
    async def one_a_second(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        while True:
            piece = await desk.next_request()
            await trio.sleep(1)
            await desk.supply(piece, memoryview(piece_of(piece)))

    async with fetching() as made:
        twin = Scripted(one_a_second)
        made.ask(Scripted(one_a_second), Scripted(one_a_second, SourceId("copy:other")))
        await trio.sleep(0.5)
        made.ask(twin)
        await trio.sleep(0.5)
        assert made.exchange.sources == 2
        await made.complete()
        assert not twin.ended, "it was never begun"
    stored = await made.told(PieceStored)
    assert {e.source for e in stored} == {OLD, "copy:other"}


async def test_a_pause_ends_a_source_and_it_can_be_asked_again(autojump_clock):
    async def slow(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        while True:
            piece = await desk.next_request()
            await trio.sleep(0.2)
            await desk.supply(piece, memoryview(piece_of(piece)))

    async with fetching() as made:
        made.ask(first := Scripted(slow))
        await trio.sleep(1)
        await made.exchange.pause()
        assert first.ended
        assert made.exchange.sources == 0
        made.ask(meanwhile := Scripted(slow))
        await trio.sleep(1)
        assert not meanwhile.ended, "it was never begun"
        made.exchange.unpause()
        made.ask(Scripted(slow))
        await made.complete()
    left = await made.told(SourceLeft)
    assert left[0] == SourceLeft(TRANSFER, OLD, "this transfer is paused")


# --- What goes wrong ------------------------------------------------------------------------------


async def test_a_source_that_cannot_be_read_says_why_and_costs_nothing_else(autojump_clock):
    async def broken(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        await desk.next_request()
        raise DiskError("the disk with the old copy is gone")

    async with fetching() as made:
        made.ask(Scripted(broken))
        made.nursery.start_soon(answer, await made.peer())
        await made.complete()
    left = await made.told(SourceLeft)
    assert left == [SourceLeft(TRANSFER, OLD, "the disk with the old copy is gone")]


@pytest.mark.parametrize("error", [KeyError("a bug"), ExceptionGroup("several", [OSError(5, "I/O error")])])
async def test_a_bug_in_a_source_ends_that_source_only(autojump_clock, error):
    async def buggy(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        await desk.next_request()
        raise error

    async with fetching() as made:
        made.ask(Scripted(buggy))
        made.nursery.start_soon(answer, await made.peer())
        await made.complete()
    (left,) = await made.told(SourceLeft)
    assert type(error).__name__ in left.reason
    assert "\n" not in left.reason


async def test_data_of_another_length_is_a_bug_of_the_source(autojump_clock):
    async def short(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        piece = await desk.next_request()
        with pytest.raises(ValueError, match=r"has (65536|100) bytes, not 5"):
            await desk.supply(piece, memoryview(b"short"))
        await desk.supply(piece, memoryview(piece_of(piece)))
        await honest(desk)

    async with fetching() as made:
        made.ask(Scripted(short))
        await made.complete()


async def test_a_wrong_piece_is_never_stored_and_its_source_is_not_asked_again(autojump_clock):
    async def lying(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        while True:
            piece = await desk.next_request()
            await desk.supply(piece, memoryview(bytes(len(piece_of(piece)))))

    async with fetching() as made:
        made.ask(liar := Scripted(lying))
        await trio.sleep(1)
        assert liar.ended
        assert made.store.stored.count == 0
        made.ask(again := Scripted(lying))
        await trio.sleep(1)
        assert not again.ended, "it was never begun"
        assert not made.member.banned, "it is no peer"
        made.nursery.start_soon(answer, await made.peer())
        await made.complete()
    told = await made.told(SourceBanned, SourceLeft, PieceRefused)
    (banned,) = [e for e in told if isinstance(e, SourceBanned)]
    (refused,) = [e for e in told if isinstance(e, PieceRefused)]
    assert (banned.source, banned.piece) == (OLD, refused.piece)
    assert [e.source for e in told if isinstance(e, SourceLeft)] == [OLD]


async def test_answers_that_nobody_asked_for_change_nothing(autojump_clock):
    async def confused(desk: RequestDesk) -> None:
        await desk.supply(1, memoryview(piece_of(1)))
        desk.refuse(2)
        desk.offer(PieceSet.all(COUNT))
        while True:
            piece = await desk.next_request()
            await desk.supply(piece, memoryview(piece_of(piece)))
            await desk.supply(piece, memoryview(piece_of(piece)))
            desk.refuse(piece)

    async with fetching() as made:
        made.ask(Scripted(confused))
        await made.complete()
    told = await made.told(BytesReceived, PieceWasted, SourceBanned)
    assert sum(e.size for e in told if isinstance(e, BytesReceived)) == len(DATA)
    assert not [e for e in told if isinstance(e, PieceWasted | SourceBanned)]


async def test_more_can_be_offered_later(autojump_clock):
    async def growing(desk: RequestDesk) -> None:
        some = PieceSet(COUNT)
        for piece in range(COUNT):
            some.add(piece)
            desk.offer(some)
            assert await desk.next_request() == piece
            await desk.supply(piece, memoryview(piece_of(piece)))
        await trio.sleep_forever()

    async with fetching() as made:
        made.ask(Scripted(growing))
        await made.complete()


async def test_a_silent_source_loses_its_requests_to_a_peer(autojump_clock):
    async def silent(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        await trio.sleep_forever()

    async with fetching() as made:
        made.ask(Scripted(silent))
        await trio.sleep(0.1)
        made.nursery.start_soon(answer, await made.peer())
        await made.complete(seconds=60)


async def test_a_late_piece_that_a_peer_has_sent_meanwhile_is_taken_back(autojump_clock):
    """Its request is cancelled while the source looks for it: nothing of it is counted, and it goes on."""
    late = trio.Event()
    answered: list[int] = []

    async def slow(desk: RequestDesk) -> None:
        desk.offer(PieceSet.all(COUNT))
        first = await desk.next_request()
        await late.wait()
        await desk.supply(first, memoryview(piece_of(first)))
        answered.append(first)
        await trio.sleep_forever()

    async with fetching() as made:
        made.ask(Scripted(slow))
        await trio.sleep(0.1)
        made.nursery.start_soon(answer, await made.peer())
        await made.complete(seconds=60)
        late.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(answered) == 1
    told = await made.told(BytesReceived, SourceBanned)
    assert sum(e.size for e in told if isinstance(e, BytesReceived)) == len(DATA)
    assert not [e for e in told if isinstance(e, SourceBanned)]


# --- One final answer to each request -------------------------------------------------------------


class Heard:
    """What a desk reports to the performer."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.bytes = 0
        self.whole: list[int] = []

    def message_received(self, source: SourceId, message: object) -> None:
        assert source == OLD
        self.said.append(message)

    def data_received(self, source: SourceId, piece: int, size: int) -> None:
        self.bytes += size

    def pieces_received(self, source: SourceId, arrived: ArrivedPieces) -> None:
        for piece, fresh, data in arrived.pieces:
            assert data == piece_of(piece)
            self.bytes += fresh
            self.whole.append(piece)
        arrived.release()


def desk_of(heard: Heard, memory: TransferMemory) -> SourceDesk:
    now = trio.current_time
    slow = Pacer(RateLimit(PIECE, now), now=now)
    resources = SessionResources(
        MemoryStore(MANIFEST), memory, memory.pool.share(), Pacer(now=now), slow, now
    )
    return SourceDesk(Scripted(honest), resources, heard)  # type: ignore[arg-type]


async def test_a_request_that_is_cancelled_before_it_is_taken_is_answered_at_once(autojump_clock):
    heard = Heard()
    desk = desk_of(heard, TransferMemory())
    for message in (Request(3), Request(5), Cancel(3), Cancel(3), Cancel(9)):
        desk.send(message)
    assert heard.said == [Reject(3, RejectReason.CANCELLED)]
    assert await desk.next_request() == 5
    desk.refuse(5)
    desk.refuse(5)
    assert heard.said[1:] == [Reject(5, RejectReason.NOT_STORED)]


async def test_a_request_that_is_cancelled_while_it_is_looked_for_is_not_copied(autojump_clock):
    heard, memory = Heard(), TransferMemory()
    desk = desk_of(heard, memory)
    desk.send(Request(3))
    assert await desk.next_request() == 3
    desk.send(Cancel(3))
    assert heard.said == []
    await desk.supply(3, memoryview(piece_of(3)))
    assert heard.said == [Reject(3, RejectReason.CANCELLED)]
    assert (heard.bytes, heard.whole, memory.pool.used) == (0, [], 0)
    desk.send(Request(3))
    assert await desk.next_request() == 3
    await desk.supply(3, memoryview(piece_of(3)))
    assert (heard.bytes, heard.whole, memory.pool.used) == (PIECE, [3], 0)


async def test_a_request_that_is_cancelled_while_it_is_copied_gets_one_answer(autojump_clock):
    heard, memory = Heard(), TransferMemory()
    desk = desk_of(heard, memory)
    desk.send(Request(3))
    assert await desk.next_request() == 3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.supply, 3, memoryview(piece_of(3)))
        await trio.sleep(0.3)
        assert 0 < heard.bytes < PIECE
        desk.send(Cancel(3))
    answers = len(heard.whole) + sum(isinstance(each, Reject) for each in heard.said)
    assert answers == 1
    assert memory.pool.used == 0
    desk.refuse(3)
    assert len(heard.whole) + sum(isinstance(each, Reject) for each in heard.said) == 1


def quick_desk_of(heard: Heard, memory: TransferMemory) -> SourceDesk:
    """A desk without a limit."""
    now = trio.current_time
    free = Pacer(now=now)
    resources = SessionResources(MemoryStore(MANIFEST), memory, memory.pool.share(), free, free, now)
    return SourceDesk(Scripted(honest), resources, heard)  # type: ignore[arg-type]


async def test_a_pause_gives_back_what_waits_and_leaves_what_was_taken_to_who_took_it() -> None:
    heard, memory = Heard(), TransferMemory()
    desk = quick_desk_of(heard, memory)
    desk.send(*map(Request, range(6)))
    assert await desk.next_run(4 * PIECE) == range(4)
    view = await desk.begin(0)
    assert view is not None
    # The other worker had a fault. Only what nobody took can be asked for once more.
    desk.pause()
    assert heard.said == [Choke(), *(Reject(piece, RejectReason.CHOKED) for piece in (4, 5))]
    desk.unpause()
    desk.send(Request(4))
    assert await desk.next_run(4 * PIECE) == range(4, 5)
    view[:] = piece_of(0)
    desk.deliver((0,))
    for piece in range(1, 5):
        assert desk.wants(piece)
        memory_of_it = desk.begin_now(piece)
        assert memory_of_it is not None
        memory_of_it[:] = piece_of(piece)
        desk.deliver((piece,))
    assert heard.whole == list(range(5))
    assert heard.said[3:] == [Unchoke()]
    assert memory.pool.used == 0


async def test_a_piece_that_is_being_received_is_not_begun_a_second_time() -> None:
    heard, memory = Heard(), TransferMemory()
    desk = quick_desk_of(heard, memory)
    desk.send(Request(3))
    await desk.next_run(PIECE)
    view = await desk.begin(3)
    assert view is not None
    assert await desk.begin(3) is None
    assert desk.begin_now(3) is None
    view[:] = piece_of(3)
    desk.deliver((3,))
    assert (heard.said, heard.whole, memory.pool.used) == ([], [3], 0)


async def test_a_source_that_is_ended_while_it_supplies_gives_its_memory_back(autojump_clock):
    heard, memory = Heard(), TransferMemory()
    desk = desk_of(heard, memory)
    desk.send(Request(3))
    with desk.scope:
        assert await desk.next_request() == 3
        trio.lowlevel.spawn_system_task(_stop_soon, desk)
        await desk.supply(3, memoryview(piece_of(3)))
    assert desk.scope.cancelled_caught
    assert (desk.reason, heard.whole, memory.pool.used) == ("enough", [], 0)


async def _stop_soon(desk: SourceDesk) -> None:
    await trio.sleep(0.3)
    desk.stop("enough")
    desk.stop("too late to matter")
