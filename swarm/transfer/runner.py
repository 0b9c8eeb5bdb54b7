"""One transfer at work: owns the brain and the sessions of one manifest, and joins them.

Peers come in through `Runner.add_link`, from a stream handler or a dialler, which stays inside until the
session has ended. What sessions report becomes inputs of the brain; what the brain returns is performed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from swarm.bits import PieceSet
from swarm.config import TransferConfig
from swarm.discovery.peer_exchange import PeerExchange, dialable, is_loopback, visible
from swarm.events import PeerBanned, PeerConnected, PeerDisconnected
from swarm.ids import PeerId, TransferId
from swarm.observe.event_stream import EventStream
from swarm.ports import ByteStream, Store
from swarm.protocol.messages import ExchangedPeer, Hello, Peers
from swarm.protocol.protocol_limits import MAX_ADDRESSES_PER_PEER
from swarm.strategy.brain import Brain, BrainSetup
from swarm.transfer.attendance import Attendance, PeerStatus
from swarm.transfer.memory import Memory
from swarm.transfer.pacing import Pacer, RateLimit
from swarm.transfer.performer import Alarm, Performer
from swarm.transfer.roster import Roster
from swarm.transfer.session import SessionResources, refuse

LEARNT_PEERS: Final = 256
"""Peers heard of and not yet taken by whoever dials; more are forgotten."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is to its peers; ``addresses`` are dialable multiaddrs without ``/p2p``, best first."""

    peer: PeerId
    agent: str = ""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Learnt:
    """A peer that ``source`` named, or that greeted us itself: then it is its own source."""

    address: ExchangedPeer
    source: PeerId


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """Why a session ended; ``joined`` says whether the peer had greeted, so that its address is good."""

    reason: str
    joined: bool


