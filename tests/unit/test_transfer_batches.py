"""Small pieces that come together are stored together, and who sent a wrong one among them is still known."""

from __future__ import annotations

import random

import trio.testing

from swarm.events import PieceStored, SourceBanned
from swarm.protocol.codec import encode_data_head
from swarm.protocol.messages import HaveAll, Request, Unchoke
from swarm.storage.memory_store import MemoryStore
from tests.support.contents import folder_manifest
from tests.support.raw_peer import RawPeer
from tests.unit.test_transfer_session import RAW, transfer

FILES = {f"{number:03}": random.Random(number).randbytes(500) for number in range(60)}
MANIFEST = folder_manifest("x", FILES)
PIECES = [FILES[entry.path[0]] for entry in MANIFEST.files]


class Noting(MemoryStore):
    """Notes how many pieces were put in each step."""

    def __init__(self) -> None:
        super().__init__(MANIFEST)
        self.steps: list[int] = []

    async def put_many(self, pieces):
        self.steps.append(len(pieces))
        return await super().put_many(pieces)


async def first_request(peer: RawPeer) -> int:
    await peer.greet(HaveAll())
    await peer.say(Unchoke())
    return (await peer.hear_until(Request))[-1].message.piece


def reply(piece: int, data: bytes) -> bytes:
    return encode_data_head(piece, 0, len(data)) + data


async def requests(peer: RawPeer, count: int) -> list[int]:
    found = []
    while len(found) < count:
        message = (await peer.hear()).message
        if isinstance(message, Request):
            found.append(message.piece)
    return found


async def test_pieces_that_come_together_are_put_together(autojump_clock):
    store = Noting()
    async with transfer(store) as made:
        peer = made.peer()
        first = await first_request(peer)
        await peer.say(reply(first, PIECES[first]))
        rest = await requests(peer, len(PIECES) - 1)
        await peer.say(*(reply(piece, PIECES[piece]) for piece in rest))
        await made.exchange.complete.wait()
        assert sum(store.steps) >= len(rest) - 10
        assert len(store.steps) <= 12
    assert store.content() == b"".join(PIECES)


async def test_a_wrong_piece_among_good_ones_is_blamed_on_its_sender_alone(autojump_clock):
    store = Noting()
    async with transfer(store) as made:
        peer = made.peer()
        first = await first_request(peer)
        await peer.say(reply(first, PIECES[first]))
        rest = await requests(peer, len(PIECES) - 1)
        wrong = rest[3]
        sent = {piece: bytes(500) if piece == wrong else PIECES[piece] for piece in rest[:7]}
        await peer.say(*(reply(piece, data) for piece, data in sent.items()))
        await made.end()
        await trio.testing.wait_all_tasks_blocked()
        assert made.banned == {RAW}
        assert set(store.stored) == {first, *sent} - {wrong}
        seen = await made.seen()
        assert [event.piece for event in seen if isinstance(event, SourceBanned)] == [wrong]
        assert {event.piece for event in seen if isinstance(event, PieceStored)} == set(store.stored)
