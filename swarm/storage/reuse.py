"""Which pieces of a manifest the files of an older version hold, and where.

A base is a file or a folder. Where the hash cache remembers what was hashed there, the two manifests are
compared and nothing is read: files with an equal BLAKE3 wherever they lie, and of files that changed the
pieces that have an equal hash at the same offset. Otherwise the files that have the right name are taken to
hold what is wanted at the same offset, and so is a file of the right length whose first piece is right.
Whoever takes a piece compares its BLAKE3, so a wrong guess costs reading.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from swarm.bits import PieceSet
from swarm.content.entries import MAX_ENTRIES
from swarm.content.manifest import FileEntry, Manifest
from swarm.content.pairing import NameIndex, pair_files
from swarm.ids import DIGEST_BYTES
from swarm.ports import PieceBytes
from swarm.storage.disk_errors import refusals
from swarm.storage.file_identity import FileIdentity
from swarm.storage.file_layer import read_at
from swarm.storage.folder import Folder
from swarm.storage.hash_cache import Recall, Remembered
from swarm.storage.hashing import Progress, piece_matches

Parts = tuple[str, ...]

MOST_PLACES = 4
"""Files of bases that one file of the new version is compared with."""


class FoundPlace(NamedTuple):
    """A file of a base: the number of the base, the path in it, its size in bytes."""

    base: int
    parts: Parts
    size: int


class Reusable:
    """What some bases may hold of a manifest: a `ports.HeldPieces`.

    ``pieces`` are those that are worth a look. Close it when no thread uses it any more.
    """

    def __init__(self, manifest: Manifest, wanted: PieceSet) -> None:
        self.manifest = manifest
        self.pieces = PieceSet(manifest.piece_count)
        self._wanted = wanted
        self._folders: list[Folder] = []
        self._found: dict[int, list[FoundPlace]] = {}
        self._open: dict[int, tuple[FoundPlace, int]] = {}

    @property
    def size(self) -> int:
        """Bytes of ``pieces``."""
        return sum(map(self.manifest.layout.length, self.pieces))

    def search(self, base: Path, recall: Recall | None) -> None:
        """Look for the wanted pieces in one more base; raises `DiskError` if it is not there."""
        real = Path(os.path.realpath(base))
        with refusals(base):
            is_folder = stat.S_ISDIR(real.stat().st_mode)
            inner = real / self.manifest.name
            if is_folder and self.manifest.folder and inner.is_dir() and not inner.is_symlink():
                # The folder in which the shared one lies is as good.
                real = inner
            self._folders.append(Folder.open(real if is_folder else real.parent))
        search = _BaseSearch(
            self, len(self._folders) - 1, self._folders[-1], () if is_folder else (real.name,)
        )
        remembered = None if recall is None else recall(real)
        if remembered is not None and remembered.manifest.folder == is_folder:
            search.compare(remembered)
        else:
            search.look(_listed(real, is_folder=is_folder))

    def add(self, file: int, place: FoundPlace, pieces: Iterable[int]) -> None:
        """Note that a file of a base may hold these pieces of a file of the manifest."""
        places = self._found.setdefault(file, [])
        if len(places) < MOST_PLACES:
            places.append(place)
            for piece in pieces:
                if piece in self._wanted:
                    self.pieces.add(piece)

    def places(self, piece: int) -> Iterator[PieceBytes]:
        """Where the piece may be; see `ports.HeldPieces`."""
        span = self.manifest.layout.span(piece)
        length = self.manifest.layout.file_length(span.file)
        for place in self._found.get(span.file, ()):
            if span.offset + span.length <= place.size:
                with suppress(OSError):
                    yield PieceBytes(self._opened(place), span.offset, place.size == length)

    def read(self, piece: int) -> memoryview | None:
        """Return the piece, verified, or None if no base holds it."""
        data = memoryview(bytearray(self.manifest.layout.length(piece)))
        return data if self.read_into(piece, data) else None

    def read_into(self, piece: int, data: memoryview) -> bool:
        """Fill ``data`` with the piece, verified; says whether a base holds it."""
        digest = self.manifest.piece_hash(piece)
        for place in self.places(piece):
            with suppress(OSError):
                got = read_at(self._folders[0].layer, place.fd, data, place.offset)
                if got == len(data) and piece_matches(data, digest):
                    return True
        return False

    def verify(self, progress: Progress | None = None) -> None:
        """Read and hash ``pieces``, and leave only those that are right."""
        total, done = self.size, 0
        buffer = memoryview(bytearray(self.manifest.piece_length))
        for piece in self.pieces.copy():
            data = buffer[: self.manifest.layout.length(piece)]
            if not self.read_into(piece, data):
                self.pieces.discard(piece)
            done += len(data)
            if progress is not None:
                progress(done, total)

    def close(self) -> None:
        """Close every descriptor."""
        opened, self._open = self._open, {}
        for _, fd in opened.values():
            os.close(fd)
        for folder in self._folders:
            folder.close()

    def _opened(self, place: FoundPlace) -> int:
        """The descriptor of a file, which stays open until this thread asks for another one."""
        thread = threading.get_ident()
        held = self._open.get(thread)
        if held is not None:
            if held[0] is place:
                return held[1]
            del self._open[thread]
            os.close(held[1])
        fd = self._folders[place.base].open_file(place.parts, os.O_RDONLY)
        self._open[thread] = (place, fd)
        return fd


def find_reusable(
    manifest: Manifest,
    wanted: PieceSet,
    bases: Sequence[Path],
    recall: Recall | None = None,
    progress: Progress | None = None,
    *,
    verify: bool = True,
) -> Reusable:
    """Return what the bases hold of the wanted pieces; blocks, so run it in a thread.

    ``recall`` returns what was hashed at a path before. Unless ``verify``, nothing else is read than lists of
    files and a few first pieces, so that some of the pieces may turn out to be others. ``progress`` is called
    with checked and total bytes. Raises `DiskError` if a base cannot be opened.
    """
    reusable = Reusable(manifest, wanted)
    try:
        for base in bases:
            reusable.search(base, recall)
        if verify:
            reusable.verify(progress)
    except BaseException:
        reusable.close()
        raise
    return reusable


class _BaseSearch:
    """Compares one base with the manifest; ``prefix`` is the path of a base that is a single file."""

    def __init__(self, reusable: Reusable, base: int, folder: Folder, prefix: Parts) -> None:
        self._reusable = reusable
        self._manifest = reusable.manifest
        self._base = base
        self._folder = folder
        self._prefix = prefix

    def compare(self, remembered: Remembered) -> None:
        """Compare with the manifest of what was hashed there, as far as nothing has changed since."""
        old = remembered.manifest
        for file, other in pair_files(self._manifest, old).items():
            parts = self._prefix or old.path(other)
            about = self._stat(parts)
            if about is None:
                continue
            new, known = self._manifest.files[file], old.files[other]
            pieces: Iterable[int] = self._manifest.layout.pieces_of(file)
            if remembered.has(other, FileIdentity.of(about)) and new.blake3 != known.blake3:
                pieces = self._alike(file, new, known, old.piece_length)
            self._add(file, parts, about.st_size, pieces)

    def _alike(self, file: int, new: FileEntry, known: FileEntry, piece_length: int) -> Iterable[int]:
        """The pieces of a file that have an equal hash at the same offset; all, if that is not known."""
        pieces = self._manifest.layout.pieces_of(file)
        if piece_length != self._manifest.piece_length:
            return pieces
        ends = range(DIGEST_BYTES, len(known.pieces) + 1, DIGEST_BYTES)
        return [
            piece
            for piece, end in zip(pieces, ends, strict=False)
            if new.pieces[end - DIGEST_BYTES : end] == known.pieces[end - DIGEST_BYTES : end]
        ]

    def look(self, listed: Sequence[tuple[Parts, int]]) -> None:
        """Look for files by their names, and for others by their lengths and first pieces."""
        sizes = [size for _, size in listed]
        index = NameIndex((parts for parts, _ in listed), sizes)
        single = not self._manifest.folder and bool(self._prefix)
        elsewhere: dict[int, list[int]] = {}
        for file, entry in enumerate(self._manifest.files):
            if not entry.length:
                continue
            found = 0 if single else index.find(entry.path, entry.length)
            if found is not None:
                self._add(file, *listed[found], self._manifest.layout.pieces_of(file))
            if found is None or sizes[found] != entry.length:
                elsewhere.setdefault(entry.length, []).append(file)
        if not single:
            for parts, size in listed:
                if size in elsewhere:
                    self._look_inside(parts, size, elsewhere[size])

    def _look_inside(self, parts: Parts, size: int, files: Iterable[int]) -> None:
        """A file has the length of some that were not found by their names: compare its first piece."""
        first = memoryview(bytearray(min(size, self._manifest.piece_length)))
        layer = self._folder.layer
        try:
            fd = self._folder.open_file(parts, os.O_RDONLY)
            try:
                got = read_at(layer, fd, first, 0)
            finally:
                layer.close(fd)
        except OSError:
            return
        digest = blake3(first[:got]).digest()
        for file in files:
            pieces = self._manifest.layout.pieces_of(file)
            if self._manifest.piece_hash(pieces.start) == digest:
                self._add(file, parts, size, pieces)

    def _add(self, file: int, parts: Parts, size: int, pieces: Iterable[int]) -> None:
        layout = self._manifest.layout
        whole = layout.pieces_of(file)
        # The last piece of a longer file may be short, and lies within a file that is shorter.
        stop = whole.start + size // layout.piece_length
        if size >= layout.file_length(file):
            stop = whole.stop
        self._reusable.add(
            file, FoundPlace(self._base, parts, size), (piece for piece in pieces if piece < stop)
        )

    def _stat(self, parts: Parts) -> os.stat_result | None:
        """What lies there, if it is a file that is not empty."""
        try:
            about = self._folder.stat(parts)
        except OSError:
            return None
        return about if about is not None and stat.S_ISREG(about.st_mode) and about.st_size else None


def _listed(real: Path, *, is_folder: bool) -> list[tuple[Parts, int]]:
    """The files of a base that are not empty: their paths in it, and their sizes in bytes."""
    if not is_folder:
        return [((real.name,), real.stat().st_size)]
    found: list[tuple[Parts, int]] = []
    folders: list[Parts] = [()]
    while folders and len(found) < MAX_ENTRIES:
        above = folders.pop()
        with suppress(OSError), os.scandir(real.joinpath(*above)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append((*above, entry.name))
                elif entry.is_file(follow_symlinks=False):
                    size = entry.stat(follow_symlinks=False).st_size
                    if size:
                        found.append(((*above, entry.name), size))
    return found
