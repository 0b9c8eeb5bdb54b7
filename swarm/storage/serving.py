"""Reading pieces to be sent, each checked to be what was verified before."""

from __future__ import annotations

import errno
from collections.abc import Callable

from swarm.content.bitfield import Bitfield
from swarm.content.fingerprints import fingerprint
from swarm.content.layout import Layout, Span
from swarm.content.paths import printable
from swarm.errors import PieceWithdrawn
from swarm.storage.exact import read_at
from swarm.storage.failures import disk_error
from swarm.storage.piecefiles import PieceFiles
from swarm.storage.work import PieceWork

# This process's own shortages, which say nothing about the file.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class CheckedReader:
    """Reads stored pieces and compares the XXH3-128 of each with what is ``expected`` of it.

    A piece whose file is gone, unreadable, shorter or changed leaves ``stored``.
    """

    def __init__(
        self, layout: Layout, stored: Bitfield, expected: Callable[[int], bytes], work: PieceWork
    ) -> None:
        self._layout = layout
        self._stored = stored
        self._expected = expected
        self._work = work

    async def read(self, piece: int, holder: Callable[[int], PieceFiles]) -> memoryview:
        """Return a whole piece from where ``holder`` says that its file is.

        Raises `PieceWithdrawn` if it is not what was verified, `DiskError` for what is no fault of
        the file (this process has no descriptors left).
        """
        if piece not in self._stored:
            raise PieceWithdrawn(f"piece {piece} is not stored here")
        span = self._layout.span(piece)
        files = holder(span.file)
        try:
            with files.reading(span.file) as fd:
                data = await self._work.read(
                    span.length, lambda cached: self._load(files, fd, span, piece, cached=cached)
                )
            reason = "its bytes have changed"
        except OSError as error:
            if error.errno in _OURS:
                raise disk_error(error, files.path(span.file)) from error
            data, reason = None, error.strerror or str(error)
        if data is None:
            self._stored.remove(piece)
            shown = printable(str(files.path(span.file)))
            raise PieceWithdrawn(f"{shown}: piece {piece} is withdrawn: {reason}")
        return data

    def _load(self, files: PieceFiles, fd: int, span: Span, piece: int, *, cached: bool) -> memoryview | None:
        buffer = memoryview(bytearray(span.length))
        got = read_at(files.folder.layer, fd, buffer, span.offset, cached=cached)
        same = got == span.length and fingerprint(buffer) == self._expected(piece)
        return buffer if same else None
