"""The two halves of a session: what is still to be written, the writer, and the reader.

The writer sends control first, then one chunk of an upload, then control again; small writes are corked
into one. The reader reports control messages and reads payload straight into the piece's buffer. Neither
waits for the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from swarm.errors import ContentAway, DiskError, LinkClosed, PieceWithdrawn
from swarm.lazy_dataclass import dataclass
from swarm.ports import ByteStream, Store
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import (
    DATA,
    DATA_HEAD_BYTES,
    HEADER_BYTES,
    decode_body,
    decode_data_head,
    decode_header,
    encode,
    encode_data_head,
)
from swarm.protocol.messages import (
    Cancel,
    Goodbye,
    Have,
    KeepAlive,
    Message,
    Reject,
    RejectReason,
    Restate,
    Withdraw,
)
from swarm.protocol.session_rules import SessionRules
from swarm.transfer.buffers import BufferShare, Grant, PieceBuffer, TransferMemory
from swarm.transfer.pacing import LEAST_CHUNK_BYTES, ChunkSizer, Pacer


@dataclass(frozen=True, slots=True)
class SessionResources:
    """What all sessions of a transfer share; ``now`` is monotonic seconds."""

    store: Store
    memory: TransferMemory
    pool: BufferShare
    upload_pacer: Pacer
    download_pacer: Pacer
    now: Callable[[], float]


class Reports(Protocol):
    """What a session reports to its owner; sizes are payload bytes."""

    def message_received(self, message: Message) -> None:
        """A legal control message of the peer, greeting and announcement included."""

    def data_received(self, piece: int, size: int) -> None:
        """So much of a requested piece arrived, wanted or cancelled."""

    def piece_received(self, piece: int, buffer: PieceBuffer | None) -> None:
        """All of a requested piece has come; ``buffer`` is the owner's now, or None if it was cancelled."""

    def uploaded(self, piece: int, size: int) -> None:
        """So much of an upload was handed to the link."""

    def upload_finished(self, piece: int) -> None:
        """The final reply of an upload was handed to the link, or is queued before anything else."""

    def piece_lost(self, piece: int, *, alone: bool) -> None:
        """The store has withdrawn the piece; unless ``alone``, with the whole file."""


QUEUE_BYTES = 1024 * 1024
"""Control messages that may wait for a slow peer; with more the session is ended."""


@dataclass(slots=True, eq=False)
class UploadJob:
    """One queued upload: a reference until the writer comes to it, then the piece and how far it is sent."""

    piece: int
    length: int
    data: memoryview | None = None
    offset: int = 0
    grant: Grant | None = None
    dropped: bool = False

    def release(self) -> None:
        """Let go of the piece's memory."""
        self.data = None
        if self.grant is not None:
            self.grant.release()


class Outbox:
    """Messages to be sent, in the order that matters: control before data, HAVE before WITHDRAW.

    Every message is checked against the session's rules when it is queued, so each request gets exactly one
    final reply, whichever part of the program gives it.
    """

    def __init__(self, rules: SessionRules) -> None:
        self._rules = rules
        self._control = bytearray()
        self._haves: list[int] = []
        self.uploads: deque[UploadJob] = deque()
        self.current: UploadJob | None = None
        self.finished = False
        """GOODBYE is queued: nothing more is queued, and no upload begins."""

    def put(self, message: Message) -> bool:
        """Queue a control message; says whether there was something to queue.

        A CANCEL or REJECT whose request got its final reply meanwhile is nothing. Raises LinkClosed when
        the peer has let too much pile up, LocalProtocolError for what may not be said.
        """
        if self.finished or not self._meaningful(message):
            return False
        self._rules.sent(message)
        if isinstance(message, Have):
            self._haves.extend(message.pieces)
        else:
            self._put_frame(message)
        if len(self._control) + 4 * len(self._haves) > QUEUE_BYTES:
            raise LinkClosed("the peer does not read what it is sent")
        return True

    def add_upload(self, piece: int, length: int) -> None:
        """Queue an upload that the peer is owed."""
        if not self.finished and self._rules.owed(piece):
            self.uploads.append(UploadJob(piece, length))

    def drop_upload(self, piece: int, reason: RejectReason) -> None:
        """Give the final reply of an upload at once, wherever it is; nothing if it has been given.

        ``reason`` is for a piece that the peer has not cancelled itself.
        """
        if not self._rules.owed(piece) or self.finished:
            return
        if self.current is not None and self.current.piece == piece:
            self.current.dropped = True
        else:
            self.uploads = deque(job for job in self.uploads if job.piece != piece)
        if self._rules.owed_cancelled(piece):
            reason = RejectReason.CANCELLED
        self.put(Reject(piece, reason))

    def next_upload(self) -> UploadJob | None:
        """The upload to go on with, begun or next in line."""
        if self.current is None and self.uploads:
            self.current = self.uploads.popleft()
        return self.current

    def end_upload(self) -> None:
        """The current upload has its final reply."""
        if self.current is not None:
            self.current.release()
            self.current = None

    def clear(self) -> None:
        """The session has ended: release the memory of its uploads."""
        self.uploads.clear()
        self.end_upload()

    def take(self) -> bytes | bytearray:
        """The control frames to be written now."""
        if not self._control and not self._haves:
            return b""
        control, self._control = self._control, bytearray()
        control += self._take_haves()
        return control

    @property
    def quiet(self) -> bool:
        """Whether there is no control to be written."""
        return not self._control and not self._haves

    def _put_frame(self, message: Message) -> None:
        if isinstance(message, Withdraw | Restate | Goodbye):
            self._control += self._take_haves()
        self._control += encode(message)
        if isinstance(message, Goodbye):
            self.finished = True
            self._forget_uploads()

    def _take_haves(self) -> bytes:
        haves, self._haves = self._haves, []
        batches = range(0, len(haves), limits.MAX_HAVE_BATCH)
        return b"".join(encode(Have(tuple(haves[at : at + limits.MAX_HAVE_BATCH]))) for at in batches)

    def _meaningful(self, message: Message) -> bool:
        if isinstance(message, Cancel):
            return self._rules.asked(message.piece)
        if isinstance(message, Reject):
            return self._rules.owed(message.piece)
        return True

    def _forget_uploads(self) -> None:
        self.uploads.clear()
        if self.current is not None:
            self.current.dropped = True


