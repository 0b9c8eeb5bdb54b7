"""Makes libp2p build `MuxedConnection` instead of its own Yamux."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID, Yamux

from swarm.mux.mux_limits import MuxLimits
from swarm.mux.stream import WindowBudget
from swarm.net.libp2p import internals
from swarm.net.libp2p.noise_session import NoiseSession
from swarm.net.muxed_connection import MuxedConnection

if TYPE_CHECKING:
    from libp2p.custom_types import TMuxerClass, TProtocol


process_budget = WindowBudget()
"""The window memory shared by every connection in this process."""


def install(network: Swarm, *, limits: MuxLimits | None = None, budget: WindowBudget | None = None) -> None:
    """Make ``network`` (``host.get_network()``) use `MuxedConnection` for new connections.

    Applies to connections secured by `noise_session.noise_security` over plain TCP; any other gets
    libp2p's own Yamux. Raises SwarmError for an unsupported version of libp2p.
    """
    internals.check()
    timeout = internals.negotiate_timeout(network)
    internals.install_muxer(
        network, YamuxNegotiator(timeout, limits or MuxLimits(), budget or process_budget)
    )


class YamuxNegotiator(MuxerMultistream):
    """Negotiates `/yamux/1.0.0` and builds a `MuxedConnection` over a `NoiseSession`."""

    def __init__(self, negotiate_timeout: int, limits: MuxLimits, budget: WindowBudget) -> None:
        super().__init__({PROTOCOL_ID: Yamux}, negotiate_timeout)  # type: ignore[dict-item]
        self._limits = limits
        self._budget = budget

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Negotiate over ``conn`` and return the muxed connection, which is not started yet."""
        protocol, _ = await self.negotiate(conn)
        muxed: IMuxedConn
        if isinstance(conn, NoiseSession):
            muxed = MuxedConnection(conn, peer_id, limits=self._limits, budget=self._budget)
        else:
            muxed = Yamux(conn, peer_id, is_initiator=conn.is_initiator)
        return self._annotate_connection(muxed, conn, protocol)

    async def negotiate(self, conn: ISecureConn) -> tuple[TProtocol, TMuxerClass]:
        """Negotiate the muxer protocol over ``conn``; return its name and libp2p\'s class for it."""
        return await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
