"""The manifest: what a shared file or folder consists of, and the bytes that its id is the hash of.

Specified in docs/manifest.md. One constructor serves the sharer, the file and the wire.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NoReturn

from blake3 import blake3

from swarm.content import cbor
from swarm.content.entries import read_entries
from swarm.content.files import (
    MAX_FILES,
    MAX_PIECE_LENGTH,
    MAX_PIECES,
    MAX_TOTAL_LENGTH,
    MIN_PIECE_LENGTH,
    FileEntry,
    checked,
)
from swarm.content.layout import Layout
from swarm.content.paths import MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_PATH_DEPTH, check_title
from swarm.errors import ManifestError
from swarm.ids import DIGEST_BYTES, ManifestId

__all__ = [
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
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
"""Encoded bytes of a manifest."""

_FIELDS = 5
_MAX_FIELDS = 23
# The shortest key comes first in any deterministic map: the version is read before all else.
_VERSION = cbor.text_key("v")
_NAME, _PIECE, _FOLDER, _ENTRIES = map(cbor.text_key, ("name", "piece", "folder", "entries"))


class Manifest:
    """A checked, immutable description of one shared file or folder.

    ``name`` is what the receiver creates; ``folder`` says whether it is a folder. A single file has
    one entry whose path is ``(name,)``; entries of a folder are relative to it. ``piece_length`` is
    in bytes. Two manifests are equal when their encodings, and so their ids, are.

    Raises ManifestError when any rule or limit of docs/manifest.md is broken.
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
        if len(encoded) > MAX_MANIFEST_BYTES:
            raise ManifestError(
                f"a manifest has at most {MAX_MANIFEST_BYTES} bytes, this one would have {len(encoded)}: "
                "use a larger piece length or share fewer files"
            )
        object.__setattr__(self, "_encoded", encoded)

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read what `encode` wrote; any other bytes raise ManifestError."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestError(f"a manifest has at most {MAX_MANIFEST_BYTES} bytes, not {len(data)}")
        return cls.decode_part(bytes(data), 0, len(data))

    @classmethod
    def decode_part(cls, data: bytes, start: int, end: int) -> Manifest:
        """Read the manifest that is a part of ``data``; nothing is copied unless it is sound.

        Raises ManifestError as `decode` does.
        """
        manifest = cls.__new__(cls)
        try:
            cls._read(manifest, cbor.Reader(data, start, end), data, end)
        except cbor.CborError as error:
            raise ManifestError(f"this is no swarm manifest: {error}") from error
        object.__setattr__(manifest, "_encoded", data[start:end])
        return manifest

    def encode(self) -> bytes:
        """The deterministic bytes that the id is the BLAKE3-256 of."""
        return self._encoded

    @property
    def id(self) -> ManifestId:
        """The name under which everybody knows this content."""
        if self._id is None:
            object.__setattr__(self, "_id", ManifestId(blake3(self._encoded).digest()))
        return self._id  # type: ignore[return-value]

    @property
    def layout(self) -> Layout:
        """Where each piece lies."""
        return self._layout

    @property
    def total_length(self) -> int:
        """Bytes of all files together."""
        return self._layout.total_length

    @property
    def piece_count(self) -> int:
        """Pieces of all files together."""
        return self._layout.piece_count

    def piece_hash(self, piece: int) -> bytes:
        """The BLAKE3-256 of ``piece``; raises IndexError if there is no such piece."""
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
        raise AttributeError("a manifest does not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a manifest does not change")

    def _read(self, reader: cbor.Reader, data: bytes, end: int) -> None:
        read_version(reader, VERSION, (_FIELDS,), "manifest")
        reader.key(_NAME)
        name = reader.text(MAX_NAME_BYTES)
        reader.key(_PIECE)
        piece_length = reader.unsigned()
        reader.key(_FOLDER)
        folder = reader.boolean()
        reader.key(_ENTRIES)
        self._fill(name, folder, piece_length, read_entries(reader, data, end))
        reader.end()
        # Views of the encoded bytes until here: what is refused is not copied.
        files = tuple(
            entry if type(entry.pieces) is bytes else entry._replace(pieces=bytes(entry.pieces))
            for entry in self.files
        )
        object.__setattr__(self, "files", files)

    def _fill(self, name: str, folder: bool, piece_length: int, files: Iterable[FileEntry]) -> None:
        check_title(name)
        if not _is_piece_length(piece_length):
            raise ManifestError(
                f"a piece length is a power of two from {MIN_PIECE_LENGTH} to {MAX_PIECE_LENGTH}, "
                f"not {piece_length}"
            )
        entries = tuple(checked(files, piece_length))
        if not folder and (len(entries) != 1 or entries[0].path != (name,)):
            raise ManifestError("a manifest of a single file has exactly one entry, named like the manifest")
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
    """The piece length for ``size`` bytes of content: a power of two, 16 KiB to 16 MiB.

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
    """Read a map's head and its leading version; return how many pairs the map has, the version's included.

    Raises ManifestError unless it is the ``supported`` version, CborError unless the number of
    pairs is among ``fields``.
    """
    found = reader.map(_MAX_FIELDS)
    reader.key(_VERSION)
    version = reader.unsigned()
    if version > supported:
        raise ManifestError(
            f"this {what} was made by a newer swarm: upgrade swarm "
            f"(its format is {version}, this one reads {supported})"
        )
    if version != supported:
        raise ManifestError(f"this {what} has the unknown format {version}")
    if found not in fields:
        raise cbor.CborError(f"a map of {found} fields")
    return found
