"""The store that seeds a file or folder in place, without a copy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby, takewhile
from pathlib import Path
from types import TracebackType

import trio

from swarm.bits import PieceSet
from swarm.content.fingerprints import FINGERPRINT_BYTES
from swarm.content.layout import Span
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import ContentAway, DiskError, PieceWithdrawn, SwarmError
from swarm.ports import HeldPieces, StoredChange
from swarm.storage.disk_errors import disk_error, refusals
from swarm.storage.file_identity import Checks, FileIdentity
from swarm.storage.file_layer import POSIX, FileLayer
from swarm.storage.one_by_one import get_each, put_each
from swarm.storage.piece_files import PieceFiles
from swarm.storage.piece_reader import OUR_ERRORS, PieceExecutor, PieceLoader
from swarm.storage.presence import Presence
from swarm.storage.shared_place import SharedPlace, too_short, what_happened

IDLE_SECONDS = 3.0
"""A store that nothing was read from for so long holds no descriptor."""


class SeedStore:
    """A read-only `ports.Store` of the content scanned at ``path``.

    Every piece is compared with the scan each time it is read. When its file is gone or changed (deleted,
    moved, replaced, edited, truncated, unmounted), all pieces of the file are withdrawn at once, and `watch`
    offers them again when the content is back. A piece that rotted is withdrawn alone.

    ``stored`` are the pieces that are there, by default all; it is changed in place. ``files`` are the files
    that are served, by default all. Raises `DiskError` if ``path`` cannot be opened.
    """

    def __init__(
        self,
        manifest: Manifest,
        path: Path,
        checks: Checks,
        *,
        layer: FileLayer = POSIX,
        stored: PieceSet | None = None,
        files: Sequence[int] | None = None,
    ) -> None:
        with refusals(path):
            self._place = SharedPlace(manifest, path, layer)
        self._manifest = manifest
        self._path = path
        self._checks = checks
        self._stored = PieceSet.all(manifest.piece_count) if stored is None else stored
        self._loader = PieceLoader(self._expected, PieceExecutor())
        files = range(len(manifest.files)) if files is None else files
        self._presence = Presence(self._place, manifest, self._stored, checks, files)
        self._used_at = -math.inf
        self._in_use = trio.Event()
        self._in_use.set()

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""
        return self._manifest

    @property
    def stored(self) -> PieceSet:
        """The pieces that have not been withdrawn; callers must not change it."""
        return self._stored

    @property
    def checks(self) -> Checks:
        """What the pieces are compared with."""
        return self._checks

    async def watch(self, tell: Callable[[StoredChange], None]) -> None:
        """Tell of withdrawn files, and offer them again when they are back, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._release_when_idle)
            await self._presence.watch(tell)

    async def _release_when_idle(self) -> None:
        """Close all descriptors while nothing is read: they would keep a disk from being unmounted."""
        while True:
            await self._in_use.wait()
            while True:
                left = self._used_at + IDLE_SECONDS - trio.current_time()
                if left <= 0:
                    break
                await trio.sleep(left)
            self._in_use = trio.Event()
            self._place.close()

    async def put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
        """Raise `DiskError`, as `put` does."""
        return await put_each(self, pieces)

    def put_now(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int] | None:
        """As `put_many` where that need not wait: never here."""
        return None if pieces else []

    async def take(self, pieces: Sequence[int], held: HeldPieces) -> list[int]:  # noqa: ARG002
        """Take nothing: shared content is never written to."""
        return [piece for piece in pieces if piece in self._stored]

    async def get_many(self, pieces: Sequence[int]) -> list[memoryview | SwarmError]:
        """As `get`, for many small pieces in one step; what fails is the last of the answer."""
        self._used_at = trio.current_time()
        self._in_use.set()
        found: list[memoryview | SwarmError] = []
        with suppress(OSError):
            # Whatever is wrong, `get` finds out what, piece by piece.
            stored = list(takewhile(self._stored.__contains__, pieces))
            found += await self._loader.load_small(self._place.files(), self._manifest.layout, stored)
        return found + await get_each(self, pieces[len(found) :])

    def get_now(self, pieces: Sequence[int], room: memoryview) -> list[memoryview]:
        """As `get`, into ``room`` without waiting, up to what is in the way, which `get` finds out about."""
        found: list[memoryview] = []
        self._used_at = trio.current_time()
        self._in_use.set()
        spans = map(self._manifest.layout.span, takewhile(self._stored.__contains__, pieces))
        try:
            files = self._place.files()
            for file, of_file in groupby(zip(pieces, spans, strict=False), key=lambda each: each[1].file):
                wanted = list(of_file)
                with files.reading(file) as fd:
                    loaded = self._loader.load_now(files, fd, wanted, room)
                found += loaded
                if len(loaded) < len(wanted):
                    return found
                room = room[sum(map(len, loaded)) :]
        except OSError:
            return found
        return found

    async def get(self, piece: int) -> memoryview:
        """Read one whole piece.

        Raises `PieceWithdrawn` when it alone differs from the scan, `ContentAway` when its file is away (what
        is withdrawn is then removed from ``stored``), `DiskError` when this process cannot open files.
        """
        if piece not in self._stored:
            raise PieceWithdrawn(f"piece {piece} is not stored here")
        span = self._manifest.layout.span(piece)
        self._used_at = trio.current_time()
        self._in_use.set()
        try:
            files = self._place.files()
        except OSError as error:
            _pass_on(error, self._path)
            reason = what_happened(error)
            self._presence.everything_away(reason)
            raise _away(self._path, reason) from error
        try:
            with files.reading(span.file) as fd:
                return await self._load(files, fd, span, piece)
        except OSError as error:
            _pass_on(error, files.path(span.file))
            raise self._file_away(span.file, what_happened(error), (piece,)) from error

    async def put(self, piece: int, data: memoryview) -> None:
        """Raise `DiskError`: shared content is never written to."""
        raise DiskError(
            f"{printable(str(self._path))}: shared content is never written to, "
            f"so piece {piece} of {len(data)} bytes is refused"
        )

    def close(self) -> None:
        """Close the descriptors."""
        self._place.close()

    def __enter__(self) -> SeedStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def _load(self, files: PieceFiles, fd: int, span: Span, piece: int) -> memoryview:
        try:
            data = await self._loader.load(files, fd, span, piece)
        except OSError as error:
            _pass_on(error, files.path(span.file))
            raise await self._unreadable(files, fd, piece, what_happened(error)) from error
        if data is None:
            raise self._changed(piece, span, os.fstat(fd))
        return data

    def _changed(self, piece: int, span: Span, about: os.stat_result) -> PieceWithdrawn:
        """A piece has other bytes: because its file was changed, or because it rotted."""
        length = self._manifest.layout.file_length(span.file)
        known = self._checks.files[span.file]
        if about.st_size < length:
            return self._file_away(span.file, too_short(about.st_size, length))
        now = FileIdentity.of(about)
        if now != known:
            reason = "was edited" if now.inode == known.inode else "was replaced by another file"
            return self._file_away(span.file, reason, changed=now)
        self._presence.piece_rotten(piece)
        shown = printable(str(self._place.path_of(span.file)))
        return PieceWithdrawn(f"{shown}: piece {piece} is withdrawn: its bytes have changed")

    async def _unreadable(self, files: PieceFiles, fd: int, piece: int, reason: str) -> ContentAway:
        """A piece cannot be read: if another one of its file can, the disk is still there."""
        file = self._manifest.layout.span(piece).file
        pieces = self._manifest.layout.pieces_of(file)
        other = next((each for each in (pieces[-1], pieces[0]) if each != piece), None)
        if other is None:
            return self._file_away(file, reason, (piece,))
        span = self._manifest.layout.span(other)
        try:
            files.folder.layer.forget_cache(fd, span.offset, span.length)
            await self._loader.load(files, fd, span, other)
        except OSError:
            return self._file_away(file, reason, (piece, other))
        self._presence.piece_unreadable(piece, reason)
        return _away(self._place.path_of(file), f"{reason}, piece {piece}")

    def _file_away(
        self, file: int, reason: str, probes: tuple[int, ...] = (), changed: FileIdentity | None = None
    ) -> ContentAway:
        self._presence.file_away(file, reason, probes, changed)
        return _away(self._place.path_of(file), reason)

    def _expected(self, piece: int) -> bytes:
        start = piece * FINGERPRINT_BYTES
        return self._checks.pieces[start : start + FINGERPRINT_BYTES]


def _away(path: Path, reason: str) -> ContentAway:
    return ContentAway(f"{printable(str(path))} {reason}: it is withdrawn until it is back")


def _pass_on(error: OSError, path: Path) -> None:
    """Raise `DiskError` for what says nothing about the file: this process lacks something."""
    if error.errno in OUR_ERRORS:
        raise disk_error(error, path) from error
