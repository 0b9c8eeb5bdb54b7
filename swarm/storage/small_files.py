"""Whole small files in batches: each is created, written and closed, or read, in as few calls as that takes.

A file of one piece needs no cached descriptor, and its neighbours in the manifest are in the same folder.
Both functions may run in any thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

from swarm.content.manifest import Manifest
from swarm.content.times import FileTimes
from swarm.storage.file_layer import read_at, write_at
from swarm.storage.folder import Parents, open_regular
from swarm.storage.piece_files import PieceFiles


@dataclass(slots=True)
class Written:
    """What became of new files: ``files`` are written, and what they are now; ``left`` were there before.

    ``folders`` got new entries. ``failed`` is the file at which the system refused, and its error; those
    behind it are not touched.
    """

    files: list[tuple[int, os.stat_result]] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    failed: tuple[int, OSError] | None = None


_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL
_PROGRAM, _PLAIN = 0o777, 0o666


def write_new(
    manifest: Manifest,
    files: PieceFiles,
    contents: Sequence[tuple[int, memoryview]],
    times: FileTimes | None = None,
) -> Written:
    """Create files, each with its whole content, executable bit and time, and the folders that they need."""
    written = Written()
    layer = files.folder.layer
    with Parents(files.folder, created=written.folders.add) as parents:
        for file, data in contents:
            entry = manifest.files[file]
            parts = files.parts_of(entry)
            try:
                mode = _PROGRAM if entry.executable else _PLAIN
                fd = layer.open(parents.of(parts), parts[-1], _NEW, mode)
            except FileExistsError:
                written.left.append(file)
                continue
            except OSError as error:
                written.failed = file, error
                break
            written.folders.add(parts[:-1])
            try:
                write_at(layer, fd, data, 0)
                if times is not None and (time := times.of_file(file)) is not None:
                    with suppress(OSError):
                        os.utime(fd, ns=(time, time))
                written.files.append((file, os.fstat(fd)))
            except OSError as error:
                written.failed = file, error
                break
            finally:
                layer.close(fd)
    return written


def read_whole(files: PieceFiles, wanted: Sequence[tuple[int, int]], *, cached: bool) -> list[memoryview]:
    """Read files of known lengths, up to the first that cannot be read or is shorter.

    With ``cached``, raises BlockingIOError if a byte is not in the page cache.
    """
    found: list[memoryview] = []
    with closing(files.folder.twin()) as folder, Parents(folder) as parents:
        for file, length in wanted:
            parts = files.parts(file)
            data = memoryview(bytearray(length))
            try:
                fd = open_regular(folder.layer, parents.of(parts), parts[-1], os.O_RDONLY)
                try:
                    got = read_at(folder.layer, fd, data, 0, cached=cached)
                finally:
                    folder.layer.close(fd)
            except BlockingIOError:
                raise
            except OSError:
                break
            if got < length:
                break
            found.append(data)
    return found
