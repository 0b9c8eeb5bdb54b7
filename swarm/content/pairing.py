"""Which file of an old version a file of the new one is compared with.

A file that kept its bytes is found wherever it went. One that changed is looked for at its path, then at the
path that differs only in version numbers (``numpy-1.26.4.dist-info/RECORD``), then under its name in any
folder. Names alone prove nothing: whoever uses a pair compares hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from swarm.content.entries import FileEntry, Path
from swarm.content.manifest import Manifest
from swarm.lazy_pattern import lazy_pattern

MOST_SIZES = 4
"""How many times longer than another a file may be to be paired with it by its name alone."""

_HASH = lazy_pattern(r"(?<![0-9A-Za-z])(?=[0-9a-f]*[0-9])[0-9a-f]{7,64}(?![0-9A-Za-z])")
_NUMBER = lazy_pattern(r"[0-9]+")
_NUMBERS = lazy_pattern(r"#(?:[-._+]?(?:#|(?:alpha|beta|dev|post|pre|rc|a|b)(?![A-Za-z])))*")


@lru_cache(maxsize=4096)
def without_version(name: str) -> str:
    """Return ``name`` with each version number, and each hash that looks like one, replaced by ``#``."""
    return _NUMBERS.sub("#", _NUMBER.sub("#", _HASH.sub("#", name)))


def unversioned(path: Path) -> Path:
    """Return a path whose names have lost their version numbers."""
    return tuple(map(without_version, path))


class NameIndex:
    """Finds the files of an old version by what a new one is called; the numbers are those of ``paths``.

    ``lengths`` are their sizes in bytes. Of several files under one name the nearest in size is taken.
    """

    def __init__(self, paths: Iterable[Path], lengths: Sequence[int]) -> None:
        self._lengths = lengths
        self._by_path: dict[Path, int] = {}
        self._alike: dict[Path, list[int]] = {}
        self._by_name: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            self._by_path[path] = number
        self._indexed = False

    def find(self, path: Path, length: int) -> int | None:
        """Return the old file for a new one with this path and length; None if there is none."""
        number = self._by_path.get(path)
        if number is not None:
            return number
        self._index()
        plain = unversioned(path)
        if same := self._alike.get(plain):
            return self._nearest(same, length)
        named = [
            each
            for each in self._by_name.get(plain[-1], ())
            if length <= MOST_SIZES * self._lengths[each] and self._lengths[each] <= MOST_SIZES * length
        ]
        return self._nearest(named, length) if named else None

    def _index(self) -> None:
        """Most files keep their path: the rest is indexed when the first of them is looked for."""
        if self._indexed:
            return
        self._indexed = True
        for path, number in self._by_path.items():
            plain = unversioned(path)
            self._alike.setdefault(plain, []).append(number)
            self._by_name.setdefault(plain[-1], []).append(number)

    def _nearest(self, numbers: Iterable[int], length: int) -> int:
        return min(numbers, key=lambda each: abs(self._lengths[each] - length))


def pair_files(new: Manifest, old: Manifest) -> dict[int, int]:
    """Return the old file for each new one that has one, by index: equal bytes first, then names.

    An old file may be paired with several new ones. Empty files have no pair. Files of single-file manifests
    are paired with each other whatever they are called.
    """
    here = {entry.path: number for number, entry in enumerate(old.files) if entry.length}
    by_hash = {entry.blake3: number for number, entry in enumerate(old.files) if entry.length}
    pairs: dict[int, int] = {}
    changed: list[tuple[int, FileEntry]] = []
    for number, entry in enumerate(new.files):
        if not entry.length:
            continue
        same = by_hash.get(entry.blake3)
        at = here.get(entry.path)
        if same is None:
            changed.append((number, entry))
        else:
            pairs[number] = same if at is None or old.files[at].blake3 != entry.blake3 else at
    if not here:
        return pairs
    numbers = list(here.values())
    index = NameIndex(here, [old.layout.file_length(each) for each in numbers])
    single = not (new.folder or old.folder)
    for number, entry in changed:
        found = 0 if single else index.find(entry.path, entry.length)
        if found is not None:
            pairs[number] = numbers[found]
    return pairs
