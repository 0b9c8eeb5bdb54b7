"""Sleeping until a time that may still move closer.

Does what the brain wants done, in its order and at its times, and feeds back what comes of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from swarm.errors import DiskError, PieceMismatch
from swarm.events import BytesReceived, BytesSent
from swarm.ids import PeerId, SourceId
from swarm.ports import Store
from swarm.protocol.messages import Message
from swarm.strategy.brain import Brain
from swarm.strategy.commands import (
    Ban,
    Blame,
    Command,
    Disconnect,
    DropUpload,
    Publish,
    Send,
    StorePiece,
    Upload,
)
from swarm.transfer.buffers import PieceBuffer
from swarm.transfer.progress import TransferRecord


class Alarm:
    """Wakes one task; ``now`` is the clock that times are in, seconds."""

    __slots__ = ("_now", "_scope", "at")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._scope = trio.CancelScope()
        self.at = -math.inf
        """When the sleeper wakes; minus infinity while there is none."""

    def bring_forward(self, at: float) -> None:
        """Wake the sleeper at ``at``, if that is before it would wake."""
        if at < self.at:
            self.at = at
            self._scope.deadline = self._deadline(at)

    async def sleep_until(self, at: float) -> None:
        """Sleep until ``at`` or what it is brought forward to."""
        self.at = at
        with trio.CancelScope(deadline=self._deadline(at)) as self._scope:
            await trio.sleep_forever()
        self.at = -math.inf

    def _deadline(self, at: float) -> float:
        return trio.current_time() + max(0.0, at - self._now())


STORES_AT_ONCE = 4
"""Pieces that are verified and written side by side; more wait in their buffers."""


class MessageSink(Protocol):
    """A source that requests go to: a peer's session, or the desk of another source."""

    def send(self, message: Message) -> None:
        """Send or queue a control message; never waits."""


class UploadSink(Protocol):
    """A peer's session that pieces are sent over."""

    def upload(self, piece: int) -> None:
        """Send a requested piece."""

    def drop_upload(self, piece: int) -> None:
        """Give the final reply of a queued or begun upload now."""


class SourceKeeper(Protocol):
    """Ends sessions and other sources for the performer, and tells the brain that they ended."""

    def dismiss(self, source: SourceId, reason: str) -> None:
        """End the source's session, if it has one; it may come back."""

    def expel(self, source: SourceId, reason: str, piece: int | None) -> None:
        """End the source's session and never let it in again."""

    def blame(self, source: SourceId, reason: str, piece: int) -> None:
        """Tell an origin, which is kept, that a piece of it did not match its hash."""


