"""Symbolic links and empty folders: made in a target, and compared with a manifest."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from swarm.content.entries import LinkEntry
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.disk_errors import refusals
from swarm.storage.folder import Folder

TEMPORARY_LINK = ".swarm-link"
"""The name of a new link for the moment before it takes the place of another one."""

Parts = tuple[str, ...]


def links_of(manifest: Manifest, items: Collection[int]) -> Iterator[LinkEntry]:
    """Yield the links among ``items``, which are numbered as in `Manifest.item_paths`."""
    first = len(manifest.files)
    links = manifest.links
    return (links[item - first] for item in sorted(items) if first <= item < first + len(links))


def empty_folders_of(manifest: Manifest, items: Collection[int]) -> Iterator[Parts]:
    """Yield the empty folders among ``items``, which are numbered as in `Manifest.item_paths`."""
    first = len(manifest.files) + len(manifest.links)
    return (manifest.empty_folders[item - first] for item in sorted(items) if item >= first)


class Extras:
    """Makes the links and empty folders of a target; ``replacing`` lets links replace links and files."""

    def __init__(self, manifest: Manifest, items: Collection[int], *, replacing: bool) -> None:
        self._manifest = manifest
        self._items = items
        self._replacing = replacing
        self._refused: list[Path] = []

    def check(self, folder: Folder) -> None:
        """Raise `DiskError` if something else has the name of one of them."""
        for path in empty_folders_of(self._manifest, self._items):
            with refusals(folder.at(path)):
                about = folder.stat(path)
            if about is not None and not stat.S_ISDIR(about.st_mode):
                raise _in_the_way(folder.at(path))
        for link in links_of(self._manifest, self._items):
            with refusals(folder.at(link.path)):
                about = folder.stat(link.path)
                if about is None or target_of(folder, link.path) == link.target:
                    continue
            if stat.S_ISDIR(about.st_mode) or not self._replacing:
                raise _in_the_way(folder.at(link.path))

    def make(self, folder: Folder, changed: Callable[[Parts], None]) -> None:
        """Make those that do not exist below ``folder``, not synced.

        ``changed`` is called with the path of each folder that got a new entry. Raises `DiskError`. A file
        system without symbolic links gets none; see `warning`.
        """
        for path in empty_folders_of(self._manifest, self._items):
            with refusals(folder.at(path)), folder.parent((*path, "."), created=changed):
                pass
        for link in links_of(self._manifest, self._items):
            with refusals(folder.at(link.path)), folder.parent(link.path, created=changed) as parent:
                self._make_link(folder, parent, link)
            changed(link.path[:-1])

    def _make_link(self, folder: Folder, parent: int, link: LinkEntry) -> None:
        layer, name = folder.layer, link.path[-1]
        try:
            layer.make_link(parent, name, link.target)
        except FileExistsError:
            if target_of(folder, link.path) == link.target:
                return
            if not self._replacing:
                raise _in_the_way(folder.at(link.path)) from None
            try:
                layer.make_link(parent, TEMPORARY_LINK, link.target)
            except FileExistsError:
                layer.remove(parent, TEMPORARY_LINK)
                layer.make_link(parent, TEMPORARY_LINK, link.target)
            layer.replace(parent, TEMPORARY_LINK, parent, name)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            self._refused.append(folder.at(link.path))

    def warning(self) -> str | None:
        """Return one line about links that the file system does not take, or None."""
        if not self._refused:
            return None
        shown = printable(str(self._refused[0]))
        others = f" and {len(self._refused) - 1} more" if len(self._refused) > 1 else ""
        return f"{shown}{others}: this file system takes no symbolic links, so they are left out"


def target_of(folder: Folder, parts: Parts) -> str | None:
    """Return the target of the link at ``parts``; None if no link is there. Raises OSError."""
    try:
        with folder.parent(parts) as parent:
            return os.readlink(parts[-1], dir_fd=parent)
    except OSError as error:
        # EINVAL: it is not a link.
        if error.errno in {errno.ENOENT, errno.EINVAL, errno.ENOTDIR, errno.ELOOP}:
            return None
        raise


def _in_the_way(path: Path) -> DiskError:
    return DiskError(
        f"{printable(str(path))}: already exists with other content; move it away or choose another --output"
    )
