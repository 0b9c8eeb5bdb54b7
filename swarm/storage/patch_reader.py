"""Makes pieces of a new version out of a patch and the files of an old one. Source: docs/patches.md.

It blocks. Whatever the patch says, this holds one segment, one span of an old file and one frame,
and gives out nothing whose hash is not the manifest's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.content.patch import (
    HEAD_BYTES,
    PatchIndex,
    Prefix,
    Segment,
    packed_index_bytes,
    read_index,
)
from swarm.errors import DiskError, PatchError
from swarm.storage.disk_errors import refusals
from swarm.storage.file_layer import POSIX, read_at, write_at
from swarm.storage.folder import open_regular
from swarm.storage.hashing import piece_matches
from swarm.storage.version_files import VersionFiles


class PatchReader:
    """An open patch, and the old files that it refers to.

    ``pieces`` are those that can be made, as far as is known: those of a segment that turns out to be useless
    leave it.
    """

    def __init__(self, fd: int, index: PatchIndex, new: Manifest, files: dict[int, VersionFiles]) -> None:
        self._fd = fd
        self._index = index
        self._new = new
        self._files = files
        self._opened: list[VersionFiles] = []
        self._present = bytearray(index.segment_count)
        for number in range(index.segment_count):
            segment = index.segment(number)
            self._present[number] = segment.base is None or segment.base in files
        self.pieces = index.pieces(self._present)
        self._made: tuple[int, memoryview] | None = None
        self._prefix: tuple[tuple[int, int, int], Prefix] | None = None
        self._buffer = bytearray()
        self._whole = bytearray()

    @classmethod
    def open(cls, patch: Path, old: Manifest, new: Manifest, bases: Sequence[Path]) -> PatchReader:
        """Open a patch from ``old`` to ``new``; ``bases`` are where old versions lie.

        Raises `PatchError` for a file that is no such patch, `DiskError` if it cannot be read. A base that
        cannot be read, or a file of another length there, counts as missing.
        """
        with refusals(patch):
            folder = os.open(patch.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = open_regular(POSIX, folder, patch.name, os.O_RDONLY)
            finally:
                os.close(folder)
        opened: list[VersionFiles] = []
        try:
            with refusals(patch):
                size = os.fstat(fd).st_size
                stored = packed_index_bytes(_read(fd, 0, min(HEAD_BYTES, size)))
                packed = _read(fd, HEAD_BYTES, min(stored, size - HEAD_BYTES))
            index = read_index(packed, old, new, size)
            for base in bases:
                with suppress(DiskError):
                    opened.append(VersionFiles.open(base, old))
            files: dict[int, VersionFiles] = {}
            for file in index.bases:
                holder = next((each for each in opened if each.has(file)), None)
                if holder is not None:
                    files[file] = holder
            reader = cls(fd, index, new, files)
        except BaseException:
            os.close(fd)
            for each in opened:
                each.close()
            raise
        reader._opened = opened
        return reader

    @property
    def files(self) -> Sequence[int]:
        """The indexes of the new files that the patch makes, or parts of them."""
        return self._index.files

    def at_hand(self, piece: int) -> bool:
        """Whether a piece lies in the segment that was made last, so that reading it is quick."""
        return self._made is not None and list(self._index.segments_of(piece)) == [self._made[0]]

    def read(self, piece: int) -> memoryview | None:
        """Return a whole piece, or None if what was made of it is not what the manifest names.

        The memory is good until the next call. Raises `DiskError` if the patch cannot be read.
        """
        if piece not in self.pieces:
            return None
        data = self._assembled(piece)
        if data is not None and piece_matches(data, self._new.piece_hash(piece)):
            return data
        self.pieces.discard(piece)
        return None

    def _assembled(self, piece: int) -> memoryview | None:
        span = self._new.layout.span(piece)
        numbers = self._index.segments_of(piece)
        if len(numbers) == 1:
            made = self._segment(numbers[0])
            start = span.offset - self._index.segment(numbers[0]).offset
            return None if made is None else made[start : start + span.length]
        if len(self._whole) < span.length:
            self._whole = bytearray(span.length)
        whole = memoryview(self._whole)[: span.length]
        at = 0
        for number in numbers:
            if (made := self._segment(number)) is None:
                return None
            whole[at : at + len(made)] = made
            at += len(made)
        return whole

    def _segment(self, number: int) -> memoryview | None:
        """The bytes of a segment; None, for good, if it makes none. The last one is kept."""
        if self._made is not None and self._made[0] == number:
            return self._made[1]
        self._made = None
        if not self._present[number]:
            return None
        segment = self._index.segment(number)
        try:
            made = self._expanded(segment)
        except PatchError:
            self._give_up(segment)
            return None
        self._made = number, made
        return made

    def _expanded(self, segment: Segment) -> memoryview:
        if segment.base is not None and not segment.frame:
            return self._old(segment)
        with refusals("the patch"):
            frame = _read(self._fd, segment.frame_offset, segment.frame)
        if segment.frame == segment.length:
            return memoryview(frame)
        return memoryview(self._prefix_of(segment).expand(frame, segment.length))

    def _prefix_of(self, segment: Segment) -> Prefix:
        key = (segment.base or 0, segment.start, segment.span)
        if self._prefix is None or self._prefix[0] != key:
            # The old one is let go first.
            self._prefix = None
            self._prefix = key, Prefix() if segment.base is None else Prefix(self._old(segment))
        return self._prefix[1]

    def _old(self, segment: Segment) -> memoryview:
        """The span of a segment; its memory is good until the next call."""
        # New memory costs as much as reading into it.
        if len(self._buffer) < segment.span:
            self._buffer = bytearray(segment.span)
        span = memoryview(self._buffer)[: segment.span]
        base = segment.base or 0
        try:
            self._files[base].read_into(base, segment.start, span)
        except OSError as error:
            raise PatchError("an old file cannot be read") from error
        return span

    def _give_up(self, segment: Segment) -> None:
        """Take the pieces of a segment that makes nothing out of ``pieces``."""
        self._present[segment.number] = 0
        own, length = self._new.layout.pieces_of(segment.file), self._new.piece_length
        first = own.start + segment.offset // length
        last = own.start + (segment.offset + segment.length - 1) // length
        self.pieces -= PieceSet.between(self.pieces.size, first, last + 1)

    def __enter__(self) -> PatchReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        os.close(self._fd)
        for each in self._opened:
            each.close()


def apply_patch(
    patch: Path,
    old: Manifest,
    old_path: Path,
    new: Manifest,
    output: Path,
    *,
    progress: Callable[[int], None] = lambda _done: None,
) -> int:
    """Write the files that a patch makes below the folder ``output``; return their bytes. Blocks.

    For programs that have a patch and no transfer. A fetch takes pieces one by one from `PatchReader`. Files
    that did not change are not written. ``progress`` is called with the bytes that are done.

    Raises `PatchError` for a patch that does not fit or is not whole, `DiskError` for files that cannot be
    read or written.
    """
    done = 0
    folders: set[Path] = set()
    with PatchReader.open(patch, old, new, [old_path]) as reader:
        for file in reader.files:
            path = output.joinpath(*new.path(file))
            with refusals(path):
                if path.parent not in folders:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    folders.add(path.parent)
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    for piece in new.layout.pieces_of(file):
                        data = reader.read(piece)
                        if data is None:
                            raise PatchError(f"this patch does not make the whole of {path.name}")
                        write_at(POSIX, fd, data, new.layout.span(piece).offset)
                        done += len(data)
                        progress(done)
                finally:
                    os.close(fd)
    return done


def _read(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset) if size > 0 else b""
    if len(data) != size:
        buffer = memoryview(bytearray(max(size, 0)))
        data = bytes(buffer[: read_at(POSIX, fd, buffer, offset)])
    return data
