"""The files and folders of a target on the disk, and the steps that give them their final names.

A target has a final path, a partial file or folder beside it, and a journal that is also its lock. Finishing
syncs everything to the disk first and then moves it, without replacing anything.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

from swarm.content.manifest import FileEntry, Manifest
from swarm.content.paths import printable
from swarm.content.times import FileTimes
from swarm.errors import DiskError, PiecesChanged
from swarm.ids import DIGEST_BYTES
from swarm.lazy_dataclass import dataclass
from swarm.storage.disk_errors import disk_error, refusals
from swarm.storage.extras import Extras
from swarm.storage.file_identity import FileIdentities
from swarm.storage.file_layer import FileLayer
from swarm.storage.folder import Folder, Parents, flush, sync_entries
from swarm.storage.hash_cache import Recall, Remembered
from swarm.storage.hashing import FileHashing, new_buffer
from swarm.storage.journal_file import JournalFile
from swarm.storage.permissions import ExecutableBits, copy_mode
from swarm.storage.piece_files import PartState, PieceFiles
from swarm.storage.room import check_characters, check_lengths
from swarm.storage.tree_times import set_tree_times
from swarm.storage.update_swap import KeptFiles, SwapNames, UpdateSwap, keep_single, recover
from swarm.storage.user_files import Ownership, remove_tree


def prepare(
    manifest: Manifest,
    partial: PieceFiles,
    missing: Collection[int],
    executable: ExecutableBits,
    extras: Extras | None = None,
    times: FileTimes | None = None,
) -> None:
    """Create the empty files among ``missing``, set executable bits and times, make ``extras``, and sync it.

    A file that another program wrote to meanwhile is hashed again, and cut to its length. Raises
    `PiecesChanged` if any differs, once all were looked at, and `DiskError` if one was removed or replaced.
    """
    folders: set[tuple[str, ...]] = {()}
    changed: dict[int, list[int]] = {}
    unlike: list[int] = []
    with Parents(partial.folder) as parents:
        for file in missing:
            entry = manifest.files[file]
            parts = partial.parts_of(entry)
            folders.add(parts[:-1])
            try:
                if not entry.length:
                    partial.create(file, folders.add)
                about = parents.stat(parts)
                if bad := _changed_pieces(manifest, partial, file, about):
                    changed[file] = bad
            except OSError as error:
                raise disk_error(error, partial.path(file)) from error
            if not _is_like(about, entry, None if times is None else times.of_file(file)):
                unlike.append(file)
        if changed:
            raise _pieces_changed(partial, changed)
        _set_attributes(manifest, partial, parents, unlike, executable, times)
    for folder in tuple(folders):
        folders.update(folder[:depth] for depth in range(len(folder)))
    if extras is not None:
        extras.make(partial.folder, folders.add)
    flush(partial.folder, partial.paths(missing), folders)


def _is_like(about: os.stat_result | None, entry: FileEntry, time: int | None) -> bool:
    """Whether a file has the length, the executable bit and the time that it is to have."""
    if about is None or about.st_size != entry.length:
        return False
    return bool(about.st_mode & stat.S_IXUSR) == entry.executable and time in {None, about.st_mtime_ns}


def _set_attributes(
    manifest: Manifest,
    partial: PieceFiles,
    parents: Parents,
    files: Collection[int],
    executable: ExecutableBits,
    times: FileTimes | None,
) -> None:
    """Set the executable bits and the times of files, where they are not as they should be."""
    for file in files:
        parts, wanted = partial.parts(file), manifest.files[file].executable
        with refusals(partial.path(file)):
            about = parents.stat(parts)
            if about is None or bool(about.st_mode & stat.S_IXUSR) != wanted:
                executable.set(partial, file, wanted=wanted)
            time = None if times is None else times.of_file(file)
            if time is not None and about is not None and about.st_mtime_ns != time:
                with suppress(OSError):
                    at = parents.of(parts)
                    os.utime(parts[-1], ns=(about.st_atime_ns, time), dir_fd=at, follow_symlinks=False)


def _changed_pieces(
    manifest: Manifest, partial: PieceFiles, file: int, about: os.stat_result | None
) -> list[int]:
    """Return the pieces of a partial file that are not what was written here, none if all are right.

    Raises `DiskError` if the file is gone or another one.
    """
    match partial.state_of(file, about):
        case PartState.NOTHING:
            # A folder is named that is there, not the file, which is not.
            raise DiskError(
                f"{printable(str(partial.folder.path))}: a file of the fetch was removed from here "
                "by another program; run the same command again"
            )
        case PartState.ANOTHER:
            raise _replaced(partial.path(file))
        case PartState.CHANGED:
            return _wrong_pieces(manifest, partial, file)
        case PartState.SAME:
            pass
    return []


def _wrong_pieces(manifest: Manifest, partial: PieceFiles, file: int) -> list[int]:
    """Hash a partial file, cut to its length; return the pieces that do not match the manifest."""
    entry = manifest.files[file]
    hashing = FileHashing(manifest.piece_length)
    layer = partial.folder.layer
    fd = partial.folder.open_file(partial.parts(file), os.O_RDWR)
    try:
        before = os.fstat(fd)
        if before.st_size > entry.length:
            layer.resize(fd, entry.length)
            before = os.fstat(fd)
        for _ in hashing.steps(layer, fd, entry.length, new_buffer()):
            pass
        if hashing.pieces == entry.pieces:
            partial.verified(file, before)
            return []
    finally:
        layer.close(fd)
    digests = (bytes(hashing.pieces[at : at + DIGEST_BYTES]) for at in count(0, DIGEST_BYTES))
    pieces = manifest.layout.pieces_of(file)
    return [
        piece for piece, digest in zip(pieces, digests, strict=False) if digest != manifest.piece_hash(piece)
    ]


def _pieces_changed(partial: PieceFiles, changed: Mapping[int, list[int]]) -> PiecesChanged:
    path = printable(str(partial.path(next(iter(changed)))))
    others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return PiecesChanged(
        f"{path}{others}: another program changed it during the fetch, and again what was fetched again; "
        "end that program and run the same command again",
        path + others,
        tuple(piece for pieces in changed.values() for piece in pieces),
    )


def move_file(output: Folder, part_name: str, name: str, *, replacing: bool = False) -> None:
    """Give a single file its final name; raises `DiskError` if that name exists, unless ``replacing``."""
    with refusals(output.path / name):
        _move(output.layer, (output.fd, part_name), (output.fd, name), replacing=replacing)
        sync_entries(output.layer, output.fd)


def _move(layer: FileLayer, old: tuple[int, str], new: tuple[int, str], *, replacing: bool) -> None:
    """Rename a file; with ``replacing``, over another file, whose permission bits it keeps."""
    if not replacing:
        layer.move(*old, *new)
        return
    try:
        about = layer.stat(*new)
    except FileNotFoundError:
        layer.move(*old, *new)
        return
    if not stat.S_ISREG(about.st_mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    copy_mode(layer, old, about)
    layer.replace(*old, *new)


def move_folder(partial: Folder, output: Folder, part_name: str, name: str) -> None:
    """Give a whole partial folder its final name; raises `DiskError` if that name exists."""
    with refusals(output.path / part_name):
        about = output.layer.stat(output.fd, part_name)
        held = os.fstat(partial.fd)
    if (about.st_dev, about.st_ino) != (held.st_dev, held.st_ino):
        raise _replaced(output.path / part_name)
    move_file(output, part_name, name)


def move_into(
    manifest: Manifest,
    partial: Folder,
    final: Folder,
    missing: Collection[int],
    replaced: Collection[int] = (),
) -> None:
    """Move the ``missing`` files from the partial folder into the existing final one.

    Only the files in ``replaced`` take the place of others.
    """
    made: set[tuple[str, ...]] = set()
    changed: set[tuple[str, ...]] = set()
    for file in missing:
        path = manifest.path(file)
        with refusals(final.at(path)), final.parent(path, created=made.add):
            changed.add(path[:-1])
    # Sync the new folders' entries first: files moved into a folder that a power cut removes would be lost.
    flush(final, (), made)
    for file in missing:
        path = manifest.path(file)
        with refusals(final.at(path)), partial.parent(path) as source, final.parent(path) as target:
            old, new = (source, path[-1]), (target, path[-1])
            _move(final.layer, old, new, replacing=file in replaced)
    flush(final, (), changed)


def prune(manifest: Manifest, partial: Folder, output: Folder, part_name: str) -> None:
    """Remove the partial folder and the manifest's folders in it if they are empty."""
    folders = {path[:depth] for path in manifest.item_paths() for depth in range(1, len(path))}
    folders.update(manifest.empty_folders)
    for parts in sorted(folders, key=len, reverse=True):
        with refusals(partial.at(parts)):
            _remove_empty(partial, parts)
    with refusals(output.path / part_name):
        _remove_empty(output, (part_name,))
        sync_entries(output.layer, output.fd)


