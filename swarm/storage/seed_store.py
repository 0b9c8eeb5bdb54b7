"""The store that seeds a file or folder in place, without a copy."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from swarm.bits import PieceSet
from swarm.content.fingerprints import FINGERPRINT_BYTES
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.disk_errors import refusals
from swarm.storage.file_layer import POSIX, FileLayer
from swarm.storage.folder import Folder
from swarm.storage.piece_files import PieceFiles
from swarm.storage.piece_reader import CheckedReader, PieceExecutor
from swarm.storage.scan import Checks


class SeedStore:
    """A read-only `ports.Store` of the content scanned at ``path``.

    Every piece is compared with the scan each time it is read. A piece that was edited, truncated,
    replaced or corrupted is withdrawn; the others are still served. Raises `DiskError` if ``path`` cannot
    be opened.
    """

    def __init__(self, manifest: Manifest, path: Path, checks: Checks, *, layer: FileLayer = POSIX) -> None:
        real = Path(os.path.realpath(path))
        with refusals(path):
            folder = Folder.open(real if manifest.folder else real.parent, layer)
        self._manifest = manifest
        self._path = path
        self._checks = checks
        self._stored = PieceSet.all(manifest.piece_count)
        self._files = PieceFiles(manifest, folder, real.name)
        self._reader = CheckedReader(manifest.layout, self._stored, self._expected, PieceExecutor())

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""
        return self._manifest

    @property
    def stored(self) -> PieceSet:
        """The pieces that have not been withdrawn; callers must not change it."""
        return self._stored

    async def get(self, piece: int) -> memoryview:
        """Read one whole piece.

        Raises `PieceWithdrawn` when it differs from the scan (the piece is then removed from ``stored``),
        `DiskError` when this process cannot open files.
        """
        return await self._reader.read(piece, lambda _file: self._files)

    async def put(self, piece: int, data: memoryview) -> None:
        """Raise `DiskError`: shared content is never written to."""
        raise DiskError(
            f"{printable(str(self._path))}: shared content is never written to, "
            f"so piece {piece} of {len(data)} bytes is refused"
        )

    def close(self) -> None:
        """Close the descriptors."""
        self._files.close()

    def __enter__(self) -> SeedStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _expected(self, piece: int) -> bytes:
        start = piece * FINGERPRINT_BYTES
        return self._checks.pieces[start : start + FINGERPRINT_BYTES]
