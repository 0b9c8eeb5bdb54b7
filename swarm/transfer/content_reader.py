"""Reads the content of a transfer that may still run, in order: each piece as soon as it is stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final

from swarm.content.layout import Layout
from swarm.ports import Store
from swarm.transfer.progress import TransferRecord

READ_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""What is fetched first for a reader: some seconds of a film."""
LEAST_AHEAD_PIECES, MOST_AHEAD_PIECES = 4, 256
"""Where pieces are large, and where they are small."""

Watch = Callable[[int, range], None]
"""Tells the exchange which pieces a reader needs next, in this order; none: it reads no more."""


class ContentReader:
    """What all readers of one transfer read through. ``reason`` makes the error once it has ended."""

    def __init__(self, record: TransferRecord, reason: Callable[[], BaseException]) -> None:
        self._record = record
        self._reason = reason
        self._store: Store | None = None
        self._watch: Watch | None = None
        self._readers = 0

    def begin(self, store: Store, watch: Watch) -> None:
        """The content is open."""
        self._store, self._watch = store, watch

    def end(self) -> None:
        """The transfer has ended: who reads on is told why."""
        self._store = self._watch = None

    async def when_stored(self, piece: int) -> memoryview:
        """Wait until the piece is stored, and read it; raises what ended the transfer, and PieceWithdrawn."""
        while True:
            stored = self._record.next_stored
            if self._store is None:
                raise self._reason()
            if piece in self._store.stored:
                return await self._store.get(piece)
            await stored.wait()

    async def read(
        self, layout: Layout, file: int, start: int, stop: int | None
    ) -> AsyncGenerator[memoryview, None]:
        """The bytes of a file from ``start`` to ``stop`` (None: its end), as they are stored.

        As long as somebody reads, what is needed next is fetched first, `READ_AHEAD_BYTES` ahead.
        """
        stop = min(layout.file_length(file), layout.file_length(file) if stop is None else stop)
        length, pieces = layout.piece_length, layout.pieces_of(file)
        needed = pieces[start // length : -(-stop // length)] if start < stop else range(0)
        ahead = min(max(LEAST_AHEAD_PIECES, READ_AHEAD_BYTES // length), MOST_AHEAD_PIECES)
        self._readers += 1
        reader = self._readers
        try:
            for index, piece in enumerate(needed):
                if self._watch is not None:
                    self._watch(reader, needed[index : index + ahead])
                data = await self.when_stored(piece)
                offset = layout.span(piece).offset
                yield data[max(0, start - offset) : stop - offset]
        finally:
            if self._watch is not None:
                self._watch(reader, range(0))
