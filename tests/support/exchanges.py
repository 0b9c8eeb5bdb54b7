"""Exchanges without a node: a real `Exchange` with its brain, over streams in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import trio

from swarm.bits import PieceSet
from swarm.config import TransferOptions
from swarm.endpoint import Endpoint
from swarm.errors import LinkClosed, NoPeerReachable
from swarm.ids import PeerId, TransferId
from swarm.observe.event_stream import EventStream
from swarm.ports import ByteStream, Store
from swarm.strategy.peer_book import NAMED, PeerBook
from swarm.transfer.buffers import TransferMemory
from swarm.transfer.exchange import Exchange
from swarm.transfer.pacing import RateLimit
from swarm.transfer.progress import TransferRecord
from swarm.transfer.services import NodeServices, OwnAddresses

TRANSFER = TransferId(1)


class SilentNetwork:
    """A `swarm.ports.Network` that reaches nobody."""

    def __init__(self, me: PeerId) -> None:
        self.peer_id = me
        self.proven_peers: set[PeerId] = set()
        self.tried: list[tuple[PeerId, tuple[str, ...]]] = []

    async def connect(self, peer: PeerId, where: Sequence[Endpoint]) -> str:
        self.tried.append((peer, tuple(map(str, where))))
        await trio.lowlevel.checkpoint()
        raise NoPeerReachable(f"{where[0]}: nobody is there")

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        await trio.lowlevel.checkpoint()
        raise LinkClosed(f"no connection to {peer}")

    async def disconnect(self, peer: PeerId) -> None:
        await trio.lowlevel.checkpoint()

    def proven(self, peer: PeerId) -> None:
        self.proven_peers.add(peer)


class SmallNode:
    """What a transfer needs of its node (`PeerCare`), and the exchanges that it has."""

    def __init__(self) -> None:
        self.banned: set[PeerId] = set()
        self.measured: list[PeerId] = []
        self.closed: list[PeerId] = []
        self.exchanges: list[Exchange] = []
        self.on_ban: Callable[[PeerId], None] = lambda _: None

    def is_banned(self, peer: PeerId) -> bool:
        return peer in self.banned

    def ban(self, peer: PeerId) -> bool:
        if peer in self.banned:
            return False
        self.banned.add(peer)
        self.on_ban(peer)
        for exchange in self.exchanges:
            exchange.dismiss(peer, "the peer is banned")
        return True

    def session_opened(self, peer: PeerId) -> None:
        self.measured.append(peer)

    def session_closed(self, peer: PeerId) -> None:
        self.closed.append(peer)


def node_services(
    me: PeerId,
    *,
    care: SmallNode | None = None,
    network: SilentNetwork | None = None,
    events: EventStream | None = None,
    addresses: tuple[str, ...] = (),
    rng: random.Random | None = None,
) -> NodeServices:
    """Services without limits; whatever is not given is new."""
    return NodeServices(
        network=network or SilentNetwork(me),
        peers=care or SmallNode(),
        addresses=OwnAddresses(tuple(f"{address}/p2p/{me}" for address in addresses)),
        publish=(events or EventStream()).publish,
        memory=TransferMemory(),
        upload_limit=RateLimit(None, trio.current_time),
        download_limit=RateLimit(None, trio.current_time),
        dials=trio.CapacityLimiter(8),
        named_dials=trio.CapacityLimiter(8),
        rng=rng or random.Random(1),
    )


class Member:
    """One exchange on ``store``, with what a node would have beside it."""

    def __init__(
        self,
        me: PeerId,
        store: Store,
        options: TransferOptions | None = None,
        *,
        addresses: tuple[str, ...] = (),
        rng: random.Random | None = None,
        named: Sequence[PeerId] = (),
        network: SilentNetwork | None = None,
    ) -> None:
        self.id = me
        self.store = store
        self.node = SmallNode()
        self.events = EventStream()
        self.network = network or SilentNetwork(me)
        self.services = node_services(
            me,
            care=self.node,
            network=self.network,
            events=self.events,
            addresses=addresses,
            rng=rng or random.Random(1),
        )
        options = options or TransferOptions()
        self.record = TransferRecord(TRANSFER, self.events.publish, trio.current_time)
        self.book = PeerBook(random.Random(2), max_peers=options.max_peers)
        for peer in named:
            self.book.add(peer, ["/ip4/192.0.2.1/tcp/1"], provenance=NAMED)
        wanted = PieceSet.all(store.manifest.piece_count)
        self.exchange = Exchange(self.services, self.record, store, options, self.book, wanted=wanted)
        self.node.exchanges.append(self.exchange)

    @property
    def banned(self) -> set[PeerId]:
        """Whom this member refuses."""
        return self.node.banned

    def nothing_is_held(self) -> bool:
        """Whether all memory for pieces was given back."""
        memory = self.services.memory
        return memory.pool.used == 0 and memory.uploads.used == 0
