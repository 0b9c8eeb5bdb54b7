"""What a meeting point takes from whom, over streams in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from swarm.endpoint import Endpoint
from swarm.errors import LinkClosed, RemoteError
from swarm.ids import PeerId
from swarm.node.meeting_server import RendezvousService
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.peer_record import open_record, seal_record
from swarm.reach.rendezvous_messages import (
    Discover,
    DiscoverResponse,
    Register,
    RegisterResponse,
    RendezvousMessage,
    RendezvousStatus,
    decode_rendezvous,
    encode_rendezvous,
)
from tests.support.memory_link import MemoryLink, memory_link_pair

KEYS = [bytes((number,)) * 32 for number in (1, 2)]
RECORDS = [seal_record(key, [Endpoint.parse("/ip4/5.5.5.7/tcp/4001")], 1) for key in KEYS]
PEERS = [open_record(record).peer for record in RECORDS]
SERVER = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")


@asynccontextmanager
async def stream_of(service: RendezvousService, peer: PeerId) -> AsyncIterator[MemoryLink]:
    """The visitor's end of a stream of this peer, which the service answers until it ends."""
    ours, theirs = memory_link_pair(peer, SERVER)
    theirs.remote_address = "/ip4/5.5.5.7/tcp/31234"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service, theirs)
        yield ours
        await ours.reset()


async def ask(stream: MemoryLink, message: RendezvousMessage) -> RendezvousMessage:
    await write_message(stream, encode_rendezvous(message))
    return decode_rendezvous(await read_message(stream, limits.MAX_RENDEZVOUS_BYTES))


async def status_of(stream: MemoryLink, record: bytes) -> int:
    answer = await ask(stream, Register("a", record))
    assert isinstance(answer, RegisterResponse)
    return answer.status


async def found(service: RendezvousService) -> list[bytes]:
    async with stream_of(service, SERVER) as stream:
        answer = await ask(stream, Discover("a"))
        assert isinstance(answer, DiscoverResponse)
        return [each.record for each in answer.records]


async def test_nobody_registers_anybody_else() -> None:
    service = RendezvousService()
    broken = RECORDS[0][:-1] + bytes((RECORDS[0][-1] ^ 1,))
    async with stream_of(service, PEERS[0]) as stream:
        assert await status_of(stream, RECORDS[1]) == RendezvousStatus.NOT_AUTHORIZED
        assert await status_of(stream, broken) == RendezvousStatus.INVALID_RECORD
        assert await found(service) == []
        # Nor after it has shown a good record of its own.
        for _ in range(2):
            assert await status_of(stream, RECORDS[0]) == RendezvousStatus.OK
        assert await status_of(stream, RECORDS[1]) == RendezvousStatus.NOT_AUTHORIZED
        assert await status_of(stream, broken) == RendezvousStatus.INVALID_RECORD
        assert await found(service) == [RECORDS[0]]
        # Nor with the record that the meeting point knows of somebody else.
        async with stream_of(service, PEERS[1]) as other:
            assert await status_of(other, RECORDS[0]) == RendezvousStatus.NOT_AUTHORIZED


async def test_what_is_present_ends_with_its_stream_alone() -> None:
    service = RendezvousService()
    async with stream_of(service, PEERS[0]) as stays:
        await ask(stays, Register("b", RECORDS[0], present=True))
        async with stream_of(service, PEERS[0]) as stream:
            await ask(stream, Register("a", RECORDS[0], present=True))
            assert await found(service) == [RECORDS[0]]
        assert await found(service) == []
        assert len(service.registry) == 1
    assert len(service.registry) == 0
    async with stream_of(service, PEERS[0]) as stream:
        await ask(stream, Register("a", RECORDS[0]))
    assert await found(service) == [RECORDS[0]]


async def test_who_waits_is_told_at_once_and_a_flood_is_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    service = RendezvousService()
    async with stream_of(service, SERVER) as waiting, trio.open_nursery() as nursery:
        answers: list[RendezvousMessage] = []

        async def wait() -> None:
            answers.append(await ask(waiting, Discover("a", wait=50)))
            assert trio.current_time() - began == pytest.approx(20)

        began = trio.current_time()
        nursery.start_soon(wait)
        await trio.sleep(20)
        async with stream_of(service, PEERS[0]) as stream:
            await ask(stream, Register("b", RECORDS[0]))
            assert not answers
            await ask(stream, Register("a", RECORDS[0]))
            await trio.testing.wait_all_tasks_blocked()
            assert answers
    assert service._waiting == {}
    ours, theirs = memory_link_pair(PEERS[1], SERVER)
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            for _ in range(int(limits.REQUESTS_BURST) + 2):
                await write_message(ours, encode_rendezvous(Discover("a")))

        async def read() -> None:
            while True:
                await read_message(ours, limits.MAX_RENDEZVOUS_BYTES)

        nursery.start_soon(flood)
        nursery.start_soon(read)
        with pytest.raises(RemoteError, match="too many"):
            await service(theirs)
        nursery.cancel_scope.cancel()


async def test_one_peer_cannot_hold_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that waits costs memory: one of who has most is ended when somebody else comes."""
    monkeypatch.setattr(limits, "MEETING_STREAMS_PER_NETWORK", 10)
    service = RendezvousService()
    async with trio.open_nursery() as nursery:

        async def opened(peer: PeerId) -> MemoryLink:
            ours, theirs = memory_link_pair(peer, SERVER)
            theirs.remote_address = "/ip4/5.5.5.7/tcp/31234"
            nursery.start_soon(service, theirs)
            await trio.testing.wait_all_tasks_blocked()
            return ours

        held = [await opened(PEERS[0]) for _ in range(12)]
        assert len(service._shares) == 10
        for late in held[10:]:
            with pytest.raises(LinkClosed):
                await status_of(late, RECORDS[0])
        assert await status_of(held[0], RECORDS[0]) == RendezvousStatus.OK
        other = await opened(PEERS[1])
        assert await status_of(other, RECORDS[1]) == RendezvousStatus.OK
        with pytest.raises(LinkClosed):
            await status_of(held[9], RECORDS[0])
        assert await status_of(held[8], RECORDS[0]) == RendezvousStatus.OK
        for stream in (*held, other):
            await stream.reset()
    assert len(service._shares) == 0