class Runner:
    """Runs one transfer over ``store``; times are seconds of ``now``.

    ``named`` are the peers that the user named: places are kept for them. ``wanted`` are the pieces to
    fetch, None for all. ``events`` and ``memory`` may be shared with other transfers. ``on_joined``, if it
    is set, is told of every peer that has greeted.
    """

    on_joined: Callable[[PeerId], None] | None = None

    def __init__(
        self,
        store: Store,
        identity: Identity,
        config: TransferConfig,
        rng: random.Random,
        *,
        named: frozenset[PeerId] = frozenset(),
        wanted: PieceSet | None = None,
        events: EventStream | None = None,
        memory: Memory | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        manifest = store.manifest
        memory = memory or Memory()
        self.events = events or EventStream()
        self._me = identity.peer
        self._manifest = manifest.id
        self._now = now
        addresses = identity.addresses[:MAX_ADDRESSES_PER_PEER]
        self._greeting = Hello(manifest.id, manifest.piece_count, identity.agent, addresses)
        self._shared = SessionResources(
            store,
            memory.pool,
            memory.uploads,
            Pacer(RateLimit(config.upload_limit, now), now=now),
            Pacer(RateLimit(config.download_limit, now), now=now),
            now,
        )
        setup = BrainSetup(
            TransferId(0),
            manifest.layout,
            store.stored,
            wanted,
            self._me,
            upload_limited=config.upload_limit is not None,
            download_limited=config.download_limit is not None,
            sequential=config.sequential,
            prefer_near=config.prefer_near,
        )
        self._brain = Brain(setup, rng, now())
        self._performer = Performer(self._brain, store, self, self.events.publish, now)
        self._roster: Roster[Attendance] = Roster(identity.peer, config.max_peers, named)
        self._exchange = PeerExchange()
        self._exchange_alarm = Alarm(now)
        self._inside = 0
        self._all_out = trio.Event()
        self._stopping = False
        self._scope = trio.CancelScope()
        self._learnt, self.learnt = trio.open_memory_channel[Learnt](LEARNT_PEERS)

    # --- For the node -------------------------------------------------------------------------------

    @property
    def complete(self) -> trio.Event:
        """Set when every wanted piece is stored."""
        return self._performer.complete

    @property
    def banned(self) -> frozenset[PeerId]:
        """The peers that this transfer never talks to again."""
        return self._roster.banned

    def peers(self) -> tuple[PeerStatus, ...]:
        """The peers with an open session."""
        return tuple(stay.status() for stay in self._roster if stay.joined)

    def has_session(self, peer: PeerId) -> bool:
        """Whether a session with the peer is open or being opened."""
        return self._roster.get(peer) is not None

    def missing(self) -> tuple[int, ...]:
        """The wanted pieces that nobody connected has, ascending."""
        return tuple(self._brain.missing())

    def round_trip(self, peer: PeerId, seconds: float | None) -> None:
        """A ping of the peer was answered after ``seconds``, or lost (None)."""
        self._performer.perform(self._brain.round_trip(peer, seconds, self._now()))

    def ban(self, peer: PeerId, reason: str) -> None:
        """End the peer's session and never let it in again."""
        self.expel(peer, reason, None)

    async def run(self) -> None:
        """Run the transfer until `stop` or cancellation; raises the DiskError that ended it.

        Sessions that are still open then say GOODBYE and end by themselves.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._exchange_peers)
                    await self._performer.run()
                    nursery.cancel_scope.cancel()
        finally:
            self._close("the transfer ended")
        if self._performer.failure is not None:
            raise self._performer.failure

    async def stop(self, reason: str = "the transfer ended") -> None:
        """Let no peer in, say GOODBYE to all and wait until they are out; then end `run`.

        Takes little more than `session.GOODBYE_TIMEOUT`.
        """
        self._close(reason)
        if self._inside:
            await self._all_out.wait()
        self._scope.cancel()

    async def add_link(
        self,
        link: ByteStream,
        *,
        inbound: bool,
        address: str = "",
        rtt: float | None = None,
        hello: Hello | None = None,
    ) -> SessionEnd:
        """Run a session over ``link`` to its end and release the link; waits for `run` to begin.

        ``address`` is what was dialled, or where the peer came from; ``rtt`` a measured round trip in
        seconds; ``hello`` the peer's greeting if `greeting.meet` has read it already.
        """
        try:
            await self._performer.started.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await link.reset()
            raise
        verdict = self._roster.admit(link.peer, inbound=inbound, now=self._now())
        if refusal := "the transfer ended" if self._stopping else verdict.refusal:
            await refuse(link, refusal)
            return SessionEnd(refusal, joined=False)
        if verdict.replaces is not None:
            self._end(verdict.replaces, "replaced by another session")
        stay = Attendance(
            link,
            self._shared,
            self._performer,
            greeting=self._greeting,
            heard=hello,
            address=address or link.remote_address,
            inbound=inbound,
            rtt=rtt,
            on_hello=self._joined,
            on_peers=self._introduced,
        )
        return await self._host(stay)

    # --- Sessions -----------------------------------------------------------------------------------

    async def _host(self, stay: Attendance) -> SessionEnd:
        self._roster.enter(stay)
        self._inside += 1
        reason = "cancelled"
        try:
            reason = await stay.session.run()
        finally:
            self._inside -= 1
            if not self._inside and self._stopping:
                self._all_out.set()
            self._leave(stay, reason)
        if stay.session.offence is not None:
            self.expel(stay.peer, stay.session.offence, None)
        return SessionEnd(reason, stay.joined)

    def _joined(self, stay: Attendance, hello: Hello) -> None:
        now = self._now()
        stay.since = now
        self._performer.sessions[stay.peer] = stay.session
        if self.on_joined is not None:
            self.on_joined(stay.peer)
        self.events.publish(PeerConnected(self._manifest, stay.peer, stay.address, stay.inbound))
        self._performer.perform(self._brain.source_joined(stay.peer, now, rtt=stay.rtt))
        addresses = dialable(hello.addresses, stay.address, inbound=stay.inbound)
        near = is_loopback(stay.remote_address)
        self._exchange.joined(stay.peer, addresses, near=near, now=now)
        self._exchange_alarm.bring_forward(self._exchange.next_due())
        self._learn(ExchangedPeer(stay.peer, visible(addresses, near=near)), stay.peer)

    def _end(self, stay: Attendance, reason: str) -> None:
        """End a session that this side no longer wants; its task follows on its own."""
        stay.session.stop(reason)
        self._leave(stay, reason)

    def _leave(self, stay: Attendance, reason: str) -> None:
        """The one place where a session stops to count; happens once for each."""
        if stay.left:
            return
        stay.left = True
        self._roster.leave(stay)
        if not stay.joined:
            return
        now = self._now()
        del self._performer.sessions[stay.peer]
        self._exchange.left(stay.peer, now)
        self._exchange_alarm.bring_forward(self._exchange.next_due())
        self.events.publish(PeerDisconnected(self._manifest, stay.peer, reason))
        self._performer.perform(self._brain.source_left(stay.peer, now))

    def dismiss(self, peer: PeerId, reason: str) -> None:
        """End the peer's session, if it has one; it may come back."""
        if stay := self._roster.get(peer):
            self._end(stay, reason)

    def expel(self, peer: PeerId, reason: str, piece: int | None) -> None:
        """End the peer's session and never let it in again; ``piece`` did not match its hash."""
        if self._roster.ban(peer):
            self.events.publish(PeerBanned(peer, reason, piece))
        self.dismiss(peer, reason)

    def _close(self, reason: str) -> None:
        self._stopping = True
        for stay in self._roster:
            self._end(stay, reason)
        self._learnt.close()

    # --- Peer exchange ------------------------------------------------------------------------------

    async def _exchange_peers(self) -> None:
        while True:
            await self._exchange_alarm.sleep_until(self._exchange.next_due())
            for peer, message in self._exchange.due(self._now()):
                if session := self._performer.sessions.get(peer):
                    session.send(message)

    def _introduced(self, stay: Attendance, peers: Peers) -> None:
        near = is_loopback(stay.remote_address)
        for added in peers.added:
            self._learn(ExchangedPeer(added.peer, visible(added.addresses, near=near)), stay.peer)

    def _learn(self, address: ExchangedPeer, source: PeerId) -> None:
        if not address.addresses or address.peer == self._me or address.peer in self._roster.banned:
            return
        try:
            self._learnt.send_nowait(Learnt(address, source))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            return
