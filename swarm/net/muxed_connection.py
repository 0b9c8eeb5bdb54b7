"""A Yamux connection, implementing libp2p's interface; its streams are in `swarm.net.muxed_stream`.

The protocol state is in `swarm.mux.connection`; this module connects it to the socket. Three tasks run
per connection: one receives and never waits to send, one waits while the socket is full, one checks that
the peer is alive. Every change of the state, with the sealing and sending that follow from it, is one
synchronous step of some task, so a task may be cancelled at any await.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.abc import IMuxedConn
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr

from swarm.errors import LinkClosed, RemoteError, SwarmError
from swarm.mux import frames as yamux
from swarm.mux.connection import Connection
from swarm.mux.mux_limits import MuxLimits
from swarm.mux.stream import Stream, WindowBudget, Write
from swarm.net.libp2p.noise_session import NoiseSession
from swarm.net.liveness import LivenessProbe, OutstandingPings
from swarm.net.muxed_stream import MuxedStream
from swarm.net.record_socket import RECEIVE_BYTES, RecordSocket
from swarm.net.streams import shielded

logger = logging.getLogger(__name__)

STALL_SECONDS = 60.0
"""Seconds after which a peer that reads nothing from a full socket is disconnected."""
FEW_BYTES = 16 * 1024
"""When fewer were received at once, no more had come: control messages of a peer that is sent payload."""
DRAIN_SECONDS = 0.5
"""Seconds between two reads after which unread data is given up once the peer has closed the connection."""


class Driver:
    """Runs one connection: moves bytes between its state machine, its socket and its streams.

    ``pings``: the pings that wait for an answer. ``changed``: tasks park here until they can accept or open
    a stream, or the connection ends. ``sender_busy``: the socket is full. ``turn``: another number after all
    other tasks have run. ``ended``: set once the socket is closed. ``cause``: why the connection ended, or
    an empty string.
    """

    def __init__(
        self,
        owner: MuxedConnection,
        socket: RecordSocket,
        early: list[tuple[bytearray, int]],
        *,
        core: Connection,
        budget: WindowBudget,
        rng: random.Random,
    ) -> None:
        self._owner = owner
        self._socket = socket
        self._early = early
        self._budget = budget
        # Asked several times for each MiB: not by way of `trio.current_time`, which looks the clock up.
        self._now = trio.lowlevel.current_clock().current_time
        self.core = core
        self.room, self.placed = core.room, core.placed
        self.core.rtt = socket.round_trip
        self._streams: dict[Stream, MuxedStream] = {}
        self._nursery: trio.Nursery | None = None
        self._sender_needed = trio.Event()
        self.sender_busy = False
        self._sending_ended = False
        self._receiving = False
        self._scope = trio.CancelScope()
        self._woken = False
        self.turn = 0
        self._turn_ends = RECEIVE_BYTES
        self.readers: dict[MuxedStream, int] = {}
        """The streams whose readers wait, and how many bytes each wants."""
        self._closed_here = False
        self.pings = OutstandingPings(self._send_ping, rng)
        self._liveness = LivenessProbe(lambda: socket.received_bytes, self.pings.ping)
        self.doubted = trio.Event()
        self.changed = trio.lowlevel.ParkingLot()
        self.ended = trio.Event()
        self.cause = ""

    # Synchronous steps.

    def open(self) -> MuxedStream:
        """Open a stream; LinkClosed when either end is closing, or the connection has ended."""
        if self.ended.is_set():
            # The state machine knows only of goodbyes, and a lost connection has none.
            raise LinkClosed(self.cause or "the connection has ended")
        stream = self.core.open()
        self.pump()
        return self._muxed(stream)

    def accept(self) -> MuxedStream | None:
        """Return the oldest stream of the peer that was not accepted yet, or None."""
        stream = self.core.accept()
        return None if stream is None else self._muxed(stream)

    def consumed(self, muxed: MuxedStream) -> None:
        """Update the window after a read from ``muxed``; if that holds credit, the peer is told later."""
        stream = muxed.state
        due = self.core.consumed(stream, self._now())
        self._budget.record_unread(muxed, stream.inbox.size, consumed=True)
        if stream.id not in self.core.streams:
            self._release(muxed)
            self.changed.unpark_all()
        elif due and not muxed.holds:
            self.pump()

    def write(self, muxed: MuxedStream, parts: list[memoryview]) -> Write:
        """Send as much of ``parts`` as possible now and queue the rest.

        LinkClosed when the stream is closed for writing.
        """
        write = self.core.write(muxed.state, *parts)
        self.pump()
        return write

    def finish(self, muxed: MuxedStream) -> None:
        """Send FIN after the queued bytes."""
        self.core.finish(muxed.state)
        self._after_step()

    def close_stream(self, muxed: MuxedStream) -> None:
        """Send FIN after the queued bytes; drop unread bytes and those that still arrive."""
        self.core.close(muxed.state, trio.current_time())
        self._after_step()

    def reset(self, muxed: MuxedStream) -> None:
        """Send RST and forget the stream."""
        self.core.reset(muxed.state)
        self._after_step()

    def leave(self) -> None:
        """End every stream, send the sealed bytes and GO_AWAY, then receive until the peer closes."""
        if not self.core.leaving and not self.ended.is_set():
            self._note_cause("the connection was closed here")
            self._closed_here = True
            self.core.go_away()
            self._after_step()
            self.changed.unpark_all()

    def pump(self) -> None:
        """Send what the socket takes, leave the rest to the sending task, and wake waiting tasks."""
        if self.sender_busy or self._sending_ended:
            return
        if not (self.core.sends or self._socket.unsent or self.core.leaving):
            self._deliver_results()
            return
        try:
            done = self._socket.send(self.core.take)
            # A turn may be over just when everything is sent: nobody has to be woken for nothing.
            done = done or not (self.core.sends or self._socket.unsent)
            if done and self.core.leaving:
                self._sending_ended = True
                self._socket.finish()
        except SwarmError as error:
            # Data that the peer sent before it closed may still be readable, so the receiver ends it.
            self._sending_ended = True
            self._note_cause(str(error))
            done = True
        if not done:
            self.sender_busy = True
            self._sender_needed.set()
        self._deliver_results()

    def flush(self) -> None:
        """Send what a step of a reader has left behind."""
        if self.core.sends:
            self.pump()

    def _after_step(self) -> None:
        self._deliver_results()
        if self.core.peer_leaving and not self.core.streams:
            self.core.go_away()
        self.pump()

    def _deliver_results(self) -> None:
        """Wake the tasks that the results of the state machine concern."""
        if not self.core.has_results:
            return
        results = self.core.take_results()
        self._woken |= results.acceptable or results.freed or bool(results.pongs)
        for stream in results.touched:
            muxed = self._muxed(stream)
            if stream.reading and stream.reading.filled:
                # What went straight to a reader is read; `_after_step` sends the credit.
                self.core.consumed(stream, self._now())
            self._budget.record_unread(muxed, stream.inbox.size, consumed=False)
            self._woken |= muxed.wake()
            self._release(muxed)
        if results.acceptable or results.freed:
            self.changed.unpark_all()
        for value in results.pongs:
            self.pings.answered(value)

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
            nursery.start_soon(self._check_liveness)
            started.set()
            await self._receive()
            await self._drain()
            nursery.cancel_scope.cancel()

    def pull(self, most: int, *, hold: bool = False) -> bool:
        """Receive in the step of a reader that waits for ``most`` bytes; return whether anything has changed.

        So a reader that is slower than the network waits for no other task, and has its bytes in its buffer.
        After RECEIVE_BYTES it has to wait for the receiving task, and others run. With ``hold`` what is to be
        sent then waits for the next step that sends; call `flush` if there is none.
        """
        if not self._receiving or self._socket.received_bytes >= self._turn_ends:
            return False
        self._begin_batch()
        try:
            came = self._socket.receive_now(self, most)
        except (LinkClosed, RemoteError) as error:
            self._end_receiving(error)
            return True
        if came:
            self._end_batch(hold=hold)
        return came > 0

    async def _receive(self) -> None:
        with trio.CancelScope() as self._scope:
            await self._receive_all()
        self._receiving = False

    async def _receive_all(self) -> None:
        try:
            self._begin_batch()
            for block, size in self._early:
                self.receive(block, size)
            self._end_batch()
            self._receiving = True
            while True:
                self._begin_batch()
                came = self._socket.receive_now(self, self._most())
                if came:
                    self._end_batch()
                if came < FEW_BYTES:
                    # The socket is empty now, and whoever was woken runs while this task waits for more.
                    await self._socket.readable()
                    self._begin_turn()
                elif self._woken or self._socket.received_bytes >= self._turn_ends:
                    await self._let_others_run()
        except (LinkClosed, RemoteError) as error:
            self._end_receiving(error)

    def _most(self) -> int:
        """How many bytes to receive at once: no more than a reader that is alone has room for.

        It receives the rest in its own step, where it wants it. What comes before that has to be copied.
        """
        if len(self.readers) == 1:
            (wanted,) = self.readers.values()
            return min(wanted, RECEIVE_BYTES)
        return RECEIVE_BYTES

    async def _let_others_run(self) -> None:
        await trio.lowlevel.checkpoint()
        if any(muxed.served for muxed in self.readers):
            # This task came first; the reader receives for itself what comes next.
            await trio.lowlevel.checkpoint()
        self._begin_turn()

    def _begin_turn(self) -> None:
        """Others have run."""
        self.turn += 1
        self._woken = False
        self._turn_ends = self._socket.received_bytes + RECEIVE_BYTES

    def _end_receiving(self, error: LinkClosed | RemoteError) -> None:
        """The peer closed the connection, or broke the protocol: nothing more is received."""
        self._receiving = False
        self._scope.cancel()
        self._note_cause(str(error))
        if isinstance(error, LinkClosed):
            self.core.connection_lost()
        else:
            logger.debug("closing a connection: %s", error)
            self.core.go_away(yamux.PROTOCOL_ERROR)
        self._after_step()

    def receive(self, block: bytearray, size: int) -> None:
        """Process one opened record. ``room`` and ``placed`` make this a `PlaintextSink`."""
        self.core.receive(block, size)
        if self.core.should_flush:
            self.pump()

    def _begin_batch(self) -> None:
        self.core.pace.refill(self._now())

    def _end_batch(self, *, hold: bool = False) -> None:
        """Give readers what a batch of records brought, and the peer new credit, unless on ``hold``."""
        self._deliver_results()
        # A reader that was woken and holds credit goes on in its next turn, and sends it then.
        hold = hold or any(muxed.holds and muxed.served for muxed in self.readers)
        if not hold or self.core.peer_leaving:
            self._after_step()
        while victim := self._budget.least_recently_read():
            if isinstance(victim, MuxedStream):
                logger.debug("resetting the least recently read stream: the window memory is full")
                victim.give_up()
                self._budget.record_unread(victim, 0, consumed=True)

    async def _send(self) -> None:
        while True:
            await self._sender_needed.wait()
            self._sender_needed = trio.Event()
            while self.sender_busy:
                await self._socket_writable()
                self.sender_busy = False
                self.pump()

    async def _socket_writable(self) -> None:
        if not self._socket.unsent:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(STALL_SECONDS) as scope:
            try:
                await self._socket.writable()
            except LinkClosed as error:
                self._abort(str(error))
        if scope.cancelled_caught:
            self._abort(f"the peer has read nothing for {STALL_SECONDS:.0f} s")

    async def _check_liveness(self) -> None:
        while True:
            doubted, self.doubted = self.doubted.is_set(), trio.Event()
            pause = await self._liveness.check(surely=doubted)
            # Pings queue behind bulk data; window growth needs the round trip of the path itself.
            self.core.rtt = self._socket.round_trip or self.pings.round_trip
            if self._liveness.failure:
                self._abort(self._liveness.failure)
            self.core.reset_abandoned(trio.current_time())
            self._after_step()
            with trio.move_on_after(pause):
                await self.doubted.wait()

    def _send_ping(self, value: int) -> None:
        self.core.ping(value)
        self.pump()

    async def _drain(self) -> None:
        """Let local readers read what arrived before the peer closed the connection."""
        while not self._closed_here and any(stream.inbox.size for stream in self._streams):
            with trio.move_on_after(DRAIN_SECONDS) as scope:
                await self.changed.park()
            if scope.cancelled_caught:
                return

    def _abort(self, cause: str) -> None:
        self._note_cause(cause)
        self.end()

    def _note_cause(self, cause: str) -> None:
        """Record why the connection ended; only the first cause is kept."""
        self.cause = self.cause or cause

    def end(self) -> None:
        """Close the socket and wake every waiting task.

        Unread bytes stay in their streams, and in the budget, until they are read or reset.
        """
        if self.ended.is_set():
            return
        self._sending_ended = True
        self.core.connection_lost()
        self._deliver_results()
        self._socket.close()
        self.pings.end()
        self.ended.set()
        self.changed.unpark_all()
        if self._nursery:
            self._nursery.cancel_scope.cancel()


CLOSE_SECONDS = 1.0
"""Seconds that a closing end waits for the peer to read everything."""


class MuxedConnection(IMuxedConn):
    """One connection. libp2p sets ``on_close``, ``swarm``, ``remove_stream`` and other attributes on it.

    ``rng`` draws the values of pings; by default the system's secure randomness.
    """

    def __init__(
        self,
        conn: NoiseSession,
        peer_id: ID,
        *,
        limits: MuxLimits | None = None,
        budget: WindowBudget | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.secured_conn = conn
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.on_close: Callable[[], Awaitable[Any]] | None = None
        socket, early = conn.take_over()
        budget = budget or WindowBudget()
        core = Connection(initiator=conn.is_initiator, blocks=socket.blocks, budget=budget, limits=limits)
        self._socket = socket
        self._driver = Driver(self, socket, early, core=core, budget=budget, rng=rng or random.SystemRandom())

    @property
    def traffic(self) -> int:
        """Encrypted bytes received and sent so far."""
        return self._socket.received_bytes + self._socket.sent_bytes

    @property
    def opened(self) -> int:
        """Streams that either end has opened so far."""
        return self._driver.core.opened

    async def ping(self, deadline: float) -> float | None:
        """Measure the round trip to the peer with one Yamux ping; return it in seconds.

        Returns None when the answer does not arrive within ``deadline`` seconds, or the connection ends.
        Calls may overlap. Each ping has a random 32-bit value, and only an answer with that value counts.
        """
        return await self._driver.pings.ping(deadline)

    def check_soon(self) -> None:
        """Find out now whether the peer is still there: this machine or the peer may have moved."""
        self._driver.doubted.set()

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
        return self._driver.ended.is_set() or core.leaving or core.peer_leaving

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the other end's host and port."""
        return self.secured_conn.get_remote_address()

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Return the other end's multiaddr as libp2p knows it."""
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Return how the other end is reached."""
        return self.secured_conn.get_connection_type()
