"""The files of a manifest: one entry each, and the rules that they keep together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from blake3 import blake3

from swarm.content.paths import MAX_PATH_BYTES, MAX_PATH_DEPTH, check_name, clash_key, is_plain, quoted
from swarm.errors import ManifestError
from swarm.ids import DIGEST_BYTES

MAX_FILES = 16_000
"""Files of one manifest: reading one costs 5 to 10 microseconds, and a hostile manifest may have its
only fault in the last. Whoever has more shares several folders, or an archive."""
MAX_PATH_NAMES = 50_000
"""Names in all paths of a manifest together: two bytes of a manifest make a name of sixty in memory."""
MAX_PATHS_BYTES = 2 * 1024 * 1024
"""UTF-8 bytes of all paths of a manifest together, each with its separators."""
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

    Raises ManifestError at the first that breaks a rule or a limit, before later ones are read.
    """
    tree = _Tree()
    pieces = 0
    for index, entry in enumerate(files):
        if index >= MAX_FILES:
            raise ManifestError(f"a manifest has at most {MAX_FILES} files")
        path, length, _, digest, hashes = entry
        shared = tree.add(path)
        # The usual small file costs no call.
        if not (hashes is digest and 0 < length <= piece_length and len(digest) == DIGEST_BYTES):
            _check_hashes(entry, piece_length)
        pieces += len(hashes) // DIGEST_BYTES
        if pieces > MAX_PIECES:
            raise ManifestError(f"a manifest has at most {MAX_PIECES} pieces: use a larger piece length")
        yield entry if shared is path else entry._replace(path=shared)


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


class _Tree:
    """The folders of the latest path, with the names so far in each.

    In the canonical order all paths of one folder follow each other, so a folder that is left never
    comes back and its names need not be kept.
    """

    def __init__(self) -> None:
        self._previous: tuple[str, ...] = ()
        # For the root and each folder of the previous path: clash key -> spelling.
        self._open: list[dict[str, str]] = [{}]
        self._names = self._bytes = 0

    def add(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Return the path, sharing the folders' names with the one before.

        Raises ManifestError if it breaks the rules of names, is too long, is not above the previous
        path, clashes with an earlier one, or if all paths together are too much.
        """
        depth = len(path)
        if not 1 <= depth <= MAX_PATH_DEPTH:
            raise ManifestError(f"a path has 1 to {MAX_PATH_DEPTH} names, not {depth}")
        shared = self._shared_folders(path) if depth > 1 else 0
        for name in path[shared:]:
            if not is_plain(name):
                check_name(name)
        self._spend(path)
        # Comparing code points orders as comparing UTF-8 does.
        if path <= self._previous:
            raise ManifestError(f"the file {_shown(path)} is duplicate or out of order")
        self._file(path, shared)
        self._previous = self._previous[:shared] + path[shared:] if shared else path
        return self._previous

    def _spend(self, path: tuple[str, ...]) -> None:
        text = path[0] if len(path) == 1 else "/".join(path)
        size = len(text) if text.isascii() else len(text.encode("utf-8"))
        if size > MAX_PATH_BYTES:
            raise ManifestError(f"the path {_shown(path)} is longer than {MAX_PATH_BYTES} bytes")
        self._names += len(path)
        self._bytes += size
        if self._names > MAX_PATH_NAMES:
            raise ManifestError(f"the paths of a manifest have at most {MAX_PATH_NAMES} names together")
        if self._bytes > MAX_PATHS_BYTES:
            raise ManifestError(f"the paths of a manifest have at most {MAX_PATHS_BYTES} bytes together")

    def _shared_folders(self, path: tuple[str, ...]) -> int:
        folders, before = path[:-1], self._previous[:-1]
        if folders == before:
            return len(folders)
        shared = 0
        for name, earlier in zip(folders, before, strict=False):
            if name != earlier:
                break
            shared += 1
        return shared

    def _file(self, path: tuple[str, ...], shared: int) -> None:
        if len(self._open) > shared + 1:
            del self._open[shared + 1 :]
        for name in path[shared:]:
            siblings, key = self._open[-1], clash_key(name)
            if key in siblings:
                raise ManifestError(
                    f"the file {_shown(path)} clashes with the earlier name {quoted(siblings[key])}"
                )
            siblings[key] = name
            self._open.append({})
        self._open.pop()


def _shown(path: tuple[str, ...]) -> str:
    return quoted("/".join(path))
