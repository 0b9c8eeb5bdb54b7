"""Admission of connections and streams: bounded handshakes, places that are given back, limits on conduct.

libp2p holds the slot of every inbound connection until the host ends, so it stops accepting after
as many connections as it allows; and its closing costs a fifth of a second for each peer in turn.
`Admission` takes the place of its inbound handling.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast
from weakref import WeakKeyDictionary

import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream
from libp2p.connection_types import ConnectionType
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from multiaddr import Multiaddr

from swarm.endpoint import Endpoint
from swarm.errors import UsageError
from swarm.ids import PeerId, SourceId
from swarm.limits import TokenBucket
from swarm.net import network_limits as limits
from swarm.net.inbound import InboundConnection, InboundConnections, PeerStanding
from swarm.net.libp2p import internals
from swarm.net.muxed_connection import MuxedConnection
from swarm.net.network_limits import DESCRIPTORS_FOR_FILES, DESCRIPTORS_SPARE
from swarm.net.streams import ENDED, shielded

LEAST_SOCKETS = 4
"""With fewer there is no swarm to speak of."""

_OPEN = Path("/proc/self/fd")


def sockets_allowed(listeners: int) -> int:
    """Return how many connections fit beside what is open, ``listeners`` sockets to come and the files.

    Raises UsageError where that is fewer than LEAST_SOCKETS.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = 2**31
    left = limit - _open_now(limit) - listeners - DESCRIPTORS_FOR_FILES - DESCRIPTORS_SPARE
    if left < LEAST_SOCKETS:
        raise UsageError(
            f"{limit} open files are too few, {DESCRIPTORS_FOR_FILES} are kept for files; raise `ulimit -n`"
        )
    return left


def _open_now(limit: int) -> int:
    if _OPEN.is_dir():
        # The listing itself has one open.
        return len(os.listdir(_OPEN)) - 1  # noqa: PTH208 - counting names, not walking paths
    found = 0
    for descriptor in range(min(limit, 4096)):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        found += 1
    return found


logger = logging.getLogger(__name__)

CLOSE_DEADLINE = 1.2
"""Seconds that closing a connection may take."""


class _Conduct:
    """What one connection may still do."""

    def __init__(self, now: float) -> None:
        self.streams = TokenBucket(limits.STREAM_RATE, limits.STREAM_BURST, now)
        self.offences = TokenBucket(limits.OFFENCE_RATE, limits.OFFENCE_BURST, now)


