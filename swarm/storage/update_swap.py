"""Puts a prepared version in the place of the old one, in one step that a crash cannot halve.

The new version is complete, verified and synced in the partial folder, and so are the user's files, which are
linked into it. Then, each step synced before the next:

1. ``x.swarm-part`` becomes ``x.swarm-new``. From here on that name says: complete, and ready.
2. ``x.swarm-new`` and ``x`` change places (``renameat2`` with ``RENAME_EXCHANGE``). A file system without
   that gets two renames: ``x`` becomes ``x.swarm-old``, then ``x.swarm-new`` becomes ``x``. After a crash
   between them, `recover` gives the old version its name back.
3. Of the old version, now ``x.swarm-new`` or ``x.swarm-old``, what is ours is removed.
4. The journal is removed. While it is there, the next run knows that these names are ours.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.content.paths import JOURNAL_SUFFIX, PART_SUFFIX, printable, temporary_names
from swarm.errors import DiskError, SwarmError
from swarm.lazy_dataclass import dataclass, field
from swarm.storage.disk_errors import optional, refusals
from swarm.storage.extras import target_of
from swarm.storage.file_layer import FileLayer, read_at, write_at
from swarm.storage.folder import Folder, flush, open_regular, sync_entries
from swarm.storage.hash_cache import Remembered
from swarm.storage.hashing import new_buffer
from swarm.storage.journal_file import JournalFile
from swarm.storage.permissions import copy_mode
from swarm.storage.room import is_short_enough
from swarm.storage.user_files import KeptPlaces, Ownership, blake3_of, kept_name, tree_entries

NEW_SUFFIX = ".swarm-new"
OLD_SUFFIX = ".swarm-old"
STALE_SUFFIX = ".swarm-stale"
"""An unfinished fetch of another version, given up for this one: a base until this one is complete."""
TEMPORARY = ".swarm-link"
"""The name of a user's file for the moment before it takes the place of an earlier link to it."""
MAX_NAMED = 20
"""Kept files that a warning names."""
MAX_TOLD = 1000
"""Kept files that the event names."""

Parts = tuple[str, ...]

_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_LINKS = _NO_EXCHANGE | {errno.EPERM, errno.EMLINK, errno.EACCES}


@dataclass(frozen=True, slots=True)
class SwapNames:
    """The names of one target in its output folder."""

    final: str
    part: str
    new: str
    old: str
    stale: str
    journal: str

    @classmethod
    def of(cls, output: Folder, final: str) -> SwapNames:
        """Return the names for a final name, shortened where the file system takes no longer ones."""

        def temporary(suffix: str) -> str:
            plain, short = temporary_names(final, suffix)
            return plain if is_short_enough(output, plain) else short

        suffixes = (PART_SUFFIX, NEW_SUFFIX, OLD_SUFFIX, STALE_SUFFIX, JOURNAL_SUFFIX)
        return cls(final, *map(temporary, suffixes))


@dataclass(slots=True)
class KeptFiles:
    """The user's files that an update has kept: where they are now, below the final path."""

    files: list[Parts] = field(default_factory=list)
    left: Path | None = None
    """What could not be removed of the old version."""

    def told(self) -> tuple[str, ...]:
        """The paths that the event names."""
        return tuple("/".join(parts) for parts in self.files[:MAX_TOLD])

    def warnings(self, path: Path) -> list[str]:
        """Return a line for people about the kept files, and one about what is left; none for nothing."""
        lines = []
        if self.files:
            named = ", ".join(printable("/".join(parts)) for parts in self.files[:MAX_NAMED])
            more = f" and {len(self.files) - MAX_NAMED} more" if len(self.files) > MAX_NAMED else ""
            count = len(self.files)
            what = "a file that is yours, edited or added" if count == 1 else f"{count} files that are yours"
            lines.append(f"{printable(str(path))}: kept {what}: {named}{more}")
        if self.left is not None:
            lines.append(f"{printable(str(self.left))}: left over from the old version; remove it yourself")
        return lines


