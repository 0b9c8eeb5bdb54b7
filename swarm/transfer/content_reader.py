"""Reads the content of a transfer that may still run, in order: each piece as soon as it is stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol

from swarm.content.layout import Layout
from swarm.errors import ContentAway, PieceWithdrawn
from swarm.ports import Store
from swarm.transfer.progress import TransferRecord

READ_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""What is fetched first for a reader: some seconds of a film."""
LEAST_AHEAD_PIECES, MOST_AHEAD_PIECES = 4, 256
"""Where pieces are large, and where they are small."""


class ReaderExchange(Protocol):
    """What a reader asks of the exchange of its transfer, and tells it."""

    def watch(self, reader: int, window: range) -> None:
        """A reader needs these pieces next, in this order; none: it reads no more."""

    def lacks(self, piece: int) -> bool:
        """Whether the piece is wanted and not stored, so that it is still to come."""

    def piece_lost(self, piece: int, *, alone: bool) -> None:
        """The store withdrew a piece that was to be read; unless ``alone``, with its whole file."""


class ContentReader:
    """What all readers of one transfer read through. ``reason`` makes the error once it has ended."""

    def __init__(self, record: TransferRecord, reason: Callable[[], BaseException]) -> None:
        self._record = record
        self._reason = reason
        self._store: Store | None = None
        self._exchange: ReaderExchange | None = None
        self._readers = 0

    def begin(self, store: Store, exchange: ReaderExchange) -> None:
        """The content is open."""
        self._store, self._exchange = store, exchange

    def end(self) -> None:
        """The transfer has ended: who reads on is told why."""
        self._store = self._exchange = None

    async def when_stored(self, piece: int) -> memoryview:
        """Wait until the piece is stored, and read it.

        Raises what ended the transfer; `PieceWithdrawn` if the piece is no longer what was verified. Then the
        exchange is told, and fetches it again if the transfer is not complete. A piece that is withdrawn and
        not fetched again is not waited for: it may never be back.
        """
        while True:
            stored = self._record.next_stored
            if self._store is None or self._exchange is None:
                raise self._reason()
            if piece in self._store.stored or not self._exchange.lacks(piece):
                return await self._read_stored(self._store, piece)
            await stored.wait()

    async def _read_stored(self, store: Store, piece: int) -> memoryview:
        try:
            return await store.get(piece)
        except PieceWithdrawn as error:
            if self._exchange is not None:
                self._exchange.piece_lost(piece, alone=not isinstance(error, ContentAway))
            raise

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
                if self._exchange is not None:
                    self._exchange.watch(reader, needed[index : index + ahead])
                data = await self.when_stored(piece)
                offset = layout.span(piece).offset
                yield data[max(0, start - offset) : stop - offset]
        finally:
            if self._exchange is not None:
                self._exchange.watch(reader, range(0))
