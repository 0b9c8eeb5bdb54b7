"""This node's part in the swarm of one manifest: whom it dials, whom it meets, whom it pings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import trio

from swarm.config import TransferConfig
from swarm.content.envelope import Envelope
from swarm.errors import LinkClosed, NoPeerReachable, SwarmError
from swarm.events import PeerDialing, PeerFailed, RoundTrip
from swarm.ids import PeerId
from swarm.net.addresses import PeerAddress, by_peer
from swarm.net.host import Host
from swarm.node.patience import Patience, give_up
from swarm.node.pulse import keep_pulse
from swarm.ports import Link, Store
from swarm.strategy.book import Dial, PeerBook
from swarm.transfer.eventstream import EventStream
from swarm.transfer.runner import Runner
from swarm.wire.advert import Advert

EXCHANGE_PROTOCOL: Final = "/swarm/exchange/1.0.0"
CONNECT_PATIENCE: Final = 10.0
"""Seconds after which a fetch gives up when no peer at all could be reached."""
MAX_DIALS: Final = 8
"""Peers of one transfer that are dialled at the same time."""
EOF


class Membership:
    """The swarm of one manifest as this node takes part in it.

    ``named`` are the peers that the user named: they are dialled for as long as the membership lives
    and keep their places.
    """

    def __init__(
        self,
        host: Host,
        envelope: Envelope,
        store: Store,
        config: TransferConfig,
        events: EventStream,
        rng: random.Random,
        named: Sequence[PeerAddress],
    ) -> None:
        self.envelope = envelope
        self._host = host
        self._store = store
        self._events = events
        self._rng = rng
        self._patience = Patience(
            min(CONNECT_PATIENCE, config.patience), config.patience, trio.current_time()
        )
        self._failures: dict[PeerId, str] = {}
        self._failure: SwarmError | None = None
        self._ended = trio.Event()
        self._book_changed = trio.Event()
        self._book = PeerBook(rng)
        addresses = by_peer(named)
        for peer, where in addresses.items():
            self._book.named(peer, tuple(where))
        self._runner = Runner(
            envelope.manifest,
            store,
            me=host.peer_id,
            addresses=lambda: tuple(address.partition("/p2p/")[0] for address in host.addresses),
            named=frozenset(addresses),
            config=config,
            events=events,
            rng=rng,
        )