def _remove_empty(folder: Folder, parts: tuple[str, ...]) -> None:
    try:
        with folder.parent(parts) as fd:
            folder.layer.remove_folder(fd, parts[-1])
    except OSError as error:
        # What is in the way there is somebody else's, and stays.
        if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP}:
            raise


def _replaced(path: Path) -> DiskError:
    return DiskError(
        f"{printable(str(path))}: was replaced by another file during the fetch; move that file away"
    )


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What a fetch is to leave on the disk: the ``selected`` files (indices), under the final name ``name``.

    With ``overwrite``, files there that differ are replaced once everything is complete. ``times`` are given
    to the files that are put in place.
    """

    manifest: Manifest
    name: str
    selected: frozenset[int]
    overwrite: bool = False
    extras: frozenset[int] = frozenset()
    """The selected links and empty folders, numbered as in `Manifest.item_paths`."""
    times: FileTimes | None = None
    update: bool = False
    """Whether an older version under the final name is replaced as a whole."""

    @property
    def everything(self) -> bool:
        """Whether all files, links and empty folders are selected."""
        return len(self.selected) + len(self.extras) == self.manifest.item_count


class TargetFiles:
    """The files of a target on the disk, locked while this is open. Raises `Locked` and `DiskError`.

    ``final``: what has the final name, or None. ``existing``: indices of the files there that match the
    manifest; ``differing``: of those that do not and that `put_in_place` replaces. Pieces of files that are
    not selected stay in the partial folder. ``partial``: None until a partial folder exists. ``journal``:
    None when nothing can be written, for the reason ``refused``; then every selected file must exist already.
    """

    def __init__(self, plan: TargetPlan, output_dir: Path, layer: FileLayer) -> None:
        self.plan = plan
        self.manifest = plan.manifest
        self.selected = plan.selected
        self.existing: set[int] = set()
        self.differing: set[int] = set()
        self.checked: FileIdentities | None = None
        """What tells existing files from changed ones, as of when they were hashed; None if none was."""
        self.final: PieceFiles | None = None
        self.partial: PieceFiles | None = None
        self.journal: JournalFile | None = None
        self.refused: DiskError | None = None
        self.executable = ExecutableBits()
        self.extras = Extras(plan.manifest, plan.extras, replacing=plan.overwrite or plan.update)
        self.old: PieceFiles | None = None
        """The older version that is to be replaced as a whole; it has the final name until then."""
        self.remembered: Remembered | None = None
        """What was hashed at the final path before."""
        self.recall: Recall | None = None
        """Returns what was hashed at any path before."""
        self.kept = KeptFiles()
        """The user's files that an update has kept."""
        self._swap: UpdateSwap | None = None
        with refusals(output_dir):
            self.output = Folder.open(output_dir, layer)
        try:
            check_lengths(self.output, plan.manifest, plan.selected, plan.name)
            self.names = SwapNames.of(self.output, plan.name)
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The final path."""
        return self.output.path / self.plan.name

    def holder(self, file: int) -> PieceFiles:
        """Return where a file is read from; raises `DiskError` if it is neither final nor partial."""
        files = self.final if file in self.existing else self.partial
        if files is None:
            raise DiskError(f"{self.path}: file {file} is not here")
        return files

    def create_partial(self) -> PieceFiles:
        """Create the partial folder unless it exists, synced when this returns; raises `DiskError`."""
        if self.partial is None:
            with refusals(self.output.path / self.names.part):
                # It exists if an earlier call created it and then failed.
                with suppress(FileExistsError):
                    self.output.layer.make_folder(self.output.fd, self.names.part)
                sync_entries(self.output.layer, self.output.fd)
            self.partial = self._place(self.names.part)
        return self.partial

    def set_old_aside(self) -> None:
        """What has the final name is an older version: it counts as nothing until it is replaced."""
        self.old, self.final = self.final, None
        self.existing.clear()
        self.differing.clear()
        self.checked = None

    def reclaim(self) -> bool:
        """Go on with the complete new version that a crash before the swap has left under another name.

        Says whether there is one; it may be an old version, left by a crash behind the swap: see `unclaim`.
        """
        names = self.names
        if self.partial is not None or not (self.manifest.folder and self._is_begun()):
            return False
        with refusals(self.output.path / names.new):
            if not self._exists(names.new):
                return False
            self.output.layer.move(self.output.fd, names.new, self.output.fd, names.part)
            sync_entries(self.output.layer, self.output.fd)
        self.partial = self._place(names.part)
        return True

    def unclaim(self) -> None:
        """What was reclaimed is no complete new version: remove what is ours of it."""
        names = self.names
        if self.partial is not None:
            self.partial.close()
            self.partial = None
        with refusals(self.output.path / names.part):
            self.output.layer.move(self.output.fd, names.part, self.output.fd, names.new)
        known = None if self.recall is None else self.recall(self.output.path / names.new)
        swap = UpdateSwap(self.manifest, self.output, names, known or self.remembered)
        swap.clear(also_old=False)
        self.kept.files += swap.kept.files

    def give_up_other(self) -> None:
        """The partial file or folder, and the journal, are those of another version: they become a base.

        Raises `DiskError`.
        """
        names, output = self.names, self.output
        with refusals(self.path):
            for name in (names.part, names.new):
                if not self._exists(name):
                    continue
                known = self.recall(output.path / name) if self.recall and name == names.new else None
                if known is not None and self._exists(names.final):
                    # No new version but an old one, left by a crash behind the swap.
                    swap = UpdateSwap(self.manifest, output, names, known)
                    swap.clear()
                    self.kept.files += swap.kept.files
                else:
                    self._discard_stale()
                    output.layer.move(output.fd, name, output.fd, names.stale)
                    sync_entries(output.layer, output.fd)
        if self.manifest.folder and self.partial is not None:
            self.partial.close()
            self.partial = None
        if self.journal is not None:
            self.journal.clear()

    @property
    def stale(self) -> Path | None:
        """What is left of an unfinished fetch of another version, if anything is."""
        there = self.plan.update and self._exists(self.names.stale)
        return self.output.path / self.names.stale if there else None

    @property
    def left(self) -> Path | None:
        """Where the old version is between the swap and its removal; None if it is not."""
        names = self.names
        found = [name for name in (names.new, names.old) if self._exists(name)]
        return self.output.path / found[0] if found else None

    def _discard_stale(self) -> None:
        if self._exists(self.names.stale):
            remove_tree(self.output, self.names.stale)

    def _is_begun(self) -> bool:
        return self.journal is not None and not self.journal.empty()

    def put_in_place(self) -> None:
        """Give the selected files their final names and executable bits; run it in a worker thread.

        Call `settle` in the event loop afterwards, before anything is read again, and `clean_up` at last.
        Raises `DiskError`.
        """
        missing = sorted(self.selected - self.existing)
        if self.final is not None:
            for file in self.existing & self.selected:
                with refusals(self.final.path(file)):
                    wanted = self.manifest.files[file].executable
                    self.executable.set(self.final, file, wanted=wanted)
        if missing or self.final is None:
            partial = self.create_partial()
            whole = self.manifest.folder and self.final is None and self.plan.everything
            extras = self.extras if whole else None
            prepare(self.manifest, partial, missing, self.executable, extras, self.plan.times)
            self._move(partial, missing)
        elif self._is_begun():
            # The old version may be left, if the process ended between the swap and the removal of that.
            left = self.left
            known = self.recall(left) if left is not None and self.recall is not None else None
            self._swap = UpdateSwap(self.manifest, self.output, self.names, known or self.remembered)
        self._make_extras()
        self._remove_leftovers()

    def _make_extras(self) -> None:
        """Make the links and empty folders that are not in the final folder yet."""
        if self.final is not None and self.plan.extras:
            changed: set[tuple[str, ...]] = set()
            self.extras.make(self.final.folder, changed.add)
            flush(self.final.folder, (), changed)

    def _move(self, partial: PieceFiles, missing: list[int]) -> None:
        name = self.plan.name
        if not self.manifest.folder:
            if self.old is not None:
                self._keep_single()
            replacing = bool(self.differing) or self.old is not None
            move_file(self.output, self.names.part, name, replacing=replacing)
        elif self.old is not None:
            self._swap = swap = UpdateSwap(self.manifest, self.output, self.names, self.remembered)
            swap.keep(self.old.folder, partial.folder)
            swap.exchange(self.old.folder, partial.folder)
        elif self.final is None and self.plan.everything:
            move_folder(partial.folder, self.output, self.names.part, name)
        else:
            final = self._create_final().folder
            move_into(self.manifest, partial.folder, final, missing, self.differing)

    def _keep_single(self) -> None:
        with refusals(self.path):
            about = self.output.stat((self.plan.name,))
        if about is not None:
            ownership = Ownership(self.manifest, self.remembered)
            keep_single(self.output, self.plan.name, ownership, self.kept, about)

    def _create_final(self) -> PieceFiles:
        if self.final is None:
            with refusals(self.path):
                self.output.layer.make_folder(self.output.fd, self.plan.name)
                sync_entries(self.output.layer, self.output.fd)
            self.final = self._place(self.plan.name)
        return self.final

    def _remove_leftovers(self) -> None:
        """Remove what is left of the partial file or folder, unless it holds other pieces."""
        if self.manifest.folder:
            if self.final is not None and self.partial is not None:
                prune(self.manifest, self.partial.folder, self.output, self.names.part)
            return
        with refusals(self.output.path / self.names.part):
            part = self.output.stat((self.names.part,))
            final = self.output.stat((self.plan.name,))
            # A move by hard link has two steps; a crash between them leaves both names.
            if part and final and (part.st_dev, part.st_ino) == (final.st_dev, final.st_ino):
                self.output.layer.remove(self.output.fd, self.names.part)

    def settle(self) -> None:
        """After `put_in_place`: read the selected files from the final path."""
        # Somebody may have moved the output folder meanwhile.
        self.output.path = self.output.where()
        if self.manifest.folder and self.final is None and self.partial is not None:
            self.final, self.partial = self.partial, None
        elif self.final is None:
            self.final = self._place(self.plan.name)
        if self.manifest.folder and self.final is not None:
            self.final.folder.path = self.path
        if self.partial is not None:
            self.partial.forget()
        if self.old is not None:
            self.old.forget()
            if self.manifest.folder:
                self.old.folder.close()
            self.old = None
        self.existing |= self.selected

    def clean_up(self) -> None:
        """After `settle`, in a worker thread: remove the old version and the journal, unlock.

        The journal stays, locked, if it claims pieces of other files in the partial folder.
        """
        if self._swap is not None:
            self._swap.clear(also_old=self.plan.update)
            self.kept.files += self._swap.kept.files
            self.kept.left = self._swap.kept.left
        if self.plan.update:
            with suppress(OSError):
                self._discard_stale()
        if self.journal is not None and (self.plan.everything or not self._exists(self.names.part)):
            self.journal.remove()
            self.journal.close()
            self.journal = None

    def set_tree_times(self, times: FileTimes) -> None:
        """After `settle`, give the folders and links these times; in a thread, while nothing else is done."""
        if self.manifest.folder and self.final is not None:
            set_tree_times(self.manifest, self.final.folder, times)

    def release(self) -> None:
        """After `settle`, unless still locked: close the folders, which would keep a disk mounted."""
        if self.journal is None:
            self.close()

    def leave_journal(self) -> None:
        """Unlock the journal and leave it unchanged, because it belongs to another target."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def close(self) -> None:
        """Release every descriptor and the lock; remove an empty journal."""
        with ExitStack() as stack:
            stack.callback(self.output.close)
            for files in (self.partial, self.final, self.old):
                if files is not None:
                    stack.callback(files.close)
            if self.journal is not None:
                stack.callback(self.journal.close)
                if self.journal.empty():
                    self.journal.remove()

    def _open(self) -> None:
        name = self.plan.name
        if not self._exists(name) and not self._exists(self.names.part):
            check_characters(self.output, self.manifest, self.selected, name)
        try:
            self.journal = JournalFile.lock(self.output, self.names.journal)
        except DiskError as error:
            # On a read-only file system, complete content can still be shared.
            if not self._exists(name):
                raise
            self.refused = error
        if self.journal is not None and not self.journal.empty():
            recover(self.output, self.names)
        if self._exists(name):
            self.final = self._place(name)
            if self.manifest.folder and not self.plan.update:
                self.extras.check(self.final.folder)
        if not self.manifest.folder or self._exists(self.names.part):
            self.partial = self._place(self.names.part)

    def _exists(self, name: str) -> bool:
        with refusals(self.output.path / name):
            return self.output.stat((name,)) is not None

    def _place(self, name: str) -> PieceFiles:
        if not self.manifest.folder:
            return PieceFiles(self.manifest, self.output, name)
        with refusals(self.output.path / name):
            return PieceFiles(self.manifest, self.output.subfolder(name), name)
