"""Which files of a manifest are wanted: shell patterns over their names. Pure."""

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
"""The part of a pattern that stands for any number of folders, none included."""


def select(manifest: Manifest, patterns: Sequence[str]) -> frozenset[int]:
    """The indices of the files that any of ``patterns`` selects; all of them without a pattern.

    A pattern is compared with every file's path relative to the shared folder, and with every folder on
    its way: a folder selects all that is in it. ``*``, ``?`` and ``[…]`` stay within one name, ``**``
    stands for any number of folders. A pattern without ``/`` may match at any depth. Capitals count.

    Raises UsageError when a pattern selects nothing.
    """
    everything = frozenset(range(len(manifest.files)))
    selected: set[int] = set()
    for pattern in patterns:
        wanted = _parts(pattern)
        found = {file for file in everything if wanted and _selects(wanted, manifest.files[file].path)}
        if not found:
            raise UsageError(
                f"no file of {quoted(manifest.name)} matches --only {quoted(pattern)}; "
                "`swarm inspect` lists them"
            )
        selected |= found
    return frozenset(selected) if patterns else everything


def pieces_of(layout: Layout, files: Iterable[int]) -> PieceSet:
    """The pieces that those files touch: each file begins with a piece of its own, so no others."""
    pieces = PieceSet(layout.piece_count)
    for file in files:
        for piece in layout.pieces_of(file):
            pieces.add(piece)
    return pieces


def _parts(pattern: str) -> tuple[str, ...]:
    """The pattern name by name; one that may match at any depth begins with `ANY_FOLDERS`."""
    composed = unicodedata.normalize("NFC", pattern)
    parts = tuple(part for part in composed.split("/") if part not in {"", "."})
    return (ANY_FOLDERS, *parts) if parts and "/" not in composed else parts


def _selects(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether the pattern matches the path or a folder on its way.

    ``reached`` are the positions in the pattern at which the names read so far may leave off.
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
    """Add the positions behind each `ANY_FOLDERS`, which may stand for nothing."""
    found = set(reached)
    for at, part in enumerate(pattern):
        if part == ANY_FOLDERS and at in found:
            found.add(at + 1)
    return found
