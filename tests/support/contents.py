"""Small contents and their manifests."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from blake3 import blake3

from swarm.content.manifest import MIN_PIECE_LENGTH, FileEntry, Manifest


def entry_of(
    path: tuple[str, ...], data: bytes, *, piece_length: int = MIN_PIECE_LENGTH, executable: bool = False
) -> FileEntry:
    """The true entry of a file with these bytes."""
    pieces = b"".join(
        blake3(data[start : start + piece_length]).digest() for start in range(0, len(data), piece_length)
    )
    return FileEntry(path, len(data), executable, blake3(data).digest(), pieces)


def file_manifest(name: str, data: bytes, *, piece_length: int = MIN_PIECE_LENGTH) -> Manifest:
    """The manifest of a single file."""
    return Manifest(name, False, piece_length, [entry_of((name,), data, piece_length=piece_length)])


def folder_manifest(
    name: str,
    files: Mapping[str, bytes],
    *,
    piece_length: int = MIN_PIECE_LENGTH,
    executable: Collection[str] = (),
) -> Manifest:
    """The manifest of a folder; ``files`` maps paths with slashes to contents."""
    paths = sorted(tuple(path.split("/")) for path in files)
    entries = [
        entry_of(path, files[inner], piece_length=piece_length, executable=inner in executable)
        for path, inner in ((path, "/".join(path)) for path in paths)
    ]
    return Manifest(name, True, piece_length, entries)
