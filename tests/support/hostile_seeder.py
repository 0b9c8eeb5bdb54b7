"""Seeders that lie: each answers requests wrongly in one way. Run by hostile.py.

All of them say that they have everything and unchoke at once. `honest` is the control: told apart from
the others by its answers alone.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.errors import LinkClosed, RemoteError
from swarm.ports import ByteStream
from swarm.protocol.codec import DATA, encode
from swarm.protocol.messages import Data, HaveAll, HaveBitfield, Reject, RejectReason, Request, Unchoke
from tests.support.hostile_forge import forge
from tests.support.raw_peer import RawPeer

SLOW_SECONDS = 5.0
"""Between two bytes of the `dribble` seeder."""
LATE_SECONDS = 8.0
CHUNK = 1 << 16
GARBAGE_BYTES = 4096


class Content:
    """The true pieces of one shared file, by position."""

    def __init__(self, manifest: Manifest, file: Path) -> None:
        self.manifest = manifest
        self._file = file
        self.random = random.Random()

    def piece(self, index: int) -> bytes:
        """The right bytes of a piece (of a manifest with a single file)."""
        span = self.manifest.layout.span(index)
        with self._file.open("rb") as file:
            file.seek(span.offset)
            return file.read(span.length)


Answer = Callable[[RawPeer, Content, int], Awaitable[None]]


async def honest(peer: RawPeer, content: Content, piece: int) -> None:
    await peer.send_piece(piece, content.piece(piece), chunk=CHUNK)


async def partial(peer: RawPeer, content: Content, piece: int) -> None:
    """An honest one with the first nine tenths of the pieces."""
    await honest(peer, content, piece)


async def corrupt(peer: RawPeer, content: Content, piece: int) -> None:
    """Random bytes of the right length."""
    length = content.manifest.layout.length(piece)
    await peer.send_piece(piece, content.random.randbytes(length), chunk=CHUNK)


async def bitflip(peer: RawPeer, content: Content, piece: int) -> None:
    """The right bytes but for one bit."""
    data = bytearray(content.piece(piece))
    data[content.random.randrange(len(data))] ^= 1 << content.random.randrange(8)
    await peer.send_piece(piece, bytes(data), chunk=CHUNK)


async def replay(peer: RawPeer, content: Content, piece: int) -> None:
    """Another piece's valid bytes, of the same length where there is one."""
    layout = content.manifest.layout
    length = layout.length(piece)
    other = next(i for i in range(layout.piece_count) if i != piece and layout.length(i) >= length)
    await peer.send_piece(piece, content.piece(other)[:length], chunk=CHUNK)


async def forged(peer: RawPeer, content: Content, piece: int) -> None:
    """Bytes with the XXH3-128 of the right ones."""
    await peer.send_piece(piece, await trio.to_thread.run_sync(forge, content.piece(piece)), chunk=CHUNK)


async def late(peer: RawPeer, content: Content, piece: int) -> None:
    """The right bytes, when they are of no use any more."""
    await trio.sleep(LATE_SECONDS)
    await honest(peer, content, piece)


async def too_long(peer: RawPeer, content: Content, piece: int) -> None:
    """The right bytes and then more of them."""
    data = content.piece(piece)
    await peer.send_piece(piece, data, chunk=CHUNK)
    await peer.say(encode(Data(piece, len(data), len(data))) + data)


async def unsolicited(peer: RawPeer, content: Content, piece: int) -> None:
    """A piece that nobody asked for."""
    other = (piece + content.manifest.piece_count // 2) % content.manifest.piece_count
    await peer.send_piece(other, content.piece(other), chunk=CHUNK)


async def reject(peer: RawPeer, content: Content, piece: int) -> None:
    """Has everything, gives nothing."""
    await peer.say(Reject(piece, RejectReason.NOT_STORED))


async def busy(peer: RawPeer, content: Content, piece: int) -> None:
    await peer.say(Reject(piece, RejectReason.BUSY))


async def silent(peer: RawPeer, content: Content, piece: int) -> None:
    """Takes requests and says nothing."""


async def dribble(peer: RawPeer, content: Content, piece: int) -> None:
    """One right byte every five seconds, under one DATA head for as much as is allowed."""
    data = content.piece(piece)[: 1 << 20]
    await peer.say(encode(Data(piece, 0, len(data))))
    for byte in data:
        await trio.sleep(SLOW_SECONDS)
        await peer.say(bytes([byte]))


async def garbage(peer: RawPeer, content: Content, piece: int) -> None:
    """Bytes that are no frame."""
    await peer.say(content.random.randbytes(GARBAGE_BYTES))


async def oversize(peer: RawPeer, content: Content, piece: int) -> None:
    """A DATA of 4 GiB."""
    await peer.say((2**32 - 1).to_bytes(4, "big") + bytes([DATA]) + bytes(8) + bytes(GARBAGE_BYTES))


async def hang_up(peer: RawPeer, content: Content, piece: int) -> None:
    """Half a piece, and gone."""
    data = content.piece(piece)
    await peer.say(encode(Data(piece, 0, len(data) // 2)) + data[: len(data) // 2])
    raise LinkClosed("gone on purpose")


ANSWERS: dict[str, Answer] = {
    answer.__name__.replace("_", "-"): answer
    for answer in (
        honest,
        partial,
        corrupt,
        bitflip,
        replay,
        forged,
        late,
        too_long,
        unsolicited,
        reject,
        busy,
        silent,
        dribble,
        garbage,
        oversize,
        hang_up,
    )
}


async def seed(link: ByteStream, content: Content, answer: Answer) -> None:
    """Serve one exchange stream that an honest leecher has opened, wrongly, until it ends."""
    peer = RawPeer(link, content.manifest)
    await peer.hear()
    if answer is partial:
        have = PieceSet(content.manifest.piece_count)
        for piece in range(content.manifest.piece_count * 9 // 10):
            have.add(piece)
        await peer.greet(HaveBitfield(have.to_bytes()))
    else:
        await peer.greet(HaveAll())
    await peer.say(Unchoke())
    while True:
        frame = await peer.hear()
        if isinstance(frame.message, Request):
            await answer(peer, content, frame.message.piece)


async def say_nothing(link: ByteStream) -> None:
    """Take the stream and never greet."""
    await link.read_exactly(1 << 30)


EXPECTED = (LinkClosed, RemoteError)
"""How an attack ends when the victim has had enough."""
