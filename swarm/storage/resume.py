"""What an interrupted fetch left behind, and how much of it is to be believed."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing

from swarm.content.fingerprints import Fingerprints, fingerprint
from swarm.content.layout import Span
from swarm.content.manifest import Manifest
from swarm.storage.exact import read_at
from swarm.storage.failures import refusals
from swarm.storage.hashing import Keep, piece_matches
from swarm.storage.layer import FileLayer
from swarm.storage.piecefiles import PieceFiles


class Resumption:
    """Checks the pieces of a partial file or folder.

    A piece that the journal claims is compared by its XXH3-128. One that holds data without being
    claimed was written but not synced, or its journal is lost: it is compared by BLAKE3. That one
    is read from the disk and not from the page cache, which still shows what an I/O error kept
    from the disk.
    """

    def __init__(self, manifest: Manifest, partial: PieceFiles, claims: Fingerprints, keep: Keep) -> None:
        self._manifest = manifest
        self._partial = partial
        self._layer = partial.folder.layer
        self._claims = claims
        self._keep = keep
        self._buffer = memoryview(bytearray(manifest.piece_length))
        self.kept = 0
        self.foreign = 0
        """Pieces that hold data which is neither claimed nor of this manifest."""

    def steps(self, skip: set[int]) -> Generator[int, None, None]:
        """Check every file but those in ``skip``; yields the bytes of each step."""
        for file, entry in enumerate(self._manifest.files):
            if file in skip:
                continue
            with refusals(self._partial.path(file)):
                try:
                    fd = self._partial.folder.open_file(self._partial.parts(file), os.O_RDONLY)
                except FileNotFoundError:
                    yield entry.length
                    continue
                with closing(_Unsynced(self._layer, fd)) as unsynced:
                    self._partial.expect(file, fd)
                    for piece in self._manifest.layout.pieces_of(file):
                        yield self._check(piece, fd, unsynced)
            yield 0

    def _check(self, piece: int, fd: int, unsynced: _Unsynced) -> int:
        span = self._manifest.layout.span(piece)
        data = self._buffer[: span.length]
        claimed = self._claims.get(piece)
        if claimed is not None:
            whole = read_at(self._layer, fd, data, span.offset) == span.length
            if whole and fingerprint(data) == claimed:
                self._found(piece, claimed)
        elif unsynced.read(span, data):
            if piece_matches(data, self._manifest.piece_hash(piece)):
                self._found(piece, fingerprint(data))
            else:
                self.foreign += 1
        return span.length

    def _found(self, piece: int, check: bytes) -> None:
        self.kept += 1
        self._keep(piece, check)


class _Unsynced:
    """Reads the parts of one open file that nobody vouches for as they are on the disk."""

    def __init__(self, layer: FileLayer, fd: int) -> None:
        self._layer = layer
        self._fd = fd
        self._data_from: int | None = 0
        self._synced = False

    def read(self, span: Span, buffer: memoryview) -> bool:
        """Fill ``buffer`` with a piece; False if the file ends before or has a hole there."""
        if self._data_from is not None and self._data_from <= span.offset:
            self._data_from = self._layer.next_data(self._fd, span.offset)
        if self._data_from is None or self._data_from >= span.offset + span.length:
            return False
        if not self._synced:
            self._layer.sync_data(self._fd)
            self._synced = True
        self._layer.forget_cache(self._fd, span.offset, span.length)
        return read_at(self._layer, self._fd, buffer, span.offset) == span.length

    def close(self) -> None:
        """Close the file."""
        self._layer.close(self._fd)
