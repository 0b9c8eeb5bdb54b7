"""The files below a folder, and what kinds of things there are left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from swarm.content.paths import MAX_PATH_DEPTH, printable
from swarm.errors import UsageError
from swarm.storage.failures import refusals
from swarm.storage.folder import Folder

OWNER_EXECUTES = stat.S_IXUSR
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells that a file is the one seen before: size in bytes, time stamp, inode, device."""

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, about: os.stat_result) -> FileIdentity:
        """The identity in what stat said."""
        return cls(about.st_size, about.st_mtime_ns, about.st_ino, about.st_dev)


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file: its path below the walked folder, its identity, its owner's executable bit."""

    parts: tuple[str, ...]
    identity: FileIdentity
    executable: bool

    @classmethod
    def of(cls, parts: tuple[str, ...], about: os.stat_result) -> Found:
        """The file at ``parts`` that stat described."""
        return cls(parts, FileIdentity.of(about), bool(about.st_mode & OWNER_EXECUTES))


def walk(folder: Folder, skipped: Callable[[str], None], parts: tuple[str, ...] = ()) -> Iterator[Found]:
    """Every regular file below ``folder``, folders in order of their names, links never followed.

    ``skipped`` is told in one line of everything that is neither file nor folder, and of empty
    folders. Raises `DiskError` for what cannot be read, `UsageError` below `MAX_PATH_DEPTH`.
    """
    with refusals(folder.path), os.scandir(folder.fd) as entries:
        listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    if not listed and parts:
        skipped(f"{_shown(parts)}: left out, an empty folder")
    for name, is_folder in listed:
        inner = (*parts, name)
        if is_folder:
            yield from _enter(folder, name, skipped, inner)
            continue
        with refusals(folder.path / name):
            about = folder.layer.stat(folder.fd, name)
        if stat.S_ISREG(about.st_mode):
            yield Found.of(inner, about)
        else:
            kind = _KINDS.get(stat.S_IFMT(about.st_mode), "neither file nor folder")
            skipped(f"{_shown(inner)}: left out, {kind}")


def _enter(
    folder: Folder, name: str, skipped: Callable[[str], None], parts: tuple[str, ...]
) -> Iterator[Found]:
    if len(parts) >= MAX_PATH_DEPTH:
        raise UsageError(f"{_shown(parts)}: folders are nested deeper than {MAX_PATH_DEPTH} levels")
    with refusals(folder.path / name):
        inner = folder.subfolder(name)
    try:
        yield from walk(inner, skipped, parts)
    finally:
        inner.close()


def _shown(parts: tuple[str, ...]) -> str:
    return printable("/".join(parts))
