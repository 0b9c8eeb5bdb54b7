"""One peer of the model: performs its brain's commands as `swarm.transfer` does, and reports the results."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from swarm.events import PieceRefused, PieceWasted
from swarm.ids import PeerId
from swarm.protocol.messages import Message, Reject, RejectReason, Unchoke
from swarm.strategy.commands import Ban, Command, Disconnect, DropUpload, Publish, Send, StorePiece, Upload
from tests.simulation.swarm_model.link import DOWN_FACTOR, NOWHERE, Place, Queue, Session, Uplink

if TYPE_CHECKING:
    from tests.simulation.swarm_model.world import World

STORE_SECONDS = 0.0005
"""To verify and write a piece."""

PING_SECONDS = 5.0
"""Between two pings of a peer, a fifth more or less (`node.pulse.INTERVAL`)."""


class Mind(Protocol):
    """What a member asks of its brain; `swarm.strategy.brain.Brain` and `plain.PlainBrain` are such."""

    @property
    def complete(self) -> bool: ...
    def missing(self) -> Iterator[int]: ...
    def next_wakeup(self) -> float: ...
    def tick(self, now: float) -> list[Command]: ...
    def source_joined(self, peer: PeerId, now: float, *, rtt: float | None) -> list[Command]: ...
    def source_left(self, peer: PeerId, now: float) -> list[Command]: ...
    def round_trip(self, peer: PeerId, seconds: float | None, now: float) -> list[Command]: ...
    def received(self, peer: PeerId, message: Message, now: float) -> list[Command]: ...
    def data_received(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]: ...
    def piece_received(self, peer: PeerId, piece: int, now: float) -> list[Command]: ...
    def piece_stored(self, peer: PeerId, piece: int, now: float) -> list[Command]: ...
    def uploaded(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]: ...
    def upload_finished(self, peer: PeerId, piece: int, now: float) -> list[Command]: ...


@dataclass(frozen=True)
class Traits:
    """What a member is like; rates are bytes per second."""

    up: float = 1e6
    down: float | None = None
    place: Place = NOWHERE
    free_rider: bool = False
    """It takes and never serves: it unchokes nobody."""
    said_rtt: float | None = None
    """What others measure as the round trip to it, but for the queues; None: the truth."""


class Member:
    """A peer with its links, its sessions by peer, and the account of its bytes."""

    def __init__(self, world: World, name: PeerId, mind: Mind, stored: int, traits: Traits) -> None:
        self.world, self.clock, self.layout = world, world.clock, world.layout
        self.name, self.mind, self.traits = name, mind, traits
        self.uplink = Uplink(world.clock, self, traits.up)
        self.downlink = Queue(traits.up * DOWN_FACTOR if traits.down is None else traits.down)
        self.sessions: dict[PeerId, Session] = {}
        self.joined_at = world.clock.now
        self.done_at = self.joined_at if mind.complete else math.inf
        self.stored = stored
        self.stored_at: list[float] = []
        self.received = 0
        self.wasted = 0
        self.alive = True
        self._armed = math.inf
        self._rng = random.Random(f"{world.seed}/{name}/pings")
        self.clock.later(PING_SECONDS * self._rng.random(), self.ping)

    # --- Commands -----------------------------------------------------------------------------------

    def perform(self, commands: list[Command]) -> None:
        """Do what the brain wants, in its order."""
        last: Message | None = None
        group: dict[float, list[Session]] = {}
        for command in commands:
            if type(command) is Send:
                session = self.sessions.get(command.source)
                if session is None:
                    continue
                if command.message is last:  # the same HAVE for everybody: one event for each latency
                    group.setdefault(session.latency, []).append(session.back)
                    continue
                self._flush(last, group)
                last, group = command.message, {session.latency: [session.back]}
            else:
                self._flush(last, group)
                last, group = None, {}
                self._perform_one(command)
        self._flush(last, group)
        wakeup = self.mind.next_wakeup()
        if wakeup < self._armed:
            self._armed = wakeup
            self.clock.at(max(wakeup, self.clock.now), self._tick, wakeup)

    def _flush(self, message: Message | None, group: dict[float, list[Session]]) -> None:
        if message is None or (self.traits.free_rider and isinstance(message, Unchoke)):
            return
        leaves = self.uplink.control_leaves()
        for latency, ends in group.items():
            self.clock.at(leaves + latency, self.world.arrive, ends, message)

    def _perform_one(self, command: Command) -> None:
        match command:
            case Publish(PieceWasted() | PieceRefused() as event):
                self.wasted += event.size
            case Upload(peer, piece) if session := self.sessions.get(peer):
                self.uplink.upload(session, piece)
            case StorePiece(peer, piece):
                self.clock.later(STORE_SECONDS, self._stored, peer, piece)
            case DropUpload(peer, piece) if session := self.sessions.get(peer):
                self._drop(session, piece)
            case Disconnect(peer) | Ban(peer):
                self.world.disconnect(self.name, peer)

    def _drop(self, session: Session, piece: int) -> None:
        """What the socket has not taken is not sent; the REJECT follows behind what it has."""
        if piece not in session.jobs:
            return
        if session.jobs[0] == piece:
            session.offset = 0
        session.jobs.remove(piece)
        self.uplink.reject(session, piece)

    # --- Pings --------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Measure the round trip to everybody, and again in a while."""
        if not self.alive:
            return
        for session in list(self.sessions.values()):
            if session.other.alive:
                self.tell(self.mind.round_trip, session.other.name, self.round_trip(session))
        self.clock.later(PING_SECONDS * self._rng.uniform(0.8, 1.2), self.ping)

    def round_trip(self, session: Session) -> float:
        """What a ping takes now, seconds, or what the other makes it seem."""
        said = session.other.traits.said_rtt
        rtt = 2 * session.latency if said is None else said
        return rtt + self.uplink.queue_seconds + session.other.uplink.queue_seconds

    # --- Reports ------------------------------------------------------------------------------------

    def tell(self, report: Callable[..., list[Command]], *args: object) -> None:
        """Give the brain an input that ends with the time, and perform what follows."""
        if self.alive:
            self.perform(report(*args, self.clock.now))

    def handed(self, session: Session, piece: int, size: int, *, last: bool) -> None:
        """The socket took a chunk; the brain hears of it when the writer's turn is over."""
        self.clock.later(0.0, self._report_upload, session, piece, size, last)

    def _report_upload(self, session: Session, piece: int, size: int, last: bool) -> None:
        if not session.open:
            return
        self.tell(self.mind.uploaded, session.other.name, piece, size)
        if last:
            self.tell(self.mind.upload_finished, session.other.name, piece)

    def on_the_way(self, session: Session, piece: int, size: int, *, last: bool) -> None:
        """A chunk left the uplink."""
        at = self.world.arrival(session, size)
        if size:
            self.clock.at(at, self._arrived, session, piece, size, last)
        else:
            reject = Reject(piece, RejectReason.CANCELLED)
            self.clock.at(at, self.world.arrive, [session.back], reject)

    def _arrived(self, session: Session, piece: int, size: int, last: bool) -> None:
        if not session.open:
            return
        self.uplink.taken(session, size)
        receiver = session.other
        receiver.received += size
        receiver.tell(receiver.mind.data_received, self.name, piece, size)
        if last:
            receiver.tell(receiver.mind.piece_received, self.name, piece)

    def _stored(self, peer: PeerId, piece: int) -> None:
        if not self.alive:
            return
        self.stored += 1
        self.stored_at.append(self.clock.now)
        self.world.on_stored(self, piece)
        self.tell(self.mind.piece_stored, peer, piece)
        if self.done_at == math.inf and self.mind.complete:
            self.done_at = self.clock.now
            self.world.on_complete(self)

    def _tick(self, wakeup: float) -> None:
        if wakeup == self._armed:
            self._armed = math.inf
            self.tell(self.mind.tick)
