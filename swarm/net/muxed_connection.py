"""One connection of our muxer under libp2p's interface."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.abc import IMuxedConn
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr

from swarm.errors import LinkClosed
from swarm.link.limits import LinkLimits
from swarm.link.windows import Budget
from swarm.net.deadlines import shielded
from swarm.net.driver import Driver
from swarm.net.muxed_stream import MuxedStream
from swarm.net.secure import NoiseSession

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0
"""Seconds that a closing end waits for its peer to have read everything."""


class MuxedConnection(IMuxedConn):
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
        self.on_close: Callable[[], Awaitable[Any]] | None = None
        wire, early = conn.take_over()
        self._wire = wire
        self._driver = Driver(
            self,
            wire,
            early,
            initiator=conn.is_initiator,
            limits=limits or LinkLimits(),
            budget=budget or Budget(),
        )

    @property
    def round_trip(self) -> float:
        """Seconds that the peer takes to answer, smoothed; 0.0 until it has answered once."""
        return self._driver.round_trip

    @property
    def traffic(self) -> int:
        """Bytes received and sent so far, as they are on the wire."""
        return self._wire.received_bytes + self._wire.sent_bytes

    async def start(self) -> None:
        """Run until the connection ends; raises nothing but cancellation."""
        if self.event_started.is_set():
            return
        try:
            await self._driver.run(self.event_started)
        except Exception:  # whatever goes wrong here costs this connection, never the host
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
        except Exception:  # libp2p's callback, and its caller's notifees: the host must outlive them
            logger.exception("the owner of the connection to %s failed to let it go", self.peer_id)

    async def open_stream(self) -> MuxedStream:
        """Open a stream; waits while too many are unacknowledged. MuxedConnUnavailable when it cannot."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._driver.core.may_open:
            await self._driver.changed.park()
        try:
            return self._driver.open()
        except LinkClosed as error:
            raise MuxedConnUnavailable(str(error)) from None

    async def accept_stream(self) -> MuxedStream:
        """Wait for the next stream of the peer; MuxedConnUnavailable when there will be none."""
        await trio.lowlevel.checkpoint_if_cancelled()
        driver = self._driver
        while (stream := driver.accept()) is None:
            if driver.ended.is_set() or driver.core.leaving:
                raise MuxedConnUnavailable(driver.cause)
            await driver.changed.park()
        return stream

    async def close(self) -> None:
        """Say goodbye, let the peer read what was sent, and close; takes at most CLOSE_SECONDS."""
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
        """Whether this end dialled."""
        return self.secured_conn.is_initiator

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and not self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended or is ending."""
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
