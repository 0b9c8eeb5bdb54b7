"""What a manifest lists, and how many of it: files, symbolic links, empty folders."""

from __future__ import annotations

from typing import NamedTuple

from blake3 import blake3

from swarm.errors import ManifestError

MAX_FILES = 1_000_000
"""Files in one manifest."""
MAX_FILES_1 = 10_000
"""Files in one manifest of format 1, whose entries are checked one by one."""
MAX_ENTRIES = 2_000_000
"""Files, links and folders in one manifest."""
MAX_PIECES = 1_500_000
"""Pieces in one manifest: a million small files, and as many again as a large file has."""
MAX_PIECES_1 = 1_000_000
"""Pieces in one manifest of format 1; their hashes alone take 32 MB."""
MIN_PIECE_LENGTH = 16 * 1024
MAX_PIECE_LENGTH = 16 * 1024 * 1024
MAX_TOTAL_LENGTH = MAX_PIECES_1 * MAX_PIECE_LENGTH
"""Bytes of all files, about 16.8 TB."""
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
"""Encoded bytes of a manifest of any format: a million files with names of 200 bytes."""
MAX_BYTES_1 = 32 * 1024 * 1024
"""Encoded bytes of a manifest of format 1."""

EMPTY_BLAKE3 = blake3(b"").digest()

Path = tuple[str, ...]


class FormatExceeded(ManifestError):
    """A limit of one format is exceeded; another format may have a larger one."""


class FileEntry(NamedTuple):
    """One file: relative path, length in bytes, executable bit, BLAKE3-256 of the whole file.

    ``pieces`` is the concatenation of the BLAKE3-256 digests of its pieces. A `Manifest` checks its
    entries; an entry by itself is unchecked.
    """

    path: Path
    length: int
    executable: bool
    blake3: bytes
    pieces: bytes


class LinkEntry(NamedTuple):
    """One symbolic link: its relative path, and its target as `readlink` returns it."""

    path: Path
    target: str
