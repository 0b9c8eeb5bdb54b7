"""Local sources first: what a file on this machine offers is asked of nobody else."""

from __future__ import annotations

import random

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.events import PiecesReused, PieceStored
from swarm.ids import PeerId, SourceId, TransferId
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Have,
    HaveAll,
    HaveBitfield,
    Interested,
    Reject,
    RejectReason,
    Request,
    Unchoke,
)
from swarm.strategy.brain import Brain, BrainSetup
from swarm.strategy.commands import Ban, Command, Publish, Send, StorePiece
from swarm.strategy.download.pipeline import MOST_BYTES
from swarm.strategy.download.requests import MOST_BACKOFF
from swarm.strategy.download.timeouts import PROVEN_SILENCE_SECONDS, SILENCE_SECONDS

TRANSFER = TransferId(1)
BASE, PATCH = SourceId("base:/old"), SourceId("patch")
PEER, OTHER = PeerId("p"), PeerId("q")
PIECE = 64 << 10


class Play:
    """A brain, and what each source is asked for and has not answered."""

    def __init__(self, size: int = 12, stored: range = range(0)) -> None:
        self.size = size
        layout = Layout(PIECE, [PIECE * size])
        self.brain = Brain(BrainSetup(TRANSFER, layout, PieceSet.of(size, stored)), random.Random(1), 0.0)
        self.asked: dict[SourceId, list[int]] = {}
        self.commands: list[Command] = []

    def do(self, commands: list[Command]) -> list[Command]:
        for command in commands:
            if isinstance(command, Send) and isinstance(command.message, Request):
                self.asked.setdefault(command.source, []).append(command.message.piece)
        self.commands += commands
        return commands

    def local(self, source: SourceId, pieces: range | list[int], now: float = 0.0) -> None:
        self.do(self.brain.source_joined(source, now, rtt=0.0, receives=False, local=True))
        self.offer(source, pieces, now)
        self.do(self.brain.received(source, Unchoke(), now))

    def offer(self, source: SourceId, pieces: range | list[int], now: float = 0.0) -> None:
        data = PieceSet.of(self.size, pieces).to_bytes()
        self.do(self.brain.received(source, HaveBitfield(data), now))

    def peer(self, peer: PeerId, now: float = 0.0) -> None:
        """A peer with everything, one piece of which was verified."""
        self.do(self.brain.source_joined(peer, now, rtt=0.01))
        self.brain._download.requests.verified(peer)
        self.do(self.brain.received(peer, HaveAll(), now))
        self.do(self.brain.received(peer, Unchoke(), now))

    def deliver(self, source: SourceId, now: float) -> None:
        """The source answers all that it is asked for, until it is asked for nothing more."""
        while pieces := self.asked.pop(source, []):
            for piece in pieces:
                self.do(self.brain.data_received(source, piece, PIECE, now))
                commands = self.do(self.brain.piece_received(source, piece, now))
                assert StorePiece(source, piece) in commands
                self.do(self.brain.piece_stored(source, piece, now))


def test_what_a_local_source_offers_is_asked_of_nobody_else() -> None:
    play = Play()
    play.local(BASE, range(4, 9))
    play.peer(PEER)
    assert play.asked[BASE] == [4, 5, 6, 7, 8], "in ascending order, and all at once"
    play.deliver(PEER, 1.0)
    stored = {
        c.event.piece for c in play.commands if isinstance(c, Publish) and isinstance(c.event, PieceStored)
    }
    assert stored == {0, 1, 2, 3, 9, 10, 11}
    assert PEER not in play.asked, "not even twice at the end"


def test_pieces_of_two_local_sources_are_asked_of_either() -> None:
    play = Play()
    play.local(BASE, range(6))
    play.local(PATCH, range(3, 12))
    assert play.asked == {BASE: [0, 1, 2, 3, 4, 5], PATCH: [6, 7, 8, 9, 10, 11]}


def test_what_it_refuses_is_asked_of_peers_at_once_and_not_of_it_again() -> None:
    play = Play()
    play.local(BASE, range(12))
    play.peer(PEER)
    assert PEER not in play.asked
    assert Send(PEER, Interested()) in play.commands
    for piece in (3, 5):
        play.do(play.brain.received(BASE, Reject(piece, RejectReason.NOT_STORED), 0.1))
    assert play.asked[PEER] == [3, 5]
    assert len(play.asked[BASE]) == 12, "it is not left alone for that"
    play.do(play.brain.source_left(PEER, 0.2))
    play.do(play.brain.tick(MOST_BACKOFF + 1))
    assert play.asked[BASE].count(3) == 1


def test_what_the_other_local_source_has_too_is_asked_of_that() -> None:
    play = Play()
    play.local(BASE, range(12))
    play.local(PATCH, range(12))
    play.peer(PEER)
    play.do(play.brain.received(BASE, Reject(3, RejectReason.NOT_STORED), 0.1))
    assert play.asked == {BASE: list(range(12)), PATCH: [3]}
    play.do(play.brain.received(PATCH, Reject(3, RejectReason.NOT_STORED), 0.2))
    assert play.asked[PEER] == [3]


def test_what_a_local_source_leaves_is_asked_of_peers() -> None:
    play = Play()
    play.local(BASE, range(12))
    play.peer(PEER)
    play.do(play.brain.source_left(BASE, 0.1))
    play.deliver(PEER, 0.2)
    assert play.brain.complete


