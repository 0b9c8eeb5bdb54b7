"""Walks a folder to share: finds files, links and empty folders, and all that cannot be shared.

The walk goes level by level, and in each folder in the order of clash keys, so that it makes the columns of a
manifest of format 2 as it goes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from swarm.content.entries import MAX_ENTRIES, MAX_FILES, LinkEntry
from swarm.content.entry_tree import FILE, FOLDER, PROGRAM
from swarm.content.format2 import Draft, check_target
from swarm.content.ignoring import IgnoreRules
from swarm.content.paths import (
    MAX_PATH_BYTES,
    MAX_PATH_DEPTH,
    all_names_valid,
    check_name,
    clash_key,
    folded,
    printable,
    quoted,
    without_ignored,
)
from swarm.errors import ManifestError, UsageError
from swarm.lazy_dataclass import dataclass, field
from swarm.storage.disk_errors import disk_error, refusals
from swarm.storage.folder import Folder

OWNER_EXECUTES = stat.S_IXUSR
_ALL_READ = 0o444
_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Parts = tuple[str, ...]


T = TypeVar("T")
"""What is kept of a file: made of its path below the scanned folder and its stat result."""


@dataclass(slots=True)
class Listing(Generic[T]):
    """What a walk found. ``draft`` has all of it except hashes, ``files`` are in its order.

    ``refused`` has a line for each name that no manifest can have, ``unreadable`` for each entry that cannot
    be read, and ``left_out`` for each entry that is never shared: devices, and links that lead elsewhere.
    """

    draft: Draft = field(default_factory=Draft)
    files: list[T] = field(default_factory=list)
    links: list[LinkEntry] = field(default_factory=list)
    empty_folders: list[Parts] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WalkRules:
    """What is not shared: what ``ignored`` matches, and the paths ``omitted``."""

    ignored: IgnoreRules = field(default_factory=IgnoreRules)
    omitted: frozenset[Parts] = frozenset()


Make = Callable[[Parts, Sequence[str], Sequence[os.stat_result]], Iterable[T]]
"""Makes what is kept of some files of one folder, from the folder's path, their names and stat results."""


def walk(folder: Folder, rules: WalkRules, make: Make[T]) -> Listing[T]:
    """List what is below ``folder``, without following links; ``make`` is called for files that lie together.

    Raises `DiskError` if the folder itself cannot be read, `UsageError` for more files than a manifest can
    have.
    """
    listing: Listing[T] = Listing()
    _Walker(folder, rules, listing, make).run()
    return listing


def files_below(folder: Folder) -> Iterator[tuple[Parts, bool]]:
    """Yield each path below ``folder`` that is no folder, and each empty folder; and which it is."""
    pending: list[Parts] = [()]
    while pending:
        parts = pending.pop()
        with refusals(folder.at(parts)):
            fd = folder.open_folder(parts)
            try:
                with os.scandir(fd) as entries:
                    found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            finally:
                folder.layer.close(fd)
        if not found and parts:
            yield parts, True
        for name, is_folder in found:
            if is_folder:
                pending.append((*parts, name))
            else:
                yield (*parts, name), False


