"""Where a source of pieces that is no peer takes its requests and gives its answers."""

from __future__ import annotations

from collections import deque

import trio

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.ids import SourceId
from swarm.ports import PieceSource
from swarm.protocol.messages import (
    Cancel,
    HaveBitfield,
    Message,
    Reject,
    RejectReason,
    Request,
    Unchoke,
)
from swarm.transfer.pacing import CHUNK_BYTES
from swarm.transfer.performer import Performer
from swarm.transfer.session_io import SessionResources


class SourceDesk:
    """The `RequestDesk` of one source in one transfer; to the brain it is a peer that wants nothing."""

    def __init__(self, source: PieceSource, resources: SessionResources, performer: Performer) -> None:
        self.source: SourceId = source.id
        self._resources = resources
        self._performer = performer
        self._requests: deque[int] = deque()
        self._owed: dict[int, bool] = {}
        self._requested = trio.Event()
        self.scope = trio.CancelScope()
        """Cancelled to end the source."""
        self.reason = ""

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""
        return self._resources.store.manifest

    # --- For the brain ------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Take a request, or the cancellation of one; such a source needs no other message."""
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

    def stop(self, reason: str) -> None:
        """End the source."""
        self.reason = self.reason or reason
        self.scope.cancel()

    # --- For the source -----------------------------------------------------------------------------

    def offer(self, pieces: PieceSet) -> None:
        """Say which pieces can be asked for from now on."""
        self._performer.message_received(self.source, HaveBitfield(pieces.to_bytes()))
        self._performer.message_received(self.source, Unchoke())

    async def next_request(self) -> int:
        """The next piece that is wanted, in the order of asking; waits until there is one."""
        while not self._requests:
            self._requested = trio.Event()
            await self._requested.wait()
        return self._requests.popleft()

    async def supply(self, piece: int, data: memoryview) -> None:
        """Answer a request with the whole piece, or be ignored if it is no longer wanted.

        Raises ValueError for data of another length than the piece's.
        """
        if len(data) != self.manifest.layout.length(piece):
            raise ValueError(f"piece {piece} has {self.manifest.layout.length(piece)} bytes, not {len(data)}")
        if not self._owed.get(piece, False):
            self.refuse(piece)
            return
        buffer = await self._resources.pool.take(len(data))
        try:
            pacer, done = self._resources.download_pacer, 0
            while done < len(data):
                size = min(len(data) - done, pacer.slice_bytes if pacer.limited else CHUNK_BYTES)
                buffer.view[done : done + size] = data[done : done + size]
                done += size
                if not await pacer.wait(size):
                    await trio.lowlevel.checkpoint()
                self._performer.data_received(self.source, piece, size)
        except BaseException:
            buffer.release()
            raise
        self._owed.pop(piece, None)
        self._performer.piece_received(self.source, piece, buffer)

    def refuse(self, piece: int) -> None:
        """Answer a request with the news that the piece is not there; it will not be asked for soon."""
        if piece in self._owed:
            wanted = self._owed[piece]
            self._answer(piece, RejectReason.NOT_STORED if wanted else RejectReason.CANCELLED)

    def _answer(self, piece: int, reason: RejectReason) -> None:
        del self._owed[piece]
        self._performer.message_received(self.source, Reject(piece, reason))
