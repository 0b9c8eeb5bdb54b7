"""Which files of an old version are the user's, and where the new version keeps them.

A file is ours if the manifest of the old version lists it and nothing has changed it, or if the new version
has the same bytes there. Any other file is the user's: an update neither removes nor replaces it. It stays
where it is, or gets the suffix `KEPT_SUFFIX` if the new version has something else there. Some file systems
take two names for one (``Config.ini`` and ``config.ini``); whether this one does is seen in the new version.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, suppress

from blake3 import blake3

from swarm.content.manifest import FileEntry, Manifest
from swarm.content.paths import clash_key, temporary_names
from swarm.storage.extras import target_of
from swarm.storage.file_identity import FileIdentity
from swarm.storage.file_layer import read_at
from swarm.storage.folder import Folder
from swarm.storage.hash_cache import Remembered
from swarm.storage.hashing import new_buffer

KEPT_SUFFIX = ".swarm-kept"
"""What the name of a user's file ends in where the new version has another file; then ``.swarm-kept-2``, …"""

Parts = tuple[str, ...]


class Ownership:
    """Tells our files from the user's; ``remembered`` is what was hashed of the old version, or None."""

    def __init__(self, new: Manifest, remembered: Remembered | None) -> None:
        self._new = _by_path(new)
        self._new_manifest = new
        self._remembered = remembered
        self._old = {} if remembered is None else _by_path(remembered.manifest)
        links = () if remembered is None else remembered.manifest.links
        self._links = {link.path: {link.target} for link in links}
        for link in new.links:
            self._links.setdefault(link.path, set()).add(link.target)
        self.folders = {*_folders(new), *(() if remembered is None else _folders(remembered.manifest))}
        """The folders of both versions."""
        self._compared: dict[Parts, FileIdentity] = {}

    def is_ours(self, folder: Folder, parts: Parts, about: os.stat_result) -> bool:
        """Whether what lies at ``parts`` of the old version, and is no folder, is ours; raises OSError."""
        if stat.S_ISLNK(about.st_mode):
            return target_of(folder, parts) in self._links.get(parts, ())
        if not stat.S_ISREG(about.st_mode):
            return False
        identity = FileIdentity.of(about)
        number = self._old.get(parts if self._new_manifest.folder else ())
        if number is not None and self._remembered is not None and self._remembered.has(number, identity):
            return True
        if self._compared.get(parts) == identity:
            return True
        expected = {entry.blake3 for entry in self._entries(parts) if entry.length == identity.size}
        ours = bool(expected) and blake3_of(folder, parts) in expected
        if ours:
            self._compared[parts] = identity
        return ours

    def _entries(self, parts: Parts) -> Iterator[FileEntry]:
        key = parts if self._new_manifest.folder else ()
        if self._remembered is not None and key in self._old:
            yield self._remembered.manifest.files[self._old[key]]
        if key in self._new:
            yield self._new_manifest.files[self._new[key]]


