"""Opens sessions for one transfer: takes peers from their sources into the book, and dials them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from swarm.discovery.peer_sources import announce_to, peers_of, tell
from swarm.endpoint import read_route
from swarm.errors import LinkClosed, NoPeerReachable
from swarm.events import PeerDialing, PeerFailed, PeerFound, PeersAwaited
from swarm.ids import ManifestId, PeerId
from swarm.ports import Announcement, ByteStream, FoundPeer, PeerSource
from swarm.strategy.peer_book import NAMED, Dial, PeerBook
from swarm.transfer.exchange import Exchange, SessionEnd
from swarm.transfer.give_up import REFUSED_SESSION, Contact, FailureReasons, GiveUpTimer
from swarm.transfer.progress import TransferRecord
from swarm.transfer.readiness import be_ready_to_serve
from swarm.transfer.services import NodeServices
from swarm.transfer.session import SessionOrigin

logger = logging.getLogger(__name__)

EXCHANGE_PROTOCOL: Final = "/swarm/exchange/1.0.0"

LACK_SECONDS: Final = 3.0
"""How long nothing comes before it is said that no connected peer has what is missing."""
MAX_FAILURES = 256
"""Peers whose reason for not exchanging is remembered; the oldest is forgotten first."""


class PeerConnector:
    """Finds and dials peers for ``exchange``, and takes the streams that peers open.

    Peers that the user named are dialled again and again. Others are dialled only while pieces are missing.
    """

    def __init__(
        self,
        services: NodeServices,
        record: TransferRecord,
        exchange: Exchange,
        book: PeerBook,
        timer: GiveUpTimer,
    ) -> None:
        self._services = services
        self._record = record
        self._exchange = exchange
        self._book = book
        self._timer = timer
        self._changed = trio.Event()
        self._paused = False
        self._dialling: set[PeerId] = set()
        self._sources: Sequence[PeerSource] = ()
        self._awaiting_was_told = False
        self._reached = trio.Event()
        self._answers = self._named_answers = self._exchanged = False
        self.failures = FailureReasons(MAX_FAILURES)
        """Why peers could not be reached, or refused to exchange."""

    async def run(self, manifest: ManifestId, sources: Sequence[PeerSource]) -> None:
        """Dial until cancelled."""
        self._sources = sources
        # Taken before the first announcement: what changes right after it is told again.
        move, complete = self._services.addresses.next_change, self._exchange.complete.is_set()
        self._announce(manifest, complete=complete)
        try:
            async with trio.open_nursery() as nursery:
                for source in sources:
                    nursery.start_soon(self._collect, source, manifest)
                nursery.start_soon(self._announce_moves, manifest, move)
                if complete:
                    nursery.start_soon(be_ready_to_serve)
                else:
                    nursery.start_soon(self._announce_completion, manifest)
                    nursery.start_soon(self._tell_lack)
                await self._dial_all(nursery)
        finally:
            for source in sources:
                tell(source, lambda source: source.withdraw(manifest))

    async def accept(self, stream: ByteStream, origin: SessionOrigin) -> None:
        """Exchange over a stream that a peer has opened, until the session ends."""
        self._met(stream.peer)
        self._reached.set()
        try:
            await self._run_session(stream, origin)
        finally:
            self._services.peers.session_closed(stream.peer)

    async def once_reached(self, then: Callable[[], Awaitable[None]]) -> None:
        """Call ``then`` when the first peer is connected: before it has greeted."""
        await self._reached.wait()
        await then()

    @property
    def contact(self) -> Contact:
        """How far any peer ever came."""
        if self._exchanged:
            return Contact.EXCHANGED
        answers = self._named_answers if self.failures.named else self._answers
        return Contact.ANSWERED if answers else Contact.NONE

    def pause(self) -> None:
        """Dial nobody until `unpause`."""
        self._paused = True

    def unpause(self) -> None:
        """Dial again."""
        self._paused = False
        self._changed.set()

    def look_again(self) -> None:
        """Pieces are missing that were here: strangers may be dialled again."""
        self._changed.set()

    def is_dialling(self, peer: PeerId) -> bool:
        """Whether a session with the peer is about to be opened."""
        return peer in self._dialling

    # --- Sources ------------------------------------------------------------------------------------

    async def _collect(self, source: PeerSource, manifest: ManifestId) -> None:
        async for found in peers_of(source, manifest):
            if source.provenance == NAMED:
                self.failures.name(found.peer)
            if not self._services.peers.is_banned(found.peer):
                self._tell_found(found, source.provenance)
                self._book.add(
                    found.peer, found.addresses, provenance=source.provenance, told_by=found.told_by
                )
                self._changed.set()

    def _tell_found(self, found: FoundPeer, provenance: str) -> None:
        if found.addresses and found.peer not in self._book:
            self._record.publish(PeerFound(self._record.transfer, found.peer, found.addresses, provenance))

    async def _announce_completion(self, manifest: ManifestId) -> None:
        await self._exchange.complete.wait()
        self._announce(manifest, complete=True)

    async def _announce_moves(self, manifest: ManifestId, move: trio.Event) -> None:
        while True:
            await move.wait()
            move = self._services.addresses.next_change
            self._announce(manifest, complete=self._exchange.complete.is_set())

    def _announce(self, manifest: ManifestId, *, complete: bool) -> None:
        announcement = Announcement(manifest, self._services.addresses.now, complete)
        for source in self._sources:
            announce_to(source, announcement)

    # --- Dialling -----------------------------------------------------------------------------------

    async def _dial_all(self, nursery: trio.Nursery) -> None:
        while True:
            self._changed = trio.Event()
            wake_at = self._dial_ready(nursery)
            with trio.move_on_at(wake_at):
                await self._changed.wait()

    def _dial_ready(self, nursery: trio.Nursery) -> float:
        """Begin the dials that are due; returns when to look again."""
        if self._paused:
            return float("inf")
        strangers = not self._exchange.complete.is_set()
        while dial := self._book.next_dial(self._services.now(), strangers=strangers):
            nursery.start_soon(self._dial, dial)
        return self._book.next_wakeup()

    async def _dial(self, dial: Dial) -> None:
        peer = dial.peer
        try:
            services = self._services
            async with services.named_dials if self._book.is_named(peer) else services.dials:
                self._dialling.add(peer)
                stream, address = await self._reach(dial)
            self._met(peer)
            await self._run_session(stream, SessionOrigin(inbound=False, address=address))
        except NoPeerReachable as error:
            self._failed(peer, str(error), error.telling)
        except LinkClosed as error:
            self._failed(peer, str(error), REFUSED_SESSION)
        except Exception as error:  # noqa: BLE001 - as in a stream handler: it costs this session alone
            logger.debug("the session with %s failed: %r", peer, error)
            self._failed(peer, f"unexpected: {error!r}", REFUSED_SESSION)
        finally:
            self._dialling.discard(peer)
            self._services.peers.session_closed(peer)

    async def _reach(self, dial: Dial) -> tuple[ByteStream, str]:
        self._record.publish(PeerDialing(self._record.transfer, dial.peer, dial.addresses[0], dial.why))
        endpoints = [endpoint for text in dial.addresses if (endpoint := read_route(text)) is not None]
        address = await self._services.network.connect(dial.peer, endpoints)
        self._reached.set()
        return await self._services.network.open_stream(dial.peer, EXCHANGE_PROTOCOL), address

    def _met(self, peer: PeerId) -> None:
        self._timer.met(self._services.now())
        self._answers = True
        self._named_answers = self._named_answers or peer in self.failures.named

    def _failed(self, peer: PeerId, reason: str, telling: int) -> None:
        self._note_failure(peer, reason, telling)
        retry_in = self._book.failed(peer, self._services.now())
        self._record.publish(PeerFailed(self._record.transfer, peer, reason, retry_in))
        self._changed.set()

    def _note_failure(self, peer: PeerId, reason: str, telling: int) -> None:
        self.failures.note(peer, reason, telling)
        if not self._awaiting_was_told and self._awaits_everybody():
            self._awaiting_was_told = True
            self._tell_awaited(self.failures.most_telling())

    def _tell_awaited(self, reason: str) -> None:
        left = self._timer.deadline() - self._services.now()
        self._record.publish(PeersAwaited(self._record.transfer, reason, max(0.0, left)))

    async def _tell_lack(self) -> None:
        """Say once that peers are connected and none has anything of what is missing."""
        exchange, record = self._exchange, self._record
        # Many fetches may wait for their first peer: they cost nothing meanwhile.
        await self._reached.wait()
        while not exchange.complete.is_set():
            left = self._timer.since + LACK_SECONDS - self._services.now()
            await trio.sleep(left if left > 0 else LACK_SECONDS)
            if record.advanced_at is not None:
                self._timer.useful(record.advanced_at)
            quiet = self._services.now() - self._timer.since >= LACK_SECONDS
            if quiet and not self._paused and exchange.peers() and exchange.no_source_helps:
                self._tell_awaited(exchange.lack())
                return

    def _awaits_everybody(self) -> bool:
        """Whether pieces are missing, and each peer that the user named has failed so far."""
        exchange, named = self._exchange, self._book.named
        return not exchange.complete.is_set() and not exchange.sources and all(map(self._gone, named))

    def _gone(self, peer: PeerId) -> bool:
        return peer in self.failures and not self._exchange.has_session(peer)

    # --- Sessions -----------------------------------------------------------------------------------

    async def _run_session(self, stream: ByteStream, origin: SessionOrigin) -> None:
        peer = stream.peer
        end: SessionEnd | None = None
        self._book.connected(peer, None if origin.inbound else origin.address)
        try:
            end = await self._exchange.add_stream(stream, origin)
        finally:
            self._session_ended(peer, end)

    def _session_ended(self, peer: PeerId, end: SessionEnd | None) -> None:
        """Take note of how it ended; None if it was cancelled, which is no failure of the peer's."""
        joined = end is not None and end.joined
        if joined:
            self._exchanged = True
            self.failures.forget(peer)
        elif end is not None:
            self._note_failure(peer, f"{peer}: {end.reason}", REFUSED_SESSION)
        if not self._exchange.has_session(peer):
            self._book.disconnected(peer, self._services.now(), useful=joined)
            self._changed.set()
