"""The writing half of a session: control first, then one chunk of an upload, then control again.

Small writes are corked into one; the payload of a large chunk is handed to the link where it lies.
Nothing here waits for a read.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from swarm.errors import DiskError, LinkClosed, PieceWithdrawn
from swarm.ports import Link, Store
from swarm.transfer.budget import ByteBudget
from swarm.transfer.chunks import ChunkSizer
from swarm.transfer.outbox import Outbox, UploadJob
from swarm.transfer.pacing import Pacer
from swarm.transfer.reports import Reports
from swarm.wire import limits
from swarm.wire.codec import encode_data_head
from swarm.wire.messages import KeepAlive, Reject, RejectReason
from swarm.wire.session import PeerProtocol

WRITE_TIMEOUT = 30.0
"""A chunk that the peer does not take for so long ends the session: it keeps a piece in memory."""

JOIN_BYTES = 16 * 1024
"""A chunk up to this size is copied behind its header; a larger one is written from where it lies."""

CORK_BYTES = 64 * 1024
"""Small frames are collected up to this size."""

UPLOAD_BYTES = 64 * 1024 * 1024
"""Pieces read and not yet sent, of all sessions that share a budget: what peers that do not read can hold."""


class Writer:
    """Writes what is in the outbox until GOODBYE is written."""

    def __init__(
        self,
        link: Link,
        protocol: PeerProtocol,
        outbox: Outbox,
        store: Store,
        reports: Reports,
        *,
        budget: ByteBudget,
        pacer: Pacer | None,
        now: Callable[[], float],
    ) -> None:
        self._link = link
        self._protocol = protocol
        self._outbox = outbox
        self._store = store
        self._reports = reports
        self._budget = budget
        self._pacer = pacer
        self._now = now
        self._sizer = ChunkSizer()
        self._cork = bytearray()
        self._sent: list[tuple[int, int, bool]] = []
        self._turn: tuple[float, int] | None = None
        self._woken = trio.Event()
        self._written_at = now()

    def wake(self) -> None:
        """There is something new to do."""
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
        except PieceWithdrawn:
            self._fail(job, RejectReason.NOT_STORED)
            self._reports.piece_lost(job.piece)
        except DiskError:
            self._fail(job, RejectReason.READ_FAILED)

    def _fail(self, job: UploadJob, reason: RejectReason) -> None:
        self._end(job)
        if self._outbox.put(Reject(job.piece, reason)):
            self._reports.upload_finished(job.piece)

    def _end(self, job: UploadJob) -> None:
        if self._turn is not None and self._pacer is not None:
            self._pacer.give_back(self._turn[1])
        self._turn = None
        job.release()
        self._outbox.end_upload()

    def _in_turn(self, job: UploadJob) -> bool:
        """Whether the limit lets the next chunk pass now; asks for a turn if there is none yet."""
        if self._pacer is None:
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
        last = self._protocol.sent_data(job.piece, start, size)
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
            await self._link.write(cork, *payload)
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
        """Sleep until something is to be done; say KEEP_ALIVE if that is all there is to say."""
        quiet = self._written_at + limits.KEEP_ALIVE_INTERVAL
        until = quiet if self._turn is None else min(quiet, self._turn[0])
        with trio.move_on_after(max(0.0, until - self._now())):
            await self._woken.wait()
        if self._now() >= quiet:
            self._outbox.put(KeepAlive())
