"""The last steps of a fetch: everything on the disk, then the final name, never over anything."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.failures import refusals
from swarm.storage.flush import flush
from swarm.storage.folder import Folder
from swarm.storage.piecefiles import PieceFiles

_EXECUTE = 0o111
_READ = 0o444
_READ_TO_EXECUTE = 2


def prepare(manifest: Manifest, partial: PieceFiles, missing: Collection[int]) -> None:
    """Create the empty ones of the ``missing`` files, set executable bits, and sync all of them.

    Raises `DiskError`, also if a file is not the one that was written.
    """
    folders: set[tuple[str, ...]] = {()}
    for file in missing:
        entry = manifest.files[file]
        with refusals(partial.path(file)):
            if not entry.length:
                partial.create(file, folders.add)
            if not partial.is_in_place(file):
                raise _replaced(partial.path(file))
            set_executable(partial, file, wanted=entry.executable)
        parts = partial.parts(file)
        folders.update(parts[:depth] for depth in range(len(parts)))
    flush(partial.folder, [partial.parts(file) for file in missing], folders)


def set_executable(files: PieceFiles, file: int, *, wanted: bool) -> None:
    """Let those who may read a file execute it, or nobody; on the disk when this returns."""
    layer = files.folder.layer
    fd = files.folder.open_file(files.parts(file), os.O_RDONLY)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if bool(mode & stat.S_IXUSR) != wanted:
            readers = (mode & _READ) >> _READ_TO_EXECUTE
            layer.set_mode(fd, mode | readers if wanted else mode & ~_EXECUTE)
            layer.sync(fd)
    finally:
        layer.close(fd)


def move_file(output: Folder, part_name: str, name: str) -> None:
    """Give a single file its final name; raises `DiskError` if that is taken."""
    with refusals(output.path / name):
        output.layer.move(output.fd, part_name, output.fd, name)
        output.layer.sync(output.fd)


def move_folder(partial: Folder, output: Folder, part_name: str, name: str) -> None:
    """Give a whole partial folder its final name; raises `DiskError` if that is taken."""
    with refusals(output.path / part_name):
        about = output.layer.stat(output.fd, part_name)
        held = os.fstat(partial.fd)
    if (about.st_dev, about.st_ino) != (held.st_dev, held.st_ino):
        raise _replaced(output.path / part_name)
    move_file(output, part_name, name)


def move_into(manifest: Manifest, partial: Folder, final: Folder, missing: Collection[int]) -> None:
    """Move the ``missing`` files from the partial folder into the existing one, replacing nothing."""
    made: set[tuple[str, ...]] = set()
    changed: set[tuple[str, ...]] = set()
    for file in missing:
        path = manifest.files[file].path
        with refusals(final.at(path)), final.parent(path, created=made.add):
            changed.add(path[:-1])
    # The new folders' own names first: what is moved into a folder that a power cut takes is lost.
    flush(final, (), made)
    for file in missing:
        path = manifest.files[file].path
        with refusals(final.at(path)), partial.parent(path) as source, final.parent(path) as target:
            final.layer.move(source, path[-1], target, path[-1])
    flush(final, (), changed)


def prune(manifest: Manifest, partial: Folder, output: Folder, part_name: str) -> None:
    """Remove the partial folder and the manifest's folders in it, as far as they are empty."""
    folders = {entry.path[:depth] for entry in manifest.files for depth in range(1, len(entry.path))}
    for parts in sorted(folders, key=len, reverse=True):
        with refusals(partial.at(parts)):
            _remove_empty(partial, parts)
    with refusals(output.path / part_name):
        _remove_empty(output, (part_name,))
        output.layer.sync(output.fd)


def _remove_empty(folder: Folder, parts: tuple[str, ...]) -> None:
    try:
        with folder.parent(parts) as fd:
            folder.layer.remove_folder(fd, parts[-1])
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}:
            raise


def _replaced(path: Path) -> DiskError:
    return DiskError(
        f"{printable(str(path))}: was replaced by something else while it was fetched; move that away"
    )
