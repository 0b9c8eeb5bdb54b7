"""A file or folder on this machine that may hold the same content, such as an older copy."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import trio

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.ids import SourceId
from swarm.ports import RequestDesk
from swarm.storage.disk_errors import refusals
from swarm.storage.file_layer import read_at
from swarm.storage.folder import Folder
from swarm.storage.hashing import piece_matches
from swarm.storage.piece_reader import OUR_ERRORS


class FolderSource:
    """Takes each piece from the same place of a file of the same name and length.

    ``path`` is a file, the folder that corresponds to the shared one, or the folder that this lies in. What
    does not match the manifest is refused here, so a folder with other content costs reading and no more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def id(self) -> SourceId:
        """``folder:`` and the path."""
        return SourceId(f"folder:{self._path}")

    @property
    def description(self) -> str:
        """The path."""
        return printable(str(self._path))

    async def deliver(self, desk: RequestDesk) -> None:
        """Serve requests until cancelled; raises `DiskError` if the path cannot be read."""
        base = await trio.to_thread.run_sync(_Base.open, self._path, desk.manifest)
        try:
            desk.offer(base.pieces)
            while True:
                piece = await desk.next_request()
                data = await trio.to_thread.run_sync(base.read, piece)
                if data is None:
                    if piece not in base.pieces:
                        # Its file is gone: nothing of it is to be asked for in vain.
                        desk.offer(base.pieces)
                    desk.refuse(piece)
                else:
                    await desk.supply(piece, data)
        finally:
            base.close()


class _Base:
    """The opened place, and the pieces of the files in it that have the right length."""

    def __init__(self, folder: Folder, manifest: Manifest, prefix: tuple[str, ...]) -> None:
        self._folder = folder
        self._manifest = manifest
        self._prefix = prefix
        self.pieces = PieceSet(manifest.piece_count)

    @classmethod
    def open(cls, path: Path, manifest: Manifest) -> _Base:
        """Open ``path`` and look for the manifest's files in it."""
        real = Path(os.path.realpath(path))
        with refusals(path):
            is_folder = stat.S_ISDIR(real.stat().st_mode)
            folder = Folder.open(real if is_folder else real.parent)
        try:
            base = cls(folder, manifest, () if is_folder else (real.name,))
            base.find(is_folder=is_folder)
        except BaseException:
            folder.close()
            raise
        return base

    def find(self, *, is_folder: bool) -> None:
        """Note the pieces of the files that are there."""
        if is_folder and self._folder_entry() is not None:
            self._prefix = (self._manifest.name,)
        for number, entry in enumerate(self._manifest.files):
            if not is_folder and self._manifest.folder:
                return
            about = self._about(self._parts(number))
            if about is not None and stat.S_ISREG(about.st_mode) and about.st_size == entry.length:
                for piece in self._manifest.layout.pieces_of(number):
                    self.pieces.add(piece)

    def _about(self, parts: tuple[str, ...]) -> os.stat_result | None:
        """What lies there; None also if the way there is no folder of ours, or cannot be searched."""
        try:
            return self._folder.stat(parts)
        except OSError:
            return None

    def _folder_entry(self) -> os.stat_result | None:
        """The shared folder in the given one, if that is what the user meant."""
        about = self._about((self._manifest.name,)) if self._manifest.folder else None
        return about if about is not None and stat.S_ISDIR(about.st_mode) else None

    def _parts(self, file: int) -> tuple[str, ...]:
        if self._manifest.folder:
            return (*self._prefix, *self._manifest.files[file].path)
        return self._prefix or (self._manifest.name,)

    def read(self, piece: int) -> memoryview | None:
        """The piece, or None if it is not what the manifest names.

        A file that cannot be read any more leaves ``pieces`` with all that it has.
        """
        span = self._manifest.layout.span(piece)
        buffer = memoryview(bytearray(span.length))
        layer = self._folder.layer
        try:
            fd = self._folder.open_file(self._parts(span.file), os.O_RDONLY)
            try:
                got = read_at(layer, fd, buffer, span.offset)
            finally:
                layer.close(fd)
        except OSError as error:
            if error.errno not in OUR_ERRORS:
                own = self._manifest.layout.pieces_of(span.file)
                self.pieces -= PieceSet.between(self.pieces.size, own.start, own.stop)
            return None
        if got < span.length or not piece_matches(buffer, self._manifest.piece_hash(piece)):
            return None
        return buffer

    def close(self) -> None:
        self._folder.close()
