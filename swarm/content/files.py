"""The files of a manifest: one entry each, and the rules that they keep together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from blake3 import blake3

from swarm.content.paths import quoted
from swarm.content.tree import Tree
from swarm.errors import ManifestError
from swarm.ids import DIGEST_BYTES

BLOCK = 24
"""Entries that are checked together."""
MAX_FILES = 10_000
"""Files of one manifest: reading one costs 4 to 10 microseconds, and a hostile manifest may have its
only fault in the last. Whoever has more shares several folders, or an archive."""
MAX_PIECES = 1_000_000
"""Pieces of one manifest: their hashes alone are 32 MB of it."""
MIN_PIECE_LENGTH = 16 * 1024
MAX_PIECE_LENGTH = 16 * 1024 * 1024
MAX_TOTAL_LENGTH = MAX_PIECES * MAX_PIECE_LENGTH
"""Bytes of all files together, about 16.8 TB; follows from the pieces."""
_EMPTY_BLAKE3 = blake3(b"").digest()


class FileEntry(NamedTuple):
    """One file: relative path, length in bytes, executable bit, BLAKE3 of the whole and of each piece.

    ``pieces`` are the pieces' BLAKE3-256 digests one after the other. A manifest checks its
    entries; an entry alone promises nothing.
    """

    path: tuple[str, ...]
    length: int
    executable: bool
    blake3: bytes
    pieces: bytes


def checked(files: Iterable[FileEntry], piece_length: int) -> Iterator[FileEntry]:
    """Pass the entries on, each checked alone and against those before it.

    Raises ManifestError for the first `BLOCK` in which something breaks a rule or a limit, before more is
    read.
    """
    tree = Tree()
    count = pieces = 0
    source = iter(files)
    while block := tuple(islice(source, BLOCK)):
        count += len(block)
        if count > MAX_FILES:
            raise ManifestError(f"a manifest has at most {MAX_FILES} files")
        tree.add([entry.path for entry in block])
        for entry in block:
            _, length, _, digest, hashes = entry
            # The usual small file costs no call.
            if not (hashes is digest and 0 < length <= piece_length and len(digest) == DIGEST_BYTES):
                _check_hashes(entry, piece_length)
            pieces += len(hashes) // DIGEST_BYTES
        if pieces > MAX_PIECES:
            raise ManifestError(f"a manifest has at most {MAX_PIECES} pieces: use a larger piece length")
        yield from block
    tree.finish()


def _check_hashes(entry: FileEntry, piece_length: int) -> None:
    if not 0 <= entry.length <= MAX_TOTAL_LENGTH:
        raise ManifestError(f"the file {_shown(entry.path)} claims {entry.length} bytes")
    if len(entry.blake3) != DIGEST_BYTES:
        raise ManifestError(f"the file {_shown(entry.path)} has a hash of {len(entry.blake3)} bytes")
    count = -(-entry.length // piece_length)
    if len(entry.pieces) != count * DIGEST_BYTES:
        raise ManifestError(
            f"the file {_shown(entry.path)} of {entry.length} bytes needs {count} piece hashes, "
            f"not {len(entry.pieces)} bytes of them"
        )
    if count == 0 and entry.blake3 != _EMPTY_BLAKE3:
        raise ManifestError(f"the empty file {_shown(entry.path)} has the hash of something else")
    if count == 1 and entry.blake3 != entry.pieces:
        raise ManifestError(f"the file {_shown(entry.path)} and its only piece have different hashes")


def _shown(path: tuple[str, ...]) -> str:
    return quoted("/".join(path))
