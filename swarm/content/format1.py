"""Format 1 of the manifest: an entry for each file, checked as it is decoded. Source: docs/manifest.md.

Decoding is built for hostile input. A regular expression matches a valid entry as a whole; an entry that
does not match is decoded field by field, to report what is wrong. Piece hashes stay views of the encoded
bytes until everything is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from swarm.content import cbor
from swarm.content.entries import (
    EMPTY_BLAKE3,
    MAX_FILES_1,
    MAX_PIECES_1,
    MAX_TOTAL_LENGTH,
    FileEntry,
    FormatExceeded,
)
from swarm.content.paths import MAX_NAME_BYTES, MAX_PATH_DEPTH, PathTree, quoted
from swarm.errors import ManifestError
from swarm.ids import DIGEST_BYTES
from swarm.lazy_pattern import lazy_pattern

VERSION = 1
FIELDS = 5
BLOCK = 24
"""Entries checked together."""
_NAME, _PIECE, _FOLDER, _ENTRIES = map(cbor.text_key, ("name", "piece", "folder", "entries"))


def read_head(reader: cbor.Reader) -> tuple[str, int, bool]:
    """Read the fields between the version and the files: name, piece length, whether it is a folder."""
    reader.key(_NAME)
    name = reader.text(MAX_NAME_BYTES)
    reader.key(_PIECE)
    piece_length = reader.unsigned()
    reader.key(_FOLDER)
    folder = reader.boolean()
    reader.key(_ENTRIES)
    return name, piece_length, folder


def check_entries(files: Iterable[FileEntry], piece_length: int) -> Iterator[FileEntry]:
    """Yield the entries after checking each by itself and against the earlier ones.

    Raises ManifestError at the first `BLOCK` that breaks a rule or limit, before reading further.
    """
    tree = PathTree()
    count = pieces = 0
    source = iter(files)
    while block := tuple(islice(source, BLOCK)):
        count += len(block)
        if count > MAX_FILES_1:
            raise FormatExceeded(f"a manifest of format 1 can have at most {MAX_FILES_1} files")
        tree.add([entry.path for entry in block])
        for entry in block:
            _, length, _, digest, hashes = entry
            # Inlined for a file of one piece, which is the common case.
            if not (hashes is digest and 0 < length <= piece_length and len(digest) == DIGEST_BYTES):
                _check_hashes(entry, piece_length)
            pieces += len(hashes) // DIGEST_BYTES
        if pieces > MAX_PIECES_1:
            raise FormatExceeded(
                f"a manifest of format 1 can have at most {MAX_PIECES_1} pieces: use a larger piece length"
            )
        yield from block
    tree.finish()


def _check_hashes(entry: FileEntry, piece_length: int) -> None:
    if not 0 <= entry.length <= MAX_TOTAL_LENGTH:
        raise ManifestError(f"the file {_quoted_path(entry.path)} claims {entry.length} bytes")
    if len(entry.blake3) != DIGEST_BYTES:
        raise ManifestError(f"the file {_quoted_path(entry.path)} has a hash of {len(entry.blake3)} bytes")
    count = -(-entry.length // piece_length)
    if len(entry.pieces) != count * DIGEST_BYTES:
        raise ManifestError(
            f"the file {_quoted_path(entry.path)} of {entry.length} bytes needs {count} piece hashes, "
            f"not {len(entry.pieces)} bytes of them"
        )
    if count == 0 and entry.blake3 != EMPTY_BLAKE3:
        raise ManifestError(f"the empty file {_quoted_path(entry.path)} does not have the hash of no bytes")
    if count == 1 and entry.blake3 != entry.pieces:
        raise ManifestError(f"the file {_quoted_path(entry.path)} and its only piece have different hashes")


def _quoted_path(path: tuple[str, ...]) -> str:
    return quoted("/".join(path))


_ENTRY_FIELDS = 5
_PATH, _BLAKE3, _LENGTH, _PIECES, _EXECUTABLE = map(
    cbor.text_key, ("path", "blake3", "length", "pieces", "executable")
)
_MAX_HASHES = MAX_PIECES_1 * DIGEST_BYTES
_TEXT = 0x60
_BYTES = 0x40
_ARRAY = 0x80
_ONE_BYTE = 24
"""Additional information in an item's first byte: the size is in the next byte."""


def _head(major: int) -> bytes:
    """Return a pattern for an item's head in its shortest form, with 0, 1, 2, 4 or 8 bytes of argument."""
    first = [re.escape(bytes([major + extra])) for extra in (0, 23, 24, 25, 26, 27)]
    return b"([%s-%s]|%s[\\x18-\\xff]|%s(?!\\x00).{2}|%s(?!\\x00{2}).{4}|%s(?!\\x00{4}).{8})" % tuple(first)


_BEGIN = bytes([0xA0 | _ENTRY_FIELDS]) + _PATH
_REST = lazy_pattern(
    re.escape(_BLAKE3 + b"\x58\x20")
    + b"(.{32})"
    + re.escape(_LENGTH)
    + _head(0)
    + re.escape(_PIECES)
    # A file of one piece repeats its hash, an empty file has none; other hashes are skipped by their size.
    + b"(?:(?:\x58\x20\\1|(\x40))"
    + re.escape(_EXECUTABLE)
    + b"([\xf4\xf5])|"
    + _head(_BYTES)
    + b")",
    re.DOTALL,
)
_EXECUTED = lazy_pattern(re.escape(_EXECUTABLE) + b"([\xf4\xf5])", re.DOTALL)
_VIEW_FROM = 1024
"""Piece hashes of more bytes than this are copied only after the whole manifest was checked."""