MESSAGES_IN_A_ROW = 32
"""Messages that are read without a pause for other tasks."""


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
        self._piece: int | None = None
        self._buffer: PieceBuffer | None = None
        self._in_a_row = 0
        self.heard_at = now()
        """When something last came from the peer."""

    async def run(self) -> None:
        """Read messages until the peer says GOODBYE; raises LinkClosed, RemoteError."""
        while not self._rules.peer_left:
            await self.step()

    async def step(self) -> None:
        """Read one message; raises LinkClosed, RemoteError."""
        kind, size = decode_header(await self._stream.read_exactly(HEADER_BYTES))
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
        self._rules.check_size(kind, size)
        body = await self._stream.read_exactly(size) if size else b""
        message = decode_body(kind, body)
        self._rules.received(message, self._now())
        if isinstance(message, Reject) and message.piece == self._piece:
            self.release()
        self._reports.message_received(message)

    async def _data(self, size: int) -> None:
        head = decode_data_head(await self._stream.read_exactly(DATA_HEAD_BYTES), size)
        arrival = self._rules.received_data(head)
        if arrival.wanted:
            await self._fill(await self._buffer_for(head.piece), head.piece, head.offset, head.size)
        else:
            self.release()
            await self._discard(head.piece, head.size)
        if arrival.last:
            self._whole(head.piece)

    async def _buffer_for(self, piece: int) -> PieceBuffer:
        if self._buffer is None:
            began = self._now()
            self._buffer = await self._pool.take(self._layout.length(piece))
            self._rules.reading_paused(self._now() - began)
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
        await self._stream.readinto_exactly(target)
        self.heard_at = self._now()
        self._sizer.moved(len(target), self.heard_at - began)

    def _slice(self) -> int:
        size = self._sizer.size
        return min(size, self._pacer.slice_bytes) if self._pacer.limited else size

    async def _pace(self, size: int) -> None:
        """Wait after reading: the link's window then slows the peer down."""
        if self._pacer.limited and (waited := await self._pacer.wait(size)):
            self._rules.reading_paused(waited)


WRITE_TIMEOUT = 30.0
"""Seconds in which the peer must take a chunk: a waiting chunk keeps its piece in memory."""

JOIN_BYTES = 16 * 1024
"""A chunk up to this size is copied behind its header; a larger one is written from where it lies."""

CORK_BYTES = 64 * 1024
"""Small frames are collected up to this size."""


