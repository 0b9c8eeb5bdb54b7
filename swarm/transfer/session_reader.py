"""The half of a session that reads.

What the link has received is parsed in one go: small pieces and requests that came together are handed over
together. The payload of a larger piece is read straight into its buffer. What a fast peer sends in whole
pieces is read into an arena instead, with all that comes with it, and its pieces stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from swarm.errors import LinkClosed, RemoteError
from swarm.ports import ByteStream
from swarm.protocol.codec import (
    DATA,
    DATA_FRAME_BYTES,
    DATA_HEAD_BYTES,
    HEADER_BYTES,
    PACKED,
    PACKED_HEAD_BYTES,
    REQUEST,
    REQUEST_BYTES,
    decode_body,
    decode_data_head,
    decode_header,
    decode_packed_head,
    frame_bytes,
    whole_data,
    whole_requests,
)
from swarm.protocol.messages import Data, Reject, Request
from swarm.protocol.packing import unpack
from swarm.protocol.session_rules import SessionRules
from swarm.transfer.arena import ARENA_BYTES, HANDED_BYTES, LONGEST_PIECE, Arena
from swarm.transfer.buffers import ArrivedPiece, ArrivedPieces, Holding, PieceBuffer
from swarm.transfer.pacing import CHUNK_BYTES, LEAST_CHUNK_BYTES, ChunkSizer
from swarm.transfer.session_io import Reports, SessionResources

MESSAGES_IN_A_ROW = 8
"""Messages, or batches of them, that are read without a pause for other tasks."""

LEAST_AHEAD_BYTES = 4 * 1024
MOST_AHEAD_BYTES = 64 * 1024
"""Bytes that are read at once while no payload is due: few, because payload among them is copied; more as
long as they turn out to be small messages."""

SMALL_BYTES = 16 * 1024
"""A piece up to this size that has come whole is handed over with its neighbours."""

TOGETHER_BYTES = 1024 * 1024
"""Larger pieces that came without a pause are handed over together, up to so many bytes without an arena."""

WAIT_BYTES = 256 * 1024
"""While so many bytes are missing in an arena, nothing is heard of fewer: a peer that has become slow is
noticed."""

ROUND_BYTES = 16 * 1024
"""The memory of pieces that came together is a multiple of this, so that it is reused."""

PROGRESS_SECONDS = 0.05
"""Between two reports about a piece that is under way."""


class SessionReader:
    """Reads one session's stream until it ends."""

    def __init__(
        self, stream: ByteStream, rules: SessionRules, resources: SessionResources, reports: Reports
    ) -> None:
        self._stream = stream
        self._rules = rules
        self._layout = resources.store.manifest.layout
        self._reports = reports
        self._pool = resources.pool
        self._pacer = resources.download_pacer
        self._now = now = resources.now
        self._sizer = ChunkSizer(first=LEAST_CHUNK_BYTES)
        self._ahead = memoryview(b"")
        self._look = LEAST_AHEAD_BYTES
        self._small: list[ArrivedPiece] = []
        self._large: list[ArrivedPiece] = []
        self._large_buffers: list[Holding] = []
        self._large_bytes = 0
        self._requests: list[int] = []
        self._piece: int | None = None
        self._buffer: PieceBuffer | None = None
        self._arena: Arena | None = None
        self._arena_used = False
        self._whole_pieces = False
        self._fresh = 0
        self._told_at = -math.inf
        self._in_a_row = 0
        self.heard_at = now()
        """When something last came from the peer."""

    async def run(self) -> None:
        """Read messages until the peer says GOODBYE; raises LinkClosed, RemoteError."""
        while not self._rules.peer_left:
            await self.step()

    async def step(self) -> None:
        """Read a message and those that came with it; raises LinkClosed, RemoteError."""
        try:
            await self._message()
            while not self._rules.peer_left and len(self._ahead) >= frame_bytes(self._ahead):
                await self._message()
        except RemoteError:
            # What came before the fault counts, however it was cut.
            self._hand_over_large()
            await self._hand_over()
            raise
        await self._hand_over()
        # Of a fast peer the link lets nobody read so much in a row that others wait.
        self._in_a_row += self._arena is None
        if self._in_a_row >= MESSAGES_IN_A_ROW:
            self._in_a_row = 0
            await trio.lowlevel.checkpoint()

    def cancelled(self, piece: int, evict: Callable[[], object]) -> None:
        """We have cancelled our request: the rest of the piece is thrown away as it comes.

        While a chunk of it is on its way its buffer cannot be given back; ``evict`` is called if the
        memory is needed elsewhere meanwhile.
        """
        holder = self._buffer or self._arena
        if piece == self._piece and holder is not None:
            holder.abandon(evict)

    def release(self) -> None:
        """Give back the memory of an unfinished piece; nothing is read any more."""
        self._hand_over_large()
        if self._piece is not None and self._fresh:
            self._tell(self._piece)
        self._drop()
        self._ahead = memoryview(b"")
        self._small.clear()
        self._leave_arena()

    # --- Messages -----------------------------------------------------------------------------------

    async def _message(self) -> None:
        if len(self._ahead) < HEADER_BYTES:
            await self._look_ahead(HEADER_BYTES)
        kind, size = decode_header(self._ahead[:HEADER_BYTES])
        if kind == REQUEST and self._take_requests():
            return
        self._ahead = self._ahead[HEADER_BYTES:]
        if kind == DATA:
            await self._data(size)
        elif kind == PACKED:
            await self._packed(size)
        else:
            await self._control(kind, size)

    async def _control(self, kind: int, size: int) -> None:
        self._rules.check_size(kind, size)
        message = decode_body(kind, bytes(await self._take(size)) if size else b"")
        self._rules.received(message, self._now())
        if isinstance(message, Request):
            self._requests.append(message.piece)
            return
        self._hand_over_large()
        await self._hand_over()
        if isinstance(message, Reject) and message.piece == self._piece:
            self._tell(message.piece)
            self._drop()
        self._reports.message_received(message)

    def _take_requests(self) -> bool:
        """As `_control`, for requests that have come whole; says whether there were any."""
        if pieces := whole_requests(self._ahead):
            self._ahead = self._ahead[len(pieces) * REQUEST_BYTES :]
            self._rules.received_requests(pieces, self._now(), self._requests)
        return bool(pieces)

    async def _data(self, size: int) -> None:
        head = decode_data_head(await self._take(DATA_HEAD_BYTES), size)
        arrival = self._rules.received_data(head)
        whole = arrival.last and not head.offset
        if whole and (head.size <= SMALL_BYTES or self._arena is not None):
            fresh = await self._complete(head.piece, head.size)
            payload, self._ahead = self._ahead[: head.size], self._ahead[head.size :]
            arrived = ArrivedPiece(head.piece, fresh, payload if arrival.wanted else None)
            if head.size <= SMALL_BYTES:
                self._small.append(arrived)
            else:
                self._arena_used = True
                self._add_large(arrived)
                self._take_whole()
            return
        self._whole_pieces = whole
        await self._hand_over()
        self._look = LEAST_AHEAD_BYTES
        if arrival.wanted:
            buffer = await self._buffer_for(head.piece)
            await self._fill(buffer.view[head.offset : head.offset + head.size], head.piece)
        else:
            await self._discard(head.piece, head.size)
        if arrival.last:
            self._whole(head.piece)

    def _take_whole(self) -> None:
        """As `_data`, for the pieces of full length that have come in the arena behind another."""
        length = self._layout.piece_length
        while self._arena is not None and (piece := whole_data(self._ahead, length)) is not None:
            arrival = self._rules.received_data(Data(piece, 0, length))
            end = DATA_FRAME_BYTES + length
            payload, self._ahead = self._ahead[DATA_FRAME_BYTES:end], self._ahead[end:]
            self._arena_used = True
            self._add_large(ArrivedPiece(piece, length, payload if arrival.wanted else None))

    async def _packed(self, size: int) -> None:
        self._rules.check_size(PACKED, size)
        head = decode_packed_head(await self._take(PACKED_HEAD_BYTES), size)
        arrival = self._rules.received_data(head)
        await self._hand_over()
        self._look = LEAST_AHEAD_BYTES
        if arrival.wanted:
            buffer = await self._buffer_for(head.piece)
            frame = memoryview(bytearray(head.packed))
            await self._fill(frame)
            buffer.view[head.offset : head.offset + head.size] = unpack(frame, head.size)
        else:
            await self._discard(head.piece, head.packed, counts=False)
        self._reports.bytes_spared(received=head.size - head.packed)
        self._count(head.piece, head.size)
        if arrival.last:
            self._whole(head.piece)

    async def _hand_over(self) -> None:
        """Report the requests and small pieces that came together."""
        if self._requests:
            requests, self._requests = self._requests, []
            self._reports.requests_received(requests)
        if not self._small:
            return
        self._hand_over_large()
        small, self._small = self._small, []
        wanted = sum(len(data) for _, _, data in small if data is not None)
        buffer = await self._memory(wanted + -wanted % ROUND_BYTES) if wanted else None
        at = 0
        for index, (piece, fresh, data) in enumerate(small):
            if data is not None and buffer is not None:
                view = buffer.view[at : at + len(data)]
                view[:] = data
                at += len(data)
                small[index] = ArrivedPiece(piece, fresh, view)
        self._reports.pieces_received(ArrivedPieces(small, () if buffer is None else (buffer,)))
        await self._pace(sum(fresh for _, fresh, _ in small))

    def _hand_over_large(self) -> None:
        """Report the larger pieces that came together."""
        if self._large:
            if self._arena is not None and self._arena_used:
                self._large_buffers.append(self._arena.lend())
                self._arena_used = False
            arrived = ArrivedPieces(self._large, self._large_buffers)
            self._large, self._large_buffers, self._large_bytes = [], [], 0
            self._reports.pieces_received(arrived)
        self._stream.give_credit()

    async def _complete(self, piece: int, size: int) -> int:
        """Read on until a piece is whole; returns how much of it was not told of while it came."""
        told = 0
        self._piece = piece
        while (missing := size - len(self._ahead)) > 0:
            await self._hand_over()
            least = 1 if self._arena is None else min(missing, WAIT_BYTES)
            await self._look_ahead(len(self._ahead) + least)
            self._fresh = len(self._ahead) - told
            if self.heard_at >= self._told_at + PROGRESS_SECONDS and len(self._ahead) < size:
                told = len(self._ahead)
                self._tell(piece)
        self._piece, self._fresh = None, 0
        if self._arena is not None:
            self._arena.wanted()
        return size - told

    # --- Payload ------------------------------------------------------------------------------------

    async def _memory(self, size: int) -> PieceBuffer:
        if (buffer := self._pool.take_free(size)) is None:
            self._hand_over_large()
            began = self._now()
            buffer = await self._pool.take(size)
            self._rules.reading_paused(self._now() - began)
        return buffer

    async def _buffer_for(self, piece: int) -> PieceBuffer:
        if self._buffer is None:
            self._buffer = await self._memory(self._layout.length(piece))
        self._piece = piece
        return self._buffer

    def _drop(self) -> None:
        buffer, self._buffer, self._piece, self._fresh = self._buffer, None, None, 0
        if buffer is not None:
            buffer.release()

    def _whole(self, piece: int) -> None:
        buffer, self._buffer, self._piece = self._buffer, None, None
        fresh, self._fresh = self._fresh, 0
        if buffer is not None:
            self._large_buffers.append(buffer)
        self._add_large(ArrivedPiece(piece, fresh, None if buffer is None else buffer.view))

    def _add_large(self, arrived: ArrivedPiece) -> None:
        self._large.append(arrived)
        length = self._layout.length(arrived.piece)
        self._large_bytes += length
        most = TOGETHER_BYTES if self._arena is None else HANDED_BYTES
        if self._large_bytes + length > most or self._pacer.limited:
            self._hand_over_large()

    async def _fill(self, target: memoryview, piece: int | None = None) -> None:
        """Read payload of ``piece`` into ``target``, or what is not counted as payload."""
        while target:
            step = await self._read(target)
            target = target[step:]
            if piece is not None:
                self._count(piece, step)
            await self._pace(step)

    async def _discard(self, piece: int, size: int, *, counts: bool = True) -> None:
        fresh = self._fresh
        self._drop()
        self._piece, self._fresh = piece, fresh
        scratch = memoryview(bytearray(min(size, LEAST_CHUNK_BYTES)))
        while size:
            step = min(size, len(scratch))
            await self._fill(scratch[:step], piece if counts else None)
            size -= step

    def _count(self, piece: int, size: int) -> None:
        self._fresh += size
        if self.heard_at >= self._told_at + PROGRESS_SECONDS:
            self._tell(piece)

    def _tell(self, piece: int) -> None:
        self._hand_over_large()
        fresh, self._fresh = self._fresh, 0
        self._told_at = self.heard_at
        if fresh:
            self._reports.data_received(piece, fresh)

    async def _read(self, target: memoryview) -> int:
        """Read some payload into ``target`` and return how much."""
        if ahead := min(len(self._ahead), len(target)):
            target[:ahead] = self._ahead[:ahead]
            self._ahead = self._ahead[ahead:]
            return ahead
        size = min(len(target), self._slice())
        began = self._now()
        come = 0
        # Those that are whole do not wait for the network.
        if self._large and (come := self._stream.read_now(target[:size])) < size:
            self._hand_over_large()
        if come < size:
            await self._stream.readinto_exactly(target[come:size])
        self.heard_at = self._now()
        self._sizer.moved(size, self.heard_at - began)
        return size

    async def _take(self, size: int) -> memoryview:
        """The next ``size`` bytes."""
        if len(self._ahead) < size:
            await self._look_ahead(size)
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return taken

    async def _look_ahead(self, size: int) -> None:
        """Read at least ``size`` bytes, and what else has come."""
        if self._arena is None and self._suits_arena and (buffer := self._pool.take_spare(ARENA_BYTES)):
            self._arena = Arena(buffer)
            self._ahead = self._arena.restart(self._ahead)
        if self._arena is not None and await self._fill_arena(self._arena, size):
            return
        ahead = bytes(self._ahead)
        while len(ahead) < size:
            most = max(self._most_ahead(), size - len(ahead))
            came = self._come(most) if self._large else b""
            came = came or await self._stream.read_some(most)
            if not came:
                raise LinkClosed("the stream ended")
            self.heard_at = self._now()
            ahead = ahead + came if ahead else came
            if len(came) == most:
                self._look = min(2 * self._look, MOST_AHEAD_BYTES)
        self._ahead = memoryview(ahead)

    def _come(self, most: int) -> bytes:
        """What has come already; without any, whole pieces are handed over before others are waited for."""
        come = bytearray(most)
        size = self._stream.read_now(memoryview(come))
        if not size:
            self._hand_over_large()
        return bytes(come[:size])

    def _most_ahead(self) -> int:
        return min(self._look, self._pacer.slice_bytes) if self._pacer.limited else self._look

    def _slice(self) -> int:
        size = self._sizer.size
        return min(size, self._pacer.slice_bytes) if self._pacer.limited else size

    async def _pace(self, size: int) -> None:
        """Wait after reading: the link's window then slows the peer down."""
        if self._pacer.limited and (waited := await self._pacer.wait(size)):
            self._rules.reading_paused(waited)

    # --- The arena ----------------------------------------------------------------------------------

    @property
    def _suits_arena(self) -> bool:
        """Whether the peer is fast and sends whole pieces, some of which are still to come."""
        return (
            self._whole_pieces
            and self._sizer.size >= CHUNK_BYTES
            and self._layout.piece_length <= LONGEST_PIECE
            and self._rules.awaits_pieces
            and not self._pacer.limited
        )

    async def _fill_arena(self, arena: Arena, size: int) -> bool:
        """As `_look_ahead`; False, with little read ahead, if the arena does not suit any more."""
        await self._hand_over()
        while (missing := size - len(self._ahead)) > 0:
            came = 0
            began = self._now()
            if self._large and len(arena.room) >= max(missing, MOST_AHEAD_BYTES):
                # What has come already joins them.
                self._stream.hold_credit()
                came = self._stream.read_now(arena.room)
            if not came:
                self._hand_over_large()
                if len(self._ahead) < LEAST_AHEAD_BYTES and not self._suits_arena:
                    self._ahead = memoryview(bytes(self._ahead))
                    self._leave_arena()
                    return False
                arena = await self._restarted(arena)
                began = self._now()
                self._stream.hold_credit()
                came = await self._stream.readinto_least(arena.room, missing)
            self.heard_at = self._now()
            self._ahead = arena.came(came, len(self._ahead))
            self._sizer.moved(came, self.heard_at - began)
        return True

    async def _restarted(self, arena: Arena) -> Arena:
        """An arena that begins with what is unread: this one, or another while pieces in it are stored."""
        if not arena.free:
            buffer = self._pool.take_free(ARENA_BYTES)
            if buffer is None and arena.lent:
                began = self._now()
                await arena.returned()
                self._rules.reading_paused(self._now() - began)
            if not arena.free:
                old, arena = arena, Arena(buffer or await self._memory(ARENA_BYTES))
                self._ahead = arena.restart(self._ahead)
                self._arena = arena
                old.close()
                return arena
        self._ahead = arena.restart(self._ahead)
        return arena

    def _leave_arena(self) -> None:
        arena, self._arena, self._arena_used = self._arena, None, False
        if arena is not None:
            arena.close()
