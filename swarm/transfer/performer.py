"""Performs the commands of the brain, in their order and at their times, and returns their results to it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from swarm.bits import PieceSet
from swarm.errors import DiskError, PieceMismatch
from swarm.events import BytesSent, BytesSpared
from swarm.ids import PeerId, SourceId
from swarm.ports import HeldPieces, Store
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
from swarm.transfer.buffers import ArrivedPieces
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

    def send(self, *messages: Message) -> None:
        """Queue control messages; never waits."""

    def flush(self) -> None:
        """Send what is queued; never waits."""


class UploadSink(Protocol):
    """A peer's session that pieces are sent over."""

    def upload(self, pieces: list[int]) -> None:
        """Send requested pieces, in this order."""

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
        self._told: dict[SourceId, MessageSink] = {}
        self._whole: dict[int, memoryview] = {}
        self._wanted: list[tuple[int, memoryview]] = []
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
                    self._perform_next()
            finally:
                self._busy = False
            told, self._told = self._told, {}
            for sink in told.values():
                sink.flush()
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
        self._record.received_from(source, size)

    def requests_received(self, peer: PeerId, pieces: list[int]) -> None:
        """A run of requests for the brain."""
        self.perform(self.brain.pieces_requested(peer, pieces, self.now()))

    def pieces_received(self, source: SourceId, arrived: ArrivedPieces) -> None:
        """Ask the brain what becomes of whole pieces; what it does not want stored is dropped."""
        come = [(piece, fresh) for piece, fresh, _ in arrived.pieces]
        self._whole = {piece: data for piece, _, data in arrived.pieces if data is not None}
        self._wanted = []
        self.perform(self.brain.pieces_received(source, come, self.now()))
        if fresh := sum(size for _, size in come):
            self._record.received_from(source, fresh)
        wanted, self._wanted, self._whole = self._wanted, [], {}
        if not wanted or self._nursery is None:
            arrived.release()
        elif not self._store_now(source, wanted, arrived):
            arrived.whole()
            self._nursery.start_soon(self._store_pieces, source, wanted, arrived)

    def pieces_sent(self, peer: PeerId, finished: list[int], size: int) -> None:
        """Payload was handed to the connection, and with it the last of some pieces."""
        self.perform(self.brain.pieces_uploaded(peer, finished, size, self.now()))
        self._record.publish(BytesSent(self._record.transfer, peer, size))

    def bytes_spared(self, peer: PeerId, received: int, sent: int) -> None:
        """Payload travelled in compressed form."""
        self._record.publish(BytesSpared(self._record.transfer, peer, received, sent))

    def upload_finished(self, peer: PeerId, piece: int) -> None:
        """The final reply of an upload is out."""
        self.perform(self.brain.upload_finished(peer, piece, self.now()))

    def piece_lost(self, piece: int) -> None:
        """The store has withdrawn a piece."""
        self.perform(self.brain.piece_lost(piece, self.now()))

    def stored_changed(self) -> None:
        """The store has lost pieces, or has lost ones again."""
        self.perform(self.brain.stored_changed(self._store.stored, self.now()))

    def fetch_again(self, pieces: PieceSet) -> None:
        """Pieces were stored and are not any more, so that the transfer is not complete after all."""
        self.complete = trio.Event()
        self.perform(self.brain.pieces_lost(pieces, self.now(), again=True))

    # --- Commands -------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            await self._alarm.sleep_until(self.brain.next_wakeup())
            self.perform(self.brain.tick(self.now()))

    def _perform_next(self) -> None:
        """Perform the next command, with those behind it that go to the same place."""
        pending = self._pending
        command = pending.popleft()
        if type(command) is Send:
            source, messages = command.source, [command.message]
            while pending and type(command := pending[0]) is Send and command.source == source:
                messages.append(command.message)
                pending.popleft()
            if sink := self.sources.get(source):
                sink.send(*messages)
                self._told[source] = sink
        elif type(command) is Upload:
            peer, pieces = command.peer, [command.piece]
            while pending and type(command := pending[0]) is Upload and command.peer == peer:
                pieces.append(command.piece)
                pending.popleft()
            if receiver := self.receivers.get(peer):
                receiver.upload(pieces)
        elif type(command) is StorePiece:
            self._wanted.append((command.piece, self._whole.pop(command.piece)))
        elif type(command) is Publish:
            events = [command.event]
            while (
                pending and type(command := pending[0]) is Publish and type(command.event) is type(events[0])
            ):
                events.append(command.event)
                pending.popleft()
            self._record.publish(*events)
        else:
            self._perform_rare(command)

    def _perform_rare(self, command: Command) -> None:
        match command:
            case DropUpload():
                if receiver := self.receivers.get(command.peer):
                    receiver.drop_upload(command.piece)
            case Disconnect():
                self._keeper.dismiss(command.source, command.reason)
            case Ban():
                self._keeper.expel(command.source, command.reason, command.piece)
            case Blame():
                self._keeper.blame(command.source, command.reason, command.piece)
            case _:
                raise TypeError(f"no such command: {command!r}")

    def _store_now(
        self, source: SourceId, pieces: list[tuple[int, memoryview]], arrived: ArrivedPieces
    ) -> bool:
        """Store pieces in this step, if the store can do that without waiting; returns whether it could."""
        wrong: list[int] | None = None
        try:
            wrong = self._store.put_now(pieces)
            if wrong is None:
                return False
        except DiskError as error:
            self._fail(error)
        arrived.release()
        self._tell_stored(source, pieces, wrong)
        return True

    async def take_pieces(self, source: SourceId, pieces: list[int], held: HeldPieces) -> None:
        """Let the store take pieces that a source on this machine holds."""
        try:
            async with self._storing:
                taken = await self._store.take(pieces, held)
        except DiskError as error:
            self._fail(error)
            taken = [piece for piece in pieces if piece in self._store.stored]
        denied = [piece for piece in pieces if piece not in self._store.stored]
        self.perform(self.brain.pieces_reused(source, taken, denied, self.now()))

    async def _store_pieces(
        self, source: SourceId, pieces: list[tuple[int, memoryview]], arrived: ArrivedPieces
    ) -> None:
        wrong: list[int] | None = None
        try:
            async with self._storing:
                wrong = await self._put(pieces)
        except DiskError as error:
            self._fail(error)
        finally:
            # A cancelled or failed store may still be looking at the memory.
            arrived.release(reuse=wrong is not None)
        self._tell_stored(source, pieces, wrong)

    def _fail(self, error: DiskError) -> None:
        self.failure = error
        self._failed.set()

    def _tell_stored(
        self, source: SourceId, pieces: list[tuple[int, memoryview]], wrong: list[int] | None
    ) -> None:
        """Tell the brain what became of pieces; None in place of the wrong ones is a failure of the disk."""
        now = self.now()
        if wrong is not None:
            written = [piece for piece, _ in pieces if piece not in wrong]
            failed = []
        else:
            written = [piece for piece, _ in pieces if piece in self._store.stored]
            failed = [piece for piece, _ in pieces if piece not in self._store.stored]
        commands = self.brain.pieces_stored(source, written, now) if written else []
        for piece in wrong or ():
            commands += self.brain.piece_refused(source, piece, now)
        for piece in failed:
            commands += self.brain.piece_failed(source, piece, now)
        self.perform(commands)

    async def _put(self, pieces: list[tuple[int, memoryview]]) -> list[int]:
        """Verify and write pieces; returns those that do not match."""
        if len(pieces) > 1:
            return await self._store.put_many(pieces)
        ((piece, data),) = pieces
        try:
            await self._store.put(piece, data)
        except PieceMismatch:
            return [piece]
        return []
