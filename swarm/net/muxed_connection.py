"""A Yamux connection and its streams, implementing libp2p's interfaces.

The protocol state is in `swarm.mux.connection`; this module connects it to the socket. Three tasks run
per connection: one receives and never waits to send, one waits while the socket is full, one checks that
the peer is alive. Every change of the state, with the sealing and sending that follow from it, is one
synchronous step of some task, so a task may be cancelled at any await.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)
from multiaddr import Multiaddr

from swarm.errors import LinkClosed, RemoteError, SwarmError
from swarm.mux import frames as yamux
from swarm.mux.connection import Connection
from swarm.mux.mux_limits import MuxLimits
from swarm.mux.stream import Ending, Stream, WindowBudget, Write
from swarm.net.libp2p.noise_session import NoiseSession
from swarm.net.record_socket import RecordSocket
from swarm.net.streams import shielded

KEEPALIVE_INTERVAL = 60.0
"""Seconds between two checks of a peer."""
LIFE_BYTES = 4096
"""Bytes received between two checks. A peer that sent some, but at most this many, is alive and quiet and
needs no ping; a busy peer is pinged to keep the round trip up to date."""
SECOND_PING = 1.0
"""Seconds after the first ping at which the round trip is measured again, once the start-up is over."""
KEEPALIVE_DEADLINE = 20.0
"""Seconds after a ping within which something must be received from the peer."""


class LivenessProbe:
    """Pings the peer with ``ping(number)`` when nothing was received over ``wire`` for a while.

    ``round_trip``: smoothed seconds from a ping to its answer; 0.0 until the first answer.
    ``gone``: why the peer counts as dead, or an empty string.
    """

    def __init__(self, wire: RecordSocket, ping: Callable[[int], None]) -> None:
        self._wire = wire
        self._ping = ping
        self._answer = trio.Event()
        self._number = 0
        self._heard = 0
        self.round_trip = 0.0
        self.gone = ""

    def answered(self) -> None:
        """The answer to the latest ping has arrived."""
        self._answer.set()

    async def look(self) -> float:
        """Ping if necessary and wait for the answer; return the seconds until the next check."""
        self._number = (self._number + 1) % 2**32
        # A ping from the peer is a sign of life too, so only one of the two ends needs to ping.
        if self._number <= 2 or not 0 < self._wire.received_bytes - self._heard <= LIFE_BYTES:
            await self._ask()
        self._heard = self._wire.received_bytes
        return KEEPALIVE_INTERVAL if self._number > 1 else min(SECOND_PING, KEEPALIVE_INTERVAL)

    async def _ask(self) -> None:
        heard, asked = self._wire.received_bytes, trio.current_time()
        self._answer = trio.Event()
        self._ping(self._number)
        with trio.move_on_after(KEEPALIVE_DEADLINE):
            await self._answer.wait()
            seconds = trio.current_time() - asked
            self.round_trip = (self.round_trip + seconds) / 2 if self.round_trip else seconds
        if self._wire.received_bytes == heard:
            self.gone = f"nothing was received from the peer for {KEEPALIVE_DEADLINE:.0f} s"


logger = logging.getLogger(__name__)

STALL_SECONDS = 60.0
"""Seconds after which a peer that reads nothing from a full socket is disconnected."""
DRAIN_SECONDS = 0.5
"""Seconds between two reads after which unread data is given up once the peer has closed the connection."""


class Driver:
    """Runs one connection: moves bytes between its state machine, its socket and its streams.

    ``changed``: tasks park here until they can accept or open a stream, or the connection ends.
    ``ended``: set once the socket is closed. ``cause``: why the connection ended, or an empty string.
    """

    def __init__(
        self,
        owner: MuxedConnection,
        wire: RecordSocket,
        early: list[tuple[bytearray, int]],
        *,
        initiator: bool,
        limits: MuxLimits,
        budget: WindowBudget,
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
        self._life = LivenessProbe(wire, self._ask_for_life)
        self.changed = trio.lowlevel.ParkingLot()
        self.ended = trio.Event()
        self.cause = ""

    @property
    def round_trip(self) -> float:
        """Smoothed seconds from a ping to its answer; 0.0 until the first answer."""
        return self._life.round_trip

    # Synchronous steps.

    def open(self) -> MuxedStream:
        """Open a stream; LinkClosed when either end is closing."""
        stream = self.core.open()
        self.pump()
        return self._muxed(stream)

    def accept(self) -> MuxedStream | None:
        """Return the oldest stream of the peer that was not accepted yet, or None."""
        stream = self.core.accept()
        return None if stream is None else self._muxed(stream)

    def consumed(self, muxed: MuxedStream) -> None:
        """Update the window after a read from ``muxed``."""
        stream = muxed.state
        due = self.core.consumed(stream, trio.current_time())
        self._budget.note(muxed, stream.inbox.size, consumed=True)
        if stream.id not in self.core.streams:
            self._release(muxed)
            self.changed.unpark_all()
        elif due:
            self.pump()

    def write(self, muxed: MuxedStream, data: list[memoryview]) -> Write | None:
        """Send as much of ``data`` as possible now and queue the rest.

        Returns the last non-empty part: once it is sent, all are. LinkClosed when the stream is closed
        for writing.
        """
        writes = [self.core.write(muxed.state, part) for part in data]
        self.pump()
        return next((write for write in reversed(writes) if write.data), None)

    def finish(self, muxed: MuxedStream) -> None:
        """Send FIN after the queued bytes."""
        self.core.finish(muxed.state)
        self._settle()

    def close_stream(self, muxed: MuxedStream) -> None:
        """Send FIN after the queued bytes; drop unread bytes and those that still arrive."""
        self.core.close(muxed.state, trio.current_time())
        self._settle()

    def reset(self, muxed: MuxedStream) -> None:
        """Send RST and forget the stream."""
        self.core.reset(muxed.state)
        self._settle()

    def leave(self) -> None:
        """End every stream, send the sealed bytes and GO_AWAY, then receive until the peer closes."""
        if not self.core.leaving and not self.ended.is_set():
            self._blame("the connection was closed here")
            self._closed_here = True
            self.core.leave()
            self._settle()
            self.changed.unpark_all()

    def pump(self) -> None:
        """Send what the socket takes, leave the rest to the sending task, and wake waiting tasks."""
        if self._sender_busy or self._mute:
            return
        try:
            done = self._wire.send(self.core.fill)
            if done and self.core.leaving:
                self._mute = True
                self._wire.finish()
        except SwarmError as error:
            # Data that the peer sent before it closed may still be readable, so the receiver ends it.
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
        """Wake the tasks that the results of the state machine concern."""
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
        """Set ``started``, then run until the connection ends; call `end` afterwards."""
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
            self._abort(f"the peer has read nothing for {STALL_SECONDS:.0f} s")

    async def _keep_alive(self) -> None:
        while True:
            pause = await self._life.look()
            # Pings queue behind bulk data; window growth needs the round trip of the path itself.
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
        """Let local readers read what arrived before the peer closed the connection."""
        while not self._closed_here and any(stream.inbox.size for stream in self._streams):
            with trio.move_on_after(DRAIN_SECONDS) as scope:
                await self.changed.park()
            if scope.cancelled_caught:
                return

    def _abort(self, cause: str) -> None:
        self._blame(cause)
        self.end()

    def _blame(self, cause: str) -> None:
        """Record why the connection ended; only the first cause is kept."""
        self.cause = self.cause or cause

    def end(self) -> None:
        """Close the socket and wake every waiting task.

        Unread bytes stay in their streams, and in the budget, until they are read or reset.
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


