"""What a session still has to write, and the half of it that writes.

The writer sends control first, then one chunk of an upload, then control again; small writes are corked
into one. It never waits for the reader (`session_reader`), nor the reader for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import trio

from swarm.content.layout import Layout
from swarm.errors import ContentAway, DiskError, LinkClosed, PieceWithdrawn
from swarm.lazy_dataclass import dataclass
from swarm.ports import ByteStream, Store
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import encode, encode_data_head, encode_packed_head
from swarm.protocol.messages import (
    Cancel,
    Goodbye,
    Have,
    KeepAlive,
    Message,
    Reject,
    RejectReason,
    Request,
    Restate,
    Withdraw,
)
from swarm.protocol.session_rules import SessionRules
from swarm.transfer.buffers import ArrivedPieces, BufferShare, PieceBuffer, TransferMemory
from swarm.transfer.pacing import CHUNK_BYTES, KEEP_SECONDS, LEAST_KEPT_BYTES, ChunkSizer, KeepSizer, Pacer
from swarm.transfer.packer import Packer
from swarm.transfer.upload_job import UploadJob


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

    def requests_received(self, pieces: list[int]) -> None:
        """Legal requests of the peer, in a row."""

    def data_received(self, piece: int, size: int) -> None:
        """So much more of a requested piece has come, wanted or cancelled; told a few times a second."""

    def pieces_received(self, arrived: ArrivedPieces) -> None:
        """Requested pieces are whole; their memory is the owner's now."""

    def pieces_sent(self, finished: list[int], size: int) -> None:
        """So much was handed to the link, and with it the final reply of these uploads."""

    def bytes_spared(self, *, received: int = 0, sent: int = 0) -> None:
        """So many of the payload's bytes did not travel, because it was sent in compressed form."""

    def upload_finished(self, piece: int) -> None:
        """The final reply of an upload is queued before anything else."""

    def piece_lost(self, piece: int, *, alone: bool) -> None:
        """The store has withdrawn the piece; unless ``alone``, with the whole file."""


JOIN_BYTES = 16 * 1024
"""A chunk up to this size is copied behind its header; a larger one is written from where it lies."""

CORK_BYTES = 64 * 1024
"""Small frames are collected up to this size."""

RUN_BYTES = 1024 * 1024
"""Pieces for a fast peer are written together, up to so many bytes."""

QUEUE_BYTES = 1024 * 1024
"""Control messages that may wait for a slow peer; with more the session is ended."""


