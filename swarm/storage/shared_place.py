"""Where shared files lie: found by its path each time, so that what was moved away counts as gone."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.storage.file_identity import NOBODY, FileIdentities, FileIdentity
from swarm.storage.file_layer import FileLayer
from swarm.storage.folder import Folder, Parents
from swarm.storage.hash_cache import has_fine_times
from swarm.storage.piece_files import PieceFiles

GONE = "is gone (deleted, moved or unmounted)"
_REASONS = {
    errno.ENOENT: GONE,
    errno.ENOTDIR: GONE,
    errno.ELOOP: "was replaced by a symbolic link, which is not followed",
    errno.EACCES: "may not be read any more (permission denied)",
    errno.EPERM: "may not be read any more (permission denied)",
}


def what_happened(error: OSError) -> str:
    """Return what to say of a file or folder that raised ``error``; the name goes before it."""
    if error.errno is None:
        return "is not a regular file any more"
    return _REASONS.get(error.errno) or f"cannot be read ({os.strerror(error.errno)})"


def too_short(size: int, length: int) -> str:
    """Return what to say of a file that was cut to ``size`` bytes."""
    return f"was truncated to {size} of {length} bytes"


class SharedPlace:
    """The files of a manifest at the path that is shared.

    Raises OSError if the folder that contains them cannot be opened.
    """

    def __init__(self, manifest: Manifest, path: Path, layer: FileLayer) -> None:
        real = Path(os.path.realpath(path))
        self.path = path
        self._name = real.name
        self._root = real if manifest.folder else real.parent
        self._manifest = manifest
        self.layer = layer
        self._files: PieceFiles | None = None
        self._identity: tuple[int, int] | None = None
        self.files()

    def files(self) -> PieceFiles:
        """Return the files in the folder that now has the path; raises OSError if there is none."""
        about = self._root.stat()
        identity = (about.st_dev, about.st_ino)
        if self._files is None or identity != self._identity:
            self.close()
            self._files = PieceFiles(self._manifest, Folder.open(self._root, self.layer), self._name)
            self._identity = identity
        return self._files

    def path_of(self, file: int) -> Path:
        """Return the path of a file, for messages."""
        return self.path.joinpath(*self._manifest.path(file)) if self._manifest.folder else self.path

    def examine(self, files: Iterable[int]) -> Iterator[tuple[int, FileIdentity | str]]:
        """Look at files without reading them: yields the identity of each, or what is wrong with it.

        Opens the folder anew, so it may run in any thread. Raises OSError if the folder cannot be opened.
        """
        with closing(Folder.open(self._root, self.layer)) as folder, Parents(folder) as parents:
            for file in files:
                yield file, self._look_at(parents, file)

    def identify(
        self, files: Iterable[int], before: Collection[int], checked: FileIdentities | None
    ) -> tuple[FileIdentities, frozenset[int]]:
        """Return what the files of a finished fetch are, and which of them cannot be told from changed ones.

        Those in ``before`` were there before the fetch, and ``checked`` when they were hashed.
        """
        count = len(self._manifest.files)
        identities = FileIdentities([NOBODY] * count)
        unsettled = set(range(count)).difference(files)
        for file, identity in self.examine(files):
            if isinstance(identity, str):
                unsettled.add(file)
                continue
            identities[file] = identity
            known = checked[file] if checked is not None else NOBODY
            if identity != known if file in before else not has_fine_times(identity):
                unsettled.add(file)
        return identities, frozenset(unsettled)

    def problems(self, files: Iterable[int]) -> dict[int, str]:
        """As `examine`, for many files of which few are away: only what is wrong."""
        return {file: state for file, state in self.examine(files) if isinstance(state, str)}

    def _look_at(self, parents: Parents, file: int) -> FileIdentity | str:
        length = self._manifest.layout.file_length(file)
        try:
            about = parents.stat(self._parts(file))
        except OSError as error:
            return what_happened(error)
        if about is None:
            return GONE
        if stat.S_ISLNK(about.st_mode):
            return _REASONS[errno.ELOOP]
        if not stat.S_ISREG(about.st_mode):
            return "is not a regular file any more"
        if about.st_size < length:
            return too_short(about.st_size, length)
        return FileIdentity.of(about)

    @contextmanager
    def reading(self, file: int) -> Iterator[int]:
        """Hold a descriptor of a file, opened by its path for this block; in any thread. Raises OSError."""
        with closing(Folder.open(self._root, self.layer)) as folder:
            fd = folder.open_file(self._parts(file), os.O_RDONLY)
        try:
            yield fd
        finally:
            self.layer.close(fd)

    def _parts(self, file: int) -> tuple[str, ...]:
        return self._manifest.path(file) if self._manifest.folder else (self._name,)

    def close(self) -> None:
        """Close every descriptor; `files` opens what is needed again."""
        files, self._files = self._files, None
        if files is not None:
            files.close()
