"""The files and folders of a target on the disk, and the steps that give them their final names.

A target has a final path, a partial file or folder beside it, and a journal that is also its lock. Finishing
syncs everything to the disk first and then moves it, without replacing anything.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.content.paths import JOURNAL_SUFFIX, PART_SUFFIX, printable
from swarm.errors import DiskError
from swarm.storage.disk_errors import refusals
from swarm.storage.file_layer import FileLayer
from swarm.storage.folder import Folder, flush
from swarm.storage.journal_file import JournalFile
from swarm.storage.piece_files import PieceFiles

BLOCK_BYTES = 512
"""The unit of ``st_blocks`` (POSIX)."""


def check_space(folder: Path, needed: int, *, what: str) -> None:
    """Raise `DiskError` if fewer than ``needed`` bytes are free where ``folder`` is or would be created."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    with refusals(place):
        about = os.statvfs(place)
    free = about.f_bavail * about.f_frsize
    if needed > free:
        raise DiskError(
            f"{printable(what)} needs {needed} bytes, but {printable(str(place))} has {free} free; "
            "free some space or choose another folder"
        )


_EXECUTE = 0o111
_READ = 0o444
_READ_TO_EXECUTE = 2


def prepare(manifest: Manifest, partial: PieceFiles, missing: Collection[int]) -> None:
    """Create the empty files among ``missing``, set executable bits, and sync all ``missing`` files.

    Raises `DiskError`, also if a file was replaced since it was written.
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
    """Make a file executable for those who may read it, or for nobody; synced when this returns."""
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
    """Give a single file its final name; raises `DiskError` if that name exists."""
    with refusals(output.path / name):
        output.layer.move(output.fd, part_name, output.fd, name)
        output.layer.sync(output.fd)


def move_folder(partial: Folder, output: Folder, part_name: str, name: str) -> None:
    """Give a whole partial folder its final name; raises `DiskError` if that name exists."""
    with refusals(output.path / part_name):
        about = output.layer.stat(output.fd, part_name)
        held = os.fstat(partial.fd)
    if (about.st_dev, about.st_ino) != (held.st_dev, held.st_ino):
        raise _replaced(output.path / part_name)
    move_file(output, part_name, name)


def move_into(manifest: Manifest, partial: Folder, final: Folder, missing: Collection[int]) -> None:
    """Move the ``missing`` files from the partial folder into the existing final one, replacing nothing."""
    made: set[tuple[str, ...]] = set()
    changed: set[tuple[str, ...]] = set()
    for file in missing:
        path = manifest.files[file].path
        with refusals(final.at(path)), final.parent(path, created=made.add):
            changed.add(path[:-1])
    # Sync the new folders' entries first: files moved into a folder that a power cut removes would be lost.
    flush(final, (), made)
    for file in missing:
        path = manifest.files[file].path
        with refusals(final.at(path)), partial.parent(path) as source, final.parent(path) as target:
            final.layer.move(source, path[-1], target, path[-1])
    flush(final, (), changed)


def prune(manifest: Manifest, partial: Folder, output: Folder, part_name: str) -> None:
    """Remove the partial folder and the manifest's folders in it if they are empty."""
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
        f"{printable(str(path))}: was replaced by another file during the fetch; move that file away"
    )


