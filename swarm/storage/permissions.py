"""Permission bits of fetched files: executable bits, and those of a file that is replaced."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from swarm.content.paths import printable
from swarm.storage.disk_errors import optional
from swarm.storage.file_layer import FileLayer
from swarm.storage.folder import open_regular
from swarm.storage.piece_files import PieceFiles

_EXECUTE = 0o111
_READ = 0o444
_PERMISSIONS = 0o777
_READ_TO_EXECUTE = 2


class ExecutableBits:
    """Sets executable bits, and counts the files whose bits the file system does not let it set."""

    def __init__(self) -> None:
        self.refused: list[Path] = []

    def set(self, files: PieceFiles, file: int, *, wanted: bool) -> None:
        """Make a file executable for those who may read it, or for nobody; synced when this returns."""
        layer = files.folder.layer
        fd = files.folder.open_file(files.parts(file), os.O_RDONLY)
        try:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            if bool(mode & stat.S_IXUSR) == wanted:
                return
            readers = (mode & _READ) >> _READ_TO_EXECUTE
            try:
                layer.set_mode(fd, mode | readers if wanted else mode & ~_EXECUTE)
            except OSError as error:
                if error.errno == errno.EIO:
                    raise
                # FAT, SMB and FUSE have no such bits, and the bits of somebody else's file are his.
                self.refused.append(files.path(file))
                return
            with optional():
                layer.sync(fd)
        finally:
            layer.close(fd)

    def warning(self) -> str | None:
        """Return one line about what was refused, or None."""
        if not self.refused:
            return None
        shown = printable(str(self.refused[0]))
        others = f" and of {len(self.refused) - 1} more" if len(self.refused) > 1 else ""
        return f"the executable bit of {shown}{others} cannot be changed on this file system"


def copy_mode(layer: FileLayer, new: tuple[int, str], replaced: os.stat_result) -> None:
    """Let as many read and write the new file as the one that it replaces, and no more."""
    fd = open_regular(layer, *new, os.O_RDONLY)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        allowed = (stat.S_IMODE(replaced.st_mode) & ~_EXECUTE) & _PERMISSIONS
        if mode & stat.S_IXUSR:
            allowed |= (allowed & _READ) >> _READ_TO_EXECUTE
        if mode != allowed:
            with suppress(OSError):
                layer.set_mode(fd, allowed)
                layer.sync(fd)
    finally:
        layer.close(fd)
