"""The file or folder that a fetch writes. Source: docs/storage.md.

Opening a target checks what exists already: files under the final name, then the partial file or folder
against the journal's claims.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Collection, Generator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import trio

from swarm.bits import PieceSet
from swarm.content.fingerprints import FINGERPRINT_BYTES, Fingerprints, fingerprint
from swarm.content.journal import Header, Replay
from swarm.content.layout import Span
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.content.selection import pieces_of
from swarm.errors import DiskError, Incomplete, PieceMismatch
from swarm.storage.aio import make_folder
from swarm.storage.disk_errors import refusals
from swarm.storage.file_layer import POSIX, FileLayer, read_at, write_at
from swarm.storage.hashing import FileHashing, Keep, Progress, in_thread, new_buffer, piece_matches
from swarm.storage.journal_file import JournalFile
from swarm.storage.piece_files import PieceFiles
from swarm.storage.piece_reader import CheckedReader, PieceExecutor
from swarm.storage.syncer import UNSYNCED_BYTES, Syncer
from swarm.storage.target_files import TargetFiles, check_room


def check_existing(
    manifest: Manifest, final: PieceFiles, selected: Collection[int], existing: set[int], keep: Keep
) -> Generator[int, None, None]:
    """Hash the files that already have their final name; yields bytes read.

    A file that matches the manifest is added to ``existing``, and its pieces are passed to ``keep``.
    Raises `DiskError` naming the first of the ``selected`` files that differs, with nothing changed. A
    differing file that is not selected is ignored.
    """
    buffer = new_buffer()
    layer = final.folder.layer
    for file in _candidates(manifest, final, selected):
        entry = manifest.files[file]
        hashing = FileHashing(manifest.piece_length)
        with refusals(final.path(file)):
            fd = final.folder.open_file(final.parts(file), os.O_RDONLY)
            try:
                yield from hashing.steps(layer, fd, entry.length, buffer)
            finally:
                layer.close(fd)
        if bytes(hashing.pieces) != entry.pieces:
            if file in selected:
                raise _differs(final, file)
            continue
        existing.add(file)
        for number, piece in enumerate(manifest.layout.pieces_of(file)):
            start = number * FINGERPRINT_BYTES
            keep(piece, bytes(hashing.checks[start : start + FINGERPRINT_BYTES]))
        yield 0


def _candidates(manifest: Manifest, final: PieceFiles, selected: Collection[int]) -> list[int]:
    """Return the files that exist with the right length.

    Raises `DiskError`, before any is read, if a selected one exists with another length.
    """
    found = []
    for file, entry in enumerate(manifest.files):
        with refusals(final.path(file)):
            about = final.folder.stat(final.parts(file))
        if about is None:
            continue
        if not stat.S_ISREG(about.st_mode) or about.st_size != entry.length:
            if file in selected:
                raise _differs(final, file)
            continue
        found.append(file)
    return found


def _differs(final: PieceFiles, file: int) -> DiskError:
    shown = printable(str(final.path(file)))
    return DiskError(f"{shown}: already exists with other content; move it away or choose another --output")


class Resumption:
    """Checks the pieces of a partial file or folder.

    A piece that the journal claims is compared by its XXH3-128. Data without a claim was written but not
    synced, or its journal is lost; it is compared by BLAKE3. Such data is read from the disk and not from
    the page cache, which may still show data that failed to reach the disk.
    """

    def __init__(self, manifest: Manifest, partial: PieceFiles, claims: Fingerprints, keep: Keep) -> None:
        self._manifest = manifest
        self._partial = partial
        self._layer = partial.folder.layer
        self._claims = claims
        self._keep = keep
        self._buffer = memoryview(bytearray(manifest.piece_length))
        self.kept = 0
        self.foreign = 0
        """The number of pieces with data that is neither claimed nor valid."""

    def steps(self, skip: set[int]) -> Generator[int, None, None]:
        """Check every file except those in ``skip``; yields the bytes of each step."""
        for file, entry in enumerate(self._manifest.files):
            if file in skip:
                continue
            with refusals(self._partial.path(file)):
                try:
                    fd = self._partial.folder.open_file(self._partial.parts(file), os.O_RDONLY)
                except FileNotFoundError:
                    yield entry.length
                    continue
                with closing(_Unsynced(self._layer, fd)) as unsynced:
                    self._partial.expect(file, fd)
                    for piece in self._manifest.layout.pieces_of(file):
                        yield self._check(piece, fd, unsynced)
            yield 0

    def _check(self, piece: int, fd: int, unsynced: _Unsynced) -> int:
        span = self._manifest.layout.span(piece)
        data = self._buffer[: span.length]
        claimed = self._claims.get(piece)
        if claimed is not None:
            whole = read_at(self._layer, fd, data, span.offset) == span.length
            if whole and fingerprint(data) == claimed:
                self._found(piece, claimed)
        elif unsynced.read(span, data):
            if piece_matches(data, self._manifest.piece_hash(piece)):
                self._found(piece, fingerprint(data))
            else:
                self.foreign += 1
        return span.length

    def _found(self, piece: int, check: bytes) -> None:
        self.kept += 1
        self._keep(piece, check)


class _Unsynced:
    """Reads unclaimed parts of one open file from the disk, past the page cache."""

    def __init__(self, layer: FileLayer, fd: int) -> None:
        self._layer = layer
        self._fd = fd
        self._data_from: int | None = 0
        self._synced = False

    def read(self, span: Span, buffer: memoryview) -> bool:
        """Fill ``buffer`` with a piece; return False if the file is too short or has a hole there."""
        if self._data_from is not None and self._data_from <= span.offset:
            self._data_from = self._layer.next_data(self._fd, span.offset)
        if self._data_from is None or self._data_from >= span.offset + span.length:
            return False
        if not self._synced:
            self._layer.sync_data(self._fd)
            self._synced = True
        self._layer.forget_cache(self._fd, span.offset, span.length)
        return read_at(self._layer, self._fd, buffer, span.offset) == span.length

    def close(self) -> None:
        """Close the file."""
        self._layer.close(self._fd)


class RestoredPieces:
    """The stored pieces, the XXH3-128 of each, and the syncer that makes more of them durable.

    ``syncer`` is None when nothing will be written.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.stored = PieceSet(manifest.piece_count)
        self.checks = Fingerprints(manifest.piece_count)
        self.syncer: Syncer | None = None

    def keep(self, piece: int, check: bytes) -> None:
        """Record a valid piece and its XXH3-128."""
        self.checks[piece] = check
        self.stored.add(piece)


