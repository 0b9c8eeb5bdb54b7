"""Finds out which pieces of a target are on the disk already. Source: docs/storage.md.

First the files under the final name, then the partial file or folder against the journal's claims.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Generator, Iterable
from contextlib import closing, suppress

import trio

from swarm.bits import PieceSet
from swarm.content.fingerprints import FINGERPRINT_BYTES, Fingerprints, fingerprint
from swarm.content.journal import Header, Replay
from swarm.content.layout import Span
from swarm.content.manifest import FileEntry, Manifest
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.ids import DIGEST_BYTES
from swarm.storage.disk_errors import disk_error, optional
from swarm.storage.file_identity import NOBODY, FileIdentities, FileIdentity
from swarm.storage.file_layer import FileLayer, read_at
from swarm.storage.hash_cache import Recall, Remembered, is_settled
from swarm.storage.hashing import FileHashing, Keep, Progress, in_thread, new_buffer, piece_matches
from swarm.storage.journal_file import JournalFile
from swarm.storage.piece_files import PieceFiles
from swarm.storage.syncer import Syncer
from swarm.storage.target_files import TargetFiles
from swarm.storage.user_files import Ownership


class ExistingFiles:
    """Checks the files that already have their final name.

    A file that matches the manifest is added to ``files.existing``, and its pieces are passed to ``keep``.
    One that differs is ignored if it is not selected; if it is to be replaced, it is added to
    ``files.differing``, and the pieces in it that are right to ``reusable``. Otherwise it is an error.
    """

    def __init__(
        self, files: TargetFiles, final: PieceFiles, keep: Keep, remembered: Remembered | None = None
    ) -> None:
        self._files = files
        self._memory = self._remembered = remembered
        self._same_manifest = remembered is not None and remembered.manifest == files.manifest
        self._remembered_files: dict[tuple[str, ...], int] = {}
        if remembered is not None and remembered.manifest.piece_length != files.manifest.piece_length:
            self._remembered = None
        elif remembered is not None and not self._same_manifest:
            known = remembered.manifest
            self._remembered_files = _by_path(known)
        self._manifest = files.manifest
        self._final = final
        self._keep = keep
        self.reusable = PieceSet(files.manifest.piece_count)
        self.candidates: list[int] = []

    def is_older(self) -> bool:
        """Whether sizes, and what is remembered, show without reading that this is another version.

        Raises `DiskError` if a single file is wanted and something else is there.
        """
        remembered = self._memory
        known = None if remembered is None else remembered.manifest
        old = {} if known is None else _by_path(known)
        for file, entry in enumerate(self._manifest.files):
            about = self._stat(self._final.parts(file))
            if about is None or about.st_size != entry.length or not stat.S_ISREG(about.st_mode):
                if not self._manifest.folder and about is not None and not stat.S_ISREG(about.st_mode):
                    raise _differs(self._final, file)
                return True
            number = old.pop(entry.path if self._manifest.folder else (), None)
            if number is None or remembered is None or known is None:
                continue
            if known.files[number].blake3 != entry.blake3 and remembered.has(number, FileIdentity.of(about)):
                return True
        return self._has_more(path for path in old if path)

    def _stat(self, parts: tuple[str, ...]) -> os.stat_result | None:
        """What lies there; None also if something that is no folder is in the way."""
        with suppress(NotADirectoryError, PermissionError):
            return self._final.folder.stat(parts)
        return None

    def _has_more(self, paths: Iterable[tuple[str, ...]]) -> bool:
        """Whether files of the old version that the new one lacks are still there, unchanged."""
        ownership = Ownership(self._manifest, self._memory)
        folder = self._final.folder
        abouts = ((path, self._stat(path)) for path in paths)
        return any(about is not None and ownership.is_ours(folder, path, about) for path, about in abouts)

    def find(self) -> int:
        """Look for the files to hash; return the number of bytes that hashing reads.

        Raises `DiskError`, before any is read, if a selected one cannot be what is wanted.
        """
        total = 0
        for file, entry in enumerate(self._manifest.files):
            about = self._about(file)
            if about is None:
                continue
            if not stat.S_ISREG(about.st_mode):
                if file in self._files.selected:
                    raise _differs(self._final, file)
                continue
            if about.st_size != entry.length and not self._differs(file):
                continue
            if self._is_remembered(file, entry, FileIdentity.of(about)):
                continue
            self.candidates.append(file)
            total += min(about.st_size, entry.length)
        return total

    def _is_remembered(self, file: int, entry: FileEntry, identity: FileIdentity) -> bool:
        """Whether this machine has hashed the file before, it matches, and nothing has changed it since."""
        remembered = self._remembered
        if remembered is None:
            return False
        number: int | None = file
        if not self._same_manifest:
            number = self._remembered_files.get(entry.path if self._manifest.folder else ())
        if number is None or not remembered.has(number, identity):
            return False
        if remembered.manifest.files[number].pieces != entry.pieces or identity.size != entry.length:
            return False
        self._exists(file, identity, remembered.fingerprints(number))
        return True

    def _exists(self, file: int, identity: FileIdentity | None, checks: bytes) -> None:
        """A file is what it should be; ``identity`` tells it from a changed one, if that can be told."""
        self._files.existing.add(file)
        if identity is not None:
            if self._files.checked is None:
                self._files.checked = FileIdentities([NOBODY] * len(self._manifest.files))
            self._files.checked[file] = identity
        for number, piece in enumerate(self._manifest.layout.pieces_of(file)):
            self._keep(piece, checks[number * FINGERPRINT_BYTES : (number + 1) * FINGERPRINT_BYTES])

    def steps(self) -> Generator[int, None, None]:
        """Hash the files that `find` found, for an update up to the first that differs; yields bytes read."""
        buffer = new_buffer()
        for file in self.candidates:
            if self._files.plan.update and self._files.differing:
                return
            try:
                yield from self._check(file, buffer)
            except OSError as error:
                if file in self._files.selected:
                    raise disk_error(error, self._final.path(file)) from error
            yield 0

    def _check(self, file: int, buffer: memoryview) -> Generator[int, None, None]:
        entry = self._manifest.files[file]
        hashing = FileHashing(self._manifest.piece_length)
        layer = self._final.folder.layer
        began = time.time_ns()
        fd = self._final.folder.open_file(self._final.parts(file), os.O_RDONLY)
        try:
            before = FileIdentity.of(os.fstat(fd))
            yield from hashing.steps(layer, fd, entry.length, buffer)
            after = FileIdentity.of(os.fstat(fd))
        finally:
            layer.close(fd)
        if before.size == entry.length and hashing.pieces == entry.pieces:
            recognizable = after == before and is_settled(after, began)
            self._exists(file, after if recognizable else None, bytes(hashing.checks))
            return
        if file not in self._files.differing and not self._differs(file):
            return
        for number, piece in enumerate(self._manifest.layout.pieces_of(file)):
            digest = slice(number * DIGEST_BYTES, (number + 1) * DIGEST_BYTES)
            if hashing.pieces[digest] == entry.pieces[digest]:
                self.reusable.add(piece)

    def _about(self, file: int) -> os.stat_result | None:
        try:
            return self._final.folder.stat(self._final.parts(file))
        except OSError as error:
            if file in self._files.selected:
                raise disk_error(error, self._final.path(file)) from error
            return None

    def _differs(self, file: int) -> bool:
        """Whether a file that differs is to be replaced; raises `DiskError` if it is only in the way."""
        if file not in self._files.selected:
            return False
        if not (self._files.plan.overwrite or self._files.plan.update):
            raise _differs(self._final, file)
        self._files.differing.add(file)
        return True


def _differs(final: PieceFiles, file: int) -> DiskError:
    shown = printable(str(final.path(file)))
    about = final.folder.stat(final.parts(file))
    if about is not None and not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a link or a device"
        return DiskError(
            f"{shown}: already exists with other content ({kind}); move it away or choose another --output"
        )
    return DiskError(
        f"{shown}: already exists with other content; --overwrite replaces it and reuses what is right in "
        "it, --update replaces an older version as a whole; or move it away or choose another --output"
    )


def _by_path(manifest: Manifest) -> dict[tuple[str, ...], int]:
    """The files of a manifest by path; that of a single file is ()."""
    return {manifest.path(file) if manifest.folder else (): file for file in range(len(manifest.files))}


class Resumption:
    """Checks the pieces of a partial file or folder.

    A piece that the journal claims is compared by its XXH3-128. Data without a claim was written but not
    synced, or its journal is lost; it is compared by BLAKE3. Such data is read from the disk and not from
    the page cache, which may still show data that failed to reach the disk.
    """

    def __init__(self, files: TargetFiles, partial: PieceFiles, claims: Fingerprints, keep: Keep) -> None:
        self._manifest = files.manifest
        self._selected = files.selected
        self._partial = partial
        self._layer = partial.folder.layer
        self._claims = claims
        self._keep = keep
        self._buffer = memoryview(bytearray(files.manifest.piece_length))
        self.kept = 0
        self.foreign = 0
        """The number of wanted pieces with data that is neither claimed nor valid."""

    def steps(self, skip: set[int]) -> Generator[int, None, None]:
        """Check every file except those in ``skip``; yields the bytes of each step."""
        for file, entry in enumerate(self._manifest.files):
            if file in skip:
                continue
            try:
                yield from self._file(file, entry.length)
            except OSError as error:
                if file in self._selected:
                    raise disk_error(error, self._partial.path(file)) from error
            yield 0

    def _file(self, file: int, length: int) -> Generator[int, None, None]:
        try:
            fd = self._partial.folder.open_file(self._partial.parts(file), os.O_RDONLY)
        except FileNotFoundError:
            yield length
            return
        with closing(_Unsynced(self._layer, fd)) as unsynced:
            self._partial.expect(file, fd)
            for piece in self._manifest.layout.pieces_of(file):
                yield self._check(piece, fd, unsynced, wanted=file in self._selected)

    def _check(self, piece: int, fd: int, unsynced: _Unsynced, *, wanted: bool) -> int:
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
                self.foreign += wanted
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
            with optional():
                self._data_from = self._layer.next_data(self._fd, span.offset)
        if self._data_from is None or self._data_from >= span.offset + span.length:
            return False
        if not self._synced:
            with optional():
                self._layer.sync_data(self._fd)
            self._synced = True
        with optional():
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
        self.reusable = PieceSet(manifest.piece_count)
        """Pieces that are right in files that will be replaced."""

    def keep(self, piece: int, check: bytes) -> None:
        """Record a valid piece and its XXH3-128."""
        self.checks[piece] = check
        self.stored.add(piece)


async def restore(
    files: TargetFiles, progress: Progress | None, recall: Recall | None = None
) -> RestoredPieces:
    """Check what has the final name, then the partial file or folder against the journal's claims.

    ``progress`` is called with checked and total bytes. What ``recall`` remembers of the final path, and what
    has not changed since, is not hashed again. Raises `DiskError` for other content, with nothing
    changed.
    """
    manifest = files.manifest
    files.recall = recall
    restored = RestoredPieces(manifest)
    if files.final is not None:
        remembered = await trio.to_thread.run_sync(recall, files.path) if recall is not None else None
        existing = ExistingFiles(files, files.final, restored.keep, remembered)
        older = files.plan.update and await trio.to_thread.run_sync(existing.is_older)
        if not older:
            total = await trio.to_thread.run_sync(existing.find)
            if existing.candidates:
                await in_thread(existing.steps(), total, progress)
            restored.reusable = existing.reusable
        files.remembered = remembered
        if files.plan.update and (older or not files.existing >= files.selected):
            files.set_old_aside()
            restored = RestoredPieces(manifest)
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
    if files.plan.update and await journal.is_of_other(header):
        await trio.to_thread.run_sync(files.give_up_other)
    reclaimed = files.reclaim()
    replayed = await journal.replay(header)
    syncer = Syncer(files, journal, header, restored.stored, begun=replayed.header is not None)
    unclaimed: list[int] = []

    def keep_and_claim(piece: int, check: bytes) -> None:
        restored.keep(piece, check)
        if piece not in replayed.fingerprints:
            unclaimed.append(piece)

    if files.partial is not None:
        resumption = Resumption(files, files.partial, replayed.fingerprints, keep_and_claim)
        here = sum(manifest.layout.file_length(file) for file in files.existing)
        await in_thread(resumption.steps(files.existing), manifest.total_length - here, progress)
        _refuse_foreign(files, replayed, resumption)
        if reclaimed and resumption.kept < manifest.piece_count:
            await trio.to_thread.run_sync(files.unclaim)
            restored.stored -= restored.stored.copy()
            unclaimed.clear()
    if replayed.header is not None:
        journal.cut()
    for piece in unclaimed:
        span = manifest.layout.span(piece)
        syncer.add(piece, restored.checks[piece], span.file, span.length)
        if manifest.folder:
            # An earlier run may have been killed after creating its folders and before syncing them.
            path = manifest.path(span.file)
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
        shown = printable(str(files.output.path / files.names.part))
        raise DiskError(
            f"{shown}: already exists with other content; move it away or choose another --output"
        )