class PieceRun(NamedTuple):
    """Whole pieces that are read and go out together; their bytes are in ``buffer``."""

    jobs: list[UploadJob]
    data: list[memoryview]
    buffer: PieceBuffer


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

    def put(self, *messages: Message) -> bool:
        """Queue control messages; says whether there was something to queue.

        A CANCEL or REJECT whose request got its final reply meanwhile is nothing. Raises LinkClosed when
        the peer has let too much pile up, LocalProtocolError for what may not be said.
        """
        queued = False
        for message in messages:
            if self.finished or not self._meaningful(message):
                continue
            queued = True
            self._rules.sent(message)
            if type(message) is Request:  # most of them
                self._control += encode(message)
            elif isinstance(message, Have):
                self._haves.extend(message.pieces)
            else:
                self._put_frame(message)
            if len(self._control) + 4 * len(self._haves) > QUEUE_BYTES:
                raise LinkClosed("the peer does not read what it is sent")
        return queued

    def add_uploads(self, pieces: Sequence[int], layout: Layout) -> None:
        """Queue the uploads among ``pieces`` that the peer is owed."""
        if not self.finished:
            length = layout.length
            self.uploads += [UploadJob(piece, length(piece)) for piece in self._rules.owed_among(pieces)]

    def drop_upload(self, piece: int, reason: RejectReason) -> None:
        """Give the final reply of an upload at once, wherever it is; nothing if it has been given.

        ``reason`` is for a piece that the peer has not cancelled itself.
        """
        if not self._rules.owed(piece) or self.finished:
            return
        if self.current is not None and self.current.piece == piece:
            self.current.dropped = True
        else:
            for job in self.uploads:
                if job.piece == piece:
                    job.release()
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

    def small_run(self, first: UploadJob) -> list[UploadJob]:
        """``first`` and the small pieces right behind it, as many as are corked together."""
        run, left = [first], CORK_BYTES - first.length
        for job in self.uploads:
            if job.length > JOIN_BYTES or job.length > left or job.data is not None:
                break
            run.append(job)
            left -= job.length
        return run

    def large_run(self, first: UploadJob) -> list[UploadJob]:
        """``first`` and the pieces right behind it, as many as are written together.

        They are larger ones that nothing is known of yet; none if ``first`` is not.
        """
        run: list[UploadJob] = []
        left = RUN_BYTES
        for job in chain((first,), self.uploads):
            if not JOIN_BYTES < job.length <= left or job.data is not None or job.failure is not None:
                break
            run.append(job)
            left -= job.length
        return run

    def end_run(self, count: int) -> None:
        """The current upload and those behind it, ``count`` in all, have their final replies."""
        self.end_upload()
        for _ in range(count - 1):
            job = self.uploads.popleft()
            if job.grant is not None:
                job.release()

    def clear(self) -> None:
        """The session has ended: release the memory of its uploads."""
        self._forget_waiting()
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
        if type(message) is Request:
            return True
        if isinstance(message, Cancel):
            return self._rules.asked(message.piece)
        if isinstance(message, Reject):
            return self._rules.owed(message.piece)
        return True

    def _forget_waiting(self) -> None:
        for job in self.uploads:
            job.release()
        self.uploads.clear()

    def _forget_uploads(self) -> None:
        self._forget_waiting()
        if self.current is not None:
            self.current.dropped = True


