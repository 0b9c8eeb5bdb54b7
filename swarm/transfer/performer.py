"""Sleeping until a time that may still move closer.

Does what the brain wants done, in its order and at its times, and feeds back what comes of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from swarm.errors import DiskError, PieceMismatch
from swarm.events import Event
from swarm.ids import PeerId
from swarm.ports import Store
from swarm.strategy.brain import Brain
from swarm.strategy.commands import (
    Ban,
    Command,
    Disconnect,
    DropUpload,
    Publish,
    Send,
    StorePiece,
    Upload,
)
from swarm.transfer.buffers import PieceBuffer
from swarm.transfer.session import PeerSession


class Alarm:
    """Wakes one task; ``now`` is the clock that times are in, seconds."""

    __slots__ = ("_now", "_scope", "at")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._scope = trio.CancelScope()
        self.at = -math.inf
        """When the sleeper wakes; minus infinity while nobody sleeps."""

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


class Doorkeeper(Protocol):
    """Ends sessions for the performer, and tells the brain that they ended."""

    def dismiss(self, peer: PeerId, reason: str) -> None:
        """End the peer's session, if it has one."""

    def expel(self, peer: PeerId, reason: str, piece: int | None) -> None:
        """End the peer's session and never let it in again."""


class Performer:
    """Owns the order of commands: the results of a command never run before the commands behind it."""

    def __init__(
        self,
        brain: Brain,
        store: Store,
        door: Doorkeeper,
        publish: Callable[[Event], None],
        now: Callable[[], float],
    ) -> None:
        self.brain = brain
        self.publish = publish
        self.now = now
        self._store = store
        self._door = door
        self._pending: deque[Command] = deque()
        self._busy = False
        self._whole: dict[tuple[PeerId, int], PieceBuffer] = {}
        self._nursery: trio.Nursery | None = None
        self._storing = trio.Semaphore(STORES_AT_ONCE)
        self._alarm = Alarm(now)
        self._failed = trio.Event()
        self.sessions: dict[PeerId, PeerSession] = {}
        """The sessions that the brain knows of."""
        self.failure: DiskError | None = None
        """What the disk refused; the transfer is over then."""
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

    def piece_received(self, peer: PeerId, piece: int, buffer: PieceBuffer | None) -> None:
        """Ask the brain what becomes of a whole piece; what it does not want stored is dropped."""
        if buffer is not None:
            self._whole[peer, piece] = buffer
        self.perform(self.brain.piece_received(peer, piece, self.now()))
        if unwanted := self._whole.pop((peer, piece), None):
            unwanted.release()

    async def _keep_time(self) -> None:
        while True:
            await self._alarm.sleep_until(self.brain.next_wakeup())
            self.perform(self.brain.tick(self.now()))

    def _perform_one(self, command: Command) -> None:
        match command:
            case Send() | Upload() | DropUpload():
                self._tell_session(command)
            case StorePiece():
                self._begin_to_store(PeerId(command.source), command.piece)
            case Publish():
                self.publish(command.event)
            case Disconnect():
                self._door.dismiss(PeerId(command.source), command.reason)
            case Ban():
                self._door.expel(PeerId(command.source), command.reason, command.piece)
            case _:
                raise TypeError(f"no such command: {command!r}")

    def _tell_session(self, command: Send | Upload | DropUpload) -> None:
        session = self.sessions.get(PeerId(command.source) if isinstance(command, Send) else command.peer)
        if session is None:
            return
        match command:
            case Send():
                session.send(command.message)
            case Upload():
                session.upload(command.piece)
            case DropUpload():
                session.drop_upload(command.piece)

    def _begin_to_store(self, peer: PeerId, piece: int) -> None:
        buffer = self._whole.pop((peer, piece))
        if self._nursery is None:
            buffer.release()
        else:
            self._nursery.start_soon(self._store_piece, peer, piece, buffer)

    async def _store_piece(self, peer: PeerId, piece: int, buffer: PieceBuffer) -> None:
        seen = False
        try:
            async with self._storing:
                await self._store.put(piece, buffer.view)
            seen, result = True, self.brain.piece_stored
        except PieceMismatch:
            seen, result = True, self.brain.piece_refused
        except DiskError as error:
            self.failure = error
            self._failed.set()
            result = self.brain.piece_failed
        finally:
            # A cancelled or failed store may still be looking at the memory.
            buffer.release(reuse=seen)
        self.perform(result(peer, piece, self.now()))