async def restore(files: TargetFiles, progress: Progress | None) -> RestoredPieces:
    """Check what has the final name, then the partial file or folder against the journal's claims.

    ``progress`` is called with checked and total bytes. Raises `DiskError` for other content, with nothing
    changed.
    """
    manifest = files.manifest
    restored = RestoredPieces(manifest)
    if files.final is not None:
        steps = check_existing(manifest, files.final, files.selected, files.existing, restored.keep)
        await in_thread(steps, manifest.total_length, progress)
    journal = files.journal
    if journal is None:
        if files.refused is not None and not files.existing >= files.selected:
            raise files.refused
        return restored
    header = Header(manifest.id, manifest.total_length, manifest.piece_count)
    if files.final is not None and restored.stored.full:
        await _check_owner(files, journal, header)
    else:
        await _resume(files, journal, header, restored, progress)
    return restored


async def _resume(
    files: TargetFiles,
    journal: JournalFile,
    header: Header,
    restored: RestoredPieces,
    progress: Progress | None,
) -> None:
    """Check the partial file or folder; valid pieces that the journal does not claim are claimed next."""
    manifest = files.manifest
    replayed = await journal.replay(header)
    syncer = Syncer(files, journal, header, restored.stored, begun=replayed.header is not None)
    unclaimed: list[int] = []

    def keep_and_claim(piece: int, check: bytes) -> None:
        restored.keep(piece, check)
        if piece not in replayed.fingerprints:
            unclaimed.append(piece)

    if files.partial is not None:
        resumption = Resumption(manifest, files.partial, replayed.fingerprints, keep_and_claim)
        await in_thread(resumption.steps(files.existing), manifest.total_length, progress)
        _refuse_foreign(files, replayed, resumption)
    if replayed.header is not None:
        journal.cut()
    for piece in unclaimed:
        span = manifest.layout.span(piece)
        syncer.add(piece, restored.checks[piece], span.file, span.length)
        if manifest.folder:
            # An earlier run may have been killed after creating its folders and before syncing them.
            path = manifest.files[span.file].path
            for depth in range(len(path)):
                syncer.folder_changed(path[:depth])
    restored.syncer = syncer