class UpdateSwap:
    """Replaces the old version, a folder, by the new one in the partial folder."""

    def __init__(
        self, manifest: Manifest, output: Folder, names: SwapNames, remembered: Remembered | None
    ) -> None:
        self._output = output
        self._layer = output.layer
        self._names = names
        self._ownership = Ownership(manifest, remembered)
        self._places = KeptPlaces(manifest)
        self.kept = KeptFiles()

    # --- Before the swap ----------------------------------------------------------------------------

    def keep(self, old: Folder, part: Folder) -> None:
        """Link the user's files of the old version into the new one, synced; copy permission bits.

        Raises `DiskError`, with nothing changed in the old version.
        """
        device = os.fstat(old.fd).st_dev
        folders: list[tuple[Parts, os.stat_result]] = [((), os.fstat(old.fd))]
        inhabited: set[Parts] = {()}
        changed: set[Parts] = set()
        self.kept.files.clear()
        with refusals(old.path):
            for parts, about in tree_entries(old):
                inhabited.add(parts[:-1])
                if not stat.S_ISDIR(about.st_mode):
                    self._keep_one(old, part, parts, about, changed.add)
                elif about.st_dev != device:
                    shown = printable(str(old.at(parts)))
                    raise DiskError(f"{shown}: another file system is mounted here; unmount it first")
                else:
                    folders.append((parts, about))
        for parts, _ in folders:
            if parts not in inhabited and parts not in self._ownership.folders:
                with refusals(part.path):
                    place = next(self._places.candidates(parts, part))
                with refusals(part.at(place)), part.parent((*place, "."), created=changed.add):
                    self.kept.files.append(place)
        for parts, about in folders:
            self._copy_folder_mode(part, parts, about)
        flush(part, (), changed)

    def _keep_one(
        self,
        old: Folder,
        part: Folder,
        parts: Parts,
        about: os.stat_result,
        changed: Callable[[Parts], None],
    ) -> None:
        if stat.S_ISREG(about.st_mode) and self._places.is_new(parts):
            self._copy_file_mode(part, parts, about)
        if self._ownership.is_ours(old, parts, about):
            return
        for place in self._places.candidates(parts, part):
            # Another file of the user may have that name.
            if place == parts or old.stat(place) is None:
                break
        with refusals(part.at(place)), part.parent(place, created=changed) as target:
            there = part.stat(place)
            if there is None or (there.st_dev, there.st_ino) != (about.st_dev, about.st_ino):
                self._link(old, parts, about, target, place[-1], replacing=there is not None)
            changed(place[:-1])
        self.kept.files.append(place)

    def _link(
        self, old: Folder, parts: Parts, about: os.stat_result, target: int, name: str, *, replacing: bool
    ) -> None:
        """Give a user's file a second name in the new version; where links cannot be made, copy it."""
        at = TEMPORARY if replacing else name
        if replacing:
            with suppress(FileNotFoundError):
                self._layer.remove(target, at)
        if stat.S_ISLNK(about.st_mode):
            self._layer.make_link(target, at, target_of(old, parts) or "")
        else:
            try:
                with old.parent(parts) as source:
                    self._layer.link(source, parts[-1], target, at)
            except OSError as error:
                if error.errno not in _NO_LINKS or not stat.S_ISREG(about.st_mode):
                    raise
                with old.parent(parts) as source:
                    copy_file(self._layer, (source, parts[-1]), (target, at), about)
        if replacing:
            self._layer.replace(target, at, target, name)

    def _copy_file_mode(self, part: Folder, parts: Parts, about: os.stat_result) -> None:
        with suppress(OSError), part.parent(parts) as parent:
            copy_mode(self._layer, (parent, parts[-1]), about)

    def _copy_folder_mode(self, part: Folder, parts: Parts, about: os.stat_result) -> None:
        """What was closed to others stays so."""
        with suppress(OSError):
            fd = part.open_folder(parts)
            try:
                if os.fstat(fd).st_mode != about.st_mode:
                    self._layer.set_mode(fd, stat.S_IMODE(about.st_mode))
                    self._layer.sync(fd)
            finally:
                self._layer.close(fd)

    # --- The swap -----------------------------------------------------------------------------------

    def exchange(self, old: Folder, part: Folder) -> None:
        """Give the new version the final name; raises `DiskError` with the old one in its place."""
        names, fd, layer = self._names, self._output.fd, self._layer
        with refusals(self._output.path / names.final):
            self._require(old, names.final)
            self._require(part, names.part)
            layer.move(fd, names.part, fd, names.new)
            sync_entries(layer, fd)
            try:
                self._change_places()
            except OSError:
                with suppress(OSError):
                    layer.move(fd, names.new, fd, names.part)
                raise
            sync_entries(layer, fd)

    def _change_places(self) -> None:
        names, fd, layer = self._names, self._output.fd, self._layer
        try:
            layer.exchange(fd, names.new, fd, names.final)
        except OSError as error:
            if error.errno not in _NO_EXCHANGE:
                raise
        else:
            return
        layer.move(fd, names.final, fd, names.old)
        sync_entries(layer, fd)
        try:
            layer.move(fd, names.new, fd, names.final)
        except OSError:
            layer.move(fd, names.old, fd, names.final)
            raise

    def _require(self, folder: Folder, name: str) -> None:
        """Raise `DiskError` if the name does not lead to the open folder any more."""
        about, held = self._layer.stat(self._output.fd, name), os.fstat(folder.fd)
        if (about.st_dev, about.st_ino) != (held.st_dev, held.st_ino):
            shown = printable(str(self._output.path / name))
            raise DiskError(f"{shown}: was replaced by another folder during the fetch; move it away")

    # --- After the swap -----------------------------------------------------------------------------

    def clear(self, *, also_old: bool = True) -> None:
        """Remove what is ours of the old version, wherever it is; what is not goes into the new one.

        Raises nothing: the update is done. What is left is noted in ``kept.left``. ``also_old``: look under
        the name that the old version has where names cannot change places.
        """
        for name in (self._names.new, self._names.old) if also_old else (self._names.new,):
            try:
                if self._output.stat((name,)) is None:
                    continue
                with (
                    closing(self._output.subfolder(name)) as tree,
                    closing(self._output.subfolder(self._names.final)) as final,
                ):
                    self._clear(tree, final)
                self._layer.remove_folder(self._output.fd, name)
            except OSError:
                self.kept.left = self._output.path / name
        with suppress(OSError):
            sync_entries(self._layer, self._output.fd)

    def _clear(self, tree: Folder, final: Folder) -> None:
        folders: list[Parts] = []
        changed: set[Parts] = set()
        for parts, about in tree_entries(tree):
            if stat.S_ISDIR(about.st_mode):
                folders.append(parts)
            elif self._ownership.is_ours(tree, parts, about) or self._is_kept(
                tree, final, parts, about, changed
            ):
                with tree.parent(parts) as parent:
                    self._layer.remove(parent, parts[-1])
        flush(final, (), changed)
        for parts in reversed(folders):
            with tree.parent(parts) as parent:
                self._layer.remove_folder(parent, parts[-1])

    def _is_kept(
        self, tree: Folder, final: Folder, parts: Parts, about: os.stat_result, changed: set[Parts]
    ) -> bool:
        """Whether the new version has a user's file; one that came after `keep` is moved there."""
        for place in self._places.candidates(parts, final):
            there = final.stat(place)
            if there is None:
                with tree.parent(parts) as source, final.parent(place, created=changed.add) as target:
                    self._layer.move(source, parts[-1], target, place[-1])
                changed.add(place[:-1])
                self.kept.files.append(place)
                return False
            if _is_twin(tree, parts, about, final, place, there):
                return True
        return False


