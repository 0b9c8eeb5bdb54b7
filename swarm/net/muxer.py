"""Our Yamux under libp2p's muxer interface.

`install` makes a libp2p network build its connections with it. The protocol itself is
`swarm.link.connection`; here are its tasks: one receives and never waits to send, one waits for the
socket when it is full, one asks for signs of life. Every change of the protocol's state, and the
sealing and sending that follows from it, happens in one synchronous step of some task.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID, Yamux
from multiaddr import Multiaddr

from swarm.errors import LinkClosed, RemoteError, SwarmError
from swarm.link import yamux
from swarm.link.blocks import BLOCK_BYTES
from swarm.link.connection import Connection
from swarm.link.limits import LinkLimits
from swarm.link.stream import Stream, Write
from swarm.link.windows import Budget
from swarm.net import privates
from swarm.net.deadlines import shielded
from swarm.net.muxed_stream import MuxedStream
from swarm.net.secure import NoiseSession

if TYPE_CHECKING:
    from libp2p.custom_types import TMuxerClass, TProtocol

logger = logging.getLogger(__name__)

KEEPALIVE_INTERVAL = 30.0
"""Seconds between a sign of life and the next question for one."""
KEEPALIVE_DEADLINE = 20.0
"""Seconds within which a peer must be heard after it was asked."""
STALL_SECONDS = 60.0
"""Seconds for which a peer may take nothing of what waits in the socket."""
CLOSE_SECONDS = 1.0
"""Seconds that a closing end waits for its peer to have read everything."""
DRAIN_SECONDS = 0.5
"""Seconds that readers here have for each next read once the peer has closed the connection."""

process_budget = Budget()
"""The window memory of every connection in this process."""


def install(network: Swarm, *, limits: LinkLimits | None = None, budget: Budget | None = None) -> None:
    """Let ``network`` (``host.get_network()``) use our Yamux, for connections made from now on.

    Takes over connections secured by `swarm.net.secure.noise_security` over plain TCP; any other
    gets libp2p's own Yamux. SwarmError when this libp2p is not the one that it is made for.
    """
    privates.check()
    timeout = privates.negotiate_timeout(network)
    privates.put_muxer(network, LinkMuxer(timeout, limits or LinkLimits(), budget or process_budget))


class LinkMuxer(MuxerMultistream):
    """Negotiates `/yamux/1.0.0`, and builds our connection where the session is ours."""

    def __init__(self, negotiate_timeout: int, limits: LinkLimits, budget: Budget) -> None:
        super().__init__({PROTOCOL_ID: Yamux}, negotiate_timeout)  # type: ignore[dict-item]
        self._limits = limits
        self._budget = budget

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Negotiate over ``conn`` and return the muxed connection, not started yet."""
        protocol, _ = await self._negotiate(conn)
        muxed: IMuxedConn
        if isinstance(conn, NoiseSession):
            muxed = YamuxConnection(conn, peer_id, limits=self._limits, budget=self._budget)
        else:
            muxed = Yamux(conn, peer_id, is_initiator=conn.is_initiator)
        return self._annotate_connection(muxed, conn, protocol)

    async def _negotiate(self, conn: ISecureConn) -> tuple[TProtocol, TMuxerClass]:
        return await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)