def test_an_offer_that_shrinks_frees_what_is_not_asked_for_yet() -> None:
    most = MOST_BYTES // PIECE
    play = Play(2 * most)
    play.local(BASE, range(2 * most))
    play.peer(PEER)
    assert len(play.asked[BASE]) == most
    play.offer(BASE, range(most), 0.1)
    assert play.asked[PEER]
    assert min(play.asked[PEER]) >= most


def test_the_store_takes_what_a_local_source_holds() -> None:
    play = Play()
    play.local(BASE, range(8))
    play.peer(PEER)
    commands = play.do(play.brain.pieces_reused(BASE, [0, 1, 2, 4], [3], 0.1))
    assert Publish(PiecesReused(TRANSFER, BASE, 4, 4 * PIECE)) in commands
    assert Send(PEER, Have((0, 1, 2, 4))) in commands, "it is served from now on"
    assert sorted(play.brain._pieces.stored) == [0, 1, 2, 4]
    play.deliver(PEER, 0.2)
    assert play.brain._pieces.is_stored(3)


def test_a_piece_that_a_peer_sends_already_is_taken_and_counted_once() -> None:
    play = Play()
    play.peer(PEER)
    first = play.asked[PEER][0]
    play.do(play.brain.data_received(PEER, first, PIECE, 0.1))
    assert StorePiece(PEER, first) in play.do(play.brain.piece_received(PEER, first, 0.1))
    play.local(BASE, range(12), 0.2)
    assert first not in play.asked[BASE], "it is being verified"
    assert not set(play.asked[PEER]) & set(play.asked[BASE])
    play.do(play.brain.piece_stored(PEER, first, 0.3))
    assert play.brain._pieces.is_stored(first)


def test_a_local_source_that_hangs_holds_nothing_for_ever() -> None:
    play = Play()
    play.local(BASE, range(12))
    play.peer(PEER)
    now = SILENCE_SECONDS + 0.1
    play.do(play.brain.tick(now))
    assert Send(BASE, Cancel(0)) in play.commands
    assert play.asked[PEER]
    # It has done one of them after all, before the peer has.
    slow = play.asked[PEER][0]
    commands = play.do(play.brain.pieces_reused(BASE, [slow], [], now + 0.1))
    assert Send(PEER, Cancel(slow)) in commands
    assert Publish(PiecesReused(TRANSFER, BASE, 1, PIECE)) in commands
    assert play.brain._pieces.is_stored(slow)


def test_a_wrong_piece_ends_a_local_source_and_frees_the_rest() -> None:
    play = Play()
    play.local(BASE, range(12))
    play.peer(PEER)
    play.do(play.brain.data_received(BASE, 0, PIECE, 0.1))
    play.do(play.brain.piece_received(BASE, 0, 0.1))
    commands = play.do(play.brain.piece_refused(BASE, 0, 0.1))
    assert any(isinstance(c, Ban) and c.source == BASE for c in commands)
    play.deliver(PEER, 0.2)
    assert play.brain.complete


def test_a_paused_local_source_keeps_its_pieces() -> None:
    play = Play()
    play.local(BASE, range(12))
    play.peer(PEER)
    play.do(play.brain.received(BASE, Choke(), 0.1))
    for piece in range(12):
        play.do(play.brain.received(BASE, Reject(piece, RejectReason.CHOKED), 0.1))
    assert PEER not in play.asked
    play.asked.clear()
    play.do(play.brain.received(BASE, Unchoke(), 0.2))
    assert play.asked[BASE] == list(range(12))


def test_what_was_lost_comes_from_the_local_source_again() -> None:
    play = Play()
    play.local(BASE, range(12))
    play.do(play.brain.pieces_reused(BASE, list(range(11)), [], 0.1))
    play.asked.clear()
    play.do(play.brain.pieces_lost(PieceSet.of(12, [2, 3]), 0.2))
    assert play.asked == {BASE: [2, 3]}
    play.peer(PEER, 0.3)
    assert PEER not in play.asked


def test_a_silent_peer_s_pieces_are_not_moved_to_who_does_not_have_them() -> None:
    play = Play()
    play.local(BASE, range(6))
    play.do(play.brain.pieces_reused(BASE, list(range(6)), [], 0.1))
    play.peer(PEER, 0.2)
    asked = list(play.asked[PEER])
    play.do(play.brain.tick(PROVEN_SILENCE_SECONDS + 1))
    assert play.asked[PEER] == asked
    assert not [c for c in play.commands if isinstance(c, Send) and isinstance(c.message, Cancel)]


def test_nobody_else_is_asked_before_a_local_source_has_said_what_it_has() -> None:
    play = Play()
    play.do(play.brain.source_joined(BASE, 0.0, rtt=0.0, receives=False, local=True))
    play.peer(PEER)
    assert play.asked == {}
    play.offer(BASE, range(2, 12), 1.0)
    play.do(play.brain.received(BASE, Unchoke(), 1.0))
    assert play.asked[PEER] == [0, 1]
    assert play.asked[BASE] == list(range(2, 12))


def test_a_local_source_that_says_nothing_is_not_waited_for_long() -> None:
    play = Play()
    play.do(play.brain.source_joined(BASE, 0.0, rtt=0.0, receives=False, local=True))
    play.peer(PEER)
    play.do(play.brain.tick(SILENCE_SECONDS - 0.1))
    assert play.asked == {}
    play.do(play.brain.tick(SILENCE_SECONDS))
    assert play.asked[PEER]


def test_a_local_source_that_ends_without_a_word_is_not_waited_for() -> None:
    play = Play()
    play.do(play.brain.source_joined(BASE, 0.0, rtt=0.0, receives=False, local=True))
    play.peer(PEER)
    play.do(play.brain.source_left(BASE, 1.0))
    assert play.asked[PEER]
