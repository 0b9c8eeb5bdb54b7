"""Where a target lies: its final place, its partial one beside that, its journal and lock."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.content.paths import JOURNAL_SUFFIX, PART_SUFFIX
from swarm.errors import DiskError
from swarm.storage import finish
from swarm.storage.failures import refusals
from swarm.storage.folder import Folder
from swarm.storage.journalfile import JournalFile
from swarm.storage.layer import FileLayer
from swarm.storage.piecefiles import PieceFiles
from swarm.storage.space import BLOCK_BYTES, check_space


class Places:
    """What a target has on the disk, locked while this is open.

    ``final`` is what already has the final name, if anything; ``existing`` are the files there, by
    index, that are known to be the manifest's. ``selected`` are those that are to get there; of the
    others, what is in the partial place stays. ``partial`` is None until a partial folder exists.
    ``journal`` is None only where nothing may be written, as ``refused`` says: then everything has
    to be in place. Raises `Locked` and `DiskError`.
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
        """The final place."""
        return self.output.path / self.manifest.name

    def holder(self, file: int) -> PieceFiles:
        """Where a file is read from; raises `DiskError` if nothing of it can be anywhere."""
        files = self.final if file in self.existing else self.partial
        if files is None:
            raise DiskError(f"{self.path}: file {file} is not here")
        return files

    def create_partial(self) -> PieceFiles:
        """Make the partial folder unless it exists, on the disk when this returns; raises `DiskError`."""
        if self.partial is None:
            with refusals(self.output.path / self.part_name):
                # It exists if an earlier call made it and could not go on.
                with suppress(FileExistsError):
                    self.output.layer.make_folder(self.output.fd, self.part_name)
                self.output.layer.sync(self.output.fd)
            self.partial = self._place(self.part_name)
        return self.partial

    def put_in_place(self) -> None:
        """Give everything selected its final name and executable bits; for a worker thread.

        `settle` has to follow in the event loop before anything is read again. Raises `DiskError`.
        """
        missing = sorted(self.selected - self.existing)
        if self.final is not None:
            for file in self.existing & self.selected:
                with refusals(self.final.path(file)):
                    wanted = self.manifest.files[file].executable
                    finish.set_executable(self.final, file, wanted=wanted)
        if missing or self.final is None:
            partial = self.create_partial()
            finish.prepare(self.manifest, partial, missing)
            self._move(partial, missing)
        self._remove_leftovers()

    def _move(self, partial: PieceFiles, missing: list[int]) -> None:
        name = self.manifest.name
        if not self.manifest.folder:
            finish.move_file(self.output, self.part_name, name)
        elif self.final is None and self._everything:
            finish.move_folder(partial.folder, self.output, self.part_name, name)
        else:
            finish.move_into(self.manifest, partial.folder, self._create_final().folder, missing)

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
        """Remove what is left of the partial place, as far as it holds nothing of its own."""
        if self.manifest.folder:
            if self.final is not None and self.partial is not None:
                finish.prune(self.manifest, self.partial.folder, self.output, self.part_name)
            return
        with refusals(self.output.path / self.part_name):
            part = self.output.stat((self.part_name,))
            final = self.output.stat((self.manifest.name,))
            # A crash between the two steps of a move by hard link leaves both names.
            if part and final and (part.st_dev, part.st_ino) == (final.st_dev, final.st_ino):
                self.output.layer.remove(self.output.fd, self.part_name)

    def settle(self) -> None:
        """After `put_in_place`: read what was selected from the final place, remove the journal, unlock.

        The journal stays, locked, for as long as it vouches for other files in the partial place.
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
        """Unlock the journal and let it be: it is not this target's."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def close(self) -> None:
        """Release every descriptor and the lock; a journal that says nothing is removed."""
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
            # Where nothing can be written, what is complete can still be shared.
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
    """Raise `DiskError` if what is missing of the selected files does not fit where they are to go.

    Nothing is written, and nothing but sizes is read.
    """
    needed, what = sum(manifest.files[file].length for file in selected), manifest.name
    try:
        check_space(output_dir, needed, what=what)
    except DiskError:
        check_space(output_dir, needed - _on_disk(manifest, output_dir, selected), what=what)


def _on_disk(manifest: Manifest, output_dir: Path, selected: frozenset[int]) -> int:
    """Bytes that need no more space: files in the final place, and what the partial one takes."""
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