class TargetFiles:
    """The files of a target on the disk, locked while this is open. Raises `Locked` and `DiskError`.

    ``final``: what has the final name, or None. ``existing``: indices of the files there that match the
    manifest. ``selected``: indices of the files that `put_in_place` moves there; pieces of other files stay
    in the partial folder. ``partial``: None until a partial folder exists. ``journal``: None when nothing
    can be written, for the reason ``refused``; then every selected file must exist already.
    """

    def __init__(
        self, manifest: Manifest, output_dir: Path, layer: FileLayer, selected: frozenset[int]
    ) -> None:
        self.manifest = manifest
        self.selected = selected
        self.part_name = manifest.name + PART_SUFFIX
        self.existing: set[int] = set()
        self.final: PieceFiles | None = None
        self.partial: PieceFiles | None = None
        self.journal: JournalFile | None = None
        self.refused: DiskError | None = None
        with refusals(output_dir):
            self.output = Folder.open(output_dir, layer)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The final path."""
        return self.output.path / self.manifest.name

    def holder(self, file: int) -> PieceFiles:
        """Return where a file is read from; raises `DiskError` if it is neither final nor partial."""
        files = self.final if file in self.existing else self.partial
        if files is None:
            raise DiskError(f"{self.path}: file {file} is not here")
        return files

    def create_partial(self) -> PieceFiles:
        """Create the partial folder unless it exists, synced when this returns; raises `DiskError`."""
        if self.partial is None:
            with refusals(self.output.path / self.part_name):
                # It exists if an earlier call created it and then failed.
                with suppress(FileExistsError):
                    self.output.layer.make_folder(self.output.fd, self.part_name)
                self.output.layer.sync(self.output.fd)
            self.partial = self._place(self.part_name)
        return self.partial

    def put_in_place(self) -> None:
        """Give the selected files their final names and executable bits; run it in a worker thread.

        Call `settle` in the event loop afterwards, before anything is read again. Raises `DiskError`.
        """
        missing = sorted(self.selected - self.existing)
        if self.final is not None:
            for file in self.existing & self.selected:
                with refusals(self.final.path(file)):
                    wanted = self.manifest.files[file].executable
                    set_executable(self.final, file, wanted=wanted)
        if missing or self.final is None:
            partial = self.create_partial()
            prepare(self.manifest, partial, missing)
            self._move(partial, missing)
        self._remove_leftovers()

    def _move(self, partial: PieceFiles, missing: list[int]) -> None:
        name = self.manifest.name
        if not self.manifest.folder:
            move_file(self.output, self.part_name, name)
        elif self.final is None and self._everything:
            move_folder(partial.folder, self.output, self.part_name, name)
        else:
            move_into(self.manifest, partial.folder, self._create_final().folder, missing)

    def _create_final(self) -> PieceFiles:
        if self.final is None:
            with refusals(self.path):
                self.output.layer.make_folder(self.output.fd, self.manifest.name)
                self.output.layer.sync(self.output.fd)
            self.final = self._place(self.manifest.name)
        return self.final

    @property
    def _everything(self) -> bool:
        return len(self.selected) == len(self.manifest.files)

    def _remove_leftovers(self) -> None:
        """Remove what is left of the partial file or folder, unless it holds other pieces."""
        if self.manifest.folder:
            if self.final is not None and self.partial is not None:
                prune(self.manifest, self.partial.folder, self.output, self.part_name)
            return
        with refusals(self.output.path / self.part_name):
            part = self.output.stat((self.part_name,))
            final = self.output.stat((self.manifest.name,))
            # A move by hard link has two steps; a crash between them leaves both names.
            if part and final and (part.st_dev, part.st_ino) == (final.st_dev, final.st_ino):
                self.output.layer.remove(self.output.fd, self.part_name)

    def settle(self) -> None:
        """After `put_in_place`: read the selected files from the final path, remove the journal, unlock.

        The journal stays, locked, if it claims pieces of other files in the partial folder.
        """
        if self.manifest.folder and self.final is None and self.partial is not None:
            self.final, self.partial = self.partial, None
            self.final.folder.path = self.path
        elif self.final is None:
            self.final = self._place(self.manifest.name)
        if self.partial is not None:
            self.partial.forget()
        self.existing |= self.selected
        if self.journal is not None and (self._everything or not self._exists(self.part_name)):
            self.journal.remove()
            self.journal.close()
            self.journal = None

    def leave_journal(self) -> None:
        """Unlock the journal and leave it unchanged, because it belongs to another target."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def close(self) -> None:
        """Release every descriptor and the lock; remove an empty journal."""
        with ExitStack() as stack:
            stack.callback(self.output.close)
            for files in (self.partial, self.final):
                if files is not None:
                    stack.callback(files.close)
            if self.journal is not None:
                stack.callback(self.journal.close)
                if self.journal.empty():
                    self.journal.remove()

    def _open(self) -> None:
        name = self.manifest.name
        try:
            self.journal = JournalFile.lock(self.output, name + JOURNAL_SUFFIX)
        except DiskError as error:
            # On a read-only file system, complete content can still be shared.
            if not self._exists(name):
                raise
            self.refused = error
        if self._exists(name):
            self.final = self._place(name)
        if not self.manifest.folder or self._exists(self.part_name):
            self.partial = self._place(self.part_name)

    def _exists(self, name: str) -> bool:
        with refusals(self.output.path / name):
            return self.output.stat((name,)) is not None

    def _place(self, name: str) -> PieceFiles:
        if not self.manifest.folder:
            return PieceFiles(self.manifest, self.output, name)
        with refusals(self.output.path / name):
            return PieceFiles(self.manifest, self.output.subfolder(name), name)


def check_room(manifest: Manifest, output_dir: Path, selected: frozenset[int]) -> None:
    """Raise `DiskError` if the missing part of the selected files does not fit into ``output_dir``.

    Nothing is written, and only sizes are read.
    """
    needed, what = sum(manifest.files[file].length for file in selected), manifest.name
    try:
        check_space(output_dir, needed, what=what)
    except DiskError:
        check_space(output_dir, needed - _on_disk(manifest, output_dir, selected), what=what)


def _on_disk(manifest: Manifest, output_dir: Path, selected: frozenset[int]) -> int:
    """Return the bytes that are allocated already, by files under the final and the partial name."""
    total = 0
    for name in (manifest.name, manifest.name + PART_SUFFIX):
        place = output_dir / name
        final = name == manifest.name
        for entry in (manifest.files[file] for file in selected):
            try:
                about = os.lstat(place.joinpath(*entry.path) if manifest.folder else place)
            except OSError:
                continue
            if stat.S_ISREG(about.st_mode):
                total += min(about.st_size if final else about.st_blocks * BLOCK_BYTES, entry.length)
    return total
