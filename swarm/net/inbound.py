"""Which inbound connections a node accepts, and which it closes when it is full. Pure.

``now`` is monotonic seconds. A connection is *proven* once pieces were exchanged over it.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum

from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass
from swarm.limits import TokenBucket
from swarm.net import network_limits as limits


class PeerStanding(IntEnum):
    """How much a peer matters to this node, least first."""

    UNWANTED = -1
    """The user has not allowed this peer."""
    STRANGER = 0
    IN_SESSION = 1
    NAMED = 2
    """The user named this peer."""


@dataclass(slots=True, eq=False)
class InboundConnection:
    """One inbound connection from the IP ``address``, made at ``since``; ``close()`` closes it."""

    peer: PeerId
    address: str
    since: float
    close: Callable[[], None]
    proven: bool = False


def network_of(address: str) -> str:
    """The unit that limits apply to: an IPv4 address, or the /64 network of one IPv6 subscriber."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        mapped = ip.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((ip, 64), strict=False))
    return address


class InboundConnections:
    """Every inbound connection, and a rate limit for each network they come from.

    ``capacity`` is the most connections; ``standing`` tells how much a peer matters.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.standing: Callable[[PeerId], PeerStanding] = lambda _: PeerStanding.STRANGER
        self._pending: dict[str, int] = {}
        self._connections: dict[InboundConnection, None] = {}
        self._rate_limits: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def pending(self) -> int:
        """Handshakes in progress."""
        return sum(self._pending.values())

    def begin_handshake(self, address: str, now: float) -> bool:
        """Return whether a socket from ``address`` may start a handshake; then call `end_handshake` later."""
        network = network_of(address)
        mine = self._pending.get(network, 0)
        if self.pending >= self._max_pending() or mine >= limits.MAX_PENDING_PER_ADDRESS:
            return False
        if not self._rate_limit(network, now).spend(now):
            return False
        self._pending[network] = mine + 1
        return True

    def end_handshake(self, address: str) -> None:
        """A handshake from ``address`` has ended, successfully or not."""
        network = network_of(address)
        self._pending[network] -= 1
        if not self._pending[network]:
            del self._pending[network]

    def admit(self, connection: InboundConnection, others: int, now: float) -> bool:
        """Add a connection whose handshake is complete; return False when there is no place for it.

        ``others`` is the number of connections that are not inbound. A displaced connection is closed.
        """
        for old in self._of_peer(connection.peer)[limits.MAX_CONNECTIONS_PER_PEER - 1 :]:
            self._close(old)
        if self._of_network(connection.address) * limits.ADDRESS_SHARE >= self._capacity:
            if not self._displace(connection.peer, now, network_of(connection.address)):
                return False
        elif len(self._connections) + others >= self._capacity and not self._displace(connection.peer, now):
            return False
        self._connections[connection] = None
        return True

    def make_room(self, peer: PeerId, now: float) -> bool:
        """Close a less useful connection to make room for dialing ``peer``; return whether there was one."""
        return self._displace(peer, now)

    def remove(self, connection: InboundConnection) -> None:
        """Remove a connection that has ended."""
        self._connections.pop(connection, None)

    def mark_proven(self, peer: PeerId, now: float) -> None:
        """Mark the peer's connections as proven; each refunds one token to its network."""
        for connection in self._of_peer(peer):
            if not connection.proven:
                connection.proven = True
                self._rate_limit(network_of(connection.address), now).earn(1.0)

    # --- Displacement -------------------------------------------------------------------------------

    def _displace(self, newcomer: PeerId, now: float, network: str | None = None) -> bool:
        """Close the oldest of the least useful connections if the newcomer outranks it."""
        standing = self.standing(newcomer)
        ranked = [
            ((self.standing(connection.peer), connection.proven, connection.since), connection)
            for connection in self._connections
            if (network is None or network_of(connection.address) == network)
            and (now - connection.since >= limits.GRACE_SECONDS or standing is PeerStanding.NAMED)
        ]
        if not ranked:
            return False
        (use, _, _), victim = min(ranked, key=lambda each: each[0])
        if use > PeerStanding.STRANGER and use >= standing:
            return False
        self._close(victim)
        return True

    def _close(self, connection: InboundConnection) -> None:
        del self._connections[connection]
        connection.close()

    # --- Counting -----------------------------------------------------------------------------------

    def _max_pending(self) -> int:
        return min(limits.MAX_PENDING_HANDSHAKES, max(1, self._capacity // 2))

    def _of_peer(self, peer: PeerId) -> list[InboundConnection]:
        """Newest first."""
        return [connection for connection in reversed(self._connections) if connection.peer == peer]

    def _of_network(self, address: str) -> int:
        network = network_of(address)
        return sum(1 for each in self._connections if network_of(each.address) == network)

    def _rate_limit(self, network: str, now: float) -> TokenBucket:
        bucket = self._rate_limits.get(network)
        if bucket is None:
            bucket = TokenBucket(limits.UNPROVEN_RATE, limits.UNPROVEN_BURST, now)
            self._rate_limits[network] = bucket
            if len(self._rate_limits) > limits.ADDRESSES_REMEMBERED:
                self._rate_limits.popitem(last=False)
        self._rate_limits.move_to_end(network)
        return bucket
