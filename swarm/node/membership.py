"""This node's part in the swarm of one manifest: whom it dials, whom it meets, whom it pings."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from swarm.bits import PieceSet
from swarm.config import TransferConfig
from swarm.content.envelope import Envelope
from swarm.errors import LinkClosed, NoPeerReachable, SwarmError
from swarm.events import PeerDialing, PeerFailed, RoundTrip
from swarm.ids import PeerId
from swarm.net.addresses import PeerAddress, by_peer
from swarm.net.host import Host
from swarm.net.inbound import PeerStanding
from swarm.node.patience import Patience, give_up
from swarm.node.pulse import keep_pulse
from swarm.node.racing import first_of
from swarm.observe.event_stream import EventStream
from swarm.ports import ByteStream, Store
from swarm.protocol.advert import Advert
from swarm.protocol.messages import Hello
from swarm.strategy.peer_book import NAMED, Dial, PeerBook
from swarm.transfer.memory import Memory
from swarm.transfer.runner import Identity, Runner, SessionEnd

logger = logging.getLogger(__name__)

EXCHANGE_PROTOCOL: Final = "/swarm/exchange/1.0.0"
AGENT: Final = "swarm/0.1"
CONNECT_PATIENCE: Final = 10.0
"""Seconds after which a fetch gives up when no peer at all could be reached."""
MAX_DIALS: Final = 8
"""Peers of one transfer that are dialled at the same time."""


class Membership:
    """The swarm of one manifest as this node takes part in it.

    ``named`` are the peers that the user named: they are dialled again and again and keep their places.
    Peers that others name are dialled only while pieces are missing. ``in_use`` says whether any transfer
    of this node has a session with a peer: a connection that none uses is closed. ``wanted`` are the pieces
    to fetch, None for all. ``upkeep`` runs beside the transfer; what it raises ends it.
    """

    def __init__(
        self,
        host: Host,
        envelope: Envelope,
        store: Store,
        *,
        config: TransferConfig,
        events: EventStream,
        rng: random.Random,
        named: Sequence[PeerAddress],
        in_use: Callable[[PeerId], bool],
        memory: Memory,
        wanted: PieceSet | None = None,
        upkeep: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.envelope = envelope
        self._in_use = in_use
        self._upkeep = upkeep
        self._host = host
        self._store = store
        self._wanted = PieceSet.all(store.stored.size) if wanted is None else wanted
        self._events = events
        self._rng = rng
        # Who names nobody waits for others to come.
        connect_patience = min(CONNECT_PATIENCE, config.patience) if named else config.patience
        self._patience = Patience(connect_patience, config.patience, trio.current_time())
        self._unreachable: dict[PeerId, str] = {}
        self._failure: SwarmError | None = None
        self._ended = trio.Event()
        self._book_changed = trio.Event()
        self._book = PeerBook(rng, max_peers=config.max_peers)
        self._dials = trio.CapacityLimiter(MAX_DIALS)
        self._named = frozenset(each.peer for each in named)
        for peer, where in by_peer(named).items():
            self._book.add(peer, where, provenance=NAMED)
        me = Identity(host.peer_id, AGENT, tuple(each.partition("/p2p/")[0] for each in host.addresses))
        self._runner = Runner(
            store, me, config, rng, named=self._named, wanted=wanted, events=events, memory=memory
        )
        self._runner.on_joined = host.proven

    # --- For the node -------------------------------------------------------------------------------

    def advert(self) -> Advert:
        """What this node says it offers of this manifest."""
        manifest = self.envelope.manifest
        return Advert(
            manifest.id,
            manifest.name,
            manifest.total_length,
            manifest.piece_count,
            manifest.piece_length,
            self._store.stored.count,
        )

    async def run(self) -> None:
        """Exchange pieces, dial and ping until cancelled; a failure is kept for whoever waits."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._learn)
                nursery.start_soon(self._dial_all, nursery)
                if self._upkeep is not None:
                    nursery.start_soon(self._upkeep)
                await self._runner.run()
                nursery.cancel_scope.cancel()
        except* SwarmError as group:
            self._failure = _first(group)
        finally:
            self._ended.set()

    async def failed(self) -> SwarmError:
        """Wait for the transfer to fail, perhaps for ever; returns why."""
        await self._ended.wait()
        if self._failure is None:
            await trio.sleep_forever()
        return self._failure or SwarmError("the transfer ended")

    async def until_complete(self) -> None:
        """Wait until every wanted piece is stored.

        Raises NoPeerReachable or Incomplete once patience has run out, DiskError when the disk refuses.
        """
        error = await first_of(self.failed, self._out_of_patience, self._completed)
        if error is not None:
            raise error

    async def _completed(self) -> None:
        await self._runner.complete.wait()

    def standing(self, peer: PeerId) -> PeerStanding:
        """What the peer is to this transfer."""
        if peer in self._named:
            return PeerStanding.NAMED
        return PeerStanding.IN_SESSION if self.has_session(peer) else PeerStanding.STRANGER

    def has_session(self, peer: PeerId) -> bool:
        """Whether pieces are exchanged with the peer."""
        return self._runner.has_session(peer)

    async def leave(self, reason: str) -> None:
        """Say goodbye to every peer and end `run`."""
        await self._runner.stop(reason)

    # --- Sessions -----------------------------------------------------------------------------------

    async def accept(self, link: ByteStream, hello: Hello) -> None:
        """Exchange over a stream that a peer has opened, until the session ends."""
        self._patience.met(trio.current_time())
        await self._exchange(link, inbound=True, address=link.remote_address, hello=hello)

    async def _exchange(
        self, link: ByteStream, *, inbound: bool, address: str, hello: Hello | None = None
    ) -> SessionEnd:
        end = SessionEnd("cancelled", joined=False)
        self._book.connected(link.peer, None if inbound else address)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_pulse, self._host, link.peer, self._reporter(link.peer), self._rng)
                end = await self._runner.add_link(link, inbound=inbound, address=address, hello=hello)
                nursery.cancel_scope.cancel()
        finally:
            self._ended_with(link.peer, end)
        if not self._in_use(link.peer):
            # A peer that stopped answering would otherwise be met again over its dead connection.
            await self._host.disconnect(link.peer)
        return end

    def _ended_with(self, peer: PeerId, end: SessionEnd) -> None:
        if end.joined:
            self._unreachable.pop(peer, None)
        else:
            self._unreachable[peer] = f"{peer}: {end.reason}"
        if not self._runner.has_session(peer):
            self._book.disconnected(peer, trio.current_time(), useful=end.joined)
            self._changed()

    def _reporter(self, peer: PeerId) -> Callable[[float | None], None]:
        def report(seconds: float | None) -> None:
            self._events.publish(RoundTrip(peer, seconds))
            self._book.round_trip(peer, seconds)
            self._runner.round_trip(peer, seconds)

        return report

    # --- Dialling -----------------------------------------------------------------------------------

    async def _learn(self) -> None:
        async for learnt in self._runner.learnt:
            self._book.add(learnt.address.peer, learnt.address.addresses, told_by=learnt.source)
            self._changed()

    def _changed(self) -> None:
        self._book_changed.set()

    async def _dial_all(self, nursery: trio.Nursery) -> None:
        while True:
            self._book_changed = trio.Event()
            for peer in self._runner.banned:
                self._book.ban(peer)
            now = trio.current_time()
            while dial := self._book.next_dial(now, strangers=not self._runner.complete.is_set()):
                nursery.start_soon(self._dial, dial)
            with trio.move_on_at(self._book.next_wakeup()):
                await self._book_changed.wait()

    async def _dial(self, dial: Dial) -> None:
        peer = dial.peer
        try:
            async with self._dials:
                link, address = await self._reach(dial)
            self._patience.met(trio.current_time())
            await self._exchange(link, inbound=False, address=address)
        except (NoPeerReachable, LinkClosed) as error:
            self._failed(peer, str(error))
        except Exception as error:  # noqa: BLE001 - as in a stream handler: it costs this session alone
            logger.debug("the session with %s failed: %r", peer, error)
            self._failed(peer, f"unexpected: {error!r}")

    def _failed(self, peer: PeerId, reason: str) -> None:
        self._unreachable[peer] = reason
        retry_in = self._book.failed(peer, trio.current_time())
        self._events.publish(PeerFailed(peer, reason, retry_in))
        self._changed()

    async def _reach(self, dial: Dial) -> tuple[ByteStream, str]:
        self._events.publish(PeerDialing(dial.peer, dial.addresses[0], dial.why))
        address = await self._host.connect(dial.peer, dial.addresses)
        return await self._host.open_link(dial.peer, EXCHANGE_PROTOCOL), address

    # --- Patience -----------------------------------------------------------------------------------

    async def _out_of_patience(self) -> SwarmError:
        received = 0
        while True:
            now = trio.current_time()
            peers = self._runner.peers()
            missing = self._runner.missing()
            total = sum(peer.received for peer in peers)
            lacking = sum(piece not in self._store.stored for piece in self._wanted)
            if total > received or (peers and len(missing) < lacking):
                self._patience.useful(now)
            received = total
            if now >= self._patience.deadline():
                return give_up(
                    met_somebody=self._patience.met_somebody,
                    connected=len(peers),
                    missing=missing,
                    failures=tuple(self._unreachable.values()),
                )
            await trio.sleep_until(self._patience.deadline())


def _first(group: BaseExceptionGroup[SwarmError]) -> SwarmError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group holds at least one exception")
