"""A peer without a brain: says exactly what a test tells it to, legal or not."""

from __future__ import annotations

import trio

from swarm.content.manifest import Manifest
from swarm.errors import LinkClosed
from swarm.ports import ByteStream
from swarm.protocol.codec import (
    DATA,
    DATA_HEAD_BYTES,
    HEADER_BYTES,
    PACKED,
    PACKED_HEAD_BYTES,
    decode_body,
    decode_data_head,
    decode_header,
    decode_packed_head,
    encode,
)
from swarm.protocol.messages import Data, HaveNone, Hello, Message
from tests.support.wire_decoder import Frame


class RawPeer:
    """Speaks frames over one link."""

    def __init__(self, link: ByteStream, manifest: Manifest) -> None:
        self.link = link
        self.manifest = manifest
        self._writing = trio.Lock()

    async def say(self, *messages: Message | bytes) -> None:
        """Write messages, or raw bytes, in one go."""
        async with self._writing:
            await self.link.write(b"".join(m if isinstance(m, bytes) else encode(m) for m in messages))

    async def greet(self, have: Message | None = None, *, addresses: tuple[str, ...] = ()) -> None:
        """HELLO and an announcement."""
        hello = Hello(self.manifest.id, self.manifest.piece_count, "raw", addresses)
        await self.say(hello, have or HaveNone())

    async def hear(self) -> Frame:
        """The next frame; raises LinkClosed at the end."""
        kind, size = decode_header(await self.link.read_exactly(HEADER_BYTES))
        if kind == PACKED:
            packed = decode_packed_head(await self.link.read_exactly(PACKED_HEAD_BYTES), size)
            return Frame(packed, await self.link.read_exactly(packed.packed))
        if kind != DATA:
            return Frame(decode_body(kind, await self.link.read_exactly(size) if size else b""), b"")
        head = decode_data_head(await self.link.read_exactly(DATA_HEAD_BYTES), size)
        return Frame(head, await self.link.read_exactly(head.size))

    async def hear_until(self, kind: type[Message]) -> list[Frame]:
        """All frames up to the first message of that kind, which is the last."""
        frames = [await self.hear()]
        while not isinstance(frames[-1].message, kind):
            frames.append(await self.hear())
        return frames

    async def hear_piece(self, piece: int) -> bytes:
        """The bytes of one requested piece, whatever comes between."""
        found = b""
        length = self.manifest.layout.length(piece)
        while len(found) < length:
            frame = await self.hear()
            if isinstance(frame.message, Data) and frame.message.piece == piece:
                found += frame.payload
        return found

    async def hear_to_the_end(self) -> list[Frame]:
        """Everything until the link ends."""
        frames = []
        try:
            while True:
                frames.append(await self.hear())
        except LinkClosed:
            await self.link.close()
            return frames

    async def send_piece(self, piece: int, data: bytes, *, chunk: int = 1 << 20) -> None:
        """A whole piece in chunks."""
        for offset in range(0, len(data), chunk):
            part = data[offset : offset + chunk]
            await self.say(encode(Data(piece, offset, len(part))) + part)
            await trio.lowlevel.checkpoint()