class SessionWriter:
    """Writes what is in the outbox until GOODBYE is written."""

    def __init__(
        self,
        stream: ByteStream,
        rules: SessionRules,
        outbox: Outbox,
        resources: SessionResources,
        reports: Reports,
    ) -> None:
        self._stream = stream
        self._rules = rules
        self._outbox = outbox
        self._store = resources.store
        self._reports = reports
        self._budget = resources.memory.uploads
        self._pacer = resources.upload_pacer
        self._now = now = resources.now
        self._sizer = ChunkSizer()
        self._cork = bytearray()
        self._sent: list[tuple[int, int, bool]] = []
        self._turn: tuple[float, int] | None = None
        self._woken = trio.Event()
        self._written_at = now()

    def wake(self) -> None:
        """There is something new to do."""
        self._woken.set()

    def limits_changed(self) -> None:
        """Ask for another turn: that under the old limits counts no longer."""
        if self._turn is not None:
            self._pacer.give_back(self._turn[1])
            self._turn = None
        self._woken.set()

    async def run(self) -> None:
        """Write until the outbox is finished; raises LinkClosed."""
        while True:
            # Whatever wakes us from here on is seen by the next round at the latest.
            if self._woken.is_set():
                self._woken = trio.Event()
            self._cork += self._outbox.take()
            job = self._outbox.next_upload()
            if job is not None and job.dropped:
                self._end(job)
            elif job is None or not self._affordable(job):
                await self._flush()
                if self._outbox.finished and self._outbox.quiet:
                    return
                await self._rest()
            elif job.data is None:
                await self._load(job)
            elif self._in_turn(job):
                await self._send_chunk(job, job.data)
            else:
                await self._flush()
                await self._rest()

    # --- What to send -------------------------------------------------------------------------------

    def _affordable(self, job: UploadJob) -> bool:
        if job.grant is None:
            job.grant = self._budget.take(job.length, self.wake)
        return job.grant.granted

    async def _load(self, job: UploadJob) -> None:
        """Read the piece; what is corked does not wait for the disk, unless the piece is small."""
        if job.length > JOIN_BYTES or len(self._cork) >= CORK_BYTES:
            await self._flush()
        try:
            job.data = await self._store.get(job.piece)
        except PieceWithdrawn as error:
            # The peer hears that the piece is lost before its request is rejected, so it blames nobody.
            self._reports.piece_lost(job.piece, alone=not isinstance(error, ContentAway))
            self._fail(job, RejectReason.NOT_STORED)
        except DiskError:
            self._fail(job, RejectReason.READ_FAILED)

    def _fail(self, job: UploadJob, reason: RejectReason) -> None:
        self._end(job)
        if self._outbox.put(Reject(job.piece, reason)):
            self._reports.upload_finished(job.piece)

    def _end(self, job: UploadJob) -> None:
        if self._turn is not None:
            self._pacer.give_back(self._turn[1])
        self._turn = None
        job.release()
        self._outbox.end_upload()

    def _in_turn(self, job: UploadJob) -> bool:
        """Whether the limit lets the next chunk pass now; asks for a turn if there is none yet."""
        if self._turn is None and not self._pacer.limited:
            return True
        if self._turn is None:
            size = min(job.length - job.offset, self._sizer.size, self._pacer.slice_bytes)
            self._turn = (self._pacer.turn(size), size)
        return self._turn[0] <= self._now()

    # --- Sending ------------------------------------------------------------------------------------

    async def _send_chunk(self, job: UploadJob, data: memoryview) -> None:
        size = min(job.length - job.offset, self._sizer.size) if self._turn is None else self._turn[1]
        self._turn = None
        start, job.offset = job.offset, job.offset + size
        self._cork += encode_data_head(job.piece, start, size)
        last = self._rules.sent_data(job.piece, start, size)
        self._sent.append((job.piece, size, last))
        if last:
            self._outbox.current = None
        payload = data[start : start + size]
        try:
            if size > JOIN_BYTES:
                await self._flush(payload)
                return
            self._cork += payload
            if len(self._cork) >= CORK_BYTES or not last:
                await self._flush()
        finally:
            if last:
                job.release()

    async def _flush(self, *payload: memoryview) -> None:
        """Write what is corked, and ``payload`` after it; then report the uploads in it."""
        if not self._cork:
            return
        cork, self._cork = self._cork, bytearray()
        began = self._now()
        with trio.CancelScope(deadline=trio.current_time() + WRITE_TIMEOUT) as scope:
            await self._stream.write(cork, *payload)
        if scope.cancelled_caught:
            raise LinkClosed("the peer does not take what it asked for")
        self._written_at = self._now()
        if self._sent:
            self._sizer.moved(len(cork) + sum(map(len, payload)), self._written_at - began)
            self._report()

    def _report(self) -> None:
        sent, self._sent = self._sent, []
        for piece, size, last in sent:
            self._reports.uploaded(piece, size)
            if last:
                self._reports.upload_finished(piece)

    async def _rest(self) -> None:
        """Sleep until there is something to do; send KEEP_ALIVE after a long silence."""
        quiet = self._written_at + limits.KEEP_ALIVE_INTERVAL
        until = quiet if self._turn is None else min(quiet, self._turn[0])
        with trio.move_on_after(max(0.0, until - self._now())):
            await self._woken.wait()
        if self._now() >= quiet:
            self._outbox.put(KeepAlive())
