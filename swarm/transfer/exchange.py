"""The exchange of one manifest: owns the brain, the sessions and the other sources, and joins them.

Peers come in through `Exchange.add_stream`, from a stream handler or the connector, which stays inside until
the session has ended. What sessions report becomes inputs of the brain; what the brain returns is performed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

import trio

from swarm.bits import PieceSet
from swarm.config import TransferOptions
from swarm.discovery.peer_exchange import PeerExchange
from swarm.errors import SwarmError
from swarm.events import (
    ContentRestored,
    ContentWithdrawn,
    PeerConnected,
    PeerDisconnected,
    SourceBanned,
    SourceFailed,
    SourceJoined,
    SourceLeft,
)
from swarm.ids import PeerId, SourceId
from swarm.lazy_dataclass import dataclass
from swarm.ports import ByteStream, LocalSource, PieceSource, SharedSource, Store, StoredChange
from swarm.protocol.messages import PACK_EXTENSION, RESTATE_EXTENSION, Hello, Peers
from swarm.protocol.protocol_limits import MAX_ADDRESSES_PER_PEER
from swarm.strategy.brain import Brain, BrainSetup
from swarm.strategy.download.origins import OriginOptions
from swarm.strategy.peer_book import PeerBook
from swarm.transfer.give_up import describe_lack
from swarm.transfer.holdings import Holdings
from swarm.transfer.pacing import Pacer, RateLimit
from swarm.transfer.performer import Alarm, Performer
from swarm.transfer.progress import Progress, TransferRecord
from swarm.transfer.roster import Roster
from swarm.transfer.services import NodeServices
from swarm.transfer.session import Participant, PeerStatus, SessionOrigin, refuse_stream
from swarm.transfer.session_io import SessionResources
from swarm.transfer.source_desk import SourceDesk

logger = logging.getLogger(__name__)

AGENT: Final = "swarm/0.1"


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """Why a session ended; ``joined`` says whether the peer had greeted, so that its address is good."""

    reason: str
    joined: bool


class Exchange:
    """Exchanges the pieces of one manifest over ``store`` until stopped.

    ``book`` says which peers the user named: places are kept for them. ``wanted`` are the pieces to fetch.
    """

    def __init__(
        self,
        services: NodeServices,
        record: TransferRecord,
        store: Store,
        options: TransferOptions,
        book: PeerBook,
        *,
        wanted: PieceSet,
    ) -> None:
        now = services.now
        manifest = store.manifest
        self._services = services
        self._record = record
        self._layout = manifest.layout
        self._now = now
        self._manifest = manifest
        self._upload_limit = RateLimit(options.upload_limit, now)
        self._download_limit = RateLimit(options.download_limit, now)
        self._resources = SessionResources(
            store,
            services.memory,
            services.memory.pool.share(),
            Pacer(self._upload_limit, services.upload_limit, now=now),
            Pacer(self._download_limit, services.download_limit, now=now),
            now,
        )
        setup = BrainSetup(
            record.transfer,
            manifest.layout,
            store.stored,
            wanted,
            services.me,
            upload_limited=self._resources.upload_pacer.limited,
            download_limited=self._resources.download_pacer.limited,
            sequential=options.sequential,
            prefer_near=options.prefer_near,
            spared=frozenset(map(SourceId, options.spare)),
            explains=services.requests_observed,
            origins=OriginOptions(options.origin_use == "fallback", options.sequential),
        )
        self._brain = Brain(setup, services.rng, now())
        self._performer = Performer(self._brain, store, self, record, now)
        self._roster: Roster[Participant] = Roster(services.me, options.max_peers, book)
        self._desks: dict[SourceId, SourceDesk] = {}
        self._no_peers: set[SourceId] = set()
        self._origins: dict[SourceId, SharedSource] = {}
        self.troubles: dict[SourceId, str] = {}
        """What went wrong last with each source that is no peer."""
        self._expelled: set[SourceId] = set()
        self._scopes: set[trio.CancelScope] = set()
        self._departures = trio.lowlevel.ParkingLot()
        self._closed = ""
        self._scope = trio.CancelScope()
        self.discovered = PeerExchange(services.me)
        """The peers that sessions name."""
        self._exchange_alarm = Alarm(now)
        self._holdings = Holdings(record, self._brain.pieces_held, manifest.piece_count, now)
        record.begin(manifest.layout, store.stored, wanted)

    # --- State --------------------------------------------------------------------------------------

    @property
    def complete(self) -> trio.Event:
        """Set when every wanted piece is stored; another one after `fetch_again`."""
        return self._performer.complete

    def peers(self) -> tuple[PeerStatus, ...]:
        """The peers with an open session."""
        return tuple(participant.status() for participant in self._roster if participant.joined)

    def has_session(self, peer: PeerId) -> bool:
        """Whether a session with the peer is open or being opened."""
        return self._roster.get(peer) is not None

    @property
    def sources(self) -> int:
        """How many sources could be asked: sessions, and sources that are no peers."""
        return len(self._performer.sources)

    @property
    def hopeless(self) -> bool:
        """Whether there were sources that are no peers, all have ended in trouble, and no peer is here."""
        return bool(self.troubles) and not self._performer.sources

    async def changed(self) -> None:
        """Wait until a source that is no peer has ended."""
        await self._departures.park()

    def expect_peers(self) -> None:
        """Peers are named: origins are not asked before these had a moment to answer."""
        self._brain.expect_peers()

    def missing(self) -> tuple[int, ...]:
        """The wanted pieces that no source has, ascending."""
        return tuple(self._brain.missing())

    @property
    def no_source_helps(self) -> bool:
        """Whether pieces are missing and no source has any of them."""
        return 0 < self._record.pieces - self._record.pieces_done == len(self.missing())

    def lack(self) -> str:
        """What none of the sources has of what is missing, in words; empty if they have all of it."""
        return describe_lack(self.sources, self.missing(), self._manifest)

    def progress(self, *, paused: bool) -> Progress:
        """How far the transfer is."""
        peers = sum(participant.joined for participant in self._roster)
        return self._record.progress(peers=peers, complete=self.complete.is_set(), paused=paused)

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """Set the transfer's own limits in bytes per second; None for none."""
        self._upload_limit.change(upload)
        self._download_limit.change(download)
        self.limits_changed()

    def watch(self, reader: int, window: range) -> None:
        """A reader needs these pieces next, in this order; none: it reads no more."""
        self._performer.perform(self._brain.watch(reader, window, self._now()))

    def limits_changed(self) -> None:
        """A limit of the node or of this transfer has changed: nobody waits for the old one."""
        for participant in self._roster:
            participant.session.limits_changed()
        resources = self._resources
        commands = self._brain.limits_changed(
            self._now(),
            upload_limited=resources.upload_pacer.limited,
            download_limited=resources.download_pacer.limited,
        )
        self._performer.perform(commands)

    # --- Life ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Exchange until `stop` or cancellation; raises the DiskError that ended it.

        Every session and source has ended when this returns.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._introduce_peers)
                    nursery.start_soon(self._holdings.run)
                    await self._performer.run()
                    nursery.cancel_scope.cancel()
        finally:
            self._close("the transfer ended")
            # Whoever waits to join finds it closed.
            self._performer.started.set()
            for scope in self._scopes:
                scope.cancel()
            with trio.CancelScope(shield=True):
                await self._until_out(self._scopes)
        if self._performer.failure is not None:
            raise self._performer.failure

    async def stop(self, reason: str) -> None:
        """Let no peer in, say GOODBYE to all, wait until they are out, and end `run`.

        Takes little more than `session.GOODBYE_TIMEOUT`; cancelled earlier, it ends `run` at once.
        """
        try:
            self._close(reason)
            await self._until_out(frozenset(self._scopes))
        finally:
            self._scope.cancel()

    async def pause(self) -> None:
        """End every session, and let none in until `unpause`; returns when those open now are out."""
        self._close("this transfer is paused")
        await self._until_out(frozenset(self._scopes))

    def unpause(self) -> None:
        """Let peers in again."""
        self._closed = ""

    async def _until_out(self, scopes: Collection[trio.CancelScope]) -> None:
        """Wait until none of the scopes is that of an open session or source."""
        while not self._scopes.isdisjoint(scopes):
            await self._departures.park()

    def _close(self, reason: str) -> None:
        self._closed = reason
        for participant in self._roster:
            self._end(participant, reason)
        for desk in tuple(self._desks.values()):
            desk.stop(reason)

    # --- Peers --------------------------------------------------------------------------------------

    async def add_stream(self, stream: ByteStream, origin: SessionOrigin) -> SessionEnd:
        """Run a session over ``stream`` to its end and release the stream; waits for `run` to begin."""
        try:
            await self._performer.started.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await stream.reset()
            raise
        refusal = self._closed
        verdict = self._roster.admit(stream.peer, inbound=origin.inbound, now=self._now())
        if self._services.peers.is_banned(stream.peer):
            refusal = refusal or "the peer is banned"
        if refusal := refusal or verdict.refusal or "":
            # Who opened the stream says nothing: the other end waits for a greeting, and for nothing else.
            await (refuse_stream(stream, refusal) if origin.inbound else stream.reset())
            return SessionEnd(refusal, joined=False)
        if verdict.replaces is not None:
            self._end(verdict.replaces, "replaced by another session")
        participant = Participant(stream, self._resources, self._performer, self, self._greeting(), origin)
        return await self._host(participant)

    def _greeting(self) -> Hello:
        addresses = tuple(each.partition("/p2p/")[0] for each in self._services.addresses.now)
        told = addresses[:MAX_ADDRESSES_PER_PEER]
        return Hello(
            self._manifest.id,
            self._manifest.piece_count,
            AGENT,
            told,
            ((RESTATE_EXTENSION, 1), (PACK_EXTENSION, 1)),
        )

    async def _host(self, participant: Participant) -> SessionEnd:
        self._roster.enter(participant)
        reason = "the transfer ended"
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                reason = await participant.session.run()
            finally:
                try:
                    self._leave(participant, reason)
                finally:
                    self._scope_ended(scope)
        if participant.session.offence is not None:
            self.expel(participant.peer, participant.session.offence, None)
        return SessionEnd(reason, participant.joined)

    def _scope_ended(self, scope: trio.CancelScope) -> None:
        self._scopes.discard(scope)
        self._departures.unpark_all()

    def participant_joined(self, participant: Participant, hello: Hello) -> None:
        """A peer has greeted: it takes part from now on."""
        now = self._now()
        peer = participant.peer
        participant.since = now
        self._performer.sources[peer] = participant.session
        self._performer.receivers[peer] = participant.session
        self._services.network.proven(peer)
        self._services.peers.session_opened(peer)
        self._record.publish(
            PeerConnected(self._record.transfer, peer, participant.address, participant.inbound)
        )
        self._performer.perform(self._brain.source_joined(peer, now, restates=hello.restates))
        self.discovered.session_opened(peer, hello, participant, now)
        self._exchange_alarm.bring_forward(self.discovered.introductions.next_due())

    def peers_received(self, participant: Participant, peers: Peers) -> None:
        """A peer has named others."""
        self.discovered.peers_received(participant.peer, participant.remote_address, peers)

    def pieces_announced(self, participant: Participant) -> None:
        """A peer has said what it has."""
        self._holdings.changed(participant.peer)

    def round_trip(self, peer: PeerId, seconds: float | None) -> None:
        """A ping of the peer was answered after ``seconds``, or lost (None)."""
        self._performer.perform(self._brain.round_trip(peer, seconds, self._now()))

    def _end(self, participant: Participant, reason: str) -> None:
        """End a session that this side no longer wants; its task follows on its own."""
        participant.session.stop(reason)
        self._leave(participant, reason)

    def _leave(self, participant: Participant, reason: str) -> None:
        """The one place where a session stops to count; happens once for each."""
        if participant.left:
            return
        participant.tell_spared()
        participant.left = True
        self._roster.leave(participant)
        if not participant.joined:
            return
        now, peer = self._now(), participant.peer
        self._holdings.leaves(peer)
        # A session that failed while it joined may be in neither.
        self._performer.sources.pop(peer, None)
        self._performer.receivers.pop(peer, None)
        self.discovered.session_closed(peer, now)
        self._exchange_alarm.bring_forward(self.discovered.introductions.next_due())
        self._record.publish(PeerDisconnected(self._record.transfer, peer, reason))
        self._performer.perform(self._brain.source_left(peer, now))

    async def _introduce_peers(self) -> None:
        introductions = self.discovered.introductions
        while True:
            await self._exchange_alarm.sleep_until(introductions.next_due())
            for peer, message in introductions.due(self._now()):
                if sink := self._performer.sources.get(peer):
                    sink.send(message)
                    sink.flush()

    # --- The store ----------------------------------------------------------------------------------

    def lacks(self, piece: int) -> bool:
        """Whether the piece is wanted and not stored, so that it is still to come."""
        return self._brain.lacks(piece)

    def piece_lost(self, piece: int, *, alone: bool) -> None:
        """The store withdrew a piece that was to be read; unless ``alone``, with its whole file."""
        if alone:
            self._performer.piece_lost(piece)
        else:
            self._performer.stored_changed()

    def stored_changed(self, change: StoredChange) -> None:
        """Files of the store are away, or back: the peers and the observers are told."""
        transfer = self._record.transfer
        if change.reason is None:
            self._record.publish(ContentRestored(transfer, change.path, change.pieces, change.size))
        else:
            event = ContentWithdrawn(transfer, change.path, change.reason, change.pieces, change.size)
            self._record.publish(event)
        self._performer.stored_changed()

    def fetch_again(self, path: str, pieces: PieceSet) -> None:
        """Another program has changed pieces at ``path`` that were stored: they are fetched again."""
        # Whoever read one of them meanwhile has told of it.
        if untold := self._brain.stored_of(pieces):
            size = sum(map(self._layout.length, untold))
            reason = "was changed by another program"
            self._record.publish(ContentWithdrawn(self._record.transfer, path, reason, untold.count, size))
        self._performer.fetch_again(pieces)

    # --- Other sources ------------------------------------------------------------------------------

    async def run_source(self, source: PieceSource) -> None:
        """Ask a source that is no peer until it ends; nothing that it does ends more than itself."""
        await self._performer.started.wait()
        while source.id in self._desks:
            # The same source, which is about to end because of a pause.
            await self._departures.park()
        if self._closed or source.id in self._expelled:
            return
        self._no_peers.add(source.id)
        if isinstance(source, SharedSource):
            self._origins[source.id] = source
        if isinstance(source, LocalSource):
            self._record.local_joined(source.id, patched=source.patched)

        def tell(reason: str, retry_in: float | None) -> None:
            self.troubles[source.id] = reason
            self._record.publish(SourceFailed(self._record.transfer, source.id, reason, retry_in))

        desk = self._desks[source.id] = SourceDesk(source, self._resources, self._performer, tell)
        self._performer.sources[source.id] = desk
        self._scopes.add(desk.scope)
        transfer = self._record.transfer
        self._record.publish(SourceJoined(transfer, source.id, source.description))
        commands = self._brain.source_joined(
            source.id,
            self._now(),
            rtt=0.0,
            receives=False,
            origin=isinstance(source, SharedSource),
            local=isinstance(source, LocalSource),
        )
        self._performer.perform(commands)
        reason = "the transfer ended"
        try:
            with desk.scope:
                await source.deliver(desk)
                reason = "it has nothing more"
            reason = desk.reason or reason
        except SwarmError as error:
            reason = str(error)
        except Exception as error:
            logger.exception("the source of pieces %s failed", source.id)
            reason = f"unexpected: {error!r}"
        finally:
            if source.id in self._origins and not self._closed:
                self.troubles.setdefault(source.id, reason)
            del self._desks[source.id], self._performer.sources[source.id]
            self._record.publish(SourceLeft(transfer, source.id, reason))
            self._performer.perform(self._brain.source_left(source.id, self._now()))
            self._scope_ended(desk.scope)

    # --- For the performer and the node -------------------------------------------------------------

    def dismiss(self, source: SourceId, reason: str) -> None:
        """End the source's session, if it has one; it may come back."""
        if desk := self._desks.get(source):
            desk.stop(reason)
        elif participant := self._roster.get(PeerId(source)):
            self._end(participant, reason)

    def blame(self, source: SourceId, reason: str, piece: int) -> None:
        """Tell an origin, which is kept, that a piece of it did not match its hash."""
        self._record.publish(SourceBanned(self._record.transfer, source, reason, piece))
        self.troubles[source] = reason
        if origin := self._origins.get(source):
            origin.piece_refused(piece)

    def expel(self, source: SourceId, reason: str, piece: int | None) -> None:
        """End the source's session for good; a peer is refused by the whole node from now on.

        ``piece`` did not match its hash.
        """
        is_peer = source not in self._no_peers
        if not is_peer:
            self._expelled.add(source)
        if not is_peer or not self._services.peers.is_banned(PeerId(source)):
            self._record.publish(SourceBanned(self._record.transfer, source, reason, piece))
        # Before the node ends the peer's sessions in all transfers: in this one it is told the true reason.
        self.dismiss(source, reason)
        if is_peer:
            self._services.peers.ban(PeerId(source))
