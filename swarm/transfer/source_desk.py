"""Where a source of pieces that is no peer takes its requests and gives its answers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import trio

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.ids import SourceId
from swarm.ports import HeldPieces, LocalSource, PieceSource
from swarm.protocol.messages import (
    Cancel,
    Choke,
    HaveBitfield,
    Message,
    Reject,
    RejectReason,
    Request,
    Unchoke,
)
from swarm.transfer.buffers import ArrivedPiece, ArrivedPieces, PieceBuffer
from swarm.transfer.pacing import CHUNK_BYTES
from swarm.transfer.performer import Performer
from swarm.transfer.session_io import SessionResources
from swarm.transfer.session_reader import PROGRESS_SECONDS, TOGETHER_BYTES


class SourceDesk:
    """The `OriginDesk` of one source in one transfer; to the brain it is a peer that wants nothing.

    ``tell`` hears of troubles: why, and after how many seconds the source tries again.
    """

    def __init__(
        self,
        source: PieceSource,
        resources: SessionResources,
        performer: Performer,
        tell: Callable[[str, float | None], None] = lambda _reason, _retry_in: None,
    ) -> None:
        self.source: SourceId = source.id
        self._resources = resources
        self._local = isinstance(source, LocalSource)
        self._performer = performer
        self._requests: deque[int] = deque()
        self._owed: dict[int, bool] = {}
        self._open: dict[int, PieceBuffer] = {}
        self._fresh: dict[int, int] = {}
        self._told_at = -math.inf
        self._paused = False
        self._tell = tell
        self._requested = trio.Event()
        self.scope = trio.CancelScope()
        """Cancelled to end the source."""
        self.reason = ""

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""
        return self._resources.store.manifest

    # --- For the brain ------------------------------------------------------------------------------

    def send(self, *messages: Message) -> None:
        """Take requests, and cancellations of some; such a source needs no other message."""
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        match message:
            case Request(piece):
                self._owed[piece] = True
                self._requests.append(piece)
                self._requested.set()
            case Cancel(piece) if piece in self._owed:
                if piece in self._requests:
                    self._requests.remove(piece)
                    self._answer(piece, RejectReason.CANCELLED)
                else:
                    self._owed[piece] = False
            case _:
                pass

    def flush(self) -> None:
        """Nothing waits here: requests are taken at once."""

    def stop(self, reason: str) -> None:
        """End the source."""
        self.reason = self.reason or reason
        self.scope.cancel()

    # --- For the source -----------------------------------------------------------------------------

    def offer(self, pieces: PieceSet) -> None:
        """Say which pieces can be asked for from now on."""
        self._performer.message_received(self.source, HaveBitfield(pieces.to_bytes()))
        if not self._paused:
            self._performer.message_received(self.source, Unchoke())

    async def next_request(self) -> int:
        """The next piece that is wanted, in the order of asking; waits until there is one."""
        await self._until_requested()
        return self._requests.popleft()

    async def _until_requested(self) -> None:
        while not self._requests:
            if self._requested.is_set():
                self._requested = trio.Event()
            await self._requested.wait()

    async def supply(self, piece: int, data: memoryview) -> None:
        """Answer a request with the whole piece, or be ignored if it is no longer wanted.

        Raises ValueError for data of another length than the piece's.
        """
        if len(data) != self.manifest.layout.length(piece):
            raise ValueError(f"piece {piece} has {self.manifest.layout.length(piece)} bytes, not {len(data)}")
        if not self._owed.get(piece, False):
            self.refuse(piece)
            return
        buffer = self._open[piece] = await self._resources.pool.take(len(data))
        try:
            done = 0
            while done < len(data):
                size = min(len(data) - done, self.slice_bytes, CHUNK_BYTES)
                buffer.view[done : done + size] = data[done : done + size]
                done += size
                await trio.lowlevel.checkpoint()
                await self.received(piece, size)
        except BaseException:
            del self._open[piece]
            self._fresh.pop(piece, None)
            buffer.release()
            raise
        self.deliver((piece,))

    def refuse(self, piece: int) -> None:
        """Answer a request with the news that the piece is not there; it will not be asked for soon."""
        if piece in self._owed:
            wanted = self._owed[piece]
            reason = RejectReason.CHOKED if self._paused else RejectReason.NOT_STORED
            self._answer(piece, reason if wanted else RejectReason.CANCELLED)

    # --- For a source on this machine ---------------------------------------------------------------

    async def next_batch(self, most: int) -> list[int]:
        """The next pieces that are wanted, in the order of asking: at most ``most`` bytes, or one."""
        await self._until_requested()
        length = self.manifest.layout.length
        batch = [self._requests.popleft()]
        left = most - length(batch[0])
        while self._requests and (left := left - length(self._requests[0])) >= 0:
            batch.append(self._requests.popleft())
        return batch

    async def take(self, pieces: Sequence[int], held: HeldPieces) -> None:
        """Answer requests: the store takes the pieces from ``held``; those that are not there are refused."""
        owed = [piece for piece in pieces if self._owed.pop(piece, None) is not None]
        await self._performer.take_pieces(self.source, owed, held)

    # --- For an origin ------------------------------------------------------------------------------

    async def next_run(self, most: int) -> range:
        """The next pieces that are wanted, which lie in a row in one file; at most ``most`` bytes, or one."""
        await self._until_requested()
        layout = self.manifest.layout
        first = self._requests.popleft()
        stop, left = first + 1, most - layout.length(first)
        end = layout.pieces_of(layout.span(first).file).stop
        while stop < end and self._requests and self._requests[0] == stop:
            left -= layout.length(stop)
            if left < 0:
                break
            stop = self._requests.popleft() + 1
        return range(first, stop)

    def wants(self, piece: int) -> bool:
        """Whether a piece that was taken from here is still to be supplied."""
        return self._owed.get(piece, False)

    async def begin(self, piece: int) -> memoryview | None:
        """Memory for the whole piece; None if it is no longer wanted, or is being received already.

        Waits for piece memory.
        """
        if self._to_begin(piece):
            buffer = await self._resources.pool.take(self.manifest.layout.length(piece))
            if self._to_begin(piece):
                self._open[piece] = buffer
                return buffer.view
            buffer.release()
        if piece not in self._open:
            self.refuse(piece)
        return None

    def begin_now(self, piece: int) -> memoryview | None:
        """As `begin`, without waiting; None, with nothing done, also if it would."""
        if not self._to_begin(piece):
            return None
        buffer = self._resources.pool.take_free(self.manifest.layout.length(piece))
        if buffer is None:
            return None
        self._open[piece] = buffer
        return buffer.view

    def _to_begin(self, piece: int) -> bool:
        """Whether the piece is wanted and has no memory: a second one would take that of the first."""
        return self.wants(piece) and piece not in self._open

    @property
    def slice_bytes(self) -> int:
        """How many bytes to receive at most before `received` is told."""
        pacer = self._resources.download_pacer
        return pacer.slice_bytes if pacer.limited and not self._local else TOGETHER_BYTES

    async def received(self, piece: int, size: int) -> None:
        """``size`` more bytes of the piece are in its memory. Waits for the download limit, unless local.

        The brain hears of a piece that is under way every `PROGRESS_SECONDS`.
        """
        if not self._local:
            await self._resources.download_pacer.wait(size)
        self._fresh[piece] = self._fresh.get(piece, 0) + size
        now = self._resources.now()
        if now >= self._told_at + PROGRESS_SECONDS:
            self._told_at = now
            self._performer.data_received(self.source, piece, self._fresh.pop(piece))

    def deliver(self, pieces: Sequence[int]) -> None:
        """All bytes of these pieces are in their memory."""
        buffers = [self._open.pop(piece) for piece in pieces]
        arrived = [
            ArrivedPiece(piece, self._fresh.pop(piece, 0), buffer.view)
            for piece, buffer in zip(pieces, buffers, strict=True)
        ]
        for piece in pieces:
            self._owed.pop(piece, None)
        self._performer.pieces_received(self.source, ArrivedPieces(arrived, buffers))

    def abandon(self, piece: int) -> None:
        """The piece will not be whole: give its memory back, and refuse it."""
        if fresh := self._fresh.pop(piece, 0):
            self._performer.data_received(self.source, piece, fresh)
        if (buffer := self._open.pop(piece, None)) is not None:
            buffer.release()
        self.refuse(piece)

    def pause(self) -> None:
        """Take no requests until `unpause`; what was requested and not taken is given back.

        What was taken is answered by who took it: given back here, it would be asked for and taken again.
        """
        self._paused = True
        waiting = tuple(self._requests)
        self._requests.clear()
        self._performer.message_received(self.source, Choke())
        for piece in waiting:
            self.refuse(piece)

    def unpause(self) -> None:
        """Take requests again."""
        self._paused = False
        self._performer.message_received(self.source, Unchoke())

    def trouble(self, reason: str, retry_in: float | None) -> None:
        """Tell observers what went wrong; it is tried again after ``retry_in`` seconds, None: not at all."""
        self._tell(reason, retry_in)

    def _answer(self, piece: int, reason: RejectReason) -> None:
        del self._owed[piece]
        self._performer.message_received(self.source, Reject(piece, reason))