def read_entries(reader: cbor.Reader, data: bytes, end: int) -> Iterator[FileEntry]:
    """Yield the files decoded from ``data`` up to ``end``; their ``pieces`` may be views of ``data``.

    Raises CborError at the first malformed entry.
    """
    decoder = _EntryDecoder(data, end)
    for _ in range(reader.array(MAX_FILES_1)):
        entry = decoder.read(reader.at)
        if entry is None:
            yield _decode_fields(reader)
        else:
            reader.at = decoder.at
            yield entry


class _EntryDecoder:
    """Decodes entries of the usual form; ``at`` is the end of the latest one."""

    def __init__(self, data: bytes, end: int) -> None:
        self._data, self._end = data, end
        self.at = 0
        # The latest entry's bytes up to the file name: the next file is usually in the same folder.
        self._prefix = _BEGIN + b"\x81"
        self._folders: tuple[str, ...] = ()

    def read(self, start: int) -> FileEntry | None:
        """Decode the entry at ``start``; None if it has another form."""
        try:
            if self._data.startswith(self._prefix, start):
                name, at = self._text(start + len(self._prefix))
            else:
                name, at = self._text(self._new_folders(start))
        except (IndexError, ValueError):
            return None
        path = (*self._folders, name)
        rest = _REST.match(self._data, at, self._end)
        if rest is None:
            return None
        digest, length, none, executable, head = rest.groups()
        if head:
            return self._with_hashes(path, digest, length, head, rest.end())
        self.at = rest.end()
        return _make((path, _argument(length), executable == b"\xf5", digest, b"" if none else digest))

    def _with_hashes(
        self, path: tuple[str, ...], digest: bytes, length: bytes, head: bytes, start: int
    ) -> FileEntry | None:
        size = _argument(head) if len(head) > 1 else head[0] - _BYTES
        end = _EXECUTED.match(self._data, start + size, self._end) if size <= _MAX_HASHES else None
        if end is None:
            return None
        hashes: Any = memoryview(self._data)[start : start + size]
        self.at = end.end()
        pieces = hashes if size > _VIEW_FROM else bytes(hashes)
        return _make((path, _argument(length), end[1] == b"\xf5", digest, pieces))

    def _new_folders(self, start: int) -> int:
        """Decode the folders of a path; return where the file name starts."""
        data, at = self._data, start + len(_BEGIN)
        depth = data[at] - _ARRAY
        at += 1
        if depth == _ONE_BYTE and data[at] >= _ONE_BYTE:
            depth = data[at]
            at += 1
        elif depth >= _ONE_BYTE:
            depth = 0
        if not (data.startswith(_BEGIN, start) and 0 < depth <= MAX_PATH_DEPTH):
            raise ValueError("not the start of a path")
        names = []
        for _ in range(depth - 1):
            # `_text` inlined, for speed: in a hostile manifest every path may have new folders.
            size = data[at] - _TEXT
            at += 1
            if not 0 <= size < _ONE_BYTE:
                size = self._long(size, at)
                at += 1
            names.append(data[at : at + size])
            at += size
        self._folders, self._prefix = tuple(map(bytes.decode, names)), data[start:at]
        return at

    def _text(self, at: int) -> tuple[str, int]:
        """Return the text at ``at``, and where it ends."""
        data = self._data
        size = data[at] - _TEXT
        at += 1
        if not 0 <= size < _ONE_BYTE:
            size = self._long(size, at)
            at += 1
        end = at + size
        return data[at:end].decode(), end

    def _long(self, size: int, at: int) -> int:
        """Return the size of a text when it is in the byte at ``at``, as ``size`` must indicate."""
        if size == _ONE_BYTE and self._data[at] >= _ONE_BYTE:
            return self._data[at]
        raise ValueError("not a text of at most 255 bytes")


def _make(fields: tuple[tuple[str, ...], int, bool, bytes, Any]) -> FileEntry:
    return tuple.__new__(FileEntry, fields)


def _argument(head: bytes) -> int:
    return head[0] if len(head) == 1 else int.from_bytes(head[1:], "big")


def _decode_fields(reader: cbor.Reader) -> FileEntry:
    """Decode an entry field by field; raises CborError naming the first wrong field."""
    reader.fields(_ENTRY_FIELDS)
    reader.key(_PATH)
    path = tuple([reader.text(MAX_NAME_BYTES) for _ in range(reader.array(MAX_PATH_DEPTH))])
    reader.key(_BLAKE3)
    digest = reader.data(DIGEST_BYTES)
    reader.key(_LENGTH)
    length = reader.unsigned()
    reader.key(_PIECES)
    pieces = reader.data(_MAX_HASHES)
    reader.key(_EXECUTABLE)
    return FileEntry(path, length, reader.boolean(), digest, pieces)


def encode(name: str, folder: bool, piece_length: int, files: Iterable[FileEntry]) -> bytes:
    """Return the encoded manifest of checked files."""
    entries: list[cbor.Value] = [
        {
            "path": list(entry.path),
            "blake3": entry.blake3,
            "length": entry.length,
            "pieces": entry.pieces,
            "executable": entry.executable,
        }
        for entry in files
    ]
    return cbor.encode(
        {
            "v": VERSION,
            "name": name,
            "piece": piece_length,
            "folder": folder,
            "entries": entries,
        }
    )