def _is_twin(
    tree: Folder, parts: Parts, about: os.stat_result, final: Folder, place: Parts, there: os.stat_result
) -> bool:
    """Whether two files are one, or have the same content."""
    if (about.st_dev, about.st_ino) == (there.st_dev, there.st_ino):
        return True
    if stat.S_IFMT(about.st_mode) != stat.S_IFMT(there.st_mode):
        return False
    if stat.S_ISLNK(about.st_mode):
        return target_of(tree, parts) == target_of(final, place)
    if not stat.S_ISREG(about.st_mode) or about.st_size != there.st_size:
        return False
    return blake3_of(tree, parts) == blake3_of(final, place)


def keep_single(
    output: Folder, name: str, ownership: Ownership, kept: KeptFiles, about: os.stat_result
) -> None:
    """Give a single file of the user that is to be replaced another name, synced; raises `DiskError`."""
    with refusals(output.path / name):
        if ownership.is_ours(output, (name,), about):
            return
        number = 1
        while (there := output.stat((kept_name(name, number),))) is not None:
            if _is_twin(output, (name,), about, output, (kept_name(name, number),), there):
                # An earlier run has done it.
                break
            number += 1
        place = kept_name(name, number)
        if there is None:
            _second_name(output, name, place, about)
            sync_entries(output.layer, output.fd)
        kept.files.append((place,))


def copy_file(
    layer: FileLayer, source: tuple[int, str], target: tuple[int, str], about: os.stat_result
) -> None:
    """Copy a file, with its permission bits and time, synced; a file that is there is replaced."""
    buffer, offset = new_buffer(), 0
    with suppress(FileNotFoundError):
        layer.remove(*target)
    old = open_regular(layer, *source, os.O_RDONLY)
    try:
        fd = layer.open(*target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            while got := read_at(layer, old, buffer, offset):
                write_at(layer, fd, buffer[:got], offset)
                offset += got
            with suppress(OSError):
                layer.set_mode(fd, stat.S_IMODE(about.st_mode))
                os.utime(fd, ns=(about.st_atime_ns, about.st_mtime_ns))
            with optional():
                layer.sync(fd)
        finally:
            layer.close(fd)
    finally:
        layer.close(old)


def _second_name(output: Folder, name: str, place: str, about: os.stat_result) -> None:
    try:
        output.layer.link(output.fd, name, output.fd, place)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        copy_file(output.layer, (output.fd, name), (output.fd, place), about)


def recover(output: Folder, names: SwapNames) -> bool:
    """Give the old version its name back after a crash between the two renames; says whether that was needed.

    To be called with the journal locked and not empty. Raises `DiskError`.
    """
    with refusals(output.path / names.final):
        if output.stat((names.final,)) is not None or output.stat((names.old,)) is None:
            return False
        output.layer.move(output.fd, names.old, output.fd, names.final)
        sync_entries(output.layer, output.fd)
    return True


def recover_at(path: Path) -> bool:
    """As `recover`, for a command that finds nothing at ``path``; without a journal, nothing is done.

    While another process holds the lock, it is about to do the second rename.
    """
    with suppress(OSError, SwarmError), closing(Folder.open(path.parent)) as output:
        names = SwapNames.of(output, path.name)
        if output.stat((names.old,)) is None or output.stat((names.journal,)) is None:
            return False
        with closing(JournalFile.lock(output, names.journal)) as journal:
            return not journal.empty() and recover(output, names)
    return False
