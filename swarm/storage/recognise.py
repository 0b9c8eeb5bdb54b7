"""What is already under a target's final name: kept if it is the wanted content, else left alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Generator

from swarm.content.fingerprints import FINGERPRINT_BYTES
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.failures import refusals
from swarm.storage.hashing import FileHashing, Keep, new_buffer
from swarm.storage.piecefiles import PieceFiles


def recognise(
    manifest: Manifest, final: PieceFiles, selected: Collection[int], existing: set[int], keep: Keep
) -> Generator[int, None, None]:
    """Find the files that are in place and hash them; yields bytes read.

    Each file that is the manifest's is put into ``existing``, its pieces are told to ``keep``.
    Raises `DiskError` naming the first of the ``selected`` files that differs; nothing is changed.
    Another one that differs is left alone: nobody asks for it.
    """
    buffer = new_buffer()
    layer = final.folder.layer
    for file in _candidates(manifest, final, selected):
        entry = manifest.files[file]
        hashing = FileHashing(manifest.piece_length)
        with refusals(final.path(file)):
            fd = final.folder.open_file(final.parts(file), os.O_RDONLY)
            try:
                yield from hashing.steps(layer, fd, entry.length, buffer)
            finally:
                layer.close(fd)
        if bytes(hashing.pieces) != entry.pieces:
            if file in selected:
                raise _differs(final, file)
            continue
        existing.add(file)
        for number, piece in enumerate(manifest.layout.pieces_of(file)):
            start = number * FINGERPRINT_BYTES
            keep(piece, bytes(hashing.checks[start : start + FINGERPRINT_BYTES]))
        yield 0


def _candidates(manifest: Manifest, final: PieceFiles, selected: Collection[int]) -> list[int]:
    """The files that are there with the right length; `DiskError` before any is read if a selected one
    has not."""
    found = []
    for file, entry in enumerate(manifest.files):
        with refusals(final.path(file)):
            about = final.folder.stat(final.parts(file))
        if about is None:
            continue
        if not stat.S_ISREG(about.st_mode) or about.st_size != entry.length:
            if file in selected:
                raise _differs(final, file)
            continue
        found.append(file)
    return found


def _differs(final: PieceFiles, file: int) -> DiskError:
    shown = printable(str(final.path(file)))
    return DiskError(f"{shown}: exists and differs; move it away or choose another --output")
