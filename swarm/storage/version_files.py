"""The files of one version of a content, where they lie on this machine. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.storage.disk_errors import refusals
from swarm.storage.file_layer import read_at
from swarm.storage.folder import Folder


class VersionFiles:
    """Reads the files of ``manifest`` below ``path``: the shared file, or the folder that it corresponds to.

    What lies there may be something else, or change at any time: callers compare hashes.
    """

    def __init__(self, folder: Folder, manifest: Manifest, name: str | None) -> None:
        self._folder = folder
        self._manifest = manifest
        self._name = name

    @classmethod
    def open(cls, path: Path, manifest: Manifest) -> VersionFiles:
        """Open the place; raises `DiskError` if it is not there."""
        real = Path(os.path.realpath(path))
        with refusals(path):
            is_folder = stat.S_ISDIR(real.stat().st_mode)
            folder = Folder.open(real if is_folder else real.parent)
        return cls(folder, manifest, None if is_folder else real.name)

    def has(self, file: int) -> bool:
        """Whether there is a file of the right length."""
        with suppress(OSError), self.reading(file) as fd:
            return os.fstat(fd).st_size == self._manifest.layout.file_length(file)
        return False

    def read(self, file: int, offset: int, size: int) -> memoryview:
        """Return ``size`` bytes of a file; raises OSError, also if it is shorter."""
        buffer = memoryview(bytearray(size))
        self.read_into(file, offset, buffer)
        return buffer

    def read_into(self, file: int, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from a file; raises OSError, also if it is shorter."""
        with self.reading(file) as fd:
            if read_at(self._folder.layer, fd, buffer, offset) != len(buffer):
                raise OSError("this file is shorter than its manifest says")

    def chunks(self, file: int, size: int) -> Iterator[memoryview]:
        """Yield a whole file in parts of ``size`` bytes, which share their memory; raises OSError."""
        buffer = memoryview(bytearray(size))
        offset = 0
        with self.reading(file) as fd:
            while got := read_at(self._folder.layer, fd, buffer, offset):
                yield buffer[:got]
                offset += got

    @contextmanager
    def reading(self, file: int) -> Iterator[int]:
        """Hold a descriptor of a file; raises OSError."""
        fd = self._folder.open_file(self._parts(file), os.O_RDONLY)
        try:
            yield fd
        finally:
            self._folder.layer.close(fd)

    def where(self, file: int) -> Path:
        """Return the path of a file, for messages."""
        return self._folder.at(self._parts(file))

    def close(self) -> None:
        """Close the place."""
        self._folder.close()

    def _parts(self, file: int) -> Sequence[str]:
        if self._name is not None:
            if self._manifest.folder:
                raise NotADirectoryError("a file stands where a folder was shared")
            return (self._name,)
        return self._manifest.path(file)