WRITE_TIMEOUT = 30.0
"""Seconds in which the peer must take a chunk: a waiting chunk keeps what is held of its piece in memory."""


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
        self._memory = resources.memory.uploads
        self._pacer = resources.upload_pacer
        self._now = now = resources.now
        self._sizer = ChunkSizer()
        self._keep = KeepSizer()
        self._packer = Packer(resources.store.manifest.layout, stream.remote_address)
        self._spared = 0
        self._cork = bytearray()
        self._gone: list[UploadJob] = []
        self._finished: list[int] = []
        self._sent_bytes = 0
        self._turn: tuple[float, int] | None = None
        self._woken = trio.Event()
        self._resting = False
        self._failure: Exception | None = None
        self._written_at = now()

    def wake(self) -> None:
        """There is something new to do."""
        self._woken.set()

    def flush_control(self) -> None:
        """Send what is in the outbox now, if the link takes it and the writer has nothing else to do."""
        if self._resting and not self._outbox.finished and not self._outbox.quiet:
            control = self._outbox.take()
            try:
                if self._stream.write_now(control):
                    self._written_at = self._now()
                    return
            except Exception as error:  # noqa: BLE001 - the writer raises it: it ends this session, not its caller
                self._failure = error
            self._cork += control
            self._resting = False
        self._woken.set()

    def limits_changed(self) -> None:
        """Ask for another turn: that under the old limits counts no longer."""
        if self._turn is not None:
            self._pacer.give_back(self._turn[1])
            self._turn = None
        self._woken.set()

    async def run(self) -> None:
        """Write until the outbox is finished; raises LinkClosed."""
        try:
            await self._run()
        finally:
            self._release_gone()

    async def _run(self) -> None:
        while True:
            job = self._take_up()
            if job is not None and job.dropped:
                self._end(job)
            elif job is not None and (run := self._read_run(job)):
                await self._send_run(run)
            elif job is None or not self._affordable(job):
                if job is not None and self._cork and not self._flush_now():
                    # A peer that does not read would be given memory meanwhile, and hold it unused.
                    job.step_back()
                    await self._flush()
                    continue
                await self._flush()
                if self._outbox.finished and self._outbox.quiet:
                    return
                if not self._woken.is_set():
                    await self._rest()
            elif job.data is None:
                await self._load(job)
            elif self._in_turn(job):
                await self._send_chunk(job, job.data)
            else:
                await self._flush()
                await self._rest()

    def _take_up(self) -> UploadJob | None:
        """Cork the control messages; returns the upload to go on with."""
        # Whatever wakes us from here on is seen by the next round at the latest.
        if self._woken.is_set():
            self._woken = trio.Event()
        if self._failure is not None:
            raise self._failure
        self._cork += self._outbox.take()
        return self._outbox.next_upload()

    # --- What to send -------------------------------------------------------------------------------

    def _affordable(self, job: UploadJob) -> bool:
        if job.data is not None and not job.left:
            # What was kept of the piece is sent: the piece is read again, after those who wait for memory.
            self._measure(job)
            job.step_back()
        if job.grant is None:
            job.grant = self._memory.reserve(job.length, self.wake)
        return job.grant.granted

    def _spare(self, job: UploadJob) -> None:
        """While memory is short, keep no more than the peer takes soon: a slow one stops no other."""
        if not self._memory.short:
            return
        now = self._now()
        if now - job.since >= KEEP_SECONDS:
            self._measure(job)
        wanted = job.left if job.left <= self._keep.size + LEAST_KEPT_BYTES else self._keep.size
        # It is copied: only where that gives back much, and for a fast peer, as it goes on, seldom.
        if job.held - wanted >= max(wanted, LEAST_KEPT_BYTES // 2):
            job.keep(wanted, now)

    def _measure(self, job: UploadJob) -> None:
        self._keep.taken(job.offset - job.start, self._now() - job.since)

    async def _load(self, job: UploadJob) -> None:
        """Read the piece; what is corked does not wait for the disk, unless the piece is small.

        It does while memory is short: the peer could make us hold that for long.
        """
        small = job.length <= JOIN_BYTES
        if not small and job.failure is None and self._load_now(job):
            return
        if len(self._cork) >= CORK_BYTES if small else not self._memory.short:
            await self._flush()
        run = self._outbox.small_run(job) if small and job.failure is None else [job]
        if len(run) > 1:
            await self._load_run(run)
        try:
            if job.failure is not None:
                raise job.failure
            if job.data is None:
                job.hold(await self._store.get(job.piece), self._now())
        except PieceWithdrawn as error:
            # The peer hears that the piece is lost before its request is rejected, so it blames nobody.
            self._reports.piece_lost(job.piece, alone=not isinstance(error, ContentAway))
            self._fail(job, RejectReason.NOT_STORED)
        except DiskError:
            self._fail(job, RejectReason.READ_FAILED)

    def _load_now(self, job: UploadJob) -> bool:
        """Read a larger piece if that needs no wait; returns whether it is read."""
        for data in self._store.get_now([job.piece], memoryview(bytearray(job.length))):
            job.hold(data, self._now())
        return job.data is not None

    def _read_run(self, first: UploadJob) -> PieceRun | None:
        """Read what goes to a fast peer in one step, if that needs no wait; None if it does."""
        if not self._takes_whole_pieces or first.offset:
            return None
        run = self._outbox.large_run(first)
        if not run or (buffer := self._memory.take_free(RUN_BYTES)) is None:
            return None
        found = self._store.get_now([job.piece for job in run], buffer.view)
        if not found:
            buffer.release()
            return None
        return PieceRun(run[: len(found)], found, buffer)

    async def _load_run(self, run: list[UploadJob]) -> None:
        """Read small pieces together, as far as there is memory for them."""
        run = [job for job in run if self._affordable(job)]
        found = await self._store.get_many([job.piece for job in run])
        for job, data in zip(run, found, strict=False):
            # One that was dropped meanwhile has given its memory back.
            if isinstance(data, memoryview):
                if job.grant is not None and not job.grant.released:
                    job.hold(data, self._now())
            else:
                job.failure = data

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
        if self._turn is None:
            self._spare(job)
            if not self._pacer.limited:
                return True
            size = min(job.left, self._sizer.size, self._pacer.slice_bytes)
            self._turn = (self._pacer.turn(size), size)
        return self._turn[0] <= self._now()

    # --- Sending ------------------------------------------------------------------------------------

    async def _send_run(self, run: PieceRun) -> None:
        """Write whole pieces, each as one chunk, together with what is corked."""
        parts: list[bytes | bytearray | memoryview] = [self._cork] if self._cork else []
        try:
            for job, data in zip(run.jobs, run.data, strict=True):
                parts += (encode_data_head(job.piece, 0, job.length), data)
                self._sent_bytes += job.length
            pieces = [job.piece for job in run.jobs]
            self._rules.sent_whole(pieces)
            self._finished += pieces
            self._cork = bytearray()
            self._outbox.end_run(len(run.jobs))
            await self._write(parts)
        finally:
            run.buffer.release()

    async def _send_chunk(self, job: UploadJob, data: memoryview) -> None:
        wire = min(job.left, self._sizer.size) if self._turn is None else self._turn[1]
        limited, self._turn = self._turn is not None, None
        packed = self._pack(job, data, wire)
        start, size = job.offset, wire if packed is None else packed[0]
        job.offset += size
        payload = data[start - job.start :][:size] if packed is None else memoryview(packed[1])
        if packed is None:
            self._cork += encode_data_head(job.piece, start, size)
        else:
            self._cork += encode_packed_head(job.piece, start, size, len(payload))
            self._spared += size - len(payload)
            if limited:
                # The turn was for as much plain payload: limits count what is on the wire.
                self._pacer.give_back(wire - len(payload))
        last = self._rules.sent_data(job.piece, start, size)
        self._sent_bytes += size
        if last:
            self._finished.append(job.piece)
            self._outbox.current = None
            self._gone.append(job)
        if len(payload) > JOIN_BYTES:
            await self._flush(payload)
            return
        self._cork += payload
        if len(self._cork) >= CORK_BYTES or not last:
            await self._flush()

    @property
    def _takes_whole_pieces(self) -> bool:
        """Whether the peer takes the largest chunks at once: no control message has to wait for long then."""
        return self._sizer.size >= CHUNK_BYTES and not self._pacer.limited

    def _pack(self, job: UploadJob, data: memoryview, wire: int) -> tuple[int, bytes] | None:
        if not self._rules.packing:
            return None
        rest = data[job.offset - job.start :]
        return self._packer.pack(job.piece, rest, wire, min(self._sizer.rate, self._pacer.rate))

    async def _flush(self, *payload: memoryview) -> None:
        """Write what is corked, payload and control, and ``payload`` behind it."""
        if self._cork:
            cork, self._cork = self._cork, bytearray()
            await self._write((cork, *payload))

    def _flush_now(self) -> bool:
        """Write what is corked if it is only control and needs no wait; says whether it was written."""
        if self._sent_bytes or not self._stream.write_now(self._cork):
            return False
        self._cork = bytearray()
        self._written_at = self._now()
        return True

    async def _write(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write; then report the uploads in it."""
        began = self._now()
        await self._stream.write(*parts, within=WRITE_TIMEOUT)
        self._release_gone()
        self._written_at = self._now()
        if self._sent_bytes:
            self._sizer.moved(sum(map(len, parts)), self._written_at - began)
            self._report()

    def _release_gone(self) -> None:
        """Give the memory of written pieces back."""
        gone, self._gone = self._gone, []
        for job in gone:
            self._measure(job)
            job.release()

    def _report(self) -> None:
        finished, self._finished = self._finished, []
        sent, self._sent_bytes = self._sent_bytes, 0
        self._reports.pieces_sent(finished, sent)
        if self._spared:
            spared, self._spared = self._spared, 0
            self._reports.bytes_spared(sent=spared)

    async def _rest(self) -> None:
        """Sleep until there is something to do; send KEEP_ALIVE after a long silence."""
        quiet = self._written_at + limits.KEEP_ALIVE_INTERVAL
        until = quiet if self._turn is None else min(quiet, self._turn[0])
        self._resting = True
        with trio.move_on_after(max(0.0, until - self._now())):
            await self._woken.wait()
        self._resting = False
        if self._now() >= quiet:
            self._outbox.put(KeepAlive())