class _Walker(Generic[T]):
    def __init__(
        self,
        root: Folder,
        rules: WalkRules,
        listing: Listing[T],
        make: Make[T],
    ) -> None:
        self._root = root
        self._rules = rules
        self._listing = listing
        self._make = make
        self._queue: list[tuple[Parts, int]] = [((), -1)]
        self._fd = -1
        self._names: list[str] = []
        self._abouts: list[os.stat_result] = []
        self._me = os.geteuid()

    def run(self) -> None:
        for parts, entry in self._queue:
            count = len(self._listing.draft.kinds)
            try:
                self._fd = self._root.open_folder(parts)
                try:
                    self._folder(parts)
                finally:
                    self._root.layer.close(self._fd)
            except OSError as error:
                if not parts:
                    raise disk_error(error, self._root.path) from error
                self._unreadable(parts, error)
            if entry >= 0:
                inner = len(self._listing.draft.kinds) - count
                self._listing.draft.sizes[entry] = inner
                if not inner:
                    self._listing.empty_folders.append(parts)
        # The queue holds every folder's path, and is not needed any more.
        self._queue = []

    def _folder(self, parts: Parts) -> None:
        with os.scandir(self._fd) as entries:
            found = list(entries)
        names = [entry.name for entry in found]
        text = "\n".join(names)
        plain = without_ignored(text)
        if found and text.count("\n") == len(found) - 1 and all_names_valid(text, plain):
            keys = folded(plain).split("\n")
        else:
            found = [
                entry for entry in found if not self._omits(parts, entry) and self._is_valid(parts, entry)
            ]
            keys = [clash_key(entry.name) for entry in found]
        latest = latest_name = ""
        omits = bool(self._rules.omitted or self._rules.ignored)
        names = [entry.name for entry in found]
        # A character takes at most four bytes.
        short = MAX_PATH_BYTES // 4 - len("/".join(parts)) - 1
        shallow = len(parts) < MAX_PATH_DEPTH
        add_name, add_about = self._names.append, self._abouts.append
        # Names that clash are in the order of their code points; no name comes twice.
        for key, name, entry in sorted(zip(keys, names, found, strict=True)):
            if omits and self._omits(parts, entry):
                continue
            if key == latest:
                self._refuse(
                    (*parts, name), f"clashes with {quoted(latest_name)} in this folder on some file systems"
                )
            elif not shallow:
                self._refuse((*parts, name), f"folders are nested more than {MAX_PATH_DEPTH} levels deep")
            elif len(name) > short and not _is_short((*parts, name)):
                self._refuse((*parts, name), f"its path is longer than {MAX_PATH_BYTES} bytes")
            else:
                latest, latest_name = key, name
                try:
                    # A million plain files are what takes long: nothing is called for one of them alone.
                    if entry.is_file(follow_symlinks=False):
                        about = entry.stat(follow_symlinks=False)
                        if about.st_mode & _ALL_READ == _ALL_READ:
                            add_name(name)
                            add_about(about)
                            continue
                except OSError as error:
                    self._unreadable((*parts, name), error)
                    continue
                self._entry(parts, name, entry)
        self._add_files(parts)

    def _add_files(self, parts: Parts) -> None:
        """Add the files that have gathered to the listing, in their order."""
        listing, names, abouts = self._listing, self._names, self._abouts
        if not names:
            return
        listing.files += self._make(parts, names, abouts)
        listing.draft.add_all(
            names,
            bytes([PROGRAM if about.st_mode & OWNER_EXECUTES else FILE for about in abouts]),
            [about.st_size for about in abouts],
        )
        names.clear()
        abouts.clear()
        if len(listing.files) > MAX_FILES or len(listing.draft.kinds) > MAX_ENTRIES:
            shown = printable(str(self._root.path))
            raise UsageError(f"{shown}: more than {MAX_FILES} files; share parts of it")

    def _omits(self, parts: Parts, entry: os.DirEntry[str]) -> bool:
        rules = self._rules
        if rules.omitted and (*parts, entry.name) in rules.omitted:
            return True
        ignored = rules.ignored
        return bool(ignored) and ignored.match((*parts, entry.name), entry.is_dir(follow_symlinks=False))

    def _entry(self, parts: Parts, name: str, entry: os.DirEntry[str]) -> None:
        """Add an entry of the folder ``parts`` that is no plain file."""
        listing, inner = self._listing, (*parts, name)
        try:
            if entry.is_dir(follow_symlinks=False):
                self._add_files(parts)
                self._queue.append((inner, len(listing.draft.kinds)))
                listing.draft.add(name, FOLDER, 0)
                return
            if entry.is_symlink():
                self._add_files(parts)
                self._link(inner, os.readlink(name, dir_fd=self._fd))
                return
            about = entry.stat(follow_symlinks=False)
        except OSError as error:
            self._unreadable(inner, error)
            return
        if not stat.S_ISREG(about.st_mode):
            kind = _KINDS.get(stat.S_IFMT(about.st_mode), "neither file nor folder")
            listing.left_out.append(f"{_shown(inner)}: left out, {kind}")
        elif self._is_readable(name, about):
            self._names.append(name)
            self._abouts.append(about)
        else:
            listing.unreadable.append(f"{_shown(inner)}: permission denied")

    def _link(self, parts: Parts, target: str) -> None:
        try:
            check_target(target, len(parts) - 1)
        except ManifestError as error:
            self._listing.left_out.append(f"{_shown(parts)}: left out, a symbolic link: {error}")
            return
        self._listing.links.append(LinkEntry(parts, target))
        self._listing.draft.add_link(parts[-1], target)

    def _is_readable(self, name: str, about: os.stat_result) -> bool:
        """Whether a file can be opened: known from its permission bits, or asked of the system."""
        if about.st_mode & _ALL_READ == _ALL_READ or not self._me:
            return True
        return os.access(name, os.R_OK, dir_fd=self._fd, effective_ids=True)

    def _is_valid(self, parts: Parts, entry: os.DirEntry[str]) -> bool:
        name = entry.name
        if not (
            entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink()
        ):
            # It is left out for what it is, whatever its name.
            return True
        try:
            name.encode()
            check_name(name)
        except UnicodeEncodeError:
            self._refuse((*parts, name), "its name is not UTF-8")
        except ManifestError as error:
            self._refuse((*parts, name), str(error))
        else:
            return True
        return False

    def _refuse(self, parts: Parts, why: str) -> None:
        self._listing.refused.append(f"{_shown(parts)}: {why}; rename it to share it")

    def _unreadable(self, parts: Parts, error: OSError) -> None:
        self._listing.unreadable.append(f"{_shown(parts)}: {(error.strerror or str(error)).lower()}")


def _shown(parts: Parts) -> str:
    return printable("/".join(parts))


def _is_short(parts: Parts) -> bool:
    # A character takes at most four bytes.
    if sum(map(len, parts)) * 4 + len(parts) <= MAX_PATH_BYTES:
        return True
    return len("/".join(parts).encode()) <= MAX_PATH_BYTES
