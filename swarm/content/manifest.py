"""The manifest of a shared file or folder: its content, its rules and its deterministic encoding.

A manifest lists the files and the hashes of their pieces. Its id is the BLAKE3 of its encoded bytes. Format 1
is written wherever it suffices; format 2 has room for more files, for symbolic links and for empty folders.
Source: docs/manifest.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from blake3 import blake3

from swarm.content import cbor, format1, format2
from swarm.content.entries import (
    MAX_BYTES_1,
    MAX_ENTRIES,
    MAX_FILES,
    MAX_FILES_1,
    MAX_MANIFEST_BYTES,
    MAX_PIECE_LENGTH,
    MAX_PIECES,
    MAX_PIECES_1,
    MAX_TOTAL_LENGTH,
    MIN_PIECE_LENGTH,
    FileEntry,
    FormatExceeded,
    LinkEntry,
    Path,
)
from swarm.content.entry_tree import Columns, EntriesView, EntryTree
from swarm.content.format2 import MAX_TARGET_BYTES, Draft
from swarm.content.layout import Layout
from swarm.content.paths import MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_PATH_DEPTH, check_title
from swarm.errors import ManifestError
from swarm.ids import DIGEST_BYTES, ManifestId

__all__ = [
    "MAX_BYTES_1",
    "MAX_ENTRIES",
    "MAX_FILES",
    "MAX_FILES_1",
    "MAX_MANIFEST_BYTES",
    "MAX_NAME_BYTES",
    "MAX_PATH_BYTES",
    "MAX_PATH_DEPTH",
    "MAX_PIECES",
    "MAX_PIECES_1",
    "MAX_PIECE_LENGTH",
    "MAX_TARGET_BYTES",
    "MAX_TOTAL_LENGTH",
    "MIN_PIECE_LENGTH",
    "VERSION",
    "FileEntry",
    "LinkEntry",
    "Manifest",
    "choose_piece_length",
]

VERSION = format2.VERSION
"""The latest format."""
_FORMATS = {format1.VERSION: (format1.FIELDS,), format2.VERSION: (format2.FIELDS,)}
_MAX_FIELDS = 23
_COPIED = 1 << 20
"""Bytes that are copied at a time where other threads are to get their turn."""
# The shortest key comes first in a deterministic map, so the version is read before anything else.
_VERSION = cbor.text_key("v")


class Manifest:
    """A checked, immutable description of one shared file or folder.

    ``name`` is the file or folder that the receiver creates; ``folder`` tells which. A single file has one
    entry with the path ``(name,)``; the paths in a folder are relative to it. ``piece_length`` is in bytes.
    ``links`` are the symbolic links, ``empty_folders`` the paths of folders without an entry. ``version`` is
    1 when that format can express all this, else 2. Two manifests are equal when their encodings, and so
    their ids, are equal.

    ``files``, ``links`` and ``empty_folders`` are sequences. Those of format 2 make an item when it is asked
    for, and are in the order of that format, level by level, whatever order was given.

    Raises ManifestError when a rule or limit of docs/manifest.md is broken.
    """

    __slots__ = (
        "_encoded",
        "_id",
        "_layout",
        "_tree",
        "empty_folders",
        "files",
        "folder",
        "links",
        "name",
        "piece_length",
        "version",
    )

    name: str
    folder: bool
    piece_length: int
    files: Sequence[FileEntry]
    links: Sequence[LinkEntry]
    empty_folders: Sequence[Path]
    version: int
    _encoded: bytes
    _id: ManifestId | None
    _layout: Layout
    _tree: EntryTree | None

    def __init__(
        self,
        name: str,
        folder: bool,
        piece_length: int,
        files: Iterable[FileEntry],
        links: Iterable[LinkEntry] = (),
        empty_folders: Iterable[Path] = (),
    ) -> None:
        files, links, empty_folders = tuple(files), tuple(links), tuple(empty_folders)
        if not folder or not (links or empty_folders or len(files) > MAX_FILES_1):
            try:
                self._fill_1(name, folder, piece_length, files)
                encoded = format1.encode(name, folder, piece_length, files)
                _check_size(encoded, MAX_BYTES_1)
            except FormatExceeded:
                if not folder:
                    raise
            else:
                object.__setattr__(self, "_encoded", encoded)
                return
        self._fill_2(format2.draft(files, links, empty_folders).encode(name, piece_length))

    @classmethod
    def of_draft(cls, name: str, piece_length: int, draft: Draft) -> Manifest:
        """Return the manifest of format 2 of a folder; raises ManifestError as the constructor does."""
        manifest = cls.__new__(cls)
        cls._fill_2(manifest, draft.encode(name, piece_length))
        return manifest

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Decode the output of `encode`; raises ManifestError for any other bytes."""
        return _exhaust(cls.decode_steps(bytes(data), 0, len(data)))

    @classmethod
    def decode_part(cls, data: bytes, start: int, end: int) -> Manifest:
        """Decode the manifest in ``data[start:end]``; raises ManifestError as `decode` does."""
        return _exhaust(cls.decode_steps(data, start, end))

    @classmethod
    def decode_steps(cls, data: bytes, start: int, end: int) -> Generator[None, None, Manifest]:
        """Decode the manifest in ``data[start:end]`` in steps of some milliseconds; the generator returns it.

        Raises ManifestError as `decode` does.
        """
        _check_size(memoryview(data)[start:end], MAX_MANIFEST_BYTES)
        manifest = cls.__new__(cls)
        try:
            reader = cbor.Reader(data, start, end)
            if _read_format(reader, _FORMATS, "manifest")[0] == format1.VERSION:
                yield from cls._read_1(manifest, reader, data, start, end)
            else:
                encoded = _part(data, start, end)
                reader = cbor.Reader(encoded)
                _read_format(reader, _FORMATS, "manifest")
                yield from cls._read_2(manifest, reader, encoded)
        except cbor.CborError as error:
            raise ManifestError(f"this is not a swarm manifest: {error}") from error
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
        if self._tree is not None:
            return self._tree.piece_hash(piece)
        file, offset, _ = self._layout.span(piece)
        start = offset // self.piece_length * DIGEST_BYTES
        return self.files[file].pieces[start : start + DIGEST_BYTES]

    @property
    def columns(self) -> Columns | None:
        """The columns of format 2; None for format 1."""
        return None if self._tree is None else self._tree.columns

    @property
    def item_count(self) -> int:
        """The number of files, links and empty folders."""
        return len(self.files) + len(self.links) + len(self.empty_folders)

    def item_paths(self) -> Iterator[Path]:
        """Yield the paths of the files, then those of the links, then those of the empty folders."""
        yield from map(self.path, range(len(self.files)))
        yield from (link.path for link in self.links)
        yield from self.empty_folders

    def folder_paths(self) -> list[Path]:
        """Return the paths of all folders in an order that the id fixes: the shared one, (), comes first.

        Format 2 has them level by level, format 1 in the order of their paths. A single file has none.
        """
        if self._tree is not None:
            return list(map(self._tree.folder_path, range(self._tree.folder_count)))
        found: set[Path] = {()} if self.folder else set()
        for file in self.files if self.folder else ():
            above = file.path[:-1]
            while above not in found:
                found.add(above)
                above = above[:-1]
        return sorted(found)

    def path(self, file: int) -> Path:
        """Return the path of the file with that index, without making the rest of its entry."""
        return self.files[file].path if self._tree is None else self._tree.file_path(file)

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

    def _fill(self, **values: object) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _fill_1(self, name: str, folder: bool, piece_length: int, files: Iterable[FileEntry]) -> None:
        check_title(name)
        check_piece_length(piece_length)
        entries = tuple(format1.check_entries(files, piece_length))
        if not folder and (len(entries) != 1 or entries[0].path != (name,)):
            raise ManifestError("a manifest of a single file must have one entry, named like the manifest")
        self._fill(
            name=name,
            folder=folder,
            piece_length=piece_length,
            files=entries,
            links=(),
            empty_folders=(),
            version=format1.VERSION,
            _layout=Layout(piece_length, [entry.length for entry in entries]),
            _id=None,
            _tree=None,
        )

    def _read_1(self, reader: cbor.Reader, data: bytes, start: int, end: int) -> Iterator[None]:
        _check_size(memoryview(data)[start:end], MAX_BYTES_1)
        name, piece_length, folder = format1.read_head(reader)
        self._fill_1(name, folder, piece_length, format1.read_entries(reader, data, end))
        reader.end()
        yield
        # Views of the encoded bytes are copied only now that the manifest is known to be valid.
        files = tuple(
            entry if type(entry.pieces) is bytes else entry._replace(pieces=bytes(entry.pieces))
            for entry in self.files
        )
        self._fill(files=files, _encoded=data[start:end])

    def _fill_2(self, encoded: bytes) -> None:
        _check_size(encoded, MAX_MANIFEST_BYTES)
        reader = cbor.Reader(encoded)
        _read_format(reader, _FORMATS, "manifest")
        deque(self._read_2(reader, encoded), maxlen=0)

    def _read_2(self, reader: cbor.Reader, encoded: bytes) -> Iterator[None]:
        name, piece_length, columns = format2.read(reader, encoded)
        check_title(name)
        check_piece_length(piece_length)
        tree = yield from format2.checked(columns, piece_length)
        self._fill(
            name=name,
            folder=True,
            piece_length=piece_length,
            files=EntriesView(tree.file_count, tree.file),
            links=EntriesView(tree.link_count, tree.link),
            empty_folders=EntriesView(tree.empty_folder_count, tree.empty_folder),
            version=format2.VERSION,
            _layout=tree.layout,
            _id=None,
            _tree=tree,
            _encoded=encoded,
        )


