"""Which connections are let in, and how they are let go.

libp2p holds the slot of every inbound connection until the host ends, so it stops accepting after
as many connections as it allows; and its closing costs a fifth of a second for each peer in turn.
"""

from __future__ import annotations

import logging

import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from multiaddr import Multiaddr

from swarm.net.deadlines import shielded
from swarm.net.streams import ENDED

logger = logging.getLogger(__name__)

MAX_PENDING_HANDSHAKES = 64
"""Inbound connections that may be in their handshake at once; more are closed unanswered."""
MAX_PENDING_PER_ADDRESS = 16
"""The same for one remote IP, so that one host cannot hold every place."""


class Admission:
    """Takes the place of libp2p's inbound handling: bounded handshakes, slots given back."""

    def __init__(self, network: Swarm, max_connections: int) -> None:
        self._network = network
        self._max_connections = max_connections
        self._pending: dict[str, int] = {}

    def install(self, inner: BasicHost) -> None:
        """Guard the host's stream handler and take over its inbound connections."""
        original = inner._swarm_stream_handler  # noqa: SLF001 - see docs/decisions/0001

        async def guarded(stream: INetStream) -> None:
            # The one guard of every stream handler: whatever escapes would end the host.
            try:
                await original(stream)
            except Exception as error:  # noqa: BLE001
                logger.debug("a stream handler failed: %r", error)
                await reset_quietly(stream)

        self._network.set_stream_handler(guarded)
        self._network._handle_inbound_connection = self._accept  # type: ignore[method-assign]  # noqa: SLF001

    async def _accept(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        raw = read_write_closer
        remote = (raw.get_remote_address() or ("", 0))[0]
        if not self._has_room(remote):
            await raw.close()
            return
        self._pending[remote] = self._pending.get(remote, 0) + 1
        try:
            muxed = await self._network.upgrade_inbound_raw_conn(RawConnection(raw, initiator=False), maddr)
        except Exception as error:  # noqa: BLE001 - a stranger's bytes raise anything; only its socket ends
            logger.debug("inbound connection from %s failed: %r", remote, error)
            return
        finally:
            self._pending[remote] -= 1
            if not self._pending[remote]:
                del self._pending[remote]
        await self._until_closed(muxed)

    def _has_room(self, remote: str) -> bool:
        pending = sum(self._pending.values())
        return (
            len(self._network.get_connections()) < self._max_connections
            and pending < MAX_PENDING_HANDSHAKES
            and self._pending.get(remote, 0) < MAX_PENDING_PER_ADDRESS
        )

    async def _until_closed(self, muxed: IMuxedConn) -> None:
        # The listener closes the socket when this returns.
        for connection in self._network.get_connections(muxed.peer_id):
            if connection.muxed_conn is muxed and isinstance(connection, SwarmConn):
                await connection.event_closed.wait()


def remote_multiaddr(muxed: IMuxedConn) -> str:
    """The other end's address without ``/p2p``, or an empty string where it is not known."""
    try:
        found = muxed.get_transport_addresses()
    except (AttributeError, *ENDED):
        return ""
    return str(found[0]) if found else ""


async def reset_quietly(stream: INetStream) -> None:
    """Reset a stream whatever state it is in."""
    with shielded(1.0):
        try:
            await stream.reset()
        except ENDED:
            return


async def close_connection(connection: INetConn, deadline: float) -> None:
    """Close one connection; after ``deadline`` seconds its socket is closed without asking."""
    with shielded(deadline) as scope:
        try:
            await connection.close()
        except ENDED:
            return
    if scope.cancelled_caught:
        secured = getattr(connection.muxed_conn, "secured_conn", None)
        if secured is not None:
            with shielded(deadline):
                await secured.close()


async def close_all(network: Swarm, deadline: float) -> None:
    """Close every connection of the network at the same time."""
    async with trio.open_nursery() as nursery:
        for connection in list(network.get_connections()):
            nursery.start_soon(close_connection, connection, deadline)
