"""Makes a patch from one version to another, on all cores and in bounded memory. Source: docs/patches.md."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from swarm.content.landmarks import Landmarks, nearest_span
from swarm.content.manifest import Manifest
from swarm.content.pairing import pair_files
from swarm.content.patch import (
    MAX_SEGMENTS,
    MIN_PREFIX_BYTES,
    NO_BASE,
    SEGMENT_BYTES,
    PatchColumns,
    Prefix,
    encode_index,
    segments_in,
)
from swarm.lazy_dataclass import dataclass
from swarm.storage.disk_errors import refusals
from swarm.storage.version_files import VersionFiles

if TYPE_CHECKING:
    from concurrent.futures import Future

    from swarm.storage.hashing import Progress

LEVEL = 3
"""Of zstd, for a segment with a prefix: 60 MB/s for each core. Level 12 saves a twentieth, at a sixth."""
LEVEL_SMALL = 12
SMALL_BYTES = 512 * 1024
"""Up to so many bytes, the span included, a better level takes no time that matters."""
LEVEL_ALONE = 7
"""For a file that has no older version."""
SPAN_BYTES = 6 * 1024 * 1024
"""The most of the old file that one segment is compared with. More costs time to make and to apply."""
MARGIN_BYTES = 256 * 1024
"""What is added at both ends of the place that samples point to."""
MEMORY_BYTES = 50 * 1024 * 1024
"""What all segments under way may take together; a lone one is always let through."""
TABLE_BYTES = 11 * 1024 * 1024
"""What zstd takes for one segment of full length: its window and its tables."""
READ_BYTES = 1024 * 1024
GUESSES = 16
"""Samples by which a guess of the place is tried before the old file is searched."""
GUESS_BYTES = 32
MAX_LIKENED = 4096
"""New files without a counterpart for which a similar old file is looked for."""


def make_patch(
    old: Manifest,
    old_path: Path,
    new: Manifest,
    new_path: Path,
    target: Path,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> int | None:
    """Write the patch from ``old`` to ``new`` to ``target``, and return its size in bytes. Blocks.

    Returns None, and writes nothing, if it would not be smaller than the pieces that have changed, or once
    ``cancelled`` says so. ``progress`` is called in this thread with the bytes of changed files that are
    done, and their sum. ``target`` appears whole or not at all. Raises `DiskError` if a file of the new
    version cannot be read or the patch cannot be written. An old file that cannot be read counts as missing.
    """
    old_files = VersionFiles.open(old_path, old)
    try:
        new_files = VersionFiles.open(new_path, new)
        try:
            making = _Making(_Version(old, old_files), _Version(new, new_files), cancelled)
            return making.run(target, progress or (lambda _done, _total: None))
        finally:
            new_files.close()
    finally:
        old_files.close()


@dataclass(frozen=True, slots=True)
class _Version:
    manifest: Manifest
    files: VersionFiles


@dataclass(frozen=True, slots=True)
class _Made:
    """One segment: the span of the old file, and the frame. Without a frame it is a copy."""

    start: int
    span: int
    frame: bytes | memoryview


@dataclass(frozen=True, slots=True)
class _Task:
    """One segment to make; ``pieces`` are the bytes of its pieces that the old file does not have here."""

    file: int
    base: int | None
    offset: int
    length: int
    pieces: int


class _Memory:
    """Bytes that the segments under way may take; a lone one is let through whatever it takes."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._waiting = threading.Condition()
        self._under_way = 0

    def take(self, size: int) -> None:
        with self._waiting:
            self._waiting.wait_for(lambda: self._left >= size or not self._under_way)
            self._left -= size
            self._under_way += 1

    def give(self, size: int) -> None:
        with self._waiting:
            self._left += size
            self._under_way -= 1
            self._waiting.notify_all()


