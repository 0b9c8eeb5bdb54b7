"""What a node gives to each of its transfers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

import trio

from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass
from swarm.ports import EventSink, Network
from swarm.transfer.buffers import TransferMemory
from swarm.transfer.pacing import RateLimit


class PeerCare(Protocol):
    """The node's side of what concerns all its transfers: bans, and connections that several may use."""

    def is_banned(self, peer: PeerId) -> bool:
        """Whether the peer broke a rule in any transfer of this node."""

    def ban(self, peer: PeerId) -> bool:
        """Refuse the peer in all transfers from now on; says whether that is new."""

    def session_opened(self, peer: PeerId) -> None:
        """A transfer has a session with the peer: its connection is measured from now on."""

    def session_closed(self, peer: PeerId) -> None:
        """A session has ended: the connection is closed when no transfer uses it. Never waits."""


class OwnAddresses:
    """This node's dialable multiaddrs with ``/p2p/<id>``, best first.

    A port of the router and addresses of the interfaces come and go.
    """

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self.now = addresses
        self.next_change = trio.Event()
        """Set when they change. Take it before reading ``now``: then no change goes unseen."""

    def become(self, addresses: tuple[str, ...]) -> None:
        """These are its addresses from now on."""
        if addresses != self.now:
            self.now = addresses
            change, self.next_change = self.next_change, trio.Event()
            change.set()


@dataclass(frozen=True, slots=True)
class NodeServices:
    """Shared by all transfers of one node; ``now`` is monotonic seconds."""

    network: Network
    peers: PeerCare
    addresses: OwnAddresses
    publish: EventSink
    memory: TransferMemory
    upload_limit: RateLimit
    download_limit: RateLimit
    dials: trio.CapacityLimiter
    """Strangers that are dialled at the same time, by all transfers together."""
    named_dials: trio.CapacityLimiter
    """The same for peers that the user named: they never wait behind strangers."""
    rng: random.Random
    now: Callable[[], float] = trio.current_time
    requests_observed: Callable[[], bool] = lambda: True
    """Whether anybody wants to hear of each requested piece; otherwise such an event is not even made."""

    @property
    def me(self) -> PeerId:
        """This node's id."""
        return self.network.peer_id
