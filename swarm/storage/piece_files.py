"""The files of one manifest in one folder, addressed by index.

Descriptors are kept in a bounded cache, so that 10,000 files do not need 10,000 descriptors.
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
"""Descriptors cached by one store. Reopening a file costs about 10 microseconds, and a process may be limited
to 64 descriptors. Successive pieces are usually in one file."""


@dataclass(slots=True)
class _CachedDescriptor:
    fd: int
    identity: tuple[int, int]
    users: int = 0
    dropped: bool = False


class DescriptorCache:
    """A cache of descriptors by file index; evicts the least recently used one that is not in use."""

    def __init__(self, close: Callable[[int], None], limit: int = OPEN_FILES) -> None:
        self._close = close
        self._limit = limit
        self._files: OrderedDict[int, _CachedDescriptor] = OrderedDict()

    def identity(self, file: int) -> tuple[int, int] | None:
        """Return device and inode of the cached descriptor of a file, or None."""
        cached = self._files.get(file)
        return None if cached is None else cached.identity

    @contextmanager
    def use(self, file: int, open_file: Callable[[], int]) -> Iterator[int]:
        """Hold a descriptor of ``file`` for the block, from the cache or from ``open_file``."""
        cached = self._files.get(file)
        if cached is None:
            fd = open_file()
            about = os.fstat(fd)
            cached = self._files[file] = _CachedDescriptor(fd, (about.st_dev, about.st_ino))
        else:
            self._files.move_to_end(file)
        cached.users += 1
        try:
            yield cached.fd
        finally:
            cached.users -= 1
            if cached.dropped and not cached.users:
                self._close(cached.fd)
            elif len(self._files) > self._limit:
                self._evict()

    def drop(self, file: int) -> None:
        """Remove the descriptor of a file from the cache; it is closed when no longer in use."""
        cached = self._files.pop(file, None)
        if cached is None:
            return
        cached.dropped = True
        if not cached.users:
            self._close(cached.fd)

    def close(self) -> None:
        """Remove every descriptor from the cache."""
        for file in list(self._files):
            self.drop(file)

    def _evict(self) -> None:
        for file, cached in self._files.items():
            if not cached.users:
                self.drop(file)
                return


class PieceFiles:
    """The files of a manifest below ``folder``, cached through a bounded number of descriptors.

    A single file has the name ``name`` there, whatever its manifest says; the files of a folder keep their
    paths. Not thread-safe: call it in the event loop's thread; the descriptors may be used in any thread.
    """

    def __init__(self, manifest: Manifest, folder: Folder, name: str) -> None:
        self.folder = folder
        self._manifest = manifest
        self._single = None if manifest.folder else (name,)
        self._descriptors = DescriptorCache(folder.layer.close)
        self._known: dict[int, tuple[int, int]] = {}

    def parts(self, file: int) -> tuple[str, ...]:
        """Return the path of a file below the folder."""
        return self._single or self._manifest.files[file].path

    def path(self, file: int) -> Path:
        """Return the full path of a file, for messages."""
        return self.folder.at(self.parts(file))

    @contextmanager
    def reading(self, file: int) -> Iterator[int]:
        """Hold a descriptor of the file that is now at the file's path; raises OSError."""
        parts = self.parts(file)
        held = self._descriptors.identity(file)
        if held is not None:
            about = self.folder.stat(parts)
            if about is None or (about.st_dev, about.st_ino) != held:
                self._descriptors.drop(file)
        with self._descriptors.use(file, lambda: self.folder.open_file(parts, os.O_RDONLY)) as fd:
            yield fd

    def writing(self, file: int, created: Callable[[tuple[str, ...]], None]) -> AbstractContextManager[int]:
        """Hold a descriptor for writing; a missing file is created, with its folders.

        ``created`` is called with the path of each folder that got a new entry. Raises OSError, and
        `DiskError` if the file was replaced since it was last used.
        """
        # A separate key from the one for reading, whose descriptor is read-only.
        return self._descriptors.use(~file, lambda: self._open_to_write(file, created))

    def create(self, file: int, created: Callable[[tuple[str, ...]], None]) -> None:
        """Create a file, with its folders, unless it exists; raises what `writing` does."""
        self.folder.layer.close(self._open_to_write(file, created))

    def expect(self, file: int, fd: int) -> None:
        """Record that ``file`` must be this open file from now on."""
        about = os.fstat(fd)
        self._known[file] = (about.st_dev, about.st_ino)

    def is_in_place(self, file: int) -> bool:
        """Whether the file exists and is the one that was used before, if it was used."""
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
            raise DiskError(f"{shown}: was replaced by another file; run the same command again")
        length = self._manifest.files[file].length
        # A file of one piece gets its length from its only write.
        if about.st_size > length or (about.st_size < length and length > self._manifest.piece_length):
            self.folder.layer.resize(fd, length)

    def forget(self) -> None:
        """Close the cached descriptors of files; they are reopened when needed."""
        self._descriptors.close()

    def close(self) -> None:
        """Close every descriptor, including the folder's."""
        self._descriptors.close()
        self.folder.close()
