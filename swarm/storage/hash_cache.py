"""Remembers in the home what was hashed, so that files which nothing has changed are not hashed again.

One record holds all files of one share or fetch: its manifest, the identity of each file, and the XXH3-128
of each piece. It is found by the path, or by the inode of a folder that was moved. A record is written whole
or not at all, and its checksum is compared before anything in it is believed. Without a home that can be
written, only time is lost. Source: docs/storage.md.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from xxhash import xxh3_128, xxh3_128_digest, xxh3_128_hexdigest

from swarm.content.fingerprints import FINGERPRINT_BYTES
from swarm.content.manifest import FileEntry, Manifest
from swarm.errors import ManifestError
from swarm.lazy_dataclass import dataclass
from swarm.storage.file_identity import NOBODY, Checks, FileIdentities, FileIdentity
from swarm.storage.whole_files import replaced_whole, write_all

MAX_RECORDS = 16384
"""Records in one home; of more, those used longest ago are removed."""
MAX_BYTES = 1024 * 1024 * 1024
"""Bytes of all records together. A file of 1 TB takes 3 MB, 200,000 small files take 40 MB."""
COARSE_NS = 2_000_000_000
"""The step of the coarsest time stamps (FAT), in nanoseconds."""
FINE_NS = 100_000_000
"""Far more than the step of time stamps that show fractions of 10 ms."""
SWEEP_EVERY = 64
"""Records that one process writes between two looks at the size of all of them: a look is a stat of each."""
LEFTOVER_SECONDS = 3600.0
"""What a crash left of a record that was being written is removed when it is so old."""
TEN_MS = 10_000_000
FOLDER_MODE = 0o700

_MAGIC = b"swarm-hashed\0\0\0\1"
_HEAD = struct.Struct(f">{len(_MAGIC)}sQQQ")
_CHECKSUM_BYTES = 16
_COLUMN = 8
_SUFFIX = ".hashed"


def is_settled(identity: FileIdentity, hashed_ns: int) -> bool:
    """Whether a file that was hashed from ``hashed_ns`` on (wall clock, nanoseconds) can be recognized later.

    A file that is written to twice within one step of its time stamps has the same identity with other bytes.
    So it must have been left alone for longer than such a step before it was hashed.
    """
    coarse = identity.ctime_ns % TEN_MS == 0
    return identity.ctime_ns + (COARSE_NS if coarse else FINE_NS) < hashed_ns


def has_fine_times(identity: FileIdentity) -> bool:
    """Whether the time stamps of the file system show when a file is written to again."""
    return identity.ctime_ns % TEN_MS != 0


Recall = Callable[[Path], "Remembered | None"]
"""Returns what was hashed at a path before; blocks."""


class FoundFile(Protocol):
    """A file that is to be shared: where it is below the shared folder, and what identifies it."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Its path."""

    @property
    def identity(self) -> FileIdentity:
        """Its identity."""

    @property
    def executable(self) -> bool:
        """Whether its owner may execute it."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was hashed: a manifest, the identities of its files and the XXH3-128 of its pieces.

    A file that cannot be recognized has an identity that no file has.
    """

    manifest: Manifest
    checks: Checks

    def has(self, file: int, identity: FileIdentity) -> bool:
        """Whether the file with this index is the one that was hashed, unchanged."""
        known = self.checks.files
        return known.inodes[file] != 0 and (
            known.sizes[file],
            known.mtimes[file],
            known.inodes[file],
            known.ctimes[file],
        ) == (identity.size, identity.mtime_ns, identity.inode, identity.ctime_ns)

    def fingerprints(self, file: int) -> bytes:
        """Return the XXH3-128 of all pieces of a file, one after the other."""
        pieces = self.manifest.layout.pieces_of(file)
        return self.checks.pieces[pieces.start * FINGERPRINT_BYTES : pieces.stop * FINGERPRINT_BYTES]


class Reuse:
    """What a new scan of a path takes over from the last one.

    ``found`` are its files in the order of the manifest that is to be made.
    """

    def __init__(self, remembered: Remembered | None, found: Sequence[FoundFile], piece_length: int) -> None:
        usable = remembered is not None and remembered.manifest.piece_length == piece_length
        self._remembered = remembered if usable else None
        self._found = found
        self._index: dict[tuple[str, ...], int] | None = None

    def everything(self, describes: Callable[[Manifest], bool]) -> Remembered | None:
        """Return what was remembered if nothing has changed since: then no file needs to be read.

        ``describes`` says whether a manifest has exactly what was found, names and kinds included.
        """
        remembered, found = self._remembered, self._found
        if remembered is None:
            return None
        known = remembered.checks.files
        if len(known) != len(found) or 0 in known.inodes:
            return None
        now = FileIdentities([file.identity for file in found])
        columns = (now.sizes, now.mtimes, now.inodes, now.ctimes)
        if (known.sizes, known.mtimes, known.inodes, known.ctimes) != columns:
            return None
        if not describes(remembered.manifest):
            return None
        return Remembered(remembered.manifest, Checks(now, remembered.checks.pieces))

    def entry(self, file: FoundFile) -> tuple[FileEntry, bytes] | None:
        """Return the entry of one file and the XXH3-128 of its pieces, if it has not changed since."""
        remembered = self._remembered
        if remembered is None:
            return None
        if self._index is None:
            files = range(len(remembered.manifest.files))
            self._index = {remembered.manifest.path(number): number for number in files}
        number = self._index.get(file.parts) if remembered.manifest.folder else 0
        if number is None or not remembered.has(number, file.identity):
            return None
        known = remembered.manifest.files[number]
        return known._replace(path=file.parts, executable=file.executable), remembered.fingerprints(number)


