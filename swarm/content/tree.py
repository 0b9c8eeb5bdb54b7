"""The paths of a manifest: one tree, in which no file system takes two names for one.

A hostile manifest is to cost little however many paths it has before its first fault. So paths are checked
by the block, each rule for all of them at once; only a block that breaks one is looked at path by path, to
say what is wrong. Clashes are counted in all paths at once, when the last is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, islice, takewhile
from operator import eq, itemgetter, lt

from swarm.content.marks import without_ignored
from swarm.content.paths import (
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    MAX_PATH_DEPTH,
    all_sound,
    check_name,
    folded,
    quoted,
)
from swarm.errors import ManifestError

MAX_PATH_NAMES = 45_000
"""Names in all paths of a manifest together: two bytes of a manifest make a name of sixty in memory."""
MAX_PATHS_BYTES = 768 * 1024
"""UTF-8 bytes of all paths of a manifest together, each with its separators."""

Path = tuple[str, ...]


class Tree:
    """The paths so far in their canonical order, and the same paths with each name's clash key for it."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._keys: list[Path] = []
        self._previous: Path = ()
        self._names = self._bytes = 0

    def add(self, paths: Sequence[Path]) -> None:
        """Take the next paths of the manifest, at least one.

        Raises ManifestError for the first that breaks the rules of names, is too long, is not above the
        one before it, or is too much together with those before it.
        """
        text = "\n".join(["/".join(path) for path in paths])
        plain = without_ignored(text)
        if not self._are_good(paths, text, plain):
            for path in paths:
                self._check(path)
        keys = folded(plain)
        self._paths += paths
        # A separator is no part of any clash key, and a path that is its own needs no second one.
        self._keys += paths if keys == text else [tuple(key.split("/")) for key in keys.split("\n")]
        self._previous = paths[-1]

    def finish(self) -> None:
        """Look at all paths together; raises ManifestError where a name clashes with another."""
        paths, keys = self._paths, self._keys
        order = sorted(range(len(keys)), key=keys.__getitem__)
        by_key = [keys[index] for index in order]
        # Names that clash are one name more that neighbours in the order of the keys have in common.
        shared = _shared_names(by_key)
        if shared is None or shared != _shared_names(paths):
            raise _clash(by_key, [paths[index] for index in order])

    def _are_good(self, paths: Sequence[Path], text: str, plain: str) -> bool:
        """Whether all paths keep all rules but the one of clashes; takes them from the budgets then."""
        if not (self._previous < paths[0] and _ascend(paths) and _are_sound(paths, text, plain)):
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


def _shared_names(paths: list[Path]) -> int | None:
    """How many leading names paths in order share with the next, in all; None where one begins the next.

    The names of a tree are those of all paths but these, as what is alike is next to each other.
    """
    upper, lower = paths[:-1], paths[1:]
    depth = shared = 0
    while upper:
        name = itemgetter(depth)
        alike = list(map(eq, map(name, upper), map(name, lower)))
        upper, lower = list(compress(upper, alike)), list(compress(lower, alike))
        depth += 1
        shared += len(upper)
        if depth in map(len, upper):
            return None
    return shared


def _clash(keys: list[Path], paths: list[Path]) -> ManifestError:
    """Say which names are one in their folder, where some are known to be; all in the order of the keys."""
    for key, other_key, path, other in zip(keys, keys[1:], paths, paths[1:], strict=False):
        alike = _shared(path, other)
        if not alike == _shared(key, other_key) < len(key):
            earlier, later = sorted((path, other))
            name = earlier[min(alike, len(key) - 1)]
            return ManifestError(f"the file {_shown(later)} clashes with the earlier name {quoted(name)}")
    raise AssertionError("no name clashes")


def _shared(path: Path, other: Path) -> int:
    """How many leading names two paths share."""
    return sum(1 for _ in takewhile(bool, map(eq, path, other)))


def _are_sound(paths: Sequence[Path], text: str, plain: str) -> bool:
    """Whether every path has some names, not too many, and all of them are safe and short enough."""
    depths = [len(path) for path in paths]
    return (
        min(depths) > 0
        and max(depths) <= MAX_PATH_DEPTH
        # No name has a separator in it.
        and text.count("/") == sum(depths) - len(depths)
        and text.count("\n") == len(depths) - 1
        and all_sound(text, plain)
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


def _shown(path: Path) -> str:
    return quoted("/".join(path))
