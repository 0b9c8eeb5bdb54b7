"""Many real brains joined by perfect links in virtual time; what they say is checked by the real protocol."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from swarm import events
from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.protocol import protocol_limits as limits
from swarm.protocol.messages import Cancel, Data, Have, Hello, Message, Reject, RejectReason, Request
from swarm.protocol.session_rules import SessionRules
from swarm.strategy.brain import Brain, BrainSetup
from swarm.strategy.commands import (
    Ban,
    Command,
    Disconnect,
    DropUpload,
    Publish,
    Send,
    StorePiece,
    Upload,
)
from swarm.strategy.download.endgame import COPIES
from swarm.strategy.pieces import State

MANIFEST = ManifestId(bytes(32))
TRANSFER = TransferId(1)
CHUNK = 4096
KIB = 1024


@dataclass
class Hazards:
    """Chances for each event of its kind, and who lies."""

    reject: float = 0.0
    stall: float = 0.0
    leave: float = 0.0
    lost_pings: float = 0.0
    corrupt: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


@dataclass
class Session:
    """One end of one session: the legality of what is said, and the uploads that wait to be sent."""

    protocol: SessionRules
    queue: list[int] = field(default_factory=list)
    offset: int = 0
    sending: bool = False


class Node:
    """A peer: a brain, its sessions, an uplink that serves the sessions in turn."""

    def __init__(self, world: World, name: str, stored: PieceSet, uplink: float, *, limited: bool):
        self.world, self.name, self.uplink = world, PeerId(name), uplink
        self.brain = Brain(
            BrainSetup(TRANSFER, world.layout, stored, upload_limited=limited), random.Random(name), world.now
        )
        self.stored = stored.copy()
        self.sessions: dict[PeerId, Session] = {}
        self.turn: list[PeerId] = []
        self.busy = False
        self.wakeup = math.inf
        self.events: list[events.Event] = []
        self.banned: set[PeerId] = set()
        self.asked: dict[int, set[PeerId]] = {}
        self.sent_away: set[int] = set()
        self.sent = 0
        self.done_at = math.inf

    # --- Commands -------------------------------------------------------------------------------

    def perform(self, commands: Iterable[Command]) -> None:
        for command in commands:
            self.world.log.update(repr((round(self.world.now, 9), self.name, command)).encode())
            match command:
                case Publish(event):
                    self.events.append(event)
                case StorePiece(peer, piece):
                    self.world.later(0.0005, self.stored_piece, peer, piece)
                case Ban(peer):
                    self.banned.add(peer)
                    self.world.disconnect(self.name, peer)
                case Disconnect(peer):
                    self.world.disconnect(self.name, peer)
                case Send(peer, message) if peer in self.sessions:
                    self.send(peer, message)
                case Upload(peer, piece) if peer in self.sessions:
                    self.upload(peer, piece)
                case DropUpload(peer, piece) if peer in self.sessions:
                    self.drop(peer, piece)
        if self.brain.complete and self.done_at == math.inf:
            self.done_at = self.world.now
        self.world.check(self)
        self.arm()

    def send(self, peer: PeerId, message: Message) -> None:
        if isinstance(message, Have):
            assert all(piece in self.stored for piece in message.pieces)
        if isinstance(message, Request):
            holders = self.asked.setdefault(message.piece, set())
            holders.add(peer)
            assert len(holders) <= COPIES + 1  # the last where all others are overdue
        if isinstance(message, Cancel):
            self.asked[message.piece].discard(peer)
        self.sessions[peer].protocol.sent(message)
        self.world.deliver(self, peer, message)

    def upload(self, peer: PeerId, piece: int) -> None:
        assert piece in self.stored
        hazards, rng = self.world.hazards, self.world.rng
        if self.name in hazards.silent:
            return
        if rng.random() < hazards.reject:
            reason = rng.choice([RejectReason.BUSY, RejectReason.READ_FAILED, RejectReason.NOT_STORED])
            self.send(peer, Reject(piece, reason))
            self.perform(self.brain.upload_finished(peer, piece, self.world.now))
            return
        self.sessions[peer].queue.append(piece)
        if peer not in self.turn:
            self.turn.append(peer)
        self.pump()

    def drop(self, peer: PeerId, piece: int) -> None:
        session = self.sessions[peer]
        if piece not in session.queue:
            return
        started = session.queue[0] == piece and (session.offset or session.sending)
        if not started:
            session.queue.remove(piece)
            self.send(peer, Reject(piece, RejectReason.CANCELLED))

    # --- The uplink: one chunk at a time, sessions in turn ---------------------------------------

    def pump(self) -> None:
        while self.turn and not self.busy:
            peer = self.turn.pop(0)
            session = self.sessions.get(peer)
            if session is None or not session.queue:
                continue
            piece = session.queue[0]
            size = min(CHUNK, self.world.layout.length(piece) - session.offset)
            pause = size / self.uplink
            if self.world.rng.random() < self.world.hazards.stall:
                pause += self.world.rng.uniform(1, 20)
            self.busy = session.sending = True
            self.world.later(pause, self.chunk_sent, peer, session, piece, size)

    def chunk_sent(self, peer: PeerId, session: Session, piece: int, size: int) -> None:
        self.busy = session.sending = False
        if self.sessions.get(peer) is session:
            session.protocol.sent_data(piece, session.offset, size)
            self.sent += size
            self.world.deliver(self, peer, Data(piece, session.offset, size))
            session.offset += size
            last = session.offset == self.world.layout.length(piece)
            if last:
                session.queue.pop(0)
                session.offset = 0
            if peer not in self.turn:
                self.turn.append(peer)
            self.perform(self.brain.uploaded(peer, piece, size, self.world.now))
            if last:
                self.perform(self.brain.upload_finished(peer, piece, self.world.now))
        self.pump()

    # --- Arrivals -------------------------------------------------------------------------------

    def arrive(self, peer: PeerId, session: Session, message: Message) -> None:
        if self.sessions.get(peer) is not session:
            return
        now = self.world.now
        if isinstance(message, Data):
            arrival = session.protocol.received_data(message)
            self.perform(self.brain.data_received(peer, message.piece, message.size, now))
            if arrival.last:
                self.asked.get(message.piece, set()).discard(peer)
                self.perform(self.brain.piece_received(peer, message.piece, now))
            return
        session.protocol.received(message, now)
        if isinstance(message, Reject):
            self.asked[message.piece].discard(peer)
            if message.reason == RejectReason.BUSY:
                self.sent_away.add(message.piece)
        self.perform(self.brain.received(peer, message, now))

    def stored_piece(self, peer: PeerId, piece: int) -> None:
        now = self.world.now
        if peer in self.world.hazards.corrupt:
            self.perform(self.brain.piece_refused(peer, piece, now))
            return
        assert self.stored.add(piece)
        self.perform(self.brain.piece_stored(peer, piece, now))

    # --- Time -----------------------------------------------------------------------------------

    def arm(self) -> None:
        at = self.brain.next_wakeup()
        if at < self.wakeup:
            self.wakeup = at
            self.world.at(max(at, self.world.now), self.tick)

    def tick(self) -> None:
        self.wakeup = math.inf
        if self.name in self.world.nodes:
            self.perform(self.brain.tick(self.world.now))


class World:
    """Virtual time, links with one latency, hazards drawn from one seed."""

    def __init__(self, layout: Layout, seed: int, *, latency: float = 0.01, hazards: Hazards | None = None):
        self.layout, self.rng, self.latency = layout, random.Random(seed), latency
        self.hazards = hazards or Hazards()
        self.now = 0.0
        self.nodes: dict[PeerId, Node] = {}
        self.gone: list[Node] = []
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.count = itertools.count()
        self.log = hashlib.sha256()
        self.ticks = 0

    def at(self, time: float, call: Callable[..., None], *args: object) -> None:
        heapq.heappush(self.heap, (time, next(self.count), lambda: call(*args)))

    def later(self, delay: float, call: Callable[..., None], *args: object) -> None:
        self.at(self.now + delay, call, *args)

    def add(
        self, name: str, pieces: Iterable[int] | None = None, *, uplink: float = 1e6, limit: int | None = None
    ) -> Node:
        stored = PieceSet.all(self.layout.piece_count)
        if pieces is not None:
            stored = PieceSet(self.layout.piece_count)
            for piece in pieces:
                stored.add(piece)
        node = Node(self, name, stored, uplink, limited=limit is not None)
        self.nodes[node.name] = node
        return node

    def connect(self, first: str, second: str) -> None:
        one, two = self.nodes.get(PeerId(first)), self.nodes.get(PeerId(second))
        if one is None or two is None or two.name in one.banned or one.name in two.banned:
            return
        if two.name in one.sessions:
            return
        hello = Hello(MANIFEST, self.layout.piece_count)
        for node, other in ((one, two), (two, one)):
            session = Session(SessionRules(MANIFEST, self.layout, self.now))
            session.protocol.sent(hello)
            session.protocol.received(hello, self.now)
            node.sessions[other.name] = session
        for node, other in ((one, two), (two, one)):
            node.perform(node.brain.source_joined(other.name, self.now, rtt=2 * self.latency))

    def connect_all(self) -> None:
        for first, second in itertools.combinations(list(self.nodes), 2):
            self.connect(first, second)

    def disconnect(self, first: PeerId, second: PeerId) -> None:
        ended = [
            (node, other)
            for name, other in ((first, second), (second, first))
            if (node := self.nodes.get(name)) and node.sessions.pop(other, None)
        ]
        for node, other in ended:
            for holders in node.asked.values():
                holders.discard(other)
            node.perform(node.brain.source_left(other, self.now))

    def remove(self, name: PeerId) -> None:
        node = self.nodes.pop(name)
        self.gone.append(node)
        others, node.sessions = list(node.sessions), {}
        for other in others:
            self.disconnect(other, name)

    def deliver(self, sender: Node, peer: PeerId, message: Message) -> None:
        receiver = self.nodes[peer]
        self.later(self.latency, receiver.arrive, sender.name, receiver.sessions[sender.name], message)

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        while self.heap and self.heap[0][0] <= until and not done():
            self.now, _, call = heapq.heappop(self.heap)
            self.ticks += 1
            call()

    def all_complete(self) -> bool:
        return all(node.brain.complete for node in self.nodes.values())

    def check(self, node: Node) -> None:
        """What must hold after every input."""
        if self.rng.random() > 0.05:
            return
        fetching = node.brain._download
        for peer, line in fetching.requests.queues.items():
            assert len(line.asked) <= limits.MAX_REQUESTS
            assert line.bytes == sum(asked.length for asked in line.asked.values())
            assert line.cancelled == sum(not asked.live for asked in line.asked.values())
            for piece, asked in line.asked.items():
                assert asked.live == (peer in fetching.requests.holders.get(piece, ()))
        for piece, holders in fetching.requests.holders.items():
            assert 1 <= len(holders) <= COPIES + 1
            assert all(fetching.requests.queues[peer].asked[piece].live for peer in holders)
        if self.rng.random() < 0.4:
            self.check_pieces(node)

    def check_pieces(self, node: Node) -> None:
        pieces, requests = node.brain._pieces, node.brain._download.requests
        for piece in range(pieces.size):
            state = pieces.state(piece)
            assert (piece in pieces.open) == (state == State.MISSING)
            assert (piece in pieces.stored) == (state == State.STORED)
            assert (piece in pieces.lacking) == (state != State.STORED)
            assert (piece in requests.holders) == (state == State.REQUESTED)
        assert pieces.lacking_count == pieces.lacking.count

    # --- Hazards over time ----------------------------------------------------------------------

    def shake(self) -> None:
        """Once a second: peers other than the seed leave or come back, pings are lost."""
        for node in list(self.nodes.values()):
            if not node.name.startswith("seed") and self.rng.random() < self.hazards.leave:
                self.remove(node.name)
                self.later(self.rng.uniform(0.5, 5), self.come_back, node)
            for peer in list(node.sessions):
                lost = self.rng.random() < self.hazards.lost_pings
                seconds = None if lost else 2 * self.latency * self.rng.uniform(0.8, 1.5)
                node.perform(node.brain.round_trip(peer, seconds, self.now))
        for first, second in itertools.combinations(list(self.nodes), 2):
            if self.rng.random() < 0.3:
                self.connect(first, second)
        self.later(1.0, self.shake)

    def come_back(self, node: Node) -> None:
        self.add(node.name, list(node.stored), uplink=node.uplink)


def duplicates(world: World) -> int:
    """Duplicate bytes, of all leechers."""
    wasted = (events.PieceWasted, events.PieceRefused)
    return sum(e.size for node in world.nodes.values() for e in node.events if isinstance(e, wasted))


def requests_of(node: Node) -> list[events.PieceRequested]:
    return [event for event in node.events if isinstance(event, events.PieceRequested)]


def a_world(seed: int) -> World:
    """A swarm drawn from a seed: sizes, hazards, and up to seven peers beside the seed."""
    rng = random.Random(seed)
    pieces = rng.choice([1, 2, 7, 40, 120])
    lengths = [rng.choice([1, 5000, 16 * KIB, 40 * KIB]) for _ in range(pieces)]
    hazards = Hazards(
        reject=rng.choice([0, 0.05, 0.3]),
        stall=rng.choice([0, 0.002, 0.02]),
        leave=rng.choice([0, 0.02]),
        lost_pings=rng.choice([0, 0.05]),
    )
    world = World(Layout(40 * KIB, lengths), seed, latency=rng.choice([0.0002, 0.02, 0.15]), hazards=hazards)
    world.add("seed", uplink=rng.choice([5e4, 1e6]), limit=rng.choice([None, 10**6]))
    for number in range(rng.randint(1, 7)):
        held = [piece for piece in range(pieces) if rng.random() < rng.choice([0, 0, 0.5])]
        world.add(f"leecher{number}", held, uplink=rng.choice([2e4, 1e6]))
    for name in ("corrupt", "silent"):
        if rng.random() < 0.5:
            world.add(name)
            setattr(hazards, name, (name,))
    world.connect_all()
    world.later(1.0, world.shake)
    return world


@pytest.mark.parametrize("seed", range(24))
def test_everybody_completes_while_a_seed_stays(seed: int) -> None:
    world = a_world(seed)
    world.run(3600, world.all_complete)
    assert world.all_complete(), {node.name: list(node.brain.missing()) for node in world.nodes.values()}
    for node in world.nodes.values():
        world.check_pieces(node)
        assert node.banned <= {"corrupt"}


def test_the_same_seed_gives_the_same_commands_whatever_python_hashes() -> None:
    code = (
        "from tests.property.test_strategy_swarm import a_world\n"
        "worlds = [a_world(seed) for seed in (3, 5)]\n"
        "for w in worlds: w.run(20)\n"
        "print([w.log.hexdigest() for w in worlds], [w.ticks for w in worlds])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert ", 0" not in outputs.pop()


# --- Swarms without hazards: what the policies achieve ------------------------------------------------


def shared(world: World) -> dict[str, float]:
    """Copies of the whole that each node has sent."""
    nodes = [*world.nodes.values(), *world.gone]
    return {node.name: node.sent / world.layout.total_length for node in nodes}


def asked_twice_outside_the_endgame(node: Node) -> list[int]:
    """Pieces requested again though the last request had not failed nor been moved or doubled on purpose."""
    purpose = ("endgame", "taken over")
    usual = [event.piece for event in requests_of(node) if not event.why.startswith(purpose)]
    return sorted({piece for piece in usual if usual.count(piece) > 1} - node.sent_away)


def an_even_swarm(leechers: int, pieces: int, *, seeders: int = 1, uplink: float = 1e6) -> World:
    world = World(Layout(64 * KIB, [64 * KIB * pieces]), 1)
    for number in range(seeders):
        world.add(f"seed{number}", uplink=uplink)
    for number in range(leechers):
        world.add(f"leecher{number}", [], uplink=uplink)
    world.connect_all()
    return world


def test_three_equal_seeders_each_deliver_their_share() -> None:
    world = an_even_swarm(1, 96, seeders=3)
    world.run(60, world.all_complete)
    least_time = 96 * 64 * KIB / 3e6
    assert world.now < 1.15 * least_time
    assert all(sent > 0.3 for name, sent in shared(world).items() if name.startswith("seed"))


def test_five_leechers_serve_each_other() -> None:
    world = an_even_swarm(5, 128)
    world.run(120, world.all_complete)
    optimum = 128 * 64 * KIB / 1e6 * (1 + math.ceil(math.log2(6)) / 128)
    sent = shared(world)
    assert world.all_complete()
    assert world.now < 1.15 * optimum
    assert sent["seed0"] < 1.25
    assert all(sent[f"leecher{number}"] > 0.2 for number in range(5))
    assert duplicates(world) <= 0.015 * 5 * world.layout.total_length
    for node in world.nodes.values():
        assert len(asked_twice_outside_the_endgame(node)) <= 4


def test_the_seeder_may_leave_once_a_full_copy_is_out() -> None:
    world = an_even_swarm(5, 64)
    seed = world.nodes[PeerId("seed0")]

    def a_copy_is_out() -> bool:
        leechers = [node for node in world.nodes.values() if node is not seed]
        return all(any(piece in node.stored for node in leechers) for piece in range(64))

    world.run(60, a_copy_is_out)
    assert not world.all_complete()
    world.remove(seed.name)
    world.run(120, world.all_complete)
    assert world.all_complete()


def test_less_than_a_full_copy_goes_to_everybody_and_the_rest_is_named() -> None:
    world = World(Layout(64 * KIB, [64 * KIB * 40]), 1)
    for number in range(4):
        world.add(f"leecher{number}", range(number * 9, number * 9 + 12))
    world.connect_all()
    world.run(120)
    for node in world.nodes.values():
        assert node.stored.count == 39
        assert list(node.brain.missing()) == [39]
    assert world.ticks < 20_000  # nobody asks again and again for what nobody has
    assert not world.heap


def test_two_halves_complete_each_other_both_ways_at_once() -> None:
    world = World(Layout(64 * KIB, [64 * KIB * 64]), 1)
    one, two = world.add("one", range(32)), world.add("two", range(32, 64))
    world.connect_all()
    world.run(60, world.all_complete)
    half = 32 * 64 * KIB / 1e6
    assert one.done_at < 1.1 * half
    assert two.done_at < 1.1 * half


def test_small_pieces_flow() -> None:
    world = World(Layout(KIB, [KIB] * 1000), 1, latency=0.0005)
    world.add("seed", uplink=1e8)
    world.add("leecher", [])
    world.connect_all()
    world.run(10, world.all_complete)
    assert world.now < 0.2


def test_silent_and_corrupt_peers_cost_little() -> None:
    world = an_even_swarm(1, 96, seeders=2)
    world.hazards.silent, world.hazards.corrupt = ("silent0", "silent1"), ("corrupt0", "corrupt1")
    for name in (*world.hazards.silent, *world.hazards.corrupt):
        world.add(name)
    world.connect_all()
    leecher = world.nodes[PeerId("leecher0")]
    world.run(60, lambda: leecher.brain.complete)
    clean = 96 * 64 * KIB / 2e6
    assert leecher.done_at < max(1.25 * clean, 5.0 + 0.7 * clean)
    assert leecher.banned == set(world.hazards.corrupt)
    refused = [event for event in leecher.events if isinstance(event, events.PieceRefused)]
    assert {event.source for event in refused} == set(world.hazards.corrupt)


def test_everybody_gets_a_turn_where_slots_are_few() -> None:
    world = World(Layout(64 * KIB, [64 * KIB * 20]), 1)
    world.add("seed", limit=10**6)
    for number in range(14):
        world.add(f"leecher{number}", [], uplink=1.0, limit=1)  # they take, and give next to nothing
    world.connect_all()
    world.run(600, world.all_complete)
    assert world.all_complete()
    done = sorted(node.done_at for node in world.nodes.values() if node.name != "seed")
    assert done[-1] < 2.5 * 14 * 20 * 64 * KIB / 1e6


def test_a_finished_swarm_is_quiet() -> None:
    world = an_even_swarm(3, 16)
    world.run(60, world.all_complete)
    world.run(world.now + 70)  # alarms that were set may ring once more
    assert world.heap == []
    assert [node.brain.next_wakeup() for node in world.nodes.values()] == [math.inf] * 4
