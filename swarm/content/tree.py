"""The paths of a manifest: one tree, in which no file system takes two names for one.

A hostile manifest is to cost little however many paths it has before its first fault. So paths are checked
by the block, each rule for all of them at once; only a block that breaks one is looked at path by path, to
say what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from operator import lt
from typing import TypeVar

from swarm.content.paths import (
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    MAX_PATH_DEPTH,
    all_sound,
    check_name,
    clash_key,
    quoted,
)
from swarm.errors import ManifestError

MAX_PATH_NAMES = 50_000
"""Names in all paths of a manifest together: two bytes of a manifest make a name of sixty in memory."""
MAX_PATHS_BYTES = 2 * 1024 * 1024
"""UTF-8 bytes of all paths of a manifest together, each with its separators."""

Path = tuple[str, ...]
T = TypeVar("T")


class Tree:
    """The paths so far, by clash key: the files, and the folders with their spelling.

    In the canonical order all paths of one folder follow each other, so a folder that is left never comes
    back. Invariants: kept is what lies in the folders of the latest path, and nothing else; ``_inside`` has
    the keys of each such folder but the root; no two have one key.
    """

    def __init__(self) -> None:
        self._previous: Path = ()
        self._files: dict[str, Path] = {}
        self._folders: dict[str, str] = {}
        self._inside: dict[str, list[str]] = {}
        self._names = self._bytes = 0

    def add(self, paths: Sequence[Path]) -> None:
        """Take the next paths of the manifest, at least one.

        Raises ManifestError for the first that breaks the rules of names, is too long, is not above the
        one before it, clashes with an earlier one, or is too much together with those before it.
        """
        lines = ["/".join(path) for path in paths]
        text = "\n".join(lines)
        if not self._add_block(paths, lines, text):
            for path in paths:
                self._add(path)

    # --- A block at once ------------------------------------------------------------------------

    def _add_block(self, paths: Sequence[Path], lines: list[str], text: str) -> bool:
        """Take all paths, or none if they break a rule."""
        if not (_are_sound(paths, text) and self._previous < paths[0] and _ascend(paths)):
            return False
        names = self._names + sum(map(len, paths))
        size = self._bytes + _size(text) - (len(paths) - 1)
        if names > MAX_PATH_NAMES or size > MAX_PATHS_BYTES:
            return False
        keys = clash_key(text).split("\n")
        folders = self._new_folders(keys, lines) if "/" in text else {}
        if folders is None or not self._are_free(keys, folders):
            return False
        self._commit(paths, keys, folders, names, size)
        return True

    def _new_folders(self, keys: list[str], lines: list[str]) -> dict[str, str] | None:
        """The folders that no earlier path is in, spelled, by clash key; None if two spellings clash."""
        found: dict[str, str] = {}
        latest = ""
        for key, line in zip(keys, lines, strict=True):
            folder = line.rpartition("/")[0]
            if folder == latest:
                continue
            latest, place = folder, key
            while folder:
                place = place.rpartition("/")[0]
                known = self._folders.get(place) or found.get(place)
                if known:
                    if known != folder:
                        return None
                    break  # and those that it is in are known as well
                found[place] = place if folder == place else folder  # which halves what deep paths cost
                folder = folder.rpartition("/")[0]
        return found

    def _are_free(self, keys: list[str], folders: dict[str, str]) -> bool:
        return (
            len(set(keys)) == len(keys)
            and self._files.keys().isdisjoint(keys)
            and self._files.keys().isdisjoint(folders)
            and self._folders.keys().isdisjoint(keys)
            and folders.keys().isdisjoint(keys)
        )

    def _commit(
        self, paths: Sequence[Path], keys: list[str], folders: dict[str, str], names: int, size: int
    ) -> None:
        still_open = {""}
        folder = keys[-1].rpartition("/")[0]
        while folder:
            still_open.add(folder)
            folder = folder.rpartition("/")[0]
        for folder in self._inside.keys() - still_open:
            for key in self._inside.pop(folder):
                self._files.pop(key, None)
                self._folders.pop(key, None)
        self._keep(self._files, zip(keys, paths, strict=True), still_open)
        self._keep(self._folders, folders.items(), still_open)
        self._previous, self._names, self._bytes = paths[-1], names, size

    def _keep(self, known: dict[str, T], found: Iterable[tuple[str, T]], still_open: set[str]) -> None:
        for key, what in found:
            folder = key.rpartition("/")[0]
            if folder in still_open:
                known[key] = what
                if folder:
                    self._inside.setdefault(folder, []).append(key)

    # --- Path by path ---------------------------------------------------------------------------

    def _add(self, path: Path) -> None:
        if not 1 <= len(path) <= MAX_PATH_DEPTH:
            raise ManifestError(f"a path has 1 to {MAX_PATH_DEPTH} names, not {len(path)}")
        for name in path:
            check_name(name)
        line = "/".join(path)
        size = _size(line)
        if size > MAX_PATH_BYTES:
            raise ManifestError(f"the path {quoted(line)} is longer than {MAX_PATH_BYTES} bytes")
        names, size = self._names + len(path), self._bytes + size
        if names > MAX_PATH_NAMES:
            raise ManifestError(f"the paths of a manifest have at most {MAX_PATH_NAMES} names together")
        if size > MAX_PATHS_BYTES:
            raise ManifestError(f"the paths of a manifest have at most {MAX_PATHS_BYTES} bytes together")
        if path <= self._previous:
            raise ManifestError(f"the file {quoted(line)} is duplicate or out of order")
        folders = self._unlike(path, line)
        self._commit([path], [clash_key(line)], folders, names, size)

    def _unlike(self, path: Path, line: str) -> dict[str, str]:
        """The path's new folders by clash key; raises ManifestError if a part of it clashes."""
        new: dict[str, str] = {}
        for depth in range(1, len(path) + 1):
            spelling = "/".join(path[:depth])
            key = clash_key(spelling)
            taken, folder = self._files.get(key), self._folders.get(key, "")
            if folder and (depth == len(path) or folder != spelling):
                taken = tuple(folder.split("/"))
            if taken:
                raise ManifestError(
                    f"the file {quoted(line)} clashes with the earlier name {quoted(taken[-1])}"
                )
            if depth < len(path):
                new[key] = spelling
        return new


def _are_sound(paths: Sequence[Path], text: str) -> bool:
    """Whether every path has some names, not too many, and all of them are safe and short enough."""
    depths = [len(path) for path in paths]
    return (
        min(depths) > 0
        and max(depths) <= MAX_PATH_DEPTH
        # No name has a separator in it.
        and text.count("/") == sum(depths) - len(depths)
        and text.count("\n") == len(depths) - 1
        and all_sound(text)
        and _are_short(text)
    )


def _are_short(text: str) -> bool:
    encoded = text.encode("utf-8")
    longest = max(map(len, encoded.split(b"\n")))
    if longest <= MAX_NAME_BYTES:
        return True
    names = encoded.replace(b"/", b"\n").split(b"\n")
    return longest <= MAX_PATH_BYTES and max(map(len, names)) <= MAX_NAME_BYTES


def _ascend(paths: Sequence[Path]) -> bool:
    # Comparing code points orders as comparing UTF-8 does.
    return all(map(lt, paths, islice(paths, 1, None)))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))
