"""Puts pieces into a target that is being fetched: verifies, writes, and claims them.

Pieces come one by one, many at once, or from files on this machine. Source: docs/storage.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import trio

from swarm.content.fingerprints import fingerprint
from swarm.content.layout import Span
from swarm.content.paths import printable
from swarm.errors import DiskError, PieceMismatch
from swarm.ports import HeldPieces
from swarm.storage.disk_errors import disk_error, refusals
from swarm.storage.file_layer import FileLayer, write_at
from swarm.storage.hashing import piece_matches
from swarm.storage.piece_files import PieceFiles
from swarm.storage.piece_reader import PieceExecutor
from swarm.storage.restoring import RestoredPieces
from swarm.storage.small_files import Written, write_new
from swarm.storage.syncer import Syncer
from swarm.storage.taking import CLONES_NO_SMALLER, Cloning, clone_whole, copy_pieces, load_pieces
from swarm.storage.target_files import TargetFiles

BEGIN_BYTES = 4 * 1024 * 1024
"""Bytes after which the disk is told to begin. A sync that finds a whole batch not begun takes so long that a
fast fetch brings as much meanwhile, and then waits for room: docs/decisions/0006-unsynced.md."""


class VerifiedPiece(NamedTuple):
    """A piece that matches the manifest, its XXH3-128, and where it belongs."""

    piece: int
    data: memoryview
    check: bytes
    span: Span

    @property
    def claim(self) -> tuple[int, bytes, int, int]:
        """What is claimed of it: piece, fingerprint, file, and length in bytes."""
        return self.piece, self.check, self.span.file, len(self.data)


def _file_of(verified: VerifiedPiece) -> int:
    return verified.span.file


class PieceWriter:
    """Writes pieces into the partial file or folder of a target, and adds them to what is stored.

    At most `syncer.UNSYNCED_BYTES` are written and not yet on the disk: who writes more waits.
    """

    def __init__(self, files: TargetFiles, restored: RestoredPieces, executor: PieceExecutor) -> None:
        self._files = files
        self._manifest = files.manifest
        self._layout = files.manifest.layout
        self._stored = restored.stored
        self._checks = restored.checks
        self._syncer = restored.syncer
        self._executor = executor
        self._begin_lock = trio.Lock()
        self._cloning = Cloning()
        self._busy: dict[int, trio.Event] = {}
        """The files that are being cloned."""
        self._ended = False
        self._not_begun = 0
        """Bytes written since the disk was last told to begin."""

    def end(self) -> None:
        """Everything has its final name: nothing is written from here on."""
        self._ended = True

    async def put(self, piece: int, data: memoryview) -> None:
        """Verify one whole piece against the manifest's BLAKE3 and write it.

        Raises `PieceMismatch`, with nothing written, when the hash differs, and `DiskError` when the file
        system refuses. Waits for the disk when too much is unsynced, see `Syncer.room_for`.
        """
        check = await self._executor.compute(len(data), lambda: self._verified(piece, data))
        if check is None:
            raise PieceMismatch(f"piece {piece} does not match the hash in the manifest")
        if piece not in self._stored:
            span = self._layout.span(piece)
            await self._write(span.file, [VerifiedPiece(piece, data, check, span)])

    async def put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
        """As `put`, for many pieces in one step; returns those whose hash differs.

        Whole new files are written together. After a `DiskError` those in ``stored`` are written.
        """
        size = sum(len(data) for _, data in pieces)
        if self._syncer is not None:
            # Where only room is missing, no thread is asked.
            await self._syncer.room_for(size)
        if (wrong := self.put_now(pieces)) is not None:
            return wrong
        checks = await self._executor.compute(size, lambda: [self._verified(*each) for each in pieces])
        both = list(zip(pieces, checks, strict=True))
        await self._write_all([(*each, check) for each, check in both if check is not None])
        return [piece for (piece, _), check in both if check is None]

    def put_now(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int] | None:
        """As `put_many`, in one step that neither waits nor asks a thread; None if that will not do.

        A task for each piece would cost more than its hash.
        """
        size = sum(len(data) for _, data in pieces)
        syncer, partial = self._syncer, self._files.partial
        if syncer is None or partial is None or not syncer.begun or not self._executor.prompt(size):
            return None
        if self._busy or not syncer.has_room(size):
            return None
        both = [(piece, data, self._verified(piece, data)) for piece, data in pieces]
        new, others = self._sorted([(piece, data, check) for piece, data, check in both if check is not None])

        def write() -> None:
            left = []
            if new:
                for file in new:
                    self._check_writable(file)
                left = self._claim_new(syncer, partial, new, self._create(partial, new))
            for file, found in groupby((*others, *left), key=_file_of):
                self._check_writable(file)
                self._write_at_once(syncer, partial, file, list(found))

        self._executor.write_now(write)
        return [piece for piece, _, check in both if check is None]

    async def take(self, pieces: Sequence[int], held: HeldPieces) -> list[int]:
        """Verify and write pieces that files on this machine hold; returns those that are stored now.

        Raises `DiskError` when the file system refuses to take them.
        """
        small: list[int] = []
        others: dict[int, list[int]] = {}
        for piece in pieces:
            if piece not in self._stored:
                file, _, length = self._layout.span(piece)
                whole = length == self._layout.file_length(file)
                if whole and length <= CLONES_NO_SMALLER:
                    small.append(piece)
                else:
                    others.setdefault(file, []).append(piece)
        if small:
            layer = self._files.output.layer
            loaded = await self._executor.run(lambda: load_pieces(self._manifest, layer, small, held))
            await self._write_all(loaded)
        for file, wanted in others.items():
            await self._take_of(file, wanted, held)
        return [piece for piece in pieces if piece in self._stored]

    async def _take_of(self, file: int, pieces: Sequence[int], held: HeldPieces) -> None:
        """Take pieces of one file, cloned if nothing of it is here yet."""
        syncer, partial = await self._prepare_write(file)
        length = self._layout.file_length(file)
        fresh = partial.is_unused(file) and self._cloning.suits(length)
        layer = partial.folder.layer
        with refusals(partial.path(file)), partial.writing(file, syncer.folder_changed) as fd:
            if fresh and file not in self._busy:
                await self._clone(layer, held, file, fd)
            elif file in self._busy:
                await self._busy[file].wait()
            cloned = file in self._cloning.files
            copied = await self._executor.run(
                lambda: copy_pieces(self._manifest, layer, fd, pieces, held, cloned=cloned)
            )
        await self._claim(
            syncer, [(piece, check, file, self._layout.length(piece)) for piece, check in copied]
        )

    async def _clone(self, layer: FileLayer, held: HeldPieces, file: int, fd: int) -> None:
        """Clone a file if that is possible; nobody writes to it meanwhile."""
        done = self._busy[file] = trio.Event()
        first, length = self._layout.pieces_of(file).start, self._layout.file_length(file)
        try:
            cloned = await self._executor.run(lambda: clone_whole(layer, held, first, fd, length))
            if cloned:
                self._cloning.files.add(file)
            elif cloned is not None:
                self._cloning.possible = False
        finally:
            del self._busy[file]
            done.set()

    async def _write_all(self, checked: Sequence[tuple[int, memoryview, bytes]]) -> None:
        """Write verified pieces, each with its XXH3-128; whole new files are written together."""
        new, others = self._sorted(checked)
        if new:
            others += await self._write_new(new)
        for file, found in groupby(others, key=_file_of):
            await self._write(file, list(found))

    def _sorted(
        self, checked: Sequence[tuple[int, memoryview, bytes]]
    ) -> tuple[dict[int, VerifiedPiece], list[VerifiedPiece]]:
        """Return the missing pieces: those that are whole new files, by file, and the others."""
        new: dict[int, VerifiedPiece] = {}
        others: list[VerifiedPiece] = []
        partial = self._files.partial
        for piece, data, check in checked:
            if piece in self._stored:
                continue
            span = self._layout.span(piece)
            verified = VerifiedPiece(piece, data, check, span)
            file = span.file
            if span.length < self._layout.file_length(file) or (partial and not partial.is_unused(file)):
                others.append(verified)
            else:
                new[file] = verified
        return new, others

    async def _write(self, file: int, pieces: Sequence[VerifiedPiece]) -> None:
        """Write pieces of one file in one step."""
        syncer, partial = await self._prepare_write(file)
        if (busy := self._busy.get(file)) is not None:
            await busy.wait()
        layer = partial.folder.layer
        with refusals(partial.path(file)), partial.writing(file, syncer.folder_changed) as fd:
            size = sum(each.span.length for each in pieces)
            await self._executor.write(size, lambda: self._fill(layer, fd, pieces))
        await self._claim(syncer, [each.claim for each in pieces])

    def _write_at_once(
        self, syncer: Syncer, partial: PieceFiles, file: int, pieces: Sequence[VerifiedPiece]
    ) -> None:
        """As `_write`, without a wait."""
        try:
            with partial.writing(file, syncer.folder_changed) as fd:
                self._fill(partial.folder.layer, fd, pieces)
        except (OSError, UnicodeEncodeError):
            with refusals(partial.path(file)):
                raise
        self._claim_now(syncer, [each.claim for each in pieces])

    def _fill(self, layer: FileLayer, fd: int, pieces: Sequence[VerifiedPiece]) -> None:
        """Write pieces of one file where they belong, and let the disk begin once in a while."""
        for _, data, _, span in pieces:
            write_at(layer, fd, data, span.offset)
            self._not_begun += span.length
        if self._not_begun >= BEGIN_BYTES:
            self._not_begun = 0
            layer.begin_sync(fd)

    async def _write_new(self, new: dict[int, VerifiedPiece]) -> list[VerifiedPiece]:
        """Write whole files, each by its piece; returns those that were there before."""
        for file in new:
            syncer, partial = await self._prepare_write(file)
        size = sum(each.span.length for each in new.values())
        written = await self._executor.write(size, lambda: self._create(partial, new))
        try:
            return self._claim_new(syncer, partial, new, written)
        finally:
            await syncer.room_for(0)

    def _create(self, partial: PieceFiles, new: dict[int, VerifiedPiece]) -> Written:
        contents = [(file, each.data) for file, each in new.items()]
        return write_new(self._manifest, partial, contents, self._files.plan.times)

    def _claim_new(
        self,
        syncer: Syncer,
        partial: PieceFiles,
        new: dict[int, VerifiedPiece],
        written: Written,
    ) -> list[VerifiedPiece]:
        """Count what was written as stored; returns those that were there before. Raises `DiskError`."""
        for folder in written.folders:
            syncer.folder_changed(folder)
        claims = []
        for file, about in written.files:
            partial.used(file, about)
            claims.append(new[file].claim)
        self._claim_now(syncer, claims)
        if written.failed is not None:
            file, error = written.failed
            raise disk_error(error, partial.path(file)) from error
        return [new[file] for file in written.left]

    async def _claim(self, syncer: Syncer, written: Sequence[tuple[int, bytes, int, int]]) -> None:
        """Count pieces as stored, each with its fingerprint, file and length; wait if the disk is behind."""
        self._claim_now(syncer, written)
        await syncer.room_for(0)

    def _claim_now(self, syncer: Syncer, written: Sequence[tuple[int, bytes, int, int]]) -> None:
        if syncer.failed is not None:
            raise syncer.failed
        for piece, check, file, length in written:
            self._checks[piece] = check
            self._stored.add(piece)
            syncer.add(piece, check, file, length)

    def _verified(self, piece: int, data: memoryview) -> bytes | None:
        """Return the XXH3-128 of a piece if its BLAKE3 is right, else None."""
        return fingerprint(data) if piece_matches(data, self._manifest.piece_hash(piece)) else None

    async def _prepare_write(self, file: int) -> tuple[Syncer, PieceFiles]:
        """Prepare for writing: write the journal's header and create the partial folder if necessary."""
        syncer = self._check_writable(file)
        partial = self._files.partial
        if not syncer.begun or partial is None:
            async with self._begin_lock:
                await syncer.begin()
                partial = self._files.create_partial()
        return syncer, partial

    def _check_writable(self, file: int) -> Syncer:
        if self._syncer is None or self._ended or file in self._files.existing:
            raise DiskError(f"{printable(str(self._files.path))}: is complete already and never written to")
        if self._syncer.failed is not None:
            raise self._syncer.failed
        return self._syncer