def _check_size(encoded: bytes | memoryview, limit: int) -> None:
    if len(encoded) > limit:
        raise FormatExceeded(
            f"a manifest can have at most {limit} bytes, but this one has {len(encoded)}: "
            "use a larger piece length or share fewer files"
        )


def _part(data: bytes, start: int, end: int) -> bytes:
    """Return ``data[start:end]``: that of 50 MiB holds up all other threads for 35 ms, a join does not."""
    if start == 0 and end == len(data):
        return data
    return b"".join([data[at : min(at + _COPIED, end)] for at in range(start, end, _COPIED)])


def _exhaust(steps: Generator[None, None, Manifest]) -> Manifest:
    try:
        while True:
            next(steps)
    except StopIteration as end:
        made: Manifest = end.value
        return made


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


def check_piece_length(value: int) -> None:
    """Raise ManifestError unless ``value`` is a piece length that a manifest can have."""
    if not MIN_PIECE_LENGTH <= value <= MAX_PIECE_LENGTH or value & (value - 1):
        raise ManifestError(
            f"a piece length must be a power of two from {MIN_PIECE_LENGTH} to {MAX_PIECE_LENGTH}, "
            f"not {value}"
        )


def _read_format(reader: cbor.Reader, formats: Mapping[int, tuple[int, ...]], what: str) -> tuple[int, int]:
    """Read a map's head and its version; return the version and the number of pairs."""
    found = reader.map(_MAX_FIELDS)
    reader.key(_VERSION)
    version = reader.unsigned()
    if version > max(formats):
        raise ManifestError(
            f"this {what} was made by a newer swarm: upgrade swarm "
            f"(its format is {version}, this version reads {max(formats)})"
        )
    if version not in formats:
        raise ManifestError(f"this {what} has the unknown format {version}")
    if found not in formats[version]:
        raise cbor.CborError(f"a map of {found} fields")
    return version, found