async def _check_owner(files: TargetFiles, journal: JournalFile, header: Header) -> None:
    """Release the journal if it belongs to other content; the content in place is complete."""
    try:
        await journal.replay(header)
    except DiskError:
        files.leave_journal()


def _refuse_foreign(files: TargetFiles, replayed: Replay, resumption: Resumption) -> None:
    """Raise `DiskError` for data without a journal and without a valid piece: it is somebody else's."""
    if replayed.header is None and resumption.foreign and not resumption.kept:
        shown = printable(str(files.output.path / files.part_name))
        raise DiskError(
            f"{shown}: already exists with other content; move it away or choose another --output"
        )


SAVE_SECONDS = 1.5
"""The most seconds that closing takes to save the journal; unsynced pieces are checked again on resume."""


@asynccontextmanager
async def open_target(
    manifest: Manifest,
    output_dir: Path,
    *,
    layer: FileLayer = POSIX,
    progress: Progress | None = None,
    selected: frozenset[int] | None = None,
) -> AsyncIterator[Target]:
    """Lock and resume the target of a fetch, and hold it for the block; leaving saves the journal.

    ``output_dir`` is created if missing. ``progress`` is called with checked and total bytes of earlier
    runs and existing files. ``selected`` holds the indices of the wanted files (None: all); pieces of other
    files from earlier runs are kept and can be read.

    Raises `Locked` if another process fetches this, and `DiskError` if there is not enough space, if the
    final name has other content, if the journal belongs to other content, or if the system refuses.
    """
    everything = frozenset(range(len(manifest.files)))
    selected = everything if selected is None else selected & everything
    check_room(manifest, output_dir, selected)
    await make_folder(output_dir)
    files = TargetFiles(manifest, output_dir, layer, selected)
    try:
        target = Target(files, await restore(files, progress))
    except BaseException:
        files.close()
        raise
    try:
        yield target
    except BaseException:
        with suppress(DiskError):
            await target.aclose()
        raise
    await target.aclose()