class KeptPlaces:
    """Where the user's files are kept in the new version."""

    def __init__(self, new: Manifest) -> None:
        self._leaves = {*map(new.path, range(len(new.files))), *(link.path for link in new.links)}
        self._folders = _folders(new)
        self._by_key: dict[Parts, Parts] = {}
        self._above: dict[Parts, Parts] = {(): ()}

    def is_new(self, parts: Parts) -> bool:
        """Whether the new version has a file or link there."""
        return parts in self._leaves

    def candidates(self, parts: Parts, folder: Folder) -> Iterator[Parts]:
        """Yield where a file or empty folder of the user may go: its own place first, if that is free.

        ``folder`` has all files, links and folders of the new version. Raises OSError.
        """
        above = self._folder_for(parts[:-1], folder)
        number = 0
        while True:
            place = (*above, kept_name(parts[-1], number) if number else parts[-1])
            if self._found_at(place, folder) is None:
                yield place
            number += 1

    def _folder_for(self, parts: Parts, folder: Folder) -> Parts:
        """Return the folder for what the user has at ``parts``, where the new version may have no folder."""
        known = len(parts)
        while parts[:known] not in self._above:
            known -= 1
        for depth in range(known, len(parts)):
            # A loop, because the user's folders may lie in one another more deeply than calls can.
            place = (*self._above[parts[:depth]], parts[depth])
            is_leaf = self._found_at(place, folder) in self._leaves
            name = kept_name(parts[depth], 1) if is_leaf else parts[depth]
            self._above[parts[: depth + 1]] = (*place[:-1], name)
        return self._above[parts]

    def _found_at(self, place: Parts, folder: Folder) -> Parts | None:
        """Return what of the new version the file system finds at ``place``; None if nothing is there."""
        if place in self._leaves or place in self._folders:
            return place
        there = folder.stat(place)
        if there is None:
            return None
        if not self._by_key:
            self._by_key = {_key(path): path for path in (*self._leaves, *self._folders)}
        path = self._by_key.get(_key(place))
        about = None if path is None else folder.stat(path)
        same = about is not None and (about.st_dev, about.st_ino) == (there.st_dev, there.st_ino)
        return path if same else None


def kept_name(name: str, number: int) -> str:
    """Return the name under which a user's file is kept beside a file of the new version."""
    suffix = KEPT_SUFFIX if number == 1 else f"{KEPT_SUFFIX}-{number}"
    plain, short = temporary_names(name, suffix)
    return plain if len(os.fsencode(plain)) <= 255 else short


def blake3_of(folder: Folder, parts: Parts) -> bytes:
    """Return the BLAKE3 of a file; raises OSError."""
    hashing, buffer, offset = blake3(), new_buffer(), 0
    fd = folder.open_file(parts, os.O_RDONLY)
    try:
        while got := read_at(folder.layer, fd, buffer, offset):
            hashing.update(buffer[:got])
            offset += got
    finally:
        folder.layer.close(fd)
    return hashing.digest()


def tree_entries(folder: Folder) -> Iterator[tuple[Parts, os.stat_result]]:
    """Yield everything below a folder, each folder before what is in it; raises OSError."""
    waiting: list[Parts] = [()]
    while waiting:
        above = waiting.pop()
        fd = folder.open_folder(above)
        try:
            names = sorted(os.listdir(fd))  # noqa: PTH208 - of a descriptor
            abouts = []
            for name in names:
                with suppress(FileNotFoundError):
                    abouts.append(((*above, name), folder.layer.stat(fd, name)))
        finally:
            folder.layer.close(fd)
        waiting += [parts for parts, about in abouts if stat.S_ISDIR(about.st_mode)]
        yield from abouts


def remove_tree(output: Folder, name: str) -> None:
    """Remove a file, or a folder with all that is in it; raises OSError."""
    layer = output.layer
    if not stat.S_ISDIR(layer.stat(output.fd, name).st_mode):
        layer.remove(output.fd, name)
        return
    with closing(output.subfolder(name)) as tree:
        folders: list[Parts] = []
        for parts, about in tree_entries(tree):
            if stat.S_ISDIR(about.st_mode):
                folders.append(parts)
            else:
                with tree.parent(parts) as parent:
                    layer.remove(parent, parts[-1])
        for parts in reversed(folders):
            with tree.parent(parts) as parent:
                layer.remove_folder(parent, parts[-1])
    layer.remove_folder(output.fd, name)


def _by_path(manifest: Manifest) -> dict[Parts, int]:
    if not manifest.folder:
        return {(): 0}
    return {manifest.path(number): number for number in range(len(manifest.files))}


def _key(path: Parts) -> Parts:
    return tuple(map(clash_key, path))


def _folders(manifest: Manifest) -> set[Parts]:
    return {*manifest.folder_paths(), *manifest.empty_folders}
