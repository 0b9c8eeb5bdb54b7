"""Reading the files of an encoded manifest: at the speed of one pattern each, and nothing kept of it.

A hostile manifest is to cost little however many files it has before its first fault. So an entry is
recognised as a whole where it has the one form that sound entries have; only one that has not is
read field by field, to say what is wrong with it. Hashes of pieces are views of the encoded bytes
until everything is known to be sound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from swarm.content import cbor
from swarm.content.files import MAX_FILES, MAX_PIECES, FileEntry
from swarm.content.paths import MAX_NAME_BYTES, MAX_PATH_DEPTH
from swarm.ids import DIGEST_BYTES

_FIELDS = 5
_PATH, _BLAKE3, _LENGTH, _PIECES, _EXECUTABLE = map(
    cbor.text_key, ("path", "blake3", "length", "pieces", "executable")
)
_MAX_HASHES = MAX_PIECES * DIGEST_BYTES
_TEXT = 0x60
_BYTES = 0x40
_ARRAY = 0x80
_ONE_BYTE = 24
"""In an item's first byte: its size is in the byte that follows."""


def _head(major: int) -> bytes:
    """A pattern of the shortest head of an item, alone or with the 1, 2, 4 or 8 bytes of its argument."""
    first = [re.escape(bytes([major + extra])) for extra in (0, 23, 24, 25, 26, 27)]
    return b"([%s-%s]|%s[\\x18-\\xff]|%s(?!\\x00).{2}|%s(?!\\x00{2}).{4}|%s(?!\\x00{4}).{8})" % tuple(first)


_BEGIN = bytes([0xA0 | _FIELDS]) + _PATH
_REST = re.compile(
    re.escape(_BLAKE3 + b"\x58\x20")
    + b"(.{32})"
    + re.escape(_LENGTH)
    + _head(0)
    + re.escape(_PIECES)
    # One piece has the hash of its file, an empty file none; any other hashes are passed over by their size.
    + b"(?:(?:\x58\x20\\1|(\x40))"
    + re.escape(_EXECUTABLE)
    + b"([\xf4\xf5])|"
    + _head(_BYTES)
    + b")",
    re.DOTALL,
)
_EXECUTED = re.compile(re.escape(_EXECUTABLE) + b"([\xf4\xf5])", re.DOTALL)
_VIEW_FROM = 1024
"""Hashes of more bytes than this are not copied while a later fault may make it needless."""


def read_entries(reader: cbor.Reader, data: bytes, end: int) -> Iterator[FileEntry]:
    """The files in order, which the reader reads from ``data`` up to ``end``; ``pieces`` may be views of it.

    Raises CborError at the first that is not the encoding of one.
    """
    usual = _Usual(data, end)
    for _ in range(reader.array(MAX_FILES)):
        entry = usual.read(reader.at)
        if entry is None:
            yield _slowly(reader)
        else:
            reader.at = usual.at
            yield entry


class _Usual:
    """Reads entries of the form that sound ones have; ``at`` is where the latest ends."""

    def __init__(self, data: bytes, end: int) -> None:
        self._data, self._end = data, end
        self.at = 0
        # Of the latest entry, all that comes before the file's own name: most files have a neighbour.
        self._prefix = _BEGIN + b"\x81"
        self._folders: tuple[str, ...] = ()

    def read(self, start: int) -> FileEntry | None:
        """The entry at ``start``, or None if it has another form."""
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
        """Read the folders of a path; returns where the file's own name begins."""
        data, at = self._data, start + len(_BEGIN)
        depth = data[at] - _ARRAY
        at += 1
        if depth == _ONE_BYTE and data[at] >= _ONE_BYTE:
            depth = data[at]
            at += 1
        elif depth >= _ONE_BYTE:
            depth = 0
        if not (data.startswith(_BEGIN, start) and 0 < depth <= MAX_PATH_DEPTH):
            raise ValueError("not the begin of a path")
        names = []
        for _ in range(depth - 1):
            # As `_text` does, without its call: a hostile manifest may have new folders in each of its paths.
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
        """The text at ``at``, and where it ends."""
        data = self._data
        size = data[at] - _TEXT
        at += 1
        if not 0 <= size < _ONE_BYTE:
            size = self._long(size, at)
            at += 1
        end = at + size
        return data[at:end].decode(), end

    def _long(self, size: int, at: int) -> int:
        """The size of a text that is in the byte at ``at``, as ``size`` is to say."""
        if size == _ONE_BYTE and self._data[at] >= _ONE_BYTE:
            return self._data[at]
        raise ValueError("not a text of up to 255 bytes")


def _make(fields: tuple[tuple[str, ...], int, bool, bytes, Any]) -> FileEntry:
    return tuple.__new__(FileEntry, fields)


def _argument(head: bytes) -> int:
    return head[0] if len(head) == 1 else int.from_bytes(head[1:], "big")


def _slowly(reader: cbor.Reader) -> FileEntry:
    """An entry field by field; raises CborError naming the first that is wrong."""
    reader.fields(_FIELDS)
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
