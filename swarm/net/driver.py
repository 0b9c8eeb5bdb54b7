"""What moves one connection: the protocol (`swarm.link.connection`) over its wire.

Three tasks: one receives and never waits to send, one waits for the socket when it is full, one
asks the peer for signs of life. Every change of the protocol's state, and the sealing and sending
that follow from it, is one synchronous step of some task; so a task can be cancelled anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from swarm.errors import LinkClosed, RemoteError, SwarmError
from swarm.link import yamux
from swarm.link.connection import Connection
from swarm.link.limits import LinkLimits
from swarm.link.stream import Stream, Write
from swarm.link.windows import Budget
from swarm.net.life import SignsOfLife
from swarm.net.muxed_stream import MuxedStream
from swarm.net.wire import Wire

if TYPE_CHECKING:
    from swarm.net.muxed_connection import MuxedConnection

logger = logging.getLogger(__name__)

STALL_SECONDS = 60.0
"""Seconds for which a peer may take nothing of what waits in the socket."""
DRAIN_SECONDS = 0.5
"""Seconds that readers here have for each next read once the peer has closed the connection."""


class Driver:
    """One connection at work.

    ``changed``: where tasks park that wait for a stream to accept, for leave to open one, or for
    an end. ``ended``: set once, when the socket is closed and nothing will happen any more.
    ``cause``: why it ended, or an empty string.
    """

    def __init__(
        self,
        owner: MuxedConnection,
        wire: Wire,
        early: list[tuple[bytearray, int]],
        *,
        initiator: bool,
        limits: LinkLimits,
        budget: Budget,
    ) -> None:
        self._owner = owner
        self._wire = wire
        self._early = early
        self._budget = budget
        self.core = Connection(initiator=initiator, blocks=wire.blocks, budget=budget, limits=limits)
        self.core.rtt = wire.round_trip
        self._streams: dict[Stream, MuxedStream] = {}
        self._nursery: trio.Nursery | None = None
        self._sender_needed = trio.Event()
        self._sender_busy = False
        self._mute = False
        self._closed_here = False
        self._life = SignsOfLife(wire, self._ask_for_life)
        self.changed = trio.lowlevel.ParkingLot()
        self.ended = trio.Event()
        self.cause = ""

    @property
    def round_trip(self) -> float:
        """Seconds that the peer takes to answer, smoothed; 0.0 until it has answered."""
        return self._life.round_trip

    # Steps, each synchronous.

    def open(self) -> MuxedStream:
        """Open a stream; LinkClosed when either end is leaving."""
        stream = self.core.open()
        self.pump()
        return self._muxed(stream)

    def accept(self) -> MuxedStream | None:
        """Return the stream of the peer that waits longest, or None."""
        stream = self.core.accept()
        return None if stream is None else self._muxed(stream)

    def consumed(self, muxed: MuxedStream) -> None:
        """Let the peer send what a read of ``muxed`` has made room for."""
        stream = muxed.state
        due = self.core.consumed(stream, trio.current_time())
        self._budget.note(muxed, stream.inbox.size, consumed=True)
        if stream.id not in self.core.streams:
            self._release(muxed)
            self.changed.unpark_all()
        elif due:
            self.pump()

    def write(self, muxed: MuxedStream, data: list[memoryview]) -> Write | None:
        """Send what can be sent of ``data`` now, queue the rest; LinkClosed when the stream takes none.

        Returns the last part that is not empty: with it all are on their way.
        """
        writes = [self.core.write(muxed.state, part) for part in data]
        self.pump()
        return next((write for write in reversed(writes) if write.data), None)

    def finish(self, muxed: MuxedStream) -> None:
        """Send FIN behind what is queued."""
        self.core.finish(muxed.state)
        self._settle()

    def close_stream(self, muxed: MuxedStream) -> None:
        """Send FIN behind what is queued, and drop what is unread and what still arrives."""
        self.core.close(muxed.state, trio.current_time())
        self._settle()

    def reset(self, muxed: MuxedStream) -> None:
        """Send RST and forget the stream."""
        self.core.reset(muxed.state)
        self._settle()

    def leave(self) -> None:
        """Give up every stream, send what is sealed and GO_AWAY, then listen until the peer has closed."""
        if not self.core.leaving and not self.ended.is_set():
            self._blame("the connection was closed here")
            self._closed_here = True
            self.core.leave()
            self._settle()
            self.changed.unpark_all()

    def pump(self) -> None:
        """Send what the socket takes, leave the rest to the sender, wake whoever waited for it."""
        if self._sender_busy or self._mute:
            return
        try:
            done = self._wire.send(self.core.fill)
            if done and self.core.leaving:
                self._mute = True
                self._wire.finish()
        except SwarmError as error:
            # What the peer sent before it went may still be there to read: the receiver decides.
            self._mute = True
            self._blame(str(error))
            done = True
        if not done:
            self._sender_busy = True
            self._sender_needed.set()
        self._act()

    def _settle(self) -> None:
        self._act()
        if self.core.peer_gone and not self.core.streams:
            self.core.leave()
        self.pump()

    def _act(self) -> None:
        """Wake whoever is concerned by what has happened in the protocol."""
        happened = self.core.take()
        for stream in happened.touched:
            muxed = self._muxed(stream)
            self._budget.note(muxed, stream.inbox.size, consumed=False)
            muxed.wake()
            self._release(muxed)
        if happened.touched or happened.acceptable:
            self.changed.unpark_all()
        if happened.pongs:
            self._life.answered()

    def _muxed(self, stream: Stream) -> MuxedStream:
        muxed = self._streams.get(stream)
        if muxed is None:
            muxed = self._streams[stream] = MuxedStream(self._owner, self, stream)
        return muxed

    def _release(self, muxed: MuxedStream) -> None:
        stream = muxed.state
        if stream.id not in self.core.streams and not stream.inbox.size:
            self._streams.pop(stream, None)

    # Tasks.

    async def run(self, started: trio.Event) -> None:
        """Set ``started``, then run until the connection has ended; call `end` afterwards."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._send)
            nursery.start_soon(self._keep_alive)
            started.set()
            await self._receive()
            await self._drain()
            nursery.cancel_scope.cancel()

    async def _receive(self) -> None:
        try:
            self._received(iter(self._early))
            while True:
                self._received(await self._wire.receive())
                await trio.lowlevel.checkpoint()
        except LinkClosed as error:
            self._blame(str(error))
            self.core.lose()
        except RemoteError as error:
            logger.debug("closing a connection: %s", error)
            self._blame(str(error))
            self.core.leave(yamux.PROTOCOL_ERROR)
        self._settle()

    def _received(self, plaintexts: Iterator[tuple[bytearray, int]]) -> None:
        self.core.pace.refill(trio.current_time())
        for block, size in plaintexts:
            self.core.receive(block, size)
            if self.core.crowded:
                self.pump()
        self._settle()
        while victim := self._budget.stalest():
            if isinstance(victim, MuxedStream):
                logger.debug("resetting the stalest stream: the window memory is full")
                victim.give_up()
                self._budget.note(victim, 0, consumed=True)

    async def _send(self) -> None:
        while True:
            await self._sender_needed.wait()
            self._sender_needed = trio.Event()
            while self._sender_busy:
                await self._socket_writable()
                self._sender_busy = False
                self.pump()

    async def _socket_writable(self) -> None:
        if not self._wire.unsent:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(STALL_SECONDS) as scope:
            try:
                await self._wire.writable()
            except LinkClosed as error:
                self._abort(str(error))
        if scope.cancelled_caught:
            self._abort(f"the peer has taken nothing for {STALL_SECONDS:.0f} s")

    async def _keep_alive(self) -> None:
        while True:
            pause = await self._life.look()
            # Pings queue behind bulk; what windows are measured by is the path alone.
            self.core.rtt = self._wire.round_trip or self._life.round_trip
            if self._life.gone:
                self._abort(self._life.gone)
            self.core.tick(trio.current_time())
            self._settle()
            await trio.sleep(pause)

    def _ask_for_life(self, number: int) -> None:
        self.core.ping(number)
        self.pump()

    async def _drain(self) -> None:
        """Let the readers here have what arrived before the peer closed the connection."""
        while not self._closed_here and any(stream.inbox.size for stream in self._streams):
            with trio.move_on_after(DRAIN_SECONDS) as scope:
                await self.changed.park()
            if scope.cancelled_caught:
                return

    def _abort(self, cause: str) -> None:
        self._blame(cause)
        self.end()

    def _blame(self, cause: str) -> None:
        """Remember why the connection ended: the first reason counts, the rest follows from it."""
        self.cause = self.cause or cause

    def end(self) -> None:
        """Close the socket and end everything that waits.

        What is unread stays with its streams, in the budget, until they are read or reset.
        """
        if self.ended.is_set():
            return
        self._mute = True
        self.core.lose()
        self._act()
        self._wire.close()
        self.ended.set()
        self.changed.unpark_all()
        if self._nursery:
            self._nursery.cancel_scope.cancel()