class Admission:
    """Takes the place of libp2p's inbound handling: bounded handshakes, places given back, conduct watched.

    ``sockets`` is how many connections the process may have, pending and outbound ones included.
    """

    def __init__(self, network: Swarm, max_connections: int, sockets: int) -> None:
        self._network = network
        self._sockets = sockets
        self._inbound = InboundConnections(min(max_connections, max(1, sockets // 2)))
        self._conduct: WeakKeyDictionary[IMuxedConn, _Conduct] = WeakKeyDictionary()
        self.expected: dict[tuple[str, int], Callable[[RawConnection], Awaitable[None]]] = {}
        """Who takes a connection from an address that is being dialled at this moment, to punch a hole: this
        end is the client then, whoever came first."""
        self.held: set[INetConn] = set()
        """Connections that are in use although they have no streams."""
        self.retains: Callable[[PeerId], bool] = lambda _: False
        """Whether a peer's connection is kept although it has no streams."""
        self.gone: Callable[[PeerId], None] = lambda _: None
        """Told of a peer whose last connection has ended, if that was inbound."""

    def install(self, inner: BasicHost) -> None:
        """Guard the host's streams and take over its inbound connections."""

        async def guarded(stream: INetStream) -> None:
            # The one guard of every stream handler: an exception that escapes would end the host.
            try:
                await self._answer(inner, stream)
            except Exception as error:  # noqa: BLE001
                logger.debug("a stream handler failed: %r", error)
                await reset_quietly(stream)

        self._network.set_stream_handler(guarded)
        internals.take_inbound(self._network, self._accept)

    # --- Connections --------------------------------------------------------------------------------

    def judge_by(self, standing: Callable[[PeerId], PeerStanding]) -> None:
        """Ask ``standing`` what the node makes of a peer."""
        self._inbound.standing = standing

    def proven(self, peer: PeerId) -> None:
        """Pieces are exchanged with the peer."""
        self._inbound.mark_proven(peer, trio.current_time())

    def room_to_dial(self, peer: PeerId) -> bool:
        """Whether this node may open a connection itself; somebody of less use goes for it."""
        used = len(self._network.get_connections()) + self._inbound.pending
        return used < self._sockets or self._inbound.make_room(peer, trio.current_time())

    async def _accept(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        remote = read_write_closer.get_remote_address() or ("", 0)
        if (taker := self.expected.get(remote)) is not None:
            await taker(RawConnection(read_write_closer, initiator=True))
            return
        # The listener closes the socket when this returns.
        await self.take(RawConnection(read_write_closer, initiator=False), maddr, remote[0])

    async def take(self, raw: RawConnection, maddr: Multiaddr, origin: str) -> None:
        """Authenticate a connection as the end that was dialled, and keep it while it is used.

        ``origin`` is what limits apply to: an IP address, or another name for where it comes from, such as a
        relay.
        """
        if not self._may_begin_handshake(origin):
            await raw.close()
            return
        try:
            muxed = await self._network.upgrade_inbound_raw_conn(raw, maddr)
        except Exception as error:  # noqa: BLE001 - a stranger's bytes raise anything; only its socket ends
            logger.debug("inbound connection from %s failed: %r", origin, error)
            return
        finally:
            self._inbound.end_handshake(origin)
        connection = self._connection_of(muxed)
        if connection is not None:
            await self._host(connection, origin)

    def _may_begin_handshake(self, remote: str) -> bool:
        used = len(self._network.get_connections()) + self._inbound.pending
        return used < self._sockets and self._inbound.begin_handshake(remote, trio.current_time())

    def _connection_of(self, muxed: IMuxedConn) -> SwarmConn | None:
        for connection in self._network.get_connections(muxed.peer_id):
            if connection.muxed_conn is muxed and isinstance(connection, SwarmConn):
                return connection
        return None

    async def _host(self, connection: SwarmConn, remote: str) -> None:
        """Keep one inbound connection while it is used, then close it."""
        peer = PeerId(SourceId(connection.muxed_conn.peer_id.to_base58()))
        leaving = trio.CancelScope()
        visitor = InboundConnection(peer, remote, trio.current_time(), leaving.cancel)
        others = len(self._network.get_connections()) - len(self._inbound) - 1
        if self._inbound.standing(peer) is PeerStanding.UNWANTED:
            leaving.deadline = trio.current_time() + limits.UNWANTED_SECONDS
        with leaving:
            if self._inbound.admit(visitor, others, trio.current_time()):
                self._doubt_others(connection)
                await self._while_used(connection, peer)
        self._inbound.remove(visitor)
        if not connection.is_closed:
            await close_connection(connection, CLOSE_DEADLINE)
        if all(each.is_closed for each in self._network.get_connections(connection.muxed_conn.peer_id)):
            self.gone(peer)

    def _doubt_others(self, connection: SwarmConn) -> None:
        """A peer that connects once more may have moved: its earlier connections may lead nowhere."""
        for other in self._network.get_connections(connection.muxed_conn.peer_id):
            if other is not connection and isinstance(muxed := other.muxed_conn, MuxedConnection):
                muxed.check_soon()

    async def _while_used(self, connection: SwarmConn, peer: PeerId) -> None:
        """Return when the connection has ended, or has had no stream for a while."""
        muxed = cast(MuxedConnection, connection.muxed_conn)
        unused, pause = False, limits.UNUSED_SECONDS / 2
        while not unused:
            had_streams, opened = bool(connection.streams), muxed.opened
            with trio.move_on_after(pause) as scope:
                await connection.event_closed.wait()
            if not scope.cancelled_caught:
                return
            # Short questions are a use, too, whether or not one is open at this moment.
            idle = not had_streams and not connection.streams and muxed.opened == opened
            unused = idle and not self._kept(connection, peer)
            # A connection that was long in use is checked rarely: a hundred of them must cost nothing.
            used = had_streams and connection.streams
            pause = min(2 * pause, limits.USED_SECONDS) if used else limits.UNUSED_SECONDS / 2

    def _kept(self, connection: SwarmConn, peer: PeerId) -> bool:
        return connection in self.held or self.retains(peer)

    # --- Streams ------------------------------------------------------------------------------------

    async def _answer(self, inner: BasicHost, stream: INetStream) -> None:
        """Negotiate what a new stream is about, and hand it over; without a result it is an offence."""
        if not self._conduct_of(stream.muxed_conn).streams.spend(trio.current_time()):
            await self.close(stream.muxed_conn)
            return
        try:
            protocol, handler = await inner.multiselect.negotiate(
                MultiselectCommunicator(stream), limits.HANDSHAKE_DEADLINE
            )
        except MultiselectError as error:
            logger.debug("no negotiation with %s: %s", stream.muxed_conn.peer_id, error)
            await reset_quietly(stream)
            await self.offended(stream.muxed_conn)
            return
        if protocol is None or handler is None:
            await reset_quietly(stream)
            return
        stream.set_protocol(protocol)
        await handler(stream)

    async def offended(self, muxed: IMuxedConn) -> None:
        """The peer has wasted a stream: the connection is closed when that happens too often."""
        if not self._conduct_of(muxed).offences.spend(trio.current_time()):
            await self.close(muxed)

    def _conduct_of(self, muxed: IMuxedConn) -> _Conduct:
        conduct = self._conduct.get(muxed)
        if conduct is None:
            conduct = self._conduct[muxed] = _Conduct(trio.current_time())
        return conduct

    async def close(self, muxed: IMuxedConn) -> None:
        """Close the connection of a peer that has broken a rule."""
        logger.debug("closing the connection to %s: it broke the rules", muxed.peer_id)
        connection = self._connection_of(muxed)
        if connection is not None:
            await close_connection(connection, CLOSE_DEADLINE)


def remote_multiaddr(muxed: IMuxedConn) -> str:
    """The other end's address without ``/p2p``, or an empty string where it is not known."""
    try:
        remote = muxed.get_remote_address()  # type: ignore[attr-defined]
        if remote is not None and "%" in remote[0]:
            # libp2p has no way to write a zone.
            return str(Endpoint("ip6", remote[0], "tcp", remote[1]))
        found = muxed.get_transport_addresses()
    except (AttributeError, *ENDED):
        return ""
    return str(found[0]) if found else ""


def is_relayed(connection: INetConn) -> bool:
    """Whether the connection goes through a relay."""
    return connection.muxed_conn.get_connection_type() is ConnectionType.RELAYED


async def reset_quietly(stream: INetStream) -> None:
    """Reset a stream whatever state it is in."""
    with shielded(1.0):
        try:
            await stream.reset()
        except ENDED:
            return


async def close_connection(connection: INetConn, deadline: float) -> None:
    """Close one connection; after ``deadline`` seconds its socket is closed without asking.

    A connection that libp2p serves is closed from below. libp2p then forgets it at once; its own closing lets
    the caller wait for 0.1 s, and every command would end so much later.
    """
    with shielded(deadline) as scope:
        try:
            if isinstance(connection, SwarmConn) and connection.event_started.is_set():
                await connection.muxed_conn.close()
                await connection.event_closed.wait()
            else:
                await connection.close()
        except ENDED:
            return
    if scope.cancelled_caught:
        secured = getattr(connection.muxed_conn, "secured_conn", None)
        if secured is not None:
            with shielded(deadline):
                await secured.close()


async def close_all(network: Swarm, deadline: float) -> None:
    """Close every connection of a network that is about to end, all at the same time."""
    async with trio.open_nursery() as nursery:
        for connection in list(network.get_connections()):
            nursery.start_soon(close_connection, connection, deadline)
