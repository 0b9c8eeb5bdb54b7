"""The manifest of a shared file or folder: its content, its rules and its deterministic encoding.

A manifest lists the files and the hashes of their pieces. Its id is the BLAKE3 of its encoded bytes. Source:
docs/manifest.md.

Decoding is built for hostile input. A regular expression matches a valid entry as a whole; an entry that
does not match is decoded field by field, to report what is wrong. Piece hashes stay views of the encoded
bytes until everything is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from blake3 import blake3

from swarm.content import cbor
from swarm.content.layout import Layout
from swarm.content.paths import MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_PATH_DEPTH, PathTree, check_title, quoted
from swarm.errors import ManifestError
from swarm.ids import DIGEST_BYTES, ManifestId

BLOCK = 24
"""Entries checked together."""
MAX_FILES = 10_000
"""Files in one manifest. Decoding one costs 4 to 10 microseconds, and in a hostile manifest only the last may
be invalid. To share more files, share several folders or an archive."""
MAX_PIECES = 1_000_000
"""Pieces in one manifest; their hashes alone take 32 MB."""
MIN_PIECE_LENGTH = 16 * 1024
MAX_PIECE_LENGTH = 16 * 1024 * 1024
MAX_TOTAL_LENGTH = MAX_PIECES * MAX_PIECE_LENGTH
"""Bytes of all files, about 16.8 TB; follows from the limits on pieces."""
_EMPTY_BLAKE3 = blake3(b"").digest()


class FileEntry(NamedTuple):
    """One file: relative path, length in bytes, executable bit, BLAKE3-256 of the whole file.

    ``pieces`` is the concatenation of the BLAKE3-256 digests of its pieces. A `Manifest` checks its
    entries; an entry by itself is unchecked.
    """

    path: tuple[str, ...]
    length: int
    executable: bool
    blake3: bytes
    pieces: bytes


def check_entries(files: Iterable[FileEntry], piece_length: int) -> Iterator[FileEntry]:
    """Yield the entries after checking each by itself and against the earlier ones.

    Raises ManifestError at the first `BLOCK` that breaks a rule or limit, before reading further.
    """
    tree = PathTree()
    count = pieces = 0
    source = iter(files)
    while block := tuple(islice(source, BLOCK)):
        count += len(block)
        if count > MAX_FILES:
            raise ManifestError(f"a manifest can have at most {MAX_FILES} files")
        tree.add([entry.path for entry in block])
        for entry in block:
            _, length, _, digest, hashes = entry
            # Inlined for a file of one piece, which is the common case.
            if not (hashes is digest and 0 < length <= piece_length and len(digest) == DIGEST_BYTES):
                _check_hashes(entry, piece_length)
            pieces += len(hashes) // DIGEST_BYTES
        if pieces > MAX_PIECES:
            raise ManifestError(f"a manifest can have at most {MAX_PIECES} pieces: use a larger piece length")
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
    if count == 0 and entry.blake3 != _EMPTY_BLAKE3:
        raise ManifestError(f"the empty file {_quoted_path(entry.path)} does not have the hash of no bytes")
    if count == 1 and entry.blake3 != entry.pieces:
        raise ManifestError(f"the file {_quoted_path(entry.path)} and its only piece have different hashes")


def _quoted_path(path: tuple[str, ...]) -> str:
    return quoted("/".join(path))


_ENTRY_FIELDS = 5
_PATH, _BLAKE3, _LENGTH, _PIECES, _EXECUTABLE = map(
    cbor.text_key, ("path", "blake3", "length", "pieces", "executable")
)
_MAX_HASHES = MAX_PIECES * DIGEST_BYTES
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
_REST = re.compile(
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
_EXECUTED = re.compile(re.escape(_EXECUTABLE) + b"([\xf4\xf5])", re.DOTALL)
_VIEW_FROM = 1024
"""Piece hashes of more bytes than this are copied only after the whole manifest was checked."""


def read_entries(reader: cbor.Reader, data: bytes, end: int) -> Iterator[FileEntry]:
    """Yield the files decoded from ``data`` up to ``end``; their ``pieces`` may be views of ``data``.

    Raises CborError at the first malformed entry.
    """
    decoder = _EntryDecoder(data, end)
    for _ in range(reader.array(MAX_FILES)):
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


__all__ = [
    "MAX_BYTES_1",
    "MAX_FILES",
    "MAX_MANIFEST_BYTES",
    "MAX_NAME_BYTES",
    "MAX_PATH_BYTES",
    "MAX_PATH_DEPTH",
    "MAX_PIECES",
    "MAX_PIECE_LENGTH",
    "MAX_TOTAL_LENGTH",
    "MIN_PIECE_LENGTH",
    "VERSION",
    "FileEntry",
    "Manifest",
    "choose_piece_length",
]

VERSION = 1
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
"""Encoded bytes of a manifest of any format: a million files with names of 200 bytes."""
MAX_BYTES_1 = 32 * 1024 * 1024
"""Encoded bytes of a manifest of format 1."""

_FIELDS = 5
_MAX_FIELDS = 23
# The shortest key comes first in a deterministic map, so the version is read before anything else.
_VERSION = cbor.text_key("v")
_NAME, _PIECE, _FOLDER, _ENTRIES = map(cbor.text_key, ("name", "piece", "folder", "entries"))


class Manifest:
    """A checked, immutable description of one shared file or folder.

    ``name`` is the file or folder that the receiver creates; ``folder`` tells which. A single file has one
    entry with the path ``(name,)``; the paths in a folder are relative to it. ``piece_length`` is in bytes.
    Two manifests are equal when their encodings, and so their ids, are equal.

    Raises ManifestError when a rule or limit of docs/manifest.md is broken.
    """

    __slots__ = ("_encoded", "_id", "_layout", "files", "folder", "name", "piece_length")

    name: str
    folder: bool
    piece_length: int
    files: tuple[FileEntry, ...]
    _encoded: bytes
    _id: ManifestId | None
    _layout: Layout

    def __init__(self, name: str, folder: bool, piece_length: int, files: Iterable[FileEntry]) -> None:
        self._fill(name, folder, piece_length, files)
        encoded = _encode(self)
        if len(encoded) > MAX_BYTES_1:
            raise ManifestError(
                f"a manifest can have at most {MAX_BYTES_1} bytes, but this one would have "
                f"{len(encoded)}: use a larger piece length or share fewer files"
            )
        object.__setattr__(self, "_encoded", encoded)

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Decode the output of `encode`; raises ManifestError for any other bytes."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestError(f"a manifest can have at most {MAX_MANIFEST_BYTES} bytes, not {len(data)}")
        return cls.decode_part(bytes(data), 0, len(data))

    @classmethod
    def decode_part(cls, data: bytes, start: int, end: int) -> Manifest:
        """Decode the manifest in ``data[start:end]``; nothing is copied unless it is valid.

        Raises ManifestError as `decode` does.
        """
        manifest = cls.__new__(cls)
        try:
            cls._read(manifest, cbor.Reader(data, start, end), data, start, end)
        except cbor.CborError as error:
            raise ManifestError(f"this is not a swarm manifest: {error}") from error
        object.__setattr__(manifest, "_encoded", data[start:end])
        return manifest

    def encode(self) -> bytes:
        """Return the deterministic encoding; the id is its BLAKE3-256."""
        return self._encoded

    @property
    def id(self) -> ManifestId:
        """The id of this content, the same for every peer that shares it."""
        if self._id is None:
            object.__setattr__(self, "_id", ManifestId(blake3(self._encoded).digest()))
        return self._id  # type: ignore[return-value]

    @property
    def layout(self) -> Layout:
        """Where each piece is located."""
        return self._layout

    @property
    def total_length(self) -> int:
        """Bytes of all files."""
        return self._layout.total_length

    @property
    def piece_count(self) -> int:
        """The number of pieces of all files."""
        return self._layout.piece_count

    def piece_hash(self, piece: int) -> bytes:
        """Return the BLAKE3-256 of ``piece``; raises IndexError if there is no such piece."""
        span = self._layout.span(piece)
        start = span.offset // self.piece_length * DIGEST_BYTES
        return self.files[span.file].pieces[start : start + DIGEST_BYTES]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return self._encoded == other._encoded

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Manifest {self.name!r} {self.total_length} bytes {self.id}>"

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return Manifest.decode, (self._encoded,)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a manifest is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a manifest is immutable")

    def _read(self, reader: cbor.Reader, data: bytes, start: int, end: int) -> None:
        read_version(reader, VERSION, (_FIELDS,), "manifest")
        if end - start > MAX_BYTES_1:
            raise ManifestError(f"a manifest of format 1 can have at most {MAX_BYTES_1} bytes")
        reader.key(_NAME)
        name = reader.text(MAX_NAME_BYTES)
        reader.key(_PIECE)
        piece_length = reader.unsigned()
        reader.key(_FOLDER)
        folder = reader.boolean()
        reader.key(_ENTRIES)
        self._fill(name, folder, piece_length, read_entries(reader, data, end))
        reader.end()
        # Views of the encoded bytes are copied only now that the manifest is known to be valid.
        files = tuple(
            entry if type(entry.pieces) is bytes else entry._replace(pieces=bytes(entry.pieces))
            for entry in self.files
        )
        object.__setattr__(self, "files", files)

    def _fill(self, name: str, folder: bool, piece_length: int, files: Iterable[FileEntry]) -> None:
        check_title(name)
        if not _is_piece_length(piece_length):
            raise ManifestError(
                f"a piece length must be a power of two from {MIN_PIECE_LENGTH} to {MAX_PIECE_LENGTH}, "
                f"not {piece_length}"
            )
        entries = tuple(check_entries(files, piece_length))
        if not folder and (len(entries) != 1 or entries[0].path != (name,)):
            raise ManifestError("a manifest of a single file must have one entry, named like the manifest")
        values = {
            "name": name,
            "folder": folder,
            "piece_length": piece_length,
            "files": entries,
            "_layout": Layout(piece_length, [entry.length for entry in entries]),
            "_id": None,
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)


def choose_piece_length(size: int) -> int:
    """Return the piece length in bytes for ``size`` bytes of content: a power of two, 16 KiB to 16 MiB.

    About ``10 * sqrt(size)``, rounded up: 256 KiB up to 687 MB, 1 MiB up to 11 GB. Source:
    libtorrent's create_torrent, whose list of 20-byte hashes aims at ``2 * sqrt(size)`` bytes.
    """
    wanted = math.isqrt(100 * max(size, 0))
    length = MIN_PIECE_LENGTH
    while length < wanted and length < MAX_PIECE_LENGTH:
        length *= 2
    return length


def _is_piece_length(value: int) -> bool:
    return MIN_PIECE_LENGTH <= value <= MAX_PIECE_LENGTH and value & (value - 1) == 0


def _encode(manifest: Manifest) -> bytes:
    entries: list[cbor.Value] = [
        {
            "path": list(entry.path),
            "blake3": entry.blake3,
            "length": entry.length,
            "pieces": entry.pieces,
            "executable": entry.executable,
        }
        for entry in manifest.files
    ]
    return cbor.encode(
        {
            "v": VERSION,
            "name": manifest.name,
            "piece": manifest.piece_length,
            "folder": manifest.folder,
            "entries": entries,
        }
    )


def read_version(reader: cbor.Reader, supported: int, fields: tuple[int, ...], what: str) -> int:
    """Read a map's head and its first field, the version; return the number of pairs, the version included.

    Raises ManifestError unless the version is ``supported``, and CborError unless the number of pairs is
    in ``fields``.
    """
    found = reader.map(_MAX_FIELDS)
    reader.key(_VERSION)
    version = reader.unsigned()
    if version > supported:
        raise ManifestError(
            f"this {what} was made by a newer swarm: upgrade swarm "
            f"(its format is {version}, this version reads {supported})"
        )
    if version != supported:
        raise ManifestError(f"this {what} has the unknown format {version}")
    if found not in fields:
        raise cbor.CborError(f"a map of {found} fields")
    return found
