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


def _head(major: int) -> bytes:
    """A pattern of the shortest head of an item, alone or with the 1, 2, 4 or 8 bytes of its argument."""
    first = [re.escape(bytes([major + extra])) for extra in (0, 23, 24, 25, 26, 27)]
    return b"([%s-%s]|%s[\\x18-\\xff]|%s(?!\\x00).{2}|%s(?!\\x00{2}).{4}|%s(?!\\x00{4}).{8})" % tuple(first)


_ONE_NAME = b"\x81(?:([\x60-\x77])|\x78([\x18-\xff]))"
_BEGIN = re.compile(
    re.escape(bytes([0xA0 | _FIELDS]) + _PATH) + b"(?:" + _ONE_NAME + b"|[\x81-\x97])", re.DOTALL
)
_REST = re.compile(
    re.escape(_BLAKE3 + b"\x58\x20")
    + b"(.{32})"
    + re.escape(_LENGTH)
    + _head(0)
    + re.escape(_PIECES)
    # One piece has the hash of its file; any other hashes are passed over by their size.
    + b"(?:\x58\x20\\1(?="
    + re.escape(_EXECUTABLE)
    + b"([\xf4\xf5]))|"
    + _head(_BYTES)
    + b")",
    re.DOTALL,
)
_END = re.compile(re.escape(_EXECUTABLE) + b"([\xf4\xf5])", re.DOTALL)
_VIEW_FROM = 1024
"""Hashes of more bytes than this are not copied while a later fault may make it needless."""
_END_BYTES = len(_EXECUTABLE) + 1


def read_entries(reader: cbor.Reader, data: memoryview) -> Iterator[FileEntry]:
    """The files in order, of which ``pieces`` may be a view of ``data``, which the reader reads.

    Raises CborError at the first that is not the encoding of one.
    """
    for _ in range(reader.array(MAX_FILES)):
        yield _quickly(reader, data) or _slowly(reader)


def _quickly(reader: cbor.Reader, data: memoryview) -> FileEntry | None:
    """An entry of the usual form, or None with nothing read."""
    begin = reader.match(_BEGIN)
    if begin is None:
        return None
    at = begin.end()
    short, long = begin.groups()
    if short or long:
        path: tuple[str, ...] = (reader.short(short[0] - _TEXT if short else long[0]),)
    else:
        path = tuple([reader.text(MAX_NAME_BYTES) for _ in range(data[at - 1] - _ARRAY)])
    rest = reader.match(_REST)
    if rest is None:
        reader.rewind(begin.start())
        return None
    digest, length, executable, head = rest.groups()
    if executable:
        reader.skip(_END_BYTES)
        return _entry(path, _argument(length), executable == b"\xf5", digest, digest)
    size = _argument(head) if len(head) > 1 else head[0] - _BYTES
    start = rest.end()
    if size <= _MAX_HASHES and start + size <= len(data):
        reader.skip(size)
        end = reader.match(_END)
        if end is not None:
            hashes = data[start : start + size]
            pieces = hashes if size > _VIEW_FROM else bytes(hashes)
            return _entry(path, _argument(length), end[1] == b"\xf5", digest, pieces)
    reader.rewind(begin.start())
    return None


def _entry(path: tuple[str, ...], length: int, executable: bool, digest: bytes, pieces: Any) -> FileEntry:
    return tuple.__new__(FileEntry, (path, length, executable, digest, pieces))


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
