"""Makes the manifest of a file or folder to share: finds the files and hashes them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import trio
from blake3 import blake3

from swarm.content.layout import Layout
from swarm.content.manifest import MAX_FILES, MAX_PIECES, FileEntry, Manifest, choose_piece_length
from swarm.content.paths import MAX_PATH_DEPTH, check_name, check_title, printable
from swarm.errors import DiskError, ManifestError, UsageError
from swarm.storage.disk_errors import disk_error, refusals
from swarm.storage.file_identity import Checks, FileIdentities, FileIdentity
from swarm.storage.folder import Folder
from swarm.storage.hashing import FileHashing, Progress, in_thread, new_buffer

OWNER_EXECUTES = stat.S_IXUSR
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file: its path below the scanned folder, its identity, its owner's executable bit."""

    parts: tuple[str, ...]
    identity: FileIdentity
    executable: bool

    @classmethod
    def of(cls, parts: tuple[str, ...], about: os.stat_result) -> Found:
        """Return the file at ``parts`` with this stat result."""
        return cls(parts, FileIdentity.of(about), bool(about.st_mode & OWNER_EXECUTES))


def walk(folder: Folder, skipped: Callable[[str], None], parts: tuple[str, ...] = ()) -> Iterator[Found]:
    """Yield every regular file below ``folder``, in order of names, without following links.

    ``skipped`` is called with one line for everything that is neither file nor folder, and for each empty
    folder. Raises `DiskError` for an unreadable entry, `UsageError` for paths deeper than `MAX_PATH_DEPTH`.
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
        raise UsageError(f"{_shown(parts)}: folders are nested more than {MAX_PATH_DEPTH} levels deep")
    with refusals(folder.path / name):
        inner = folder.subfolder(name)
    try:
        yield from walk(inner, skipped, parts)
    finally:
        inner.close()


def _shown(parts: tuple[str, ...]) -> str:
    return printable("/".join(parts))


@dataclass(frozen=True, slots=True)
class Scanned:
    """A manifest, and the checks that later tell whether the files are unchanged."""

    manifest: Manifest
    checks: Checks


async def scan(
    path: Path,
    *,
    name: str | None = None,
    piece_length: int | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> Scanned:
    """Hash the file or folder at ``path`` and make its manifest.

    ``name`` is the name that receivers create, by default the last part of ``path``. ``piece_length`` is
    in bytes, by default chosen from the size. ``progress`` is called with hashed and total bytes, ``warn``
    with one line for each entry that is left out (links, sockets, pipes, devices, empty folders).

    Raises `UsageError` for a path that cannot be shared or a name that a manifest cannot have, and
    `DiskError` for an unreadable file or one that changes while it is hashed.
    """
    source, found, skipped = await trio.to_thread.run_sync(_find, path)
    with closing(source.folder):
        title = _title(path, name)
        for line in skipped:
            if warn is not None:
                warn(line)
        total = sum(file.identity.size for file in found)
        length = choose_piece_length(total) if piece_length is None else piece_length
        _check_early(title, source.whole, length, found)
        hashed: list[tuple[FileEntry, bytes]] = []
        await in_thread(_hash_all(source.folder, found, length, hashed), total, progress)
    entries = [entry if source.whole else entry._replace(path=(title,)) for entry, _ in hashed]
    manifest = _manifest(title, source.whole, length, entries)
    checks = b"".join(check for _, check in hashed)
    return Scanned(manifest, Checks(FileIdentities(file.identity for file in found), checks))


@dataclass(frozen=True, slots=True)
class _Source:
    """The folder to read from; ``whole`` tells whether all of it is shared or one file in it."""

    folder: Folder
    whole: bool


def _title(path: Path, name: str | None) -> str:
    own = path.name if path.name not in {"", ".."} else path.resolve().name
    title = own if name is None else name
    try:
        return check_title(title)
    except ManifestError as error:
        raise UsageError(f"{error}; give it another name") from error


def _check_early(title: str, whole: bool, piece_length: int, found: list[Found]) -> None:
    """Raise `UsageError` before hashing for content that no manifest can describe."""
    empty = blake3(b"").digest()
    paths = [file.parts for file in found] if whole else [(title,)]
    _manifest(title, whole, piece_length, [FileEntry(path, 0, False, empty, b"") for path in paths])
    pieces = Layout(piece_length, [file.identity.size for file in found]).piece_count
    if pieces > MAX_PIECES:
        raise UsageError(f"this is {pieces} pieces, more than {MAX_PIECES}; choose a larger piece length")


def _manifest(title: str, folder: bool, piece_length: int, entries: Sequence[FileEntry]) -> Manifest:
    try:
        return Manifest(title, folder, piece_length, entries)
    except ManifestError as error:
        raise UsageError(f"this cannot be shared: {error}") from error


def _find(path: Path) -> tuple[_Source, list[Found], list[str]]:
    """Open the folder to read from; list the files in manifest order, and a line for each skipped entry."""
    real = Path(os.path.realpath(path))
    try:
        about = real.stat()
    except FileNotFoundError as error:
        raise UsageError(f"{printable(str(path))}: there is no such file or folder") from error
    except OSError as error:
        raise disk_error(error, path) from error
    whole = stat.S_ISDIR(about.st_mode)
    if not whole and not stat.S_ISREG(about.st_mode):
        raise UsageError(f"{printable(str(path))}: this is neither a file nor a folder")
    with refusals(path):
        folder = Folder.open(real if whole else real.parent)
    skipped: list[str] = []
    try:
        found = _list(folder, path, skipped) if whole else [Found.of((real.name,), about)]
    except BaseException:
        folder.close()
        raise
    return _Source(folder, whole), found, skipped


def _list(folder: Folder, path: Path, skipped: list[str]) -> list[Found]:
    found: list[Found] = []
    for file in walk(folder, skipped.append):
        _check_names(path, file.parts)
        found.append(file)
        if len(found) > MAX_FILES:
            raise UsageError(f"{printable(str(path))}: more than {MAX_FILES} files; share parts of it")
    return sorted(found, key=lambda file: file.parts)


def _check_names(path: Path, parts: Sequence[str]) -> None:
    try:
        for part in parts:
            check_name(part)
    except ManifestError as error:
        shown = printable(str(path.joinpath(*parts)))
        raise UsageError(f"{shown}: {error}; rename it to share it") from error


def _hash_all(
    folder: Folder, found: list[Found], piece_length: int, hashed: list[tuple[FileEntry, bytes]]
) -> Generator[int, None, None]:
    buffer = new_buffer()
    for file in found:
        size = file.identity.size
        with refusals(folder.at(file.parts)):
            fd = folder.open_file(file.parts, os.O_RDONLY)
            try:
                hashing = FileHashing(piece_length)
                yield from hashing.steps(folder.layer, fd, size, buffer)
                after = FileIdentity.of(os.fstat(fd))
            finally:
                folder.layer.close(fd)
        if not after.same_file(file.identity) or hashing.length != size:
            shown = printable(str(folder.at(file.parts)))
            raise DiskError(f"{shown}: changed while it was hashed; run the same command again")
        entry = FileEntry(file.parts, size, file.executable, hashing.whole, bytes(hashing.pieces))
        hashed.append((entry, bytes(hashing.checks)))
        # Empty files take time too, so let the batch end here.
        yield 0
