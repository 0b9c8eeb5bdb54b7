"""The files of a manifest: one entry each, and the rules that they keep together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from blake3 import blake3

from swarm.content.paths import MAX_PATH_BYTES, MAX_PATH_DEPTH, check_name, clash_key, printable
from swarm.errors import ManifestError
from swarm.ids import DIGEST_BYTES

MAX_FILES = 100_000
"""Files of one manifest."""
MAX_PIECES = 1_000_000
"""Pieces of one manifest: their hashes alone are 32 MB of it."""
MIN_PIECE_LENGTH = 16 * 1024
MAX_PIECE_LENGTH = 16 * 1024 * 1024
MAX_TOTAL_LENGTH = MAX_PIECES * MAX_PIECE_LENGTH
"""Bytes of all files together, about 16.8 TB."""
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
    names: set[str] = set()
    previous: tuple[str, ...] = ()
    total = pieces = 0
    for index, entry in enumerate(files):
        if index >= MAX_FILES:
            raise ManifestError(f"a manifest has at most {MAX_FILES} files")
        _check_path(entry.path, names)
        # Comparing code points orders as comparing UTF-8 does.
        if entry.path <= previous:
            raise ManifestError(f"the file {_shown(entry.path)} is duplicate or out of order")
        previous = entry.path
        tree.add(entry.path)
        _check_hashes(entry, piece_length)
        total += entry.length
        pieces += len(entry.pieces) // DIGEST_BYTES
        if total > MAX_TOTAL_LENGTH or pieces > MAX_PIECES:
            raise ManifestError(
                f"a manifest has at most {MAX_PIECES} pieces and {MAX_TOTAL_LENGTH} bytes of content"
            )
        yield entry


def _check_path(path: tuple[str, ...], names: set[str]) -> None:
    """``names`` remembers what passed before: folders repeat in many paths."""
    if not 1 <= len(path) <= MAX_PATH_DEPTH:
        raise ManifestError(f"a path has 1 to {MAX_PATH_DEPTH} names, not {len(path)}")
    for name in path:
        if name not in names:
            names.add(check_name(name))
    if len("/".join(path).encode("utf-8")) > MAX_PATH_BYTES:
        raise ManifestError(f"the path {_shown(path)} is longer than {MAX_PATH_BYTES} bytes")


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
    """The folders so far, each name filed under what a file system may take it for."""

    def __init__(self) -> None:
        # (folder, clash key) -> (spelling, its own folder number; 0 for a file). 0 is the root.
        self._names: dict[tuple[int, str], tuple[str, int]] = {}
        self._folders = 0
        self._last: tuple[tuple[str, ...], int] = ((), 0)

    def add(self, path: tuple[str, ...]) -> None:
        """Raises ManifestError if the path clashes with an earlier one."""
        parent = path[:-1]
        if parent != self._last[0]:
            self._last = (parent, self._folder(path))
        key = (self._last[1], clash_key(path[-1]))
        if key in self._names:
            self._refuse(path, self._names[key][0])
        self._names[key] = (path[-1], 0)

    def _folder(self, path: tuple[str, ...]) -> int:
        number = 0
        for name in path[:-1]:
            key = (number, clash_key(name))
            known = self._names.get(key)
            if known is None:
                self._folders += 1
                known = self._names[key] = (name, self._folders)
            elif known[0] != name or not known[1]:
                self._refuse(path, known[0])
            number = known[1]
        return number

    @staticmethod
    def _refuse(path: tuple[str, ...], earlier: str) -> None:
        raise ManifestError(f"the file {_shown(path)} clashes with the earlier name '{printable(earlier)}'")


def _shown(path: tuple[str, ...]) -> str:
    return f"'{printable('/'.join(path))}'"