class YamuxConnection(IMuxedConn):
    """One connection. libp2p sets ``on_close``, ``swarm``, ``remove_stream`` and more on it."""

    def __init__(
        self,
        conn: NoiseSession,
        peer_id: ID,
        *,
        limits: LinkLimits | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.secured_conn = conn
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.on_close: Callable[[], Awaitable[Any]] | None = None
        self._wire, self._early = conn.take_over()
        self._budget = budget or process_budget
        self._core = Connection(
            initiator=conn.is_initiator, blocks=self._wire.blocks, budget=self._budget, limits=limits
        )
        self._muxed: dict[Stream, MuxedStream] = {}
        self._nursery: trio.Nursery | None = None
        self._sender_needed = trio.Event()
        self._sender_busy = False
        self._deaf = False
        self._changed = trio.lowlevel.ParkingLot()
        self._pong = trio.Event()
        self._cause = "the connection is closed"

    # For the streams: one synchronous step each.

    def consumed(self, muxed: MuxedStream) -> None:
        """Let the peer send what ``muxed`` has made room for."""
        stream = muxed.state
        self._core.consumed(stream, trio.current_time())
        self._budget.note(muxed, stream.inbox.size, consumed=True)
        if stream.id not in self._core.streams:
            self._release(muxed)
            self._changed.unpark_all()
        elif self._core.has_output:
            self.pump()

    def queue_write(self, muxed: MuxedStream, data: memoryview) -> Write:
        """Send what can be sent of ``data`` now, queue the rest; LinkClosed when the stream takes none."""
        write = self._core.write(muxed.state, data)
        self.pump()
        return write

    def finish(self, muxed: MuxedStream) -> None:
        """Send FIN behind what is queued."""
        self._core.finish(muxed.state)
        self._settle()

    def close_stream(self, muxed: MuxedStream) -> None:
        """Send FIN behind what is queued, and drop what is unread and what still arrives."""
        self._core.close(muxed.state, trio.current_time())
        self._settle()

    def reset(self, muxed: MuxedStream) -> None:
        """Send RST and forget the stream."""
        self._core.reset(muxed.state)
        self._settle()

    def _settle(self) -> None:
        self._act()
        if self._core.peer_gone and not self._core.streams:
            self._core.leave()
        self.pump()

    def pump(self) -> None:
        """Send what the socket takes, leave the rest to the sender, wake whoever waited for it."""
        if self._sender_busy or self._deaf:
            return
        try:
            done = self._wire.send(self._core.fill)
            if done and self._core.leaving:
                self._deaf = True
                self._wire.finish()
        except SwarmError as error:
            # What the peer sent before it went may still be there to read: the receiver decides.
            self._deaf = True
            self._cause = str(error)
            done = True
        if not done:
            self._sender_busy = True
            self._sender_needed.set()
        self._act()

    def _act(self) -> None:
        """Act on what has happened in the protocol."""
        happened = self._core.take()
        for stream in happened.touched:
            muxed = self._muxed_of(stream)
            self._budget.note(muxed, stream.inbox.size, consumed=False)
            muxed.wake()
            self._release(muxed)
        if happened.touched or happened.acceptable:
            self._changed.unpark_all()
        if happened.pongs:
            self._pong.set()

    def _muxed_of(self, stream: Stream) -> MuxedStream:
        muxed = self._muxed.get(stream)
        if muxed is None:
            muxed = self._muxed[stream] = MuxedStream(self, stream)
        return muxed

    def _release(self, muxed: MuxedStream) -> None:
        stream = muxed.state
        if stream.id not in self._core.streams and not stream.inbox.size:
            self._muxed.pop(stream, None)

    # Tasks.

    async def start(self) -> None:
        """Run until the connection ends; raises nothing but cancellation."""
        if self.event_started.is_set():
            return
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._send)
                nursery.start_soon(self._keep_alive)
                self.event_started.set()
                await self._receive()
                await self._drain()
                nursery.cancel_scope.cancel()
        finally:
            self.event_started.set()
            self._end()
        await self._tell_owner()

    async def _receive(self) -> None:
        try:
            self._received(self._early_blocks())
            while True:
                self._received(await self._wire.receive())
                await trio.lowlevel.checkpoint()
        except LinkClosed as error:
            self._cause = str(error)
            self._core.lose()
        except RemoteError as error:
            logger.debug("closing the connection to %s: %s", self.peer_id, error)
            self._cause = str(error)
            self._core.leave(yamux.PROTOCOL_ERROR)
        self._settle()

    def _early_blocks(self) -> Iterator[tuple[bytearray, int]]:
        """Yield what came behind the negotiation of the muxer as if it came now."""
        for start in range(0, len(self._early), BLOCK_BYTES):
            part = self._early[start : start + BLOCK_BYTES]
            block = self._wire.blocks.take()
            block[: len(part)] = part
            yield block, len(part)

    def _received(self, plaintexts: Iterator[tuple[bytearray, int]]) -> None:
        for block, size in plaintexts:
            self._core.receive(block, size)
        self._settle()
        while victim := self._budget.stalest():
            if isinstance(victim, MuxedStream):
                logger.debug("resetting the stalest stream: the window memory is full")
                victim.give_up()

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
        number = 0
        while True:
            number = (number + 1) % 2**32
            heard, asked = self._wire.received_bytes, trio.current_time()
            self._pong = trio.Event()
            self._core.ping(number)
            self.pump()
            with trio.move_on_after(KEEPALIVE_DEADLINE):
                await self._pong.wait()
                self._measured(trio.current_time() - asked)
            if self._wire.received_bytes == heard:
                self._abort(f"the peer has not been heard for {KEEPALIVE_DEADLINE:.0f} s")
            self._core.tick(trio.current_time())
            self._settle()
            await trio.sleep(KEEPALIVE_INTERVAL)

    def _measured(self, seconds: float) -> None:
        self._core.rtt = (self._core.rtt + seconds) / 2 if self._core.rtt else seconds

    async def _drain(self) -> None:
        """Let the readers here have what arrived before the connection ended."""
        while any(stream.inbox.size for stream in self._muxed):
            with trio.move_on_after(DRAIN_SECONDS) as scope:
                await self._changed.park()
            if scope.cancelled_caught:
                return

    def _abort(self, cause: str) -> None:
        self._cause = cause
        if self._nursery:
            self._nursery.cancel_scope.cancel()

    def _end(self) -> None:
        """Close the socket and everything that waits; nothing is kept."""
        self._deaf = True
        self._core.lose()
        self._act()
        for muxed in list(self._muxed.values()):
            self._core.reset(muxed.state)
            self._budget.note(muxed, 0, consumed=True)
            muxed.wake()
        self._muxed.clear()
        self._wire.close()
        self.event_closed.set()
        self._changed.unpark_all()

    async def _tell_owner(self) -> None:
        if self.on_close is None:
            return
        try:
            await self.on_close()
        except Exception:  # libp2p's callback, and its caller's notifees: the host must outlive them
            logger.exception("the owner of the connection to %s failed to let it go", self.peer_id)

    # libp2p's interface.

    async def open_stream(self) -> MuxedStream:
        """Open a stream; waits while too many are unacknowledged. MuxedConnUnavailable when it cannot."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._core.may_open and not self.event_closed.is_set():
            await self._changed.park()
        try:
            stream = self._core.open()
        except LinkClosed as error:
            raise MuxedConnUnavailable(str(error)) from None
        self.pump()
        return self._muxed_of(stream)

    async def accept_stream(self) -> MuxedStream:
        """Wait for the next stream of the peer; MuxedConnUnavailable when there will be none."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while (stream := self._core.accept()) is None:
            if self.event_closed.is_set() or self._core.leaving:
                raise MuxedConnUnavailable(self._cause)
            await self._changed.park()
        return self._muxed_of(stream)

    async def close(self) -> None:
        """Say goodbye, let the peer read what was sent, and close; takes at most CLOSE_SECONDS."""
        if self._nursery is None:
            self._end()
            await trio.lowlevel.checkpoint()
            return
        self._core.leave()
        self._cause = "the connection was closed here"
        self._settle()
        self._changed.unpark_all()
        with shielded(CLOSE_SECONDS):
            await self.event_closed.wait()
        self._nursery.cancel_scope.cancel()

    @property
    def is_initiator(self) -> bool:
        """Whether this end dialled."""
        return self.secured_conn.is_initiator

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and not self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended or is ending."""
        return self.event_closed.is_set() or self._core.leaving or self._core.peer_gone

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the other end's host and port."""
        return self.secured_conn.get_remote_address()

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Return the other end's multiaddr as libp2p knows it."""
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Return how the other end is reached."""
        return self.secured_conn.get_connection_type()
