"""Selects files of a manifest by names and shell patterns. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.content.manifest import Manifest
from swarm.content.paths import quoted
from swarm.errors import UsageError
from swarm.lazy_pattern import lazy_pattern

ANY_FOLDERS = "**"
"""The part of a pattern that matches any number of folders, including none."""
EXCLUDES = "!"
"""The beginning of a pattern that takes files out of the selection."""

_ESCAPED = lazy_pattern(r"\\(.)")


def select(manifest: Manifest, patterns: Sequence[str]) -> frozenset[int]:
    """Return the files, links and empty folders that match any of ``patterns``; all without a pattern.

    They are numbered as in `Manifest.item_paths`.

    A pattern is compared with the path of each file, relative to the shared folder, and with each folder
    of that path; a matching folder selects everything in it. ``*``, ``?`` and ``[…]`` match within one
    name, ``**`` any number of folders. A pattern without ``/`` matches at any depth. Case matters. A pattern
    that is exactly the name of something selects only that, whatever characters it holds; a backslash takes
    the meaning from the next character. The name of the shared folder may come first.

    A pattern after ``!`` takes what it matches out of what the others select, or of everything if there are
    no others. Raises UsageError when a pattern matches nothing, and when nothing is left.
    """
    everything = frozenset(range(manifest.item_count))
    wanted = [pattern for pattern in patterns if not pattern.startswith(EXCLUDES)]
    selected = set[int]().union(*(_found(manifest, pattern, pattern) for pattern in wanted))
    if not wanted:
        selected |= everything
    for pattern in patterns:
        if pattern.startswith(EXCLUDES):
            selected -= _found(manifest, pattern.removeprefix(EXCLUDES), pattern)
    if patterns and not selected:
        raise UsageError(f"--only leaves no file of {quoted(manifest.name)} to fetch")
    return frozenset(selected)


def pieces_of(layout: Layout, files: Iterable[int]) -> PieceSet:
    """Return the pieces of those files. No piece is shared with another file."""
    found = PieceSet(layout.piece_count)
    start = stop = 0
    for file in files:
        # Those of neighbours are put together first: that is a third of the work for a million files.
        pieces = layout.pieces_of(file)
        if pieces.start != stop:
            found |= PieceSet.between(found.size, start, stop)
            start = pieces.start
        stop = pieces.stop
    return found | PieceSet.between(found.size, start, stop)


def _found(manifest: Manifest, pattern: str, given: str) -> set[int]:
    """Return the files that a pattern matches; raises UsageError, which names it as ``given``, if none."""
    composed = unicodedata.normalize("NFC", pattern)
    for parts in _readings(manifest, composed):
        # A name that really exists is meant, even if it would be a pattern as well.
        for plain, matches in ((parts, str.__eq__), (tuple(map(_unescaped, parts)), fnmatchcase)):
            found = _Matcher(plain, matches).items(manifest)
            if found:
                return found
    raise UsageError(
        f"no file of {quoted(manifest.name)} matches --only {quoted(given)}; `swarm inspect` lists them"
    )


def _readings(manifest: Manifest, pattern: str) -> list[tuple[str, ...]]:
    """Return the ways to read a pattern as a path: below the shared folder, or beginning with its name."""
    parts = tuple(part for part in pattern.split("/") if part not in {"", "."})
    if not parts:
        return []
    readings = [parts if "/" in pattern else (ANY_FOLDERS, *parts)]
    if manifest.folder and parts[0] == unicodedata.normalize("NFC", manifest.name):
        readings.append(parts[1:] or (ANY_FOLDERS,))
    return readings


def _unescaped(part: str) -> str:
    """Turn characters after a backslash into such that `fnmatchcase` compares as they are."""
    return _ESCAPED.sub(lambda found: f"[{found[1]}]" if found[1] in "*?[" else found[1], part)


class _Matcher:
    """One pattern, compared with the paths of a manifest; the state after each folder is kept."""

    def __init__(self, pattern: tuple[str, ...], matches: Callable[[str, str], bool]) -> None:
        self._pattern = pattern
        self._matches = matches
        self._reached: dict[tuple[str, ...], frozenset[int]] = {(): self._skip({0})}

    def items(self, manifest: Manifest) -> set[int]:
        """Return the files, links and empty folders that the pattern, or a folder it matches, selects."""
        end = len(self._pattern)
        return {
            item
            for item, path in enumerate(manifest.item_paths())
            if end in self._after(self._folder(path[:-1]), path[-1])
        }

    def _folder(self, path: tuple[str, ...]) -> frozenset[int]:
        """Return the positions in the pattern that a folder's path can lead to."""
        reached = self._reached.get(path)
        if reached is None:
            reached = self._reached[path] = self._after(self._folder(path[:-1]), path[-1])
        return reached

    def _after(self, before: frozenset[int], name: str) -> frozenset[int]:
        end = len(self._pattern)
        if end in before:
            # A folder that matches selects all that is in it.
            return before
        composed = name if name.isascii() else unicodedata.normalize("NFC", name)
        after = set()
        for at in before:
            part = self._pattern[at]
            if part == ANY_FOLDERS:
                after.add(at)
            elif self._matches(composed, part):
                after.add(at + 1)
        return self._skip(after)

    def _skip(self, reached: set[int]) -> frozenset[int]:
        """Add the positions after each `ANY_FOLDERS`, which may match nothing."""
        found = set(reached)
        for at, part in enumerate(self._pattern):
            if part == ANY_FOLDERS and at in found:
                found.add(at + 1)
        return frozenset(found)