class HashCache:
    """The records of one home. Methods block, may run in any thread, and raise nothing if a disk refuses."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "hashed"
        self._kept = 0

    def find(self, path: Path) -> Remembered | None:
        """Return what was hashed at ``path`` last, or None."""
        for record in self._candidates(path):
            remembered = _read(record)
            if remembered is not None:
                with suppress(OSError):
                    os.utime(record)
                return remembered
        return None

    def find_list(self, path: Path) -> Remembered | None:
        """As `find`, but every file is to be hashed: only what the manifest lists is remembered."""
        found = self.find(path)
        if found is None:
            return None
        nobody = FileIdentities([NOBODY] * len(found.manifest.files))
        return Remembered(found.manifest, Checks(nobody, found.checks.pieces))

    def keep(self, path: Path, manifest: Manifest, checks: Checks, unsettled: Collection[int] = ()) -> None:
        """Remember what was hashed at ``path``, in place of what was remembered before.

        ``unsettled`` are the files that cannot be recognized later, see `is_settled`.
        """
        key, inode = _names(path)
        if inode is None:
            return
        if unsettled:
            checks = Checks(checks.files.copy(), checks.pieces)
            for file in unsettled:
                checks.files[file] = NOBODY
        name = f"{key}-{inode}{_SUFFIX}"
        with suppress(OSError):
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            _write(self._folder / name, _parts(manifest, checks))
            names = self._listed()
            for other in names:
                if other != name and other.startswith(key):
                    (self._folder / other).unlink(missing_ok=True)
            if self._kept % SWEEP_EVERY == 0 or len(names) > MAX_RECORDS:
                self._drop_oldest()
            self._kept += 1

    def _candidates(self, path: Path) -> Iterator[Path]:
        key, inode = _names(path)
        exact = f"{key}-{inode}{_SUFFIX}"
        # Nearly always it is this one: the folder of a daemon has thousands of others.
        yield self._folder / exact
        end = f"-{inode}{_SUFFIX}"
        try:
            listed = self._listed()
        except OSError:
            return
        own = [each for each in listed if each.startswith(key)]
        moved = [each for each in listed if not each.startswith(key) and each.endswith(end)]
        yield from (self._folder / each for each in (*own, *moved) if each != exact)

    def _listed(self) -> list[str]:
        return [each for each in os.listdir(self._folder) if each.endswith(_SUFFIX)]  # noqa: PTH208 - names alone

    def _drop_oldest(self) -> None:
        """Remove the records used longest ago until the rest is within bounds, and what a crash has left."""
        found = [(each.stat(), each) for each in self._folder.iterdir()]
        found.sort(key=lambda pair: -pair[0].st_mtime)
        old = time.time() - LEFTOVER_SECONDS
        total = 0
        for count, (about, record) in enumerate(found, 1):
            total += about.st_size
            left_over = record.suffix != _SUFFIX and about.st_mtime < old
            if count > MAX_RECORDS or total > MAX_BYTES or left_over:
                record.unlink(missing_ok=True)


def _names(path: Path) -> tuple[str, int | None]:
    """The name of a path's record, and the inode there, if anything is there."""
    real = os.path.realpath(path)
    try:
        inode = Path(real).stat().st_ino
    except OSError:
        inode = None
    return xxh3_128_hexdigest(os.fsencode(real)), inode


def _parts(manifest: Manifest, checks: Checks) -> Iterator[bytes | memoryview]:
    encoded = manifest.encode()
    yield _HEAD.pack(_MAGIC, len(encoded), len(checks.files), len(checks.pieces))
    yield encoded
    for column in _columns(checks.files):
        yield _little(column).tobytes()
    yield checks.pieces


def _columns(files: FileIdentities) -> Sequence[array[int]]:
    return files.sizes, files.mtimes, files.inodes, files.devices, files.ctimes


def _little(column: array[int]) -> array[int]:
    """Return the column in little endian, which is what a record holds."""
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return column


def _write(path: Path, parts: Iterator[bytes | memoryview]) -> None:
    """Write a record under another name first, so that the one in place is always whole."""
    checksum = xxh3_128()
    with replaced_whole(path) as fd:
        for part in parts:
            checksum.update(part)
            write_all(fd, part)
        write_all(fd, checksum.digest())


def _read(path: Path) -> Remembered | None:
    """Return a record, or None for one that is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = memoryview(data)[:-_CHECKSUM_BYTES]
    if len(data) < _HEAD.size + _CHECKSUM_BYTES or xxh3_128_digest(body) != data[-_CHECKSUM_BYTES:]:
        return None
    magic, manifest_bytes, files, piece_bytes = _HEAD.unpack_from(data)
    start = _HEAD.size + manifest_bytes
    columns = FileIdentities()
    if magic != _MAGIC or len(body) != start + len(_columns(columns)) * _COLUMN * files + piece_bytes:
        return None
    try:
        manifest = Manifest.decode(bytes(body[_HEAD.size : start]))
    except ManifestError:
        return None
    for column in _columns(columns):
        column.frombytes(body[start : start + _COLUMN * files])
        if sys.byteorder == "big":
            column.byteswap()
        start += _COLUMN * files
    if len(manifest.files) != files or manifest.piece_count * FINGERPRINT_BYTES != piece_bytes:
        return None
    return Remembered(manifest, Checks(columns, bytes(body[start:])))
