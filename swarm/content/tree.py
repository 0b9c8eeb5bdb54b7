"""The paths of a manifest: one tree, in which no file system takes two names for one.

A hostile manifest is to cost little however many paths it has before its first fault. So paths are checked
by the block, each rule for all of them at once; only a block that breaks one is looked at path by path, to
say what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, islice
from operator import lt

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
MAX_PATHS_BYTES = 1024 * 1024
"""UTF-8 bytes of all paths of a manifest together, each with its separators."""

Path = tuple[str, ...]


class Tree:
    """The paths so far: for each folder of the latest one its names, spelled, by clash key.

    In the canonical order all paths of one folder follow each other, so a folder that is left never comes
    back and its names need not be kept.
    """

    def __init__(self) -> None:
        self._previous: Path = ()
        self._folder: Path = ()
        self._open: list[dict[str, str]] = [{}]
        self._names = self._bytes = 0

    def add(self, paths: Sequence[Path]) -> None:
        """Take the next paths of the manifest, at least one.

        Raises ManifestError for the first that breaks the rules of names, is too long, is not above the
        one before it, clashes with an earlier one, or is too much together with those before it.
        """
        if self._are_good(paths):
            for folder, siblings in groupby(paths, key=_folder_of):
                self._place(folder, list(siblings))
        else:
            for path in paths:
                self._check(path)
                self._place(path[:-1], [path])
        self._previous = paths[-1]

    def _are_good(self, paths: Sequence[Path]) -> bool:
        """Whether all paths keep all rules but the one of clashes; takes them from the budgets then."""
        text = "\n".join(["/".join(path) for path in paths])
        if not (self._previous < paths[0] and _ascend(paths) and _are_sound(paths, text)):
            return False
        names = self._names + sum(map(len, paths))
        size = self._bytes + _size(text) - (len(paths) - 1)
        if names > MAX_PATH_NAMES or size > MAX_PATHS_BYTES:
            return False
        self._names, self._bytes = names, size
        return True

    def _check(self, path: Path) -> None:
        """What `_are_good` asks of many, of one path, with a word on what is wrong."""
        if not 1 <= len(path) <= MAX_PATH_DEPTH:
            raise ManifestError(f"a path has 1 to {MAX_PATH_DEPTH} names, not {len(path)}")
        for name in path:
            check_name(name)
        size = _size("/".join(path))
        if size > MAX_PATH_BYTES:
            raise ManifestError(f"the path {_shown(path)} is longer than {MAX_PATH_BYTES} bytes")
        self._names += len(path)
        self._bytes += size
        if self._names > MAX_PATH_NAMES:
            raise ManifestError(f"the paths of a manifest have at most {MAX_PATH_NAMES} names together")
        if self._bytes > MAX_PATHS_BYTES:
            raise ManifestError(f"the paths of a manifest have at most {MAX_PATHS_BYTES} bytes together")
        if path <= self._previous:
            raise ManifestError(f"the file {_shown(path)} is duplicate or out of order")
        self._previous = path

    def _place(self, folder: Path, paths: list[Path]) -> None:
        """Put the paths, which are of one ``folder``, beside the names that are there."""
        if folder != self._folder:
            self._enter(folder, paths[0])
        if len(paths) == 1:
            self._name(paths[0], paths[0][-1], clash_key(paths[0][-1]))
            return
        siblings = self._open[-1]
        names = [path[-1] for path in paths]
        keys = clash_key("\n".join(names)).split("\n")
        if len(set(keys)) == len(keys) and siblings.keys().isdisjoint(keys):
            siblings.update(zip(keys, names, strict=True))
            return
        for path, key in zip(paths, keys, strict=True):
            self._name(path, path[-1], key)

    def _enter(self, folder: Path, path: Path) -> None:
        shared = 0
        for name, earlier in zip(folder, self._folder, strict=False):
            if name != earlier:
                break
            shared += 1
        del self._open[shared + 1 :]
        for name in folder[shared:]:
            self._name(path, name, clash_key(name))
            self._open.append({})
        self._folder = folder

    def _name(self, path: Path, name: str, key: str) -> None:
        siblings = self._open[-1]
        if key in siblings:
            raise ManifestError(
                f"the file {_shown(path)} clashes with the earlier name {quoted(siblings[key])}"
            )
        siblings[key] = name


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


def _folder_of(path: Path) -> Path:
    return path[:-1]


def _shown(path: Path) -> str:
    return quoted("/".join(path))