class Performer:
    """Keeps commands in order: the result of a command is never handled before the commands behind it."""

    def __init__(
        self,
        brain: Brain,
        store: Store,
        keeper: SourceKeeper,
        record: TransferRecord,
        now: Callable[[], float],
    ) -> None:
        self.brain = brain
        self.now = now
        self._store = store
        self._keeper = keeper
        self._record = record
        self._pending: deque[Command] = deque()
        self._busy = False
        self._whole: dict[tuple[SourceId, int], PieceBuffer] = {}
        self._nursery: trio.Nursery | None = None
        self._storing = trio.Semaphore(STORES_AT_ONCE)
        self._alarm = Alarm(now)
        self._failed = trio.Event()
        self.sources: dict[SourceId, MessageSink] = {}
        """What the brain can ask: the sessions of peers that have greeted, and other sources."""
        self.receivers: dict[PeerId, UploadSink] = {}
        """The peers whose sessions pieces are sent over."""
        self.failure: DiskError | None = None
        """The error of the disk that ended the transfer."""
        self.started = trio.Event()
        self.complete = trio.Event()
        if brain.complete:
            self.complete.set()

    async def run(self) -> None:
        """Keep the brain's times and store pieces until cancelled or until there is a ``failure``."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.started.set()
            nursery.start_soon(self._keep_time)
            try:
                await self._failed.wait()
            finally:
                # It takes no more pieces from here on, while it waits for those under way.
                self._nursery = None
            nursery.cancel_scope.cancel()

    def perform(self, commands: list[Command]) -> None:
        """Perform the commands now; those that come up meanwhile follow behind them."""
        if commands:
            self._pending.extend(commands)
            if self._busy:
                return
            self._busy = True
            try:
                while self._pending:
                    self._perform_one(self._pending.popleft())
            finally:
                self._busy = False
        if self.brain.complete and not self.complete.is_set():
            self.complete.set()
        self._alarm.bring_forward(self.brain.next_wakeup())

    # --- What sources report --------------------------------------------------------------------

    def message_received(self, source: SourceId, message: Message) -> None:
        """A control message for the brain."""
        self.perform(self.brain.received(source, message, self.now()))

    def data_received(self, source: SourceId, piece: int, size: int) -> None:
        """Payload of a piece came."""
        self.perform(self.brain.data_received(source, piece, size, self.now()))
        self._record.publish(BytesReceived(self._record.transfer, source, size))

    def piece_received(self, source: SourceId, piece: int, buffer: PieceBuffer | None) -> None:
        """Ask the brain what becomes of a whole piece; what it does not want stored is dropped."""
        if buffer is not None:
            self._whole[source, piece] = buffer
        self.perform(self.brain.piece_received(source, piece, self.now()))
        if unwanted := self._whole.pop((source, piece), None):
            unwanted.release()

    def uploaded(self, peer: PeerId, piece: int, size: int) -> None:
        """Payload of a piece was handed to the connection."""
        self.perform(self.brain.uploaded(peer, piece, size, self.now()))
        self._record.publish(BytesSent(self._record.transfer, peer, size))

    def upload_finished(self, peer: PeerId, piece: int) -> None:
        """The final reply of an upload is out."""
        self.perform(self.brain.upload_finished(peer, piece, self.now()))

    def piece_lost(self, piece: int) -> None:
        """The store has withdrawn a piece."""
        self.perform(self.brain.piece_lost(piece, self.now()))

    def stored_changed(self) -> None:
        """The store has lost pieces, or has lost ones again."""
        self.perform(self.brain.stored_changed(self._store.stored, self.now()))

    # --- Commands -------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            await self._alarm.sleep_until(self.brain.next_wakeup())
            self.perform(self.brain.tick(self.now()))

    def _perform_one(self, command: Command) -> None:
        match command:
            case Send():
                if sink := self.sources.get(command.source):
                    sink.send(command.message)
            case Upload() | DropUpload():
                self._tell_receiver(command)
            case StorePiece():
                self._begin_to_store(command.source, command.piece)
            case Publish():
                self._record.publish(command.event)
            case Disconnect():
                self._keeper.dismiss(command.source, command.reason)
            case Ban():
                self._keeper.expel(command.source, command.reason, command.piece)
            case Blame():
                self._keeper.blame(command.source, command.reason, command.piece)
            case _:
                raise TypeError(f"no such command: {command!r}")

    def _tell_receiver(self, command: Upload | DropUpload) -> None:
        receiver = self.receivers.get(command.peer)
        if receiver is None:
            return
        if isinstance(command, Upload):
            receiver.upload(command.piece)
        else:
            receiver.drop_upload(command.piece)

    def _begin_to_store(self, source: SourceId, piece: int) -> None:
        buffer = self._whole.pop((source, piece))
        if self._nursery is None:
            buffer.release()
        else:
            self._nursery.start_soon(self._store_piece, source, piece, buffer)

    async def _store_piece(self, source: SourceId, piece: int, buffer: PieceBuffer) -> None:
        checked = False
        try:
            async with self._storing:
                await self._store.put(piece, buffer.view)
            checked, result = True, self.brain.piece_stored
        except PieceMismatch:
            checked, result = True, self.brain.piece_refused
        except DiskError as error:
            self.failure = error
            self._failed.set()
            result = self.brain.piece_failed
        finally:
            # A cancelled or failed store may still be looking at the memory.
            buffer.release(reuse=checked)
        self.perform(result(source, piece, self.now()))
