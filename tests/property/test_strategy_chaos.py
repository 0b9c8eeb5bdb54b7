"""One brain among peers that say anything a session lets through, in any order, at any time."""

from __future__ import annotations

import math
import random

import pytest

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.errors import RemoteError
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Data,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Hello,
    Interested,
    NotInterested,
    Reject,
    RejectReason,
    Request,
    Unchoke,
    Withdraw,
)
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
from swarm.strategy.pieces import State

MANIFEST = ManifestId(bytes(32))
TRANSFER = TransferId(1)
NAMES = [PeerId(name) for name in "abcdef"]
LENGTH = 1000


class Chaos:
    """Random inputs; what the brain says is checked by the protocol of each session."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.size = self.rng.choice([1, 3, 20])
        stored = PieceSet(self.size)
        for piece in range(self.size):
            if self.rng.random() < 0.3:
                stored.add(piece)
        self.layout = Layout(LENGTH, [LENGTH * self.size])
        self.now = 0.0
        self.brain = Brain(BrainSetup(TRANSFER, self.layout, stored), self.rng, 0.0)
        self.sessions: dict[PeerId, SessionRules] = {}
        self.uploads: dict[PeerId, list[int]] = {}
        self.storing: list[tuple[PeerId, int]] = []
        self.stored = stored
        self.asked: dict[PeerId, list[int]] = {}
        self.whole: tuple[PeerId, int] | None = None

    # --- What the brain wants -------------------------------------------------------------------

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send(peer, message) if peer in self.sessions:
                    self.sessions[peer].sent(message)
                    if isinstance(message, Request):
                        self.asked[peer].append(message.piece)
                    if isinstance(message, Have):
                        assert all(piece in self.stored for piece in message.pieces)
                case Upload(peer, piece) if peer in self.sessions:
                    assert piece in self.stored
                    assert self.sessions[peer].owed(piece)
                    self.uploads[peer].append(piece)
                case DropUpload(peer, piece) if peer in self.sessions:
                    self.uploads[peer].remove(piece)
                    self.sessions[peer].sent(Reject(piece, RejectReason.CANCELLED))
                case StorePiece(peer, piece):
                    assert (peer, piece) == self.whole
                    self.whole = None
                    self.storing.append((peer, piece))
                case Ban(peer) | Disconnect(peer):
                    self.end(peer)
                case Publish() | Send() | Upload() | DropUpload():
                    pass
        self.check()

    def end(self, peer: PeerId) -> None:
        if self.sessions.pop(peer, None):
            self.perform(self.brain.source_left(peer, self.now))

    def check(self) -> None:
        pieces, requests = self.brain._pieces, self.brain._download.requests
        held = {piece for _, piece in self.storing} | ({self.whole[1]} if self.whole else set())
        for piece in range(self.size):
            state = pieces.state(piece)
            assert (state == State.STORED) == (piece in self.stored)
            assert (state == State.REQUESTED) == (piece in requests.holders)
            if state == State.VERIFYING:
                assert piece in held

    # --- What happens ---------------------------------------------------------------------------

    def step(self) -> None:
        self.now += self.rng.choice([0.0, 0.001, 0.05, 1.0, 7.0])
        action = self.rng.choice(
            [self.peer, self.speak, self.speak, self.reply, self.reply, self.disk, self.time]
        )
        action()

    def peer(self) -> None:
        name = self.rng.choice(NAMES)
        if name in self.sessions:
            if self.rng.random() < 0.2:
                self.end(name)
            else:
                self.perform(self.brain.round_trip(name, self.rng.choice([None, 0.01, 3.0]), self.now))
            return
        self.sessions[name] = session = SessionRules(MANIFEST, self.layout, self.now)
        self.uploads[name], self.asked[name] = [], []
        session.sent(Hello(MANIFEST, self.size))
        session.received(Hello(MANIFEST, self.size), self.now)
        self.perform(self.brain.source_joined(name, self.now, rtt=self.rng.choice([None, 0.02])))
        bits = bytes(self.rng.getrandbits(8) for _ in range((self.size + 7) // 8))
        spare = (8 - self.size % 8) % 8
        bits = bits[:-1] + bytes([bits[-1] >> spare << spare])
        self.say(name, self.rng.choice([HaveAll(), HaveNone(), HaveBitfield(bits)]))

    def say(self, peer: PeerId, message: object) -> None:
        try:
            self.sessions[peer].received(message, self.now)
        except RemoteError:
            return  # the session would have ended; here the peer just thinks better of it
        self.perform(self.brain.received(peer, message, self.now))

    def speak(self) -> None:
        if not self.sessions:
            return
        peer, piece = self.rng.choice(list(self.sessions)), self.rng.randrange(self.size)
        messages = [
            Choke(),
            Unchoke(),
            Unchoke(),
            Interested(),
            NotInterested(),
            Have((piece,)),
            Withdraw(piece),
        ]
        self.say(peer, self.rng.choice([*messages, Request(piece), Request(piece), Cancel(piece)]))

    def reply(self) -> None:
        """A peer replies to one of our requests, or we go on with one of our uploads."""
        if not self.sessions:
            return
        peer = self.rng.choice(list(self.sessions))
        if self.asked[peer] and self.rng.random() < 0.6:
            self.reply_to(peer, self.asked[peer].pop(self.rng.randrange(len(self.asked[peer]))))
        elif self.uploads[peer]:
            piece = self.uploads[peer].pop(0)
            self.sessions[peer].sent_data(piece, 0, LENGTH)
            self.perform(self.brain.uploaded(peer, piece, LENGTH, self.now))
            self.perform(self.brain.upload_finished(peer, piece, self.now))

    def reply_to(self, peer: PeerId, piece: int) -> None:
        session = self.sessions[peer]
        if self.rng.random() < 0.4:
            message = Reject(piece, self.rng.choice(list(RejectReason)))
            session.received(message, self.now)
            self.perform(self.brain.received(peer, message, self.now))
            return
        session.received_data(Data(piece, 0, LENGTH))
        self.perform(self.brain.data_received(peer, piece, LENGTH, self.now))
        if peer in self.sessions:
            self.whole = (peer, piece)
            self.perform(self.brain.piece_received(peer, piece, self.now))
            self.whole = None

    def disk(self) -> None:
        if self.storing and self.rng.random() < 0.8:
            peer, piece = self.storing.pop(0)
            result = self.rng.choice(["stored", "stored", "refused", "failed"])
            if result == "stored":
                self.stored.add(piece)
                self.perform(self.brain.piece_stored(peer, piece, self.now))
            elif result == "refused":
                self.perform(self.brain.piece_refused(peer, piece, self.now))
            else:
                self.perform(self.brain.piece_failed(peer, piece, self.now))
        elif self.stored.count and self.rng.random() < 0.05:
            piece = self.rng.choice(list(self.stored))
            self.stored.discard(piece)
            self.perform(self.brain.piece_lost(piece, self.now))

    def time(self) -> None:
        at = self.brain.next_wakeup()
        if at < math.inf:
            self.now = max(self.now, at)
        for _ in range(3):  # an alarm may set another one that was due with it
            self.perform(self.brain.tick(self.now))
        assert self.brain.next_wakeup() > self.now


@pytest.mark.parametrize("seed", range(40))
def test_nothing_that_peers_or_the_disk_do_breaks_the_brain(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(500):
        chaos.step()
