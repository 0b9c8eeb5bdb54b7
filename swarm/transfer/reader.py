"""The reading half of a session: control messages to whoever decides, payload straight into the piece.

Nothing here waits for a write. The disk is waited for only when all piece buffers are in use.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from swarm.content.layout import Layout
from swarm.ports import Link
from swarm.transfer.buffers import BufferPool, PieceBuffer
from swarm.transfer.chunks import LEAST_CHUNK_BYTES, ChunkSizer
from swarm.transfer.pacing import Pacer
from swarm.transfer.reports import Reports
from swarm.wire.codec import (
    DATA,
    DATA_HEAD_BYTES,
    HEADER_BYTES,
    decode_body,
    decode_data_head,
    decode_header,
)
from swarm.wire.messages import Reject
from swarm.wire.session import PeerProtocol

MESSAGES_IN_A_ROW = 32
"""A peer whose messages are all here already gives way to other tasks after so many."""


class Reader:
    """Reads one session's stream until it ends."""

    def __init__(
        self,
        link: Link,
        protocol: PeerProtocol,
        layout: Layout,
        reports: Reports,
        *,
        pool: BufferPool,
        pacer: Pacer | None,
        now: Callable[[], float],
    ) -> None:
        self._link = link
        self._protocol = protocol
        self._layout = layout
        self._reports = reports
        self._pool = pool
        self._pacer = pacer
        self._now = now
        self._sizer = ChunkSizer(first=LEAST_CHUNK_BYTES)
        self._piece: int | None = None
        self._buffer: PieceBuffer | None = None
        self._in_a_row = 0
        self.heard_at = now()
        """When something last came from the peer."""

    async def run(self) -> None:
        """Read messages until the peer says GOODBYE; raises LinkClosed, RemoteError."""
        while not self._protocol.peer_left:
            await self.step()

    async def step(self) -> None:
        """Read one message; raises LinkClosed, RemoteError."""
        kind, size = decode_header(await self._link.read_exactly(HEADER_BYTES))
        self.heard_at = self._now()
        if kind == DATA:
            await self._data(size)
        else:
            await self._control(kind, size)
        self._in_a_row += 1
        if self._in_a_row >= MESSAGES_IN_A_ROW:
            self._in_a_row = 0
            await trio.lowlevel.checkpoint()

    def cancelled(self, piece: int, evict: Callable[[], object]) -> None:
        """We have cancelled our request: the rest of the piece is thrown away as it comes.

        While a chunk of it is on its way its buffer cannot be given back; ``evict`` is called if the
        memory is needed elsewhere meanwhile.
        """
        if piece == self._piece and self._buffer is not None:
            self._buffer.abandon(evict)

    def release(self) -> None:
        """Give back the memory of an unfinished piece; nothing is read any more."""
        buffer, self._buffer, self._piece = self._buffer, None, None
        if buffer is not None:
            buffer.release()

    async def _control(self, kind: int, size: int) -> None:
        self._protocol.check_size(kind, size)
        body = await self._link.read_exactly(size) if size else b""
        message = decode_body(kind, body)
        self._protocol.received(message, self._now())
        if isinstance(message, Reject) and message.piece == self._piece:
            self.release()
        self._reports.message_received(message)

    async def _data(self, size: int) -> None:
        head = decode_data_head(await self._link.read_exactly(DATA_HEAD_BYTES), size)
        arrival = self._protocol.received_data(head)
        if arrival.wanted:
            await self._fill(await self._buffer_for(head.piece), head.piece, head.offset, head.size)
        else:
            self.release()
            await self._discard(head.piece, head.size)
        if arrival.last:
            self._whole(head.piece)

    async def _buffer_for(self, piece: int) -> PieceBuffer:
        if self._buffer is None:
            self._buffer = await self._pool.take(self._layout.length(piece))
            self._piece = piece
        return self._buffer

    def _whole(self, piece: int) -> None:
        buffer, self._buffer, self._piece = self._buffer, None, None
        self._reports.piece_received(piece, buffer)

    async def _fill(self, buffer: PieceBuffer, piece: int, offset: int, size: int) -> None:
        end = offset + size
        while offset < end:
            step = min(end - offset, self._slice())
            await self._read(buffer.view[offset : offset + step])
            offset += step
            self._reports.data_received(piece, step)
            await self._pace(step)

    async def _discard(self, piece: int, size: int) -> None:
        scratch = memoryview(bytearray(min(size, LEAST_CHUNK_BYTES)))
        while size:
            step = min(size, len(scratch), self._slice())
            await self._read(scratch[:step])
            size -= step
            self._reports.data_received(piece, step)
            await self._pace(step)

    async def _read(self, target: memoryview) -> None:
        began = self._now()
        await self._link.readinto_exactly(target)
        self.heard_at = self._now()
        self._sizer.moved(len(target), self.heard_at - began)

    def _slice(self) -> int:
        size = self._sizer.size
        return size if self._pacer is None else min(size, self._pacer.slice_bytes)

    async def _pace(self, size: int) -> None:
        """Wait after reading: the link's window then slows the peer down."""
        if self._pacer is not None:
            delay = self._pacer.turn(size) - self._now()
            if delay > 0:
                await trio.sleep(delay)