class _Making:
    """One run; the frames go to a file of their own until the index that precedes them is known."""

    def __init__(self, old: _Version, new: _Version, cancelled: Callable[[], bool]) -> None:
        self._old = old
        self._new = new
        self._cancelled = cancelled
        self._memory = _Memory(MEMORY_BYTES)
        self._search = _OldPlaces(old)

    def run(self, target: Path, progress: Progress) -> int | None:
        """See `make_patch`."""
        frames = target.with_name(f".{target.name}.frames")
        try:
            with refusals(target), _created(frames) as store:
                columns, left = self._frames(store, progress)
                if columns is None:
                    return None
                head = encode_index(columns, self._old.manifest, self._new.manifest)
                return _join(head, store, target) if len(head) < left else None
        finally:
            with suppress(OSError):
                frames.unlink(missing_ok=True)

    def _frames(self, store: BinaryIO, progress: Progress) -> tuple[PatchColumns | None, int]:
        """Write all frames; return the columns, and the bytes by which the changed pieces are more.

        Without columns if the patch is not worth its size, or is cancelled.
        """
        columns = PatchColumns.empty()
        tasks = self._tasks(columns)
        total = sum(task.length for task in tasks)
        limit = sum(task.pieces for task in tasks)
        done = size = 0
        for task, made in self._in_order(tasks):
            columns.starts.append(made.start)
            columns.spans.append(made.span)
            columns.frames.append(len(made.frame))
            store.write(made.frame)
            size += len(made.frame)
            done += task.length
            progress(done, total)
            if self._cancelled() or size >= limit:
                return None, 0
        return columns, limit - size

    def _tasks(self, columns: PatchColumns) -> list[_Task]:
        """The segments of all files that have changed, in the order of the patch."""
        old, new = self._old.manifest, self._new.manifest
        known = {entry.blake3 for entry in old.files}
        changed = [file for file, entry in enumerate(new.files) if entry.length and entry.blake3 not in known]
        paired = pair_files(new, old)
        pairs = {
            file: paired[file] for file in changed if file in paired and self._old.files.has(paired[file])
        }
        self._search.pair_by_likeness(self._new, [file for file in changed if file not in pairs], pairs)
        tasks: list[_Task] = []
        for file in changed:
            length = new.layout.file_length(file)
            if len(tasks) + segments_in(length) > MAX_SEGMENTS:
                continue
            base = pairs.get(file)
            columns.files.append(file)
            columns.bases.append(NO_BASE if base is None else base)
            for offset in range(0, length, SEGMENT_BYTES):
                size = min(SEGMENT_BYTES, length - offset)
                tasks.append(_Task(file, base, offset, size, self._changed(file, base, offset, size)))
        return tasks

    def _changed(self, file: int, base: int | None, offset: int, length: int) -> int:
        """How many bytes of a segment lie in pieces that the old file does not have in the same place."""
        old, new = self._old.manifest, self._new.manifest
        piece_length = new.piece_length
        if base is None or old.piece_length != piece_length:
            return length
        mine, theirs = new.layout.pieces_of(file), old.layout.pieces_of(base)
        changed = 0
        for number in range(offset // piece_length, -(-(offset + length) // piece_length)):
            same = number < len(theirs) and new.piece_hash(mine[number]) == old.piece_hash(theirs[number])
            if not same:
                start = max(offset, number * piece_length)
                changed += min(offset + length, (number + 1) * piece_length) - start
        return changed

    def _in_order(self, tasks: list[_Task]) -> Iterator[tuple[_Task, _Made]]:
        from concurrent.futures import ThreadPoolExecutor

        workers = os.cpu_count() or 1
        under_way: deque[tuple[_Task, Future[_Made]]] = deque()
        with ThreadPoolExecutor(workers, "patch") as pool:
            try:
                for task in tasks:
                    under_way.append((task, pool.submit(self._make, task)))
                    # Frames that wait for their turn are memory, too.
                    if len(under_way) > workers:
                        first, made = under_way.popleft()
                        yield first, made.result()
                for first, made in under_way:
                    yield first, made.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _make(self, task: _Task) -> _Made:
        if task.base is not None and not task.pieces:
            return _Made(task.offset, task.length, b"")
        cost = self._cost(task)
        self._memory.take(cost)
        try:
            return self._compressed(task)
        finally:
            self._memory.give(cost)

    def _cost(self, task: _Task) -> int:
        """Bytes that a segment takes at most while it is made."""
        old = 0 if task.base is None else self._old.manifest.layout.file_length(task.base)
        return min(old, SPAN_BYTES) + 2 * task.length + TABLE_BYTES

    def _compressed(self, task: _Task) -> _Made:
        with refusals(self._new.files.where(task.file)):
            data = self._new.files.read(task.file, task.offset, task.length)
        made = None
        if task.base is not None:
            with suppress(OSError):
                made = self._against(data, task, task.base)
        if made is None:
            made = _Made(0, 0, Prefix().squeeze(data, LEVEL_ALONE))
        return made if len(made.frame) < task.length else _Made(0, 0, data)

    def _against(self, data: memoryview, task: _Task, base: int) -> _Made | None:
        place = self._search.place(data, task.offset, base)
        if place.span < MIN_PREFIX_BYTES:
            return None
        old = self._old.files.read(base, place.start, place.span)
        # Content that has only moved is copied.
        moved = place.likely - place.start
        if moved >= 0 and old[moved : moved + task.length] == data:
            return _Made(place.likely, task.length, b"")
        prefix = Prefix(old)
        del old
        small = task.length + place.span <= SMALL_BYTES
        return _Made(place.start, place.span, prefix.squeeze(data, LEVEL_SMALL if small else LEVEL))


@dataclass(frozen=True, slots=True)
class _OldSpan:
    """A span of an old file, and where in the file a segment most likely lies."""

    start: int
    span: int
    likely: int


class _OldPlaces:
    """Where in the old files the content of a segment lies."""

    def __init__(self, old: _Version) -> None:
        self._old = old
        self._lock = threading.Lock()
        self._landmarks: tuple[int, Landmarks] | None = None
        self._shifts: dict[int, int] = {}

    def place(self, data: memoryview, offset: int, base: int) -> _OldSpan:
        """Return the span of an old file that a segment is compared with; raises OSError."""
        size = self._old.manifest.layout.file_length(base)
        last = self._shifts.get(base, 0)
        for shift in (last, 0):
            if self._fits(data, offset + shift, base, size):
                self._shifts[base] = shift
                return self._around([offset + shift], len(data), size)
        found = [found.where - found.at for found in self._landmarks_of(base).find(data)]
        if not found:
            return self._around([offset + last], len(data), size)
        # Neighbouring segments have mostly moved by as much.
        self._shifts[base] = sorted(found)[len(found) // 2] - offset
        return self._around(found, len(data), size)

    def _around(self, found: list[int], length: int, size: int) -> _OldSpan:
        start, span = nearest_span(found, length, size, SPAN_BYTES, MARGIN_BYTES)
        return _OldSpan(start, span, sorted(found)[len(found) // 2])

    def _fits(self, data: memoryview, start: int, base: int, size: int) -> bool:
        """Whether most samples of a segment are at the same place from ``start`` on in the old file."""
        same = tried = 0
        with self._old.files.reading(base) as fd:
            for at in range(0, len(data) - GUESS_BYTES, max(1, len(data) // GUESSES)):
                tried += 1
                if 0 <= start + at <= size - GUESS_BYTES:
                    same += os.pread(fd, GUESS_BYTES, start + at) == data[at : at + GUESS_BYTES]
        return same * 2 > tried

    def _landmarks_of(self, base: int) -> Landmarks:
        with self._lock:
            if self._landmarks is None or self._landmarks[0] != base:
                self._landmarks = None
                made = Landmarks([self._old.manifest.layout.file_length(base)])
                made.add(0, self._old.files.chunks(base, max(READ_BYTES, made.step)))
                made.seal()
                self._landmarks = base, made
            return self._landmarks[1]

    def pair_by_likeness(self, new: _Version, files: list[int], pairs: dict[int, int]) -> None:
        """Add to ``pairs`` the old file that looks most like each of ``files``, which no name leads to.

        Only old files that are no counterpart of any file are considered: what was renamed and changed.
        """
        if not files or len(files) > MAX_LIKENED:
            return
        manifest = self._old.manifest
        kept = {entry.blake3 for entry in new.manifest.files}
        used = set(pairs.values())
        orphans = [
            number
            for number, entry in enumerate(manifest.files)
            if number not in used and entry.length >= MIN_PREFIX_BYTES and entry.blake3 not in kept
        ]
        if not 0 < len(orphans) <= MAX_LIKENED:
            return
        marks = Landmarks([manifest.layout.file_length(number) for number in orphans])
        for number, orphan in enumerate(orphans):
            with suppress(OSError):
                marks.add(number, self._old.files.chunks(orphan, max(READ_BYTES, marks.step)))
        marks.seal()
        for file in files:
            with refusals(new.files.where(file)):
                size = min(new.manifest.layout.file_length(file), SEGMENT_BYTES)
                found = marks.find(new.files.read(file, 0, size))
            if found:
                votes = Counter(each.number for each in found)
                pairs[file] = orphans[votes.most_common(1)[0][0]]


def _join(head: bytes, store: BinaryIO, target: Path) -> int:
    """Write the head and then the frames to ``target``, which appears whole; return its size in bytes."""
    store.seek(0)
    size = len(head)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with _created(partial) as file:
            file.write(head)
            while chunk := store.read(READ_BYTES):
                file.write(chunk)
                size += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return size


def _created(path: Path) -> BinaryIO:
    """Open an empty file without following a symbolic link that somebody put there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "w+b")