class Target:
    """A `ports.Store` over a partial file or folder; `finish` gives it its final name.

    Use `open_target` to make one.
    """

    def __init__(self, files: TargetFiles, restored: RestoredPieces) -> None:
        self._files = files
        self._manifest = files.manifest
        self._layout = files.manifest.layout
        self._stored = restored.stored
        self._checks = restored.checks
        self._syncer = restored.syncer
        self._executor = PieceExecutor()
        self._reader = CheckedReader(self._layout, self._stored, self._checks.__getitem__, self._executor)
        self._begin_lock = trio.Lock()
        self._moving: trio.Event | None = None
        self._finished = False
        self.wanted = pieces_of(self._layout, files.selected)
        """The pieces of the selected files; callers must not change it."""
        resumed = [piece for piece in self._stored if piece in self.wanted]
        self.resumed_pieces = len(resumed)
        """Wanted pieces that were stored before this run."""
        self.resumed_bytes = sum(map(self._layout.length, resumed))

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""
        return self._manifest

    @property
    def stored(self) -> PieceSet:
        """The pieces that are verified and readable; callers must not change it."""
        return self._stored

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is stored."""
        return all(piece in self._stored for piece in self.wanted)

    @property
    def path(self) -> Path:
        """The final path."""
        return self._files.path

    async def put(self, piece: int, data: memoryview) -> None:
        """Verify one whole piece against the manifest's BLAKE3 and write it.

        Raises `PieceMismatch`, with nothing written, when the hash differs, and `DiskError` when the file
        system refuses. Waits for the disk when more than `UNSYNCED_BYTES` are unsynced.
        """
        span = self._layout.span(piece)
        check = await self._executor.compute(span.length, lambda: self._verified(piece, data))
        if check is None:
            raise PieceMismatch(f"piece {piece} does not match the hash in the manifest")
        if piece in self._stored:
            return
        syncer, partial = await self._prepare_write(span.file)
        with refusals(partial.path(span.file)), partial.writing(span.file, syncer.folder_changed) as fd:
            layer = partial.folder.layer
            await self._executor.write(span.length, lambda: write_at(layer, fd, data, span.offset))
        if syncer.failed is not None:
            raise syncer.failed
        self._checks[piece] = check
        self._stored.add(piece)
        syncer.add(piece, check, span.file, span.length)
        if syncer.unsynced >= UNSYNCED_BYTES:
            await syncer.sync()

    async def get(self, piece: int) -> memoryview:
        """Read one whole stored piece and check that it is unchanged.

        Raises `PieceWithdrawn` when it has changed (the piece is then removed from ``stored``), `DiskError`
        when this process cannot open files.
        """
        if self._moving is not None:
            await self._moving.wait()
        return await self._reader.read(piece, self._files.holder)

    async def sync(self) -> None:
        """Make everything written so far durable and claim it in the journal; raises `DiskError`."""
        if self._syncer is not None:
            await self._syncer.sync()

    async def run_syncer(self) -> None:
        """Sync every 16 MiB or 2 s of unsynced data until cancelled; raises `DiskError`."""
        if self._syncer is None:
            await trio.sleep_forever()
        else:
            await self._syncer.run()

    async def finish(self) -> Path:
        """Sync everything, set executable bits, give the final name, and remove the journal.

        Returns the final path, from which pieces are served afterwards. Of a selection, only the selected
        files are moved there; a partial folder with pieces of other files stays, with its journal.
        Raises `Incomplete` while wanted pieces are missing, and `DiskError`, with everything kept, if the
        final name was taken meanwhile.
        """
        if self._finished:
            return self.path
        if missing := sum(piece not in self._stored for piece in self.wanted):
            raise Incomplete(
                f"{printable(str(self.path))}: {missing} of {self.wanted.count} pieces are missing"
            )
        await self.sync()
        self._moving = trio.Event()
        try:
            await trio.to_thread.run_sync(self._files.put_in_place)
            self._files.settle()
            self._finished = True
        finally:
            self._moving.set()
            self._moving = None
        return self.path

    async def aclose(self) -> None:
        """Save the journal, in at most `SAVE_SECONDS`, and release everything; raises `DiskError`."""
        try:
            if self._syncer is not None and self._syncer.failed is None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_SECONDS):
                    await self._syncer.sync()
        finally:
            self._files.close()

    def _verified(self, piece: int, data: memoryview) -> bytes | None:
        """Return the XXH3-128 of a piece if its BLAKE3 is right, else None."""
        return fingerprint(data) if piece_matches(data, self._manifest.piece_hash(piece)) else None

    async def _prepare_write(self, file: int) -> tuple[Syncer, PieceFiles]:
        """Prepare for writing: write the journal's header and create the partial folder if necessary."""
        if self._syncer is None or self._finished or file in self._files.existing:
            raise DiskError(f"{printable(str(self.path))}: is complete already and never written to")
        if self._syncer.failed is not None:
            raise self._syncer.failed
        partial = self._files.partial
        if not self._syncer.begun or partial is None:
            async with self._begin_lock:
                await self._syncer.begin()
                partial = self._files.create_partial()
        return self._syncer, partial
