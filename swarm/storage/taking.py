"""Takes pieces out of files on this machine into a target: cloned where the file system can, else copied.

A clone shares the blocks of the old file until either is written to, so it takes neither time nor room. What
was cloned is read back and hashed like any other piece before it counts.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from swarm.content.fingerprints import fingerprint
from swarm.content.manifest import Manifest
from swarm.lazy_dataclass import dataclass, field
from swarm.ports import HeldPieces
from swarm.storage.file_layer import FileLayer, read_at, write_at
from swarm.storage.folder import Folder
from swarm.storage.hashing import piece_matches
from swarm.storage.piece_files import PieceFiles

CLONES_NO_SMALLER = 128 * 1024
"""A shorter file is copied: to share one or two extents costs as much as to write them."""

NO_CLONES = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.EPERM, errno.ETXTBSY}
)
"""What systems say that cannot clone, or not between these two files."""


@dataclass(slots=True)
class Cloning:
    """Whether and where clones were made in one target: ``files`` are the indices of the cloned ones."""

    possible: bool = True
    files: set[int] = field(default_factory=set)

    def suits(self, length: int) -> bool:
        """Whether a file of this length is worth a try."""
        return self.possible and length >= CLONES_NO_SMALLER


def clone_whole(layer: FileLayer, held: HeldPieces, first: int, fd: int, length: int) -> bool | None:
    """Make the new file ``fd`` a clone of the file that may hold its piece ``first``, cut to ``length``.

    Returns None if no file is there, and False if the file system cannot. Raises OSError for other trouble.
    """
    for place in held.places(first):
        try:
            layer.clone(place.fd, fd)
        except OSError as error:
            if error.errno in NO_CLONES:
                return False
            raise
        if os.fstat(fd).st_size != length:
            layer.resize(fd, length)
        return True
    return None


def copy_pieces(
    manifest: Manifest, layer: FileLayer, fd: int, pieces: Sequence[int], held: HeldPieces, *, cloned: bool
) -> list[tuple[int, bytes]]:
    """Write pieces of one file to ``fd``; returns those that were found, each with its XXH3-128.

    ``cloned``: what is there already may be right. Raises OSError if the system refuses to write.
    """
    copied = []
    buffer = memoryview(bytearray(min(manifest.piece_length, manifest.layout.total_length)))
    for piece in pieces:
        span = manifest.layout.span(piece)
        data = buffer[: span.length]
        digest = manifest.piece_hash(piece)
        if cloned and _is_there(layer, fd, data, span.offset, digest):
            copied.append((piece, fingerprint(data)))
        elif fill(layer, held, piece, data, digest):
            write_at(layer, fd, data, span.offset)
            copied.append((piece, fingerprint(data)))
    return copied


def load_pieces(
    manifest: Manifest, layer: FileLayer, pieces: Sequence[int], held: HeldPieces
) -> list[tuple[int, memoryview, bytes]]:
    """Read pieces that files hold into memory; returns those that were found, each with its XXH3-128."""
    loaded = []
    for piece in pieces:
        data = memoryview(bytearray(manifest.layout.length(piece)))
        if fill(layer, held, piece, data, manifest.piece_hash(piece)):
            loaded.append((piece, data, fingerprint(data)))
    return loaded


def fill(layer: FileLayer, held: HeldPieces, piece: int, data: memoryview, digest: bytes) -> bool:
    """Fill ``data`` with a piece whose BLAKE3 is ``digest``; says whether a file holds it."""
    return any(_is_there(layer, place.fd, data, place.offset, digest) for place in held.places(piece))


def _is_there(layer: FileLayer, fd: int, data: memoryview, offset: int, digest: bytes) -> bool:
    with suppress(OSError):
        return read_at(layer, fd, data, offset) == len(data) and piece_matches(data, digest)
    return False


def clonable_bytes(manifest: Manifest, old: PieceFiles) -> int:
    """Return how many bytes of the new version may share the blocks of the old one: 0 where nothing can.

    A guess by the sizes of the files that have the same path.
    """
    layer, output = old.folder.layer, old.folder
    total, possible = 0, False
    for file in range(len(manifest.files)):
        length = manifest.layout.file_length(file)
        if length < CLONES_NO_SMALLER:
            continue
        with suppress(OSError):
            about = old.folder.stat(old.parts(file))
            if about is None or about.st_size < CLONES_NO_SMALLER:
                continue
            if not possible and not (possible := _can_clone(layer, output, old.parts(file))):
                return 0
            total += min(about.st_size, length)
    return total


def _can_clone(layer: FileLayer, folder: Folder, parts: tuple[str, ...]) -> bool:
    """Whether the file system clones a file; tried with one that has no name.

    So nothing is left among the user's files by a process that is killed here.
    """
    source = folder.open_file(parts, os.O_RDONLY)
    try:
        with folder.parent(parts) as parent:
            try:
                fd = layer.open(parent, ".", os.O_RDWR | os.O_TMPFILE, 0o600)
            except (OSError, AttributeError):  # not every system has such files
                return False
            try:
                layer.clone(source, fd)
            except OSError:
                return False
            finally:
                layer.close(fd)
    finally:
        layer.close(source)
    return True
