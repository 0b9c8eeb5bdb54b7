"""Makes stored pieces durable in batches: first the data, then the journal's claims.

A batch holds the pieces put since the previous one. Crash safety depends on the order on the disk:
`fdatasync` of the data, then the journal's record, then `fdatasync` of the journal. So a claim never
precedes its data.
"""

from __future__ import annotations

import threading

import trio

from swarm.bits import PieceSet
from swarm.content.journal import Header, encode_stored
from swarm.errors import DiskError
from swarm.storage.aio import abandonable
from swarm.storage.folder import flush
from swarm.storage.journal_file import JournalFile
from swarm.storage.target_files import TargetFiles

BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of unsynced data that start a sync."""
BATCH_SECONDS = 2.0
"""Age of unsynced data that starts a sync."""
UNSYNCED_BYTES = 48 * 1024 * 1024
"""The most bytes written but not claimed; `put` then waits for the disk. With the pieces being written, a
power failure costs at most about 56 MiB. A kill costs nothing. Source: docs/decisions/0006-unsynced.md."""


class _Batch:
    """Pieces that are written but not claimed, with the files and folders to sync for them."""

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}
        self.files: set[int] = set()
        self.folders: set[tuple[str, ...]] = set()
        self.size = 0
        self.begun = trio.Event()
        self.full = trio.Event()
        self.withdrawn = False
        """Its sync was cancelled: it is claimed with the next batch."""
        self.durable = False
        """Its data and its claim are on the disk."""

    def add(self, piece: int, check: bytes, file: int, size: int) -> None:
        self.pieces[piece] = check
        self.files.add(file)
        self.size += size
        self.begun.set()
        if self.size >= BATCH_BYTES:
            self.full.set()

    def take_back(self, other: _Batch) -> None:
        """Merge a batch whose sync was cancelled."""
        self.pieces = other.pieces | self.pieces
        self.files |= other.files
        self.folders |= other.folders
        self.size += other.size
        self.begun.set()
        if self.size >= BATCH_BYTES:
            self.full.set()


class Syncer:
    """Owns the pieces that are stored but not durable, and the journal that claims the durable ones.

    ``failed`` is set once a sync fails, and nothing more is claimed: Linux marks pages that it could not
    write as clean, so a second sync would succeed and prove nothing.
    """

    def __init__(
        self, files: TargetFiles, journal: JournalFile, header: Header, stored: PieceSet, *, begun: bool
    ) -> None:
        self._files = files
        self._journal = journal
        self._header = header
        self._stored = stored
        self._begun = begun
        self._entered = False
        self._begin_lock = trio.Lock()
        self._sync_lock = trio.Lock()
        self._flushing = threading.Lock()
        self._claiming = threading.Lock()
        self._refused: DiskError | None = None
        self._batch = _Batch()
        self._syncing: _Batch | None = None
        self._synced = trio.Event()
        """Set when the sync that runs has ended."""
        self.failed: DiskError | None = None

    @property
    def begun(self) -> bool:
        """Whether the journal's header and its folder entry are on the disk."""
        return self._begun and self._entered

    @property
    def unsynced(self) -> int:
        """Bytes that are written but not claimed."""
        syncing = self._syncing
        return self._batch.size + (0 if syncing is None or syncing.durable else syncing.size)

    def add(self, piece: int, check: bytes, file: int, size: int) -> None:
        """Claim a written piece with the next batch."""
        self._batch.add(piece, check, file, size)

    def folder_changed(self, folder: tuple[str, ...]) -> None:
        """Sync a folder below the partial one, which got a new entry, with the next batch."""
        self._batch.folders.add(folder)

    async def begin(self) -> None:
        """Sync the journal's header and folder entry to the disk, once, before any data is written.

        So data without a journal is always somebody else's. Raises `DiskError`.
        """
        async with self._begin_lock:
            if self.begun:
                return
            if not self._begun:
                await self._journal.start(self._header)
            # In one call: each would cost a wait for a thread and one for a turn of the event loop.
            await abandonable(self._enter, not self._begun)
            self._begun = self._entered = True

    def _enter(self, new: bool) -> None:
        """Sync the header of a ``new`` journal, and its folder entry; in a worker thread."""
        if new:
            self._journal.sync()
        # Once in each run, because an earlier run may have been killed before it did.
        flush(self._files.output, (), [()])

    async def run(self) -> None:
        """Sync every 16 MiB or 2 s of unsynced data until cancelled; raises `DiskError`."""
        while True:
            batch = self._batch
            if not batch.full.is_set():
                await batch.begun.wait()
                with trio.move_on_after(BATCH_SECONDS):
                    await batch.full.wait()
            if batch is self._batch:
                await self.sync()

    def has_room(self, size: int) -> bool:
        """Whether ``size`` more bytes can be written without waiting for the disk."""
        return self.unsynced + size < UNSYNCED_BYTES

    async def room_for(self, size: int) -> None:
        """Wait until ``size`` more bytes can be written, or nothing is unsynced; raises `DiskError`.

        A sync that runs already may free enough. Another one behind it would let writing wait for both.
        """
        while self.unsynced and not self.has_room(size):
            if self._syncing is not None:
                await self._synced.wait()
            else:
                await self.sync()

    async def sync(self) -> None:
        """Make everything written so far durable and claim it.

        On `DiskError` the pieces of the batch are removed from ``stored``. A cancelled sync claims nothing;
        the next one includes its batch.
        """
        # While others receive fast, each of their turns takes milliseconds, and brings as many megabytes. So
        # none is given to them for a lock that is free.
        try:
            self._sync_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._sync_lock.acquire()
        try:
            await self._sync_batch()
        finally:
            self._sync_lock.release()

    async def _sync_batch(self) -> None:
        if self.failed is not None:
            raise self.failed
        if not self._batch.pieces:
            return
        batch, self._batch = self._batch, _Batch()
        batch.full.set()
        self._syncing, self._synced = batch, trio.Event()
        try:
            await self._make_durable(batch)
        except DiskError as error:
            self._void(batch, error)
            raise
        except BaseException:
            with self._claiming:
                batch.withdrawn = True
            self._batch.take_back(batch)
            raise
        finally:
            self._syncing = None
            self._synced.set()

    async def _make_durable(self, batch: _Batch) -> None:
        if not self.begun:
            await self.begin()
        records = encode_stored(self._header, batch.pieces)
        # Abandoned on cancellation: a disk that hangs must not block the process.
        await abandonable(self._write_out, batch, records)
        self._journal.length += len(records)

    def _write_out(self, batch: _Batch, records: bytes) -> None:
        """Flush the data of a batch and claim it, in a worker thread, one batch at a time; remember an error.

        The system reports an error only once, perhaps to a thread that a cancelled sync has abandoned. Such a
        thread claims nothing more. Two calls of a thread would take longer: each returns after some turns of
        the event loop, which take milliseconds while payload comes fast.
        """
        partial = self._files.partial
        with self._flushing:
            if self._refused is not None:
                raise self._refused
            if batch.withdrawn:
                return
            try:
                if partial is not None:
                    flush(partial.folder, partial.paths(frozenset(batch.files)), batch.folders)
                with self._claiming:
                    if batch.withdrawn:
                        return
                    self._journal.write(records)
                self._journal.sync()
            except DiskError as error:
                self._refused = error
                raise
        batch.durable = True

    def _void(self, batch: _Batch, error: DiskError) -> None:
        self.failed = DiskError(str(error))
        for piece in (*batch.pieces, *self._batch.pieces):
            self._stored.discard(piece)
        self._batch = _Batch()
