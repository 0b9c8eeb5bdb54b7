"""The files of one manifest in one folder, addressed by index.

Descriptors are kept in a bounded cache, so that 10,000 files do not need 10,000 descriptors.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from swarm.content.manifest import FileEntry, Manifest
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.lazy_dataclass import dataclass
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


def _mark(*facts: int) -> int:
    """Return a number that differs for different facts, and is never 0."""
    return hash(facts) or 1


class PartState(Enum):
    """What is at the path of a file, compared with the file that was used there before."""

    NOTHING = 0
    SAME = 1
    CHANGED = 2
    """The same file, but another program has written to it."""
    ANOTHER = 3


class _Marks:
    """What every file was like when it was last used here: which one it is, and its size and time stamps.

    Eight bytes a mark, because a manifest may have a million files.
    """

    def __init__(self, files: int) -> None:
        self._identities = array("q", bytes(8 * files))
        self._states = array("q", bytes(8 * files))
        self._writers: Counter[int] = Counter()
        self.changed: set[int] = set()
        """Files whose size or time stamps have changed between two uses: another program wrote to them."""

    def is_same(self, file: int, about: os.stat_result) -> bool:
        """Whether this is the file that was used before; yes if none was."""
        return self._identities[file] in {0, _mark(about.st_dev, about.st_ino)}

    def is_known(self, file: int) -> bool:
        """Whether the file was used before."""
        return self._identities[file] != 0

    def note(self, file: int, about: os.stat_result) -> None:
        """Record what the file is and how it is now."""
        self._identities[file] = _mark(about.st_dev, about.st_ino)
        self._states[file] = self._state(about)

    def look(self, file: int, about: os.stat_result) -> None:
        """Compare the file with what was recorded last; while it is written to here, nothing is."""
        if self._states[file] not in {0, self._state(about)} and not self._writers[file]:
            self.changed.add(file)

    @contextmanager
    def writing(self, file: int, fd: int) -> Iterator[None]:
        """Record how the file is once nobody here writes to it any more."""
        self._writers[file] += 1
        try:
            yield
        finally:
            self._writers[file] -= 1
            if not self._writers[file]:
                del self._writers[file]
                self._states[file] = self._state(os.fstat(fd))

    @staticmethod
    def _state(about: os.stat_result) -> int:
        return _mark(about.st_size, about.st_mtime_ns, about.st_ctime_ns)


class _Paths(Collection[tuple[str, ...]]):
    def __init__(self, parts: Callable[[int], tuple[str, ...]], files: Collection[int]) -> None:
        self._parts = parts
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return map(self._parts, self._files)

    def __contains__(self, path: object) -> bool:
        return any(path == each for each in self)


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
        self._marks = _Marks(len(manifest.files))

    def parts(self, file: int) -> tuple[str, ...]:
        """Return the path of a file below the folder."""
        return self._single or self._manifest.path(file)

    def parts_of(self, entry: FileEntry) -> tuple[str, ...]:
        """As `parts`, for a file that was looked up already."""
        return self._single or entry.path

    def paths(self, files: Collection[int]) -> Collection[tuple[str, ...]]:
        """Return the paths of many files, each made when it is asked for."""
        return _Paths(self.parts, files)

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

    @contextmanager
    def writing(self, file: int, created: Callable[[tuple[str, ...]], None]) -> Iterator[int]:
        """Hold a descriptor for writing; a missing file is created, with its folders.

        ``created`` is called with the path of each folder that got a new entry. Raises OSError, and
        `DiskError` if the file was replaced since it was last used.
        """
        # A separate key from the one for reading, whose descriptor is read-only.
        with self._descriptors.use(~file, lambda: self._open_to_write(file, created)) as fd:
            self._marks.look(file, os.fstat(fd))
            with self._marks.writing(file, fd):
                yield fd

    def create(self, file: int, created: Callable[[tuple[str, ...]], None]) -> None:
        """Create a file, with its folders, unless it exists; raises what `writing` does."""
        self.folder.layer.close(self._open_to_write(file, created))

    def is_unused(self, file: int) -> bool:
        """Whether the file was never used here."""
        return not self._marks.is_known(file)

    def used(self, file: int, about: os.stat_result) -> None:
        """Record what a file is that was written without its descriptor from here."""
        self._marks.note(file, about)

    def expect(self, file: int, fd: int) -> None:
        """Record that ``file`` must be this open file, as it is now, from now on."""
        self._marks.note(file, os.fstat(fd))

    def found(self, file: int) -> PartState:
        """Say what is at the path of the file now, compared with what was used there before."""
        return self.state_of(file, self.folder.stat(self.parts(file)))

    def state_of(self, file: int, about: os.stat_result | None) -> PartState:
        """As `found`, for what stat has said; None if there is nothing."""
        if about is None:
            return PartState.NOTHING
        if not self._marks.is_same(file, about):
            return PartState.ANOTHER
        self._marks.look(file, about)
        return PartState.CHANGED if file in self._marks.changed else PartState.SAME

    def verified(self, file: int, about: os.stat_result) -> None:
        """Another program has written to the file, but it is right as it is: ``about``."""
        self._marks.note(file, about)
        self._marks.changed.discard(file)

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
        if not self._marks.is_same(file, about):
            shown = printable(str(self.path(file)))
            raise DiskError(f"{shown}: was replaced by another file; run the same command again")
        self._marks.look(file, about)
        length = self._manifest.layout.file_length(file)
        # A file of one piece gets its length from its only write.
        if about.st_size > length or (about.st_size < length and length > self._manifest.piece_length):
            self.folder.layer.resize(fd, length)
            about = os.fstat(fd)
        self._marks.note(file, about)

    def forget(self) -> None:
        """Close the cached descriptors of files; they are reopened when needed."""
        self._descriptors.close()

    def close(self) -> None:
        """Close every descriptor, including the folder's."""
        self._descriptors.close()
        self.folder.close()
