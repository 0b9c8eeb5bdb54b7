"""The files of one manifest in one place, by index, read and written at positions.

Descriptors are kept in a bounded cache: a folder of 10,000 files must not hold 10,000 of them.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.folder import Folder, open_regular

OPEN_FILES = 8
"""Descriptors kept by one store. Opening a file again costs about 10 microseconds, a descriptor is
scarce where a process has 64 of them; pieces of one file follow each other anyway."""


@dataclass(slots=True)
class _Opened:
    fd: int
    identity: tuple[int, int]
    users: int = 0
    dropped: bool = False


class OpenFiles:
    """Descriptors by file index; the least recently used is closed first, never one in use."""

    def __init__(self, close: Callable[[int], None], limit: int = OPEN_FILES) -> None:
        self._close = close
        self._limit = limit
        self._files: OrderedDict[int, _Opened] = OrderedDict()

    def identity(self, file: int) -> tuple[int, int] | None:
        """Device and inode of the descriptor held for a file, or None."""
        opened = self._files.get(file)
        return None if opened is None else opened.identity

    @contextmanager
    def use(self, file: int, open_file: Callable[[], int]) -> Iterator[int]:
        """Hold a descriptor of ``file`` for the block, from the cache or else by ``open_file``."""
        opened = self._files.get(file)
        if opened is None:
            fd = open_file()
            about = os.fstat(fd)
            opened = self._files[file] = _Opened(fd, (about.st_dev, about.st_ino))
        else:
            self._files.move_to_end(file)
        opened.users += 1
        try:
            yield opened.fd
        finally:
            opened.users -= 1
            if opened.dropped and not opened.users:
                self._close(opened.fd)
            elif len(self._files) > self._limit:
                self._evict()

    def drop(self, file: int) -> None:
        """Forget the descriptor of a file; it is closed once nobody uses it."""
        opened = self._files.pop(file, None)
        if opened is None:
            return
        opened.dropped = True
        if not opened.users:
            self._close(opened.fd)

    def close(self) -> None:
        """Forget every descriptor."""
        for file in list(self._files):
            self.drop(file)

    def _evict(self) -> None:
        for file, opened in self._files.items():
            if not opened.users:
                self.drop(file)
                return


class PieceFiles:
    """Files of a manifest below ``folder``, through a bounded number of descriptors.

    A single file is called ``name`` there, whatever its manifest calls it; the files of a folder
    keep their paths. Not for several threads: descriptors are taken in the event loop's thread and
    used wherever the work is done.
    """

    def __init__(self, manifest: Manifest, folder: Folder, name: str) -> None:
        self.folder = folder
        self._manifest = manifest
        self._single = None if manifest.folder else (name,)
        self._opened = OpenFiles(folder.layer.close)
        self._known: dict[int, tuple[int, int]] = {}

    def parts(self, file: int) -> tuple[str, ...]:
        """The path of a file below the folder."""
        return self._single or self._manifest.files[file].path

    def path(self, file: int) -> Path:
        """The path of a file, for messages."""
        return self.folder.at(self.parts(file))

    @contextmanager
    def reading(self, file: int) -> Iterator[int]:
        """Hold a descriptor of what the file's name leads to now; raises OSError."""
        parts = self.parts(file)
        held = self._opened.identity(file)
        if held is not None:
            about = self.folder.stat(parts)
            if about is None or (about.st_dev, about.st_ino) != held:
                self._opened.drop(file)
        with self._opened.use(file, lambda: self.folder.open_file(parts, os.O_RDONLY)) as fd:
            yield fd

    def writing(self, file: int, created: Callable[[tuple[str, ...]], None]) -> AbstractContextManager[int]:
        """Hold a descriptor to write a file with, which is created with the folders above it.

        ``created`` is told the path of each folder that got a new entry. Raises OSError, and
        `DiskError` if what was written before is no longer what the name leads to.
        """
        # Apart from those for reading: what was opened to be read cannot be written to.
        return self._opened.use(~file, lambda: self._open_to_write(file, created))

    def create(self, file: int, created: Callable[[tuple[str, ...]], None]) -> None:
        """Create a file with the folders above it unless it is there; raises what `writing` does."""
        self.folder.layer.close(self._open_to_write(file, created))

    def expect(self, file: int, fd: int) -> None:
        """From now on only this open file is taken for ``file``."""
        about = os.fstat(fd)
        self._known[file] = (about.st_dev, about.st_ino)

    def is_in_place(self, file: int) -> bool:
        """Whether the file that was read or written, if any was, is what its name leads to."""
        known = self._known.get(file)
        about = self.folder.stat(self.parts(file))
        return about is not None and known in {None, (about.st_dev, about.st_ino)}

    def _open_to_write(self, file: int, created: Callable[[tuple[str, ...]], None]) -> int:
        parts = self.parts(file)
        layer = self.folder.layer
        with self.folder.parent(parts, created=created) as parent:
            try:
                fd = open_regular(layer, parent, parts[-1], os.O_RDWR)
            except FileNotFoundError:
                fd = layer.open(parent, parts[-1], os.O_RDWR | os.O_CREAT | os.O_EXCL)
                created(parts[:-1])
        try:
            self._prepare(file, fd)
        except BaseException:
            layer.close(fd)
            raise
        return fd

    def _prepare(self, file: int, fd: int) -> None:
        about = os.fstat(fd)
        identity = (about.st_dev, about.st_ino)
        if self._known.setdefault(file, identity) != identity:
            shown = printable(str(self.path(file)))
            raise DiskError(f"{shown}: was replaced by something else; run the same command again")
        length = self._manifest.files[file].length
        # The one write of a file of one piece makes it as long as it has to be.
        if about.st_size > length or (about.st_size < length and length > self._manifest.piece_length):
            self.folder.layer.resize(fd, length)

    def forget(self) -> None:
        """Close every descriptor of a file; they are opened again when they are needed."""
        self._opened.close()

    def close(self) -> None:
        """Close everything, the folder's descriptor too."""
        self._opened.close()
        self.folder.close()
