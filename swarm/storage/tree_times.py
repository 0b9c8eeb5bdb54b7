"""When folders and symbolic links were last modified: read from a disk, and set there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.content.times import FileTimes
from swarm.storage.folder import Folder


def read_tree_times(manifest: Manifest, path: Path) -> FileTimes:
    """Return the times of the folders and then the links of the manifest, as they are at ``path``.

    Raises OSError if the folder cannot be opened, ManifestError if there are too many of them.
    """
    with closing(Folder.open(Path(os.path.realpath(path)))) as root:
        return FileTimes.of(_times(manifest, root))


def _times(manifest: Manifest, root: Folder) -> Iterator[int]:
    for parts in (*manifest.folder_paths(), *(link.path for link in manifest.links)):
        about = None
        with suppress(OSError):
            about = root.stat(parts) if parts else os.fstat(root.fd)
        yield -1 if about is None else about.st_mtime_ns


def set_tree_times(manifest: Manifest, root: Folder, times: FileTimes) -> None:
    """Give the folders and links below ``root`` these times, where the file system lets it.

    To be called when nothing is put into the folders any more.
    """
    folders = manifest.folder_paths()
    for number, link in enumerate(manifest.links, len(folders)):
        time = times.of_file(number)
        with suppress(OSError), root.parent(link.path) as above:
            if time is not None:
                os.utime(link.path[-1], ns=(time, time), dir_fd=above, follow_symlinks=False)
    for number, parts in enumerate(folders):
        time = times.of_file(number)
        with suppress(OSError):
            if time is not None:
                _set_folder_time(root, parts, time)


def _set_folder_time(root: Folder, parts: tuple[str, ...], nanoseconds: int) -> None:
    fd = root.open_folder(parts)
    try:
        os.utime(fd, ns=(os.fstat(fd).st_atime_ns, nanoseconds))
    finally:
        root.layer.close(fd)
