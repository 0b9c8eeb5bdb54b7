"""Selects files of a manifest by shell patterns. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.content.manifest import Manifest
from swarm.content.paths import quoted
from swarm.errors import UsageError

ANY_FOLDERS = "**"
"""The part of a pattern that matches any number of folders, including none."""


def select(manifest: Manifest, patterns: Sequence[str]) -> frozenset[int]:
    """Return the files, links and empty folders that match any of ``patterns``; all without a pattern.

    They are numbered as in `Manifest.item_paths`.

    A pattern is compared with the path of each file, relative to the shared folder, and with each folder
    of that path; a matching folder selects everything in it. ``*``, ``?`` and ``[…]`` match within one
    name, ``**`` any number of folders. A pattern without ``/`` matches at any depth. Case matters.

    Raises UsageError when a pattern matches nothing.
    """
    everything = frozenset(range(manifest.item_count))
    selected: set[int] = set()
    for pattern in patterns:
        wanted = _parts(pattern)
        paths = enumerate(manifest.item_paths())
        found = {item for item, path in paths if wanted and _selects(wanted, path)}
        if not found:
            raise UsageError(
                f"no file of {quoted(manifest.name)} matches --only {quoted(pattern)}; "
                "`swarm inspect` lists them"
            )
        selected |= found
    return frozenset(selected) if patterns else everything


def pieces_of(layout: Layout, files: Iterable[int]) -> PieceSet:
    """Return the pieces of those files. No piece is shared with another file."""
    pieces = PieceSet(layout.piece_count)
    for file in files:
        for piece in layout.pieces_of(file):
            pieces.add(piece)
    return pieces


def _parts(pattern: str) -> tuple[str, ...]:
    """Split the pattern into names; one that matches at any depth starts with `ANY_FOLDERS`."""
    composed = unicodedata.normalize("NFC", pattern)
    parts = tuple(part for part in composed.split("/") if part not in {"", "."})
    return (ANY_FOLDERS, *parts) if parts and "/" not in composed else parts


def _selects(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether the pattern matches the path or one of its folders.

    ``reached`` is the set of positions in the pattern that the names so far can lead to.
    """
    reached = _skip(pattern, {0})
    for name in path:
        composed = unicodedata.normalize("NFC", name)
        after: set[int] = set()
        for at in reached:
            if at == len(pattern):
                return True
            if pattern[at] == ANY_FOLDERS:
                after.add(at)
            elif fnmatchcase(composed, pattern[at]):
                after.add(at + 1)
        reached = _skip(pattern, after)
    return len(pattern) in reached


def _skip(pattern: tuple[str, ...], reached: set[int]) -> set[int]:
    """Add the positions after each `ANY_FOLDERS`, which may match nothing."""
    found = set(reached)
    for at, part in enumerate(pattern):
        if part == ANY_FOLDERS and at in found:
            found.add(at + 1)
    return found
