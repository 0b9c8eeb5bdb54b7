"""Negotiation of protocols: how few round trips it takes, and what follows when a protocol is not spoken."""

from __future__ import annotations

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.utils.varint import encode_delim

from swarm.net.libp2p.negotiation import propose

FAST, COMMON, OTHER = TProtocol("/fast/1"), TProtocol("/common/1"), TProtocol("/other/1")


class Pipe:
    """One end of a connection in memory; ``waits`` counts the times that nothing more was there to read."""

    def __init__(self) -> None:
        self.peer: Pipe = self
        self.waits = 0
        self._came = bytearray()
        self._news = trio.lowlevel.ParkingLot()

    async def read(self, size: int | None = None) -> bytes:
        if not self._came:
            self.waits += 1
            await self._news.park()
        data = bytes(self._came[:size])
        del self._came[:size]
        return data

    async def write(self, data: bytes) -> None:
        self.peer._came += data
        self.peer._news.unpark_all()


async def negotiated(
    proposed: list[TProtocol],
    spoken: list[TProtocol],
    first: bytes = b"",
) -> tuple[TProtocol, Pipe, Pipe]:
    ours, theirs = Pipe(), Pipe()
    ours.peer, theirs.peer = theirs, ours
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            Multiselect(dict.fromkeys(spoken)).negotiate,  # type: ignore[arg-type]
            MultiselectCommunicator(theirs),  # type: ignore[arg-type]
        )
        communicator = MultiselectCommunicator(ours)  # type: ignore[arg-type]
        try:
            return await propose(proposed, communicator, 5, first), ours, theirs
        finally:
            nursery.cancel_scope.cancel()


async def test_the_first_protocol_costs_one_round_trip_and_brings_the_first_bytes() -> None:
    chosen, ours, theirs = await negotiated([FAST], [COMMON, FAST], b"the first bytes")
    assert chosen == FAST
    assert ours.waits == 1
    assert await theirs.read() == b"the first bytes"


async def test_a_second_choice_is_proposed_when_the_first_is_not_spoken() -> None:
    chosen, ours, _ = await negotiated([FAST, COMMON], [COMMON])
    assert chosen == COMMON
    assert ours.waits == 2


async def test_who_speaks_none_of_them_is_told_apart() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(MultiselectClientError, match="/common/1 is not spoken there")):
        await negotiated([FAST, COMMON], [OTHER], b"")


async def test_something_else_than_a_negotiation_is_refused() -> None:
    ours, theirs = Pipe(), Pipe()
    ours.peer, theirs.peer = theirs, ours
    await theirs.write(encode_delim(b"/http/1.1") + encode_delim(FAST.encode()))
    with pytest.raises(MultiselectClientError, match="something else"):
        await propose([FAST], MultiselectCommunicator(ours), 5)  # type: ignore[arg-type]
