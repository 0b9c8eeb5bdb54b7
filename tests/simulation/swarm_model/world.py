"""A swarm of members: who knows whom, who comes and goes; decided by one seed."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId, TransferId
from swarm.protocol.messages import Message
from swarm.strategy.brain import Brain, BrainSetup
from tests.simulation.swarm_model.clock import Clock
from tests.simulation.swarm_model.link import Queue, Session
from tests.simulation.swarm_model.member import Member, Mind, Traits

TRANSFER = TransferId(1)
MOST_PEERS = 128
"""Sessions of one member (`config.DEFAULT_MAX_PEERS`)."""

CRASH_SECONDS = 15.0
"""How long the sessions of a crashed member seem open: three lost pings."""

MindMaker = Callable[..., Mind]


class World:
    """Members by name. ``minds`` makes the brains: the real ones unless told otherwise."""

    def __init__(self, layout: Layout, seed: int, *, minds: MindMaker = Brain) -> None:
        self.layout, self.seed, self.minds = layout, seed, minds
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.members: dict[PeerId, Member] = {}
        self.gone: list[Member] = []
        self.crossed: Counter[str] = Counter()
        """Payload bytes that came into each place from another."""
        self.left_to_do = 0
        self.on_stored: Callable[[Member, int], None] = lambda _member, _piece: None
        self._on_complete: list[Callable[[Member], None]] = []
        self._gateways: dict[tuple[str, str], Queue] = {}

    # --- Members ------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        pieces: Iterable[int] | None = (),
        traits: Traits | None = None,
        **config: bool,
    ) -> Member:
        """A member that has ``pieces`` (None: all) and knows nobody yet."""
        size = self.layout.piece_count
        field = PieceSet.all(size) if pieces is None else PieceSet(size)
        for piece in pieces or ():
            field.add(piece)
        rng = random.Random(f"{self.seed}/{name}")
        peer = PeerId(name)
        mind = self.minds(BrainSetup(TRANSFER, self.layout, field, me=peer, **config), rng, self.clock.now)
        member = Member(self, peer, mind, field.count, traits or Traits())
        self.members[peer] = member
        self.left_to_do += not mind.complete
        return member

    def connect(self, one: Member, two: Member) -> None:
        """Open a session, if both are there and have room."""
        room = max(len(one.sessions), len(two.sessions)) < MOST_PEERS
        if one is two or two.name in one.sessions or not (one.alive and two.alive and room):
            return
        latency = self.latency(one, two)
        here, there = Session(one, two, latency), Session(two, one, latency)
        here.back, there.back = there, here
        one.sessions[two.name], two.sessions[one.name] = here, there
        for member, other in ((one, two), (two, one)):
            rtt = member.round_trip(member.sessions[other.name])
            member.perform(member.mind.source_joined(other.name, self.clock.now, rtt=rtt))

    def disconnect(self, first: PeerId, second: PeerId) -> None:
        """End a session; both sides notice at once."""
        one = self.members.get(first)
        session = one.sessions.get(second) if one else None
        if session is None:
            return
        for end in (session, session.back):
            end.open = False
            end.owner.sessions.pop(end.other.name, None)
        for end in (session, session.back):
            if end.owner.alive:
                end.owner.tell(end.owner.mind.source_left, end.other.name)

    def leave(self, member: Member) -> None:
        """The member says goodbye and is gone."""
        if not member.alive:
            return
        self._end(member)
        for peer in list(member.sessions):
            self.disconnect(member.name, peer)
        del self.members[member.name]

    def crash(self, member: Member) -> None:
        """The member falls silent; the others notice in a while."""
        if member.alive:
            self._end(member)
            self.clock.later(CRASH_SECONDS, self._noticed, member)

    def _end(self, member: Member) -> None:
        member.alive = False
        member.uplink.stop()
        self.gone.append(member)
        self.left_to_do -= member.done_at == math.inf

    def _noticed(self, member: Member) -> None:
        for peer in list(member.sessions):
            self.disconnect(member.name, peer)
        del self.members[member.name]

    def on_complete(self, member: Member) -> None:
        """The member has everything that it wanted."""
        self.left_to_do -= 1
        for call in self._on_complete:
            call(member)

    def when_complete(self, call: Callable[[Member], None]) -> None:
        """Call whenever a member completes."""
        self._on_complete.append(call)

    # --- Messages and bytes -------------------------------------------------------------------------

    def latency(self, one: Member, two: Member) -> float:
        """Seconds one way."""
        here, there = one.traits.place, two.traits.place
        return here.inside if here.name == there.name else (here.outside + there.outside) / 2

    def arrive(self, ends: list[Session], message: Message) -> None:
        """A control message reaches the owners of ``ends``."""
        now = self.clock.now
        for end in ends:
            if end.open and end.owner.alive:
                end.owner.perform(end.owner.mind.received(end.other.name, message, now))

    def arrival(self, session: Session, size: int) -> float:
        """When a chunk that leaves the sender now is received."""
        here, there = session.owner.traits.place, session.other.traits.place
        at = self.clock.now
        if here.name != there.name:
            self.crossed[there.name] += size
            for name, way, rate in ((here.name, "out", here.gateway), (there.name, "in", there.gateway)):
                at = self._gateway(name, way, rate).through(at, size)
        return session.other.downlink.through(at + session.latency, size)

    def _gateway(self, name: str, way: str, rate: float | None) -> Queue:
        if (name, way) not in self._gateways:
            self._gateways[name, way] = Queue(rate)
        return self._gateways[name, way]

    # --- Running ------------------------------------------------------------------------------------

    def introduce(self, member: Member, others: list[Member], count: int) -> None:
        """The member dials ``count`` of the others, drawn by the seed."""
        for other in self.rng.sample(others, min(count, len(others))):
            self.connect(member, other)

    def run(self, until: float = 1e6) -> None:
        """Run until everybody who is there is complete."""
        self.clock.run(until, lambda: self.left_to_do <= 0)

    def everybody(self) -> list[Member]:
        """All that are or were there."""
        return [*(member for member in self.members.values() if member.alive), *self.gone]