_ENDINGS = {
    Ending.RESET_BY_PEER: "the peer reset the stream",
    Ending.RESET_HERE: "the stream was reset here",
    Ending.CONNECTION_LOST: "the connection was lost",
}


class MuxedStream(IMuxedStream):
    """A Yamux stream.

    A cancelled read consumes nothing. A cancelled write resets the stream, because part of it may
    already be sent. Neither affects the connection or its other streams.
    """

    def __init__(self, connection: MuxedConnection, driver: Driver, state: Stream) -> None:
        self.muxed_conn = self._connection = connection
        self.state = state
        self._driver = driver
        self._readable = trio.lowlevel.ParkingLot()
        self._written = trio.lowlevel.ParkingLot()
        self._deadline = float("inf")

    @property
    def stream_id(self) -> int:
        """The Yamux stream id."""
        return self.state.id

    # Reading.

    async def read(self, n: int | None = None) -> bytes:
        """Wait for data and return 1 to ``n`` bytes; None and -1 mean everything available.

        Raises MuxedStreamEOF once the peer has finished or the stream was closed here, and
        MuxedStreamReset when either end reset it or the connection was lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if n == 0:
            return b""
        inbox = self.state.inbox
        if not inbox.size:
            await self._wait_readable()
        data = inbox.take(inbox.size if n is None or n < 0 else n)
        self._driver.consumed(self)
        return data

    async def readinto(self, buffer: memoryview) -> int:
        """Wait for data and put 1 to ``len(buffer)`` bytes into ``buffer``; return how many.

        Raises what `read` does. The buffer is never written after a cancellation.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not len(buffer):
            return 0
        inbox = self.state.inbox
        if not inbox.size:
            await self._wait_readable()
        size = inbox.take_into(buffer)
        self._driver.consumed(self)
        return size

    async def _wait_readable(self) -> None:
        with trio.CancelScope(deadline=self._deadline) as scope:
            while not self.state.inbox.size:
                self._check_readable()
                await self._readable.park()
        if scope.cancelled_caught:
            raise MuxedStreamError("the deadline of the stream has passed")

    def _check_readable(self) -> None:
        ending = self.state.ending
        if ending and (self.state.receiving or ending is not Ending.CONNECTION_LOST):
            raise MuxedStreamReset(_ENDINGS[ending])
        if self.state.discarding:
            raise MuxedStreamEOF("the stream was closed here")
        if not self.state.receiving:
            raise MuxedStreamEOF("the peer has finished")

    # Writing.

    async def write(self, *data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``, in frames that alternate with those of other streams.

        The buffers may be reused once this returns. Raises MuxedStreamClosed after `close` or
        `close_write`, and MuxedStreamReset when either end reset the stream or the connection was lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            write = self._driver.write(self, [memoryview(part).cast("B") for part in data])
        except LinkClosed:
            self._check_writable()
            raise MuxedStreamClosed("the stream is closed for writing") from None
        if write is not None and write.left:
            await self._wait_written(write)

    async def _wait_written(self, write: Write) -> None:
        try:
            with trio.CancelScope(deadline=self._deadline) as scope:
                while write.left:
                    self._check_writable()
                    await self._written.park()
        except BaseException:
            self._driver.reset(self)
            raise
        if scope.cancelled_caught:
            self._driver.reset(self)
            raise MuxedStreamError("the deadline of the stream has passed")

    def _check_writable(self) -> None:
        if self.state.ending:
            raise MuxedStreamReset(_ENDINGS[self.state.ending])

    # Ending.

    async def close_write(self) -> None:
        """Stop writing; the peer reads what was written and then EOF. Reading continues."""
        self._driver.finish(self)
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Stop writing and reading; tasks waiting in `read` get MuxedStreamEOF."""
        self._driver.close_stream(self)
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """Abandon the stream in both directions; tasks waiting on it get MuxedStreamReset."""
        self._driver.reset(self)
        await trio.lowlevel.checkpoint()

    def is_closed(self) -> bool:
        """Whether the stream is closed for both reading and writing."""
        state = self.state
        return bool(state.ending or state.discarding or not (state.sending or state.receiving))

    def wake(self) -> None:
        """Wake waiting tasks to check the state again."""
        state = self.state
        if state.inbox.size or state.ending or state.discarding or not state.receiving:
            self._readable.unpark_all()
        self._written.unpark_all()

    def give_up(self) -> None:
        """Reset the stream in one synchronous step."""
        self._driver.reset(self)

    # The rest of libp2p's interface.

    def set_deadline(self, ttl: int) -> None:
        """Fail reads and writes that are still waiting ``ttl`` seconds from now with MuxedStreamError.

        Raises ValueError for a negative ``ttl``.
        """
        if ttl < 0:
            raise ValueError("a deadline must be in the future")
        self._deadline = trio.current_time() + ttl

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the other end's host and port."""
        return self._connection.get_remote_address()

    async def __aenter__(self) -> MuxedStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


CLOSE_SECONDS = 1.0
"""Seconds that a closing end waits for the peer to read everything."""


class MuxedConnection(IMuxedConn):
    """One connection. libp2p sets ``on_close``, ``swarm``, ``remove_stream`` and other attributes on it."""

    def __init__(
        self,
        conn: NoiseSession,
        peer_id: ID,
        *,
        limits: MuxLimits | None = None,
        budget: WindowBudget | None = None,
    ) -> None:
        self.secured_conn = conn
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.on_close: Callable[[], Awaitable[Any]] | None = None
        wire, early = conn.take_over()
        self._wire = wire
        self._driver = Driver(
            self,
            wire,
            early,
            initiator=conn.is_initiator,
            limits=limits or MuxLimits(),
            budget=budget or WindowBudget(),
        )

    @property
    def round_trip(self) -> float:
        """Smoothed seconds from a ping to its answer; 0.0 until the first answer."""
        return self._driver.round_trip

    @property
    def traffic(self) -> int:
        """Encrypted bytes received and sent so far."""
        return self._wire.received_bytes + self._wire.sent_bytes

    async def start(self) -> None:
        """Run until the connection ends; raises only Cancelled."""
        if self.event_started.is_set():
            return
        try:
            await self._driver.run(self.event_started)
        except Exception:  # any failure ends this connection only, never the host
            logger.exception("the connection to %s failed", self.peer_id)
        finally:
            self._driver.end()
            self.event_started.set()
        await self._tell_owner()

    async def _tell_owner(self) -> None:
        if self.on_close is None:
            return
        try:
            await self.on_close()
        except Exception:  # libp2p's callback and notifees must not end the host
            logger.exception("the close callback of the connection to %s failed", self.peer_id)

    async def open_stream(self) -> MuxedStream:
        """Open a stream; waits while too many are unacknowledged. Raises MuxedConnUnavailable."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._driver.core.may_open:
            await self._driver.changed.park()
        try:
            return self._driver.open()
        except LinkClosed as error:
            raise MuxedConnUnavailable(str(error)) from None

    async def accept_stream(self) -> MuxedStream:
        """Wait for the next stream of the peer; MuxedConnUnavailable once the connection has ended."""
        await trio.lowlevel.checkpoint_if_cancelled()
        driver = self._driver
        while (stream := driver.accept()) is None:
            if driver.ended.is_set() or driver.core.leaving:
                raise MuxedConnUnavailable(driver.cause)
            await driver.changed.park()
        return stream

    async def close(self) -> None:
        """Send GO_AWAY, let the peer read what was sent, and close; takes at most CLOSE_SECONDS."""
        if not self.event_started.is_set():
            self._driver.end()
            self.event_started.set()
            await trio.lowlevel.checkpoint()
            return
        self._driver.leave()
        with shielded(CLOSE_SECONDS):
            await self._driver.ended.wait()
        self._driver.end()

    @property
    def is_initiator(self) -> bool:
        """Whether this end dialed."""
        return self.secured_conn.is_initiator

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and not self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended or is closing."""
        core = self._driver.core
        return self._driver.ended.is_set() or core.leaving or core.peer_gone

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the other end's host and port."""
        return self.secured_conn.get_remote_address()

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Return the other end's multiaddr as libp2p knows it."""
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Return how the other end is reached."""
        return self.secured_conn.get_connection_type()
