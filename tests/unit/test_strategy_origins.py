"""When a web server is asked beside peers, and for what."""

from __future__ import annotations

import random

import pytest

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId, SourceId, TransferId
from swarm.protocol.messages import Have, HaveAll, HaveBitfield, HaveNone, Request, Unchoke
from swarm.strategy.brain import Brain, BrainSetup
from swarm.strategy.commands import Blame, Send, StorePiece
from swarm.strategy.download.origins import OriginOptions

PIECE = 64 * 1024
COUNT = 512
ORIGIN = SourceId("origin http://host/")
NAMES = [PeerId(SourceId(letter * 40)) for letter in "ABCDEFGH"]


class Member:
    """The brain of one receiver with an origin; delivers what it asks for when told to."""

    def __init__(self, me: PeerId, *, files: int = 1, length: int | None = None, **options: bool) -> None:
        layout = Layout(PIECE, [length or PIECE * COUNT // files] * files)
        setup = BrainSetup(TransferId(1), layout, PieceSet(COUNT), me=me, origins=OriginOptions(**options))
        self.me = me
        self.brain = Brain(setup, random.Random(1), 0.0)
        self.asked: list[int] = []
        self.asked_of_peers: list[int] = []
        self.now = 0.0

    def do(self, commands: list) -> list:
        for command in commands:
            match command:
                case Send(source, Request(piece)) if source == ORIGIN:
                    self.asked.append(piece)
                case Send(_, Request(piece)):
                    self.asked_of_peers.append(piece)
            if isinstance(command, StorePiece):
                self.do(self.brain.piece_stored(command.source, command.piece, self.now))
        return commands

    def join_origin(self) -> None:
        self.do(self.brain.source_joined(ORIGIN, self.now, rtt=0.0, receives=False, origin=True))
        self.do(self.brain.received(ORIGIN, HaveBitfield(PieceSet.all(COUNT).to_bytes()), self.now))
        self.do(self.brain.received(ORIGIN, Unchoke(), self.now))

    def join_peer(self, peer: PeerId, says: object) -> None:
        self.do(self.brain.source_joined(peer, self.now))
        self.do(self.brain.received(peer, says, self.now))  # type: ignore[arg-type]

    def deliver(self, piece: int, length: int = PIECE) -> None:
        self.do(self.brain.data_received(ORIGIN, piece, length, self.now))
        self.do(self.brain.piece_received(ORIGIN, piece, self.now))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := self.brain.next_wakeup()) <= until:
            self.now = max(self.now, at)
            self.do(self.brain.tick(self.now))
        self.now = until


def test_alone_it_is_asked_at_once_in_order_and_in_runs() -> None:
    member = Member(NAMES[0])
    member.join_origin()
    assert member.asked == [0]  # a liar wastes one piece
    member.now = 0.01
    member.deliver(0)
    assert member.asked == list(range(len(member.asked)))
    assert len(member.asked) > 32


def test_runs_end_with_their_file() -> None:
    member = Member(NAMES[0], files=COUNT // 2)
    member.join_origin()
    member.now = 0.01
    member.deliver(0)
    assert member.asked == list(range(len(member.asked)))


def test_where_peers_are_named_it_waits_a_moment_for_them() -> None:
    member = Member(NAMES[0])
    member.brain.expect_peers()
    member.join_origin()
    assert member.asked == []
    member.wait(1.5)
    assert len(member.asked) == 1


def test_a_peer_that_has_not_spoken_yet_may_have_everything() -> None:
    member = Member(NAMES[0])
    member.brain.expect_peers()
    member.join_origin()
    member.do(member.brain.source_joined(NAMES[1], member.now))
    member.wait(0.4)
    assert member.asked == []
    member.do(member.brain.received(NAMES[1], HaveAll(), member.now))
    member.wait(1.5)
    assert member.asked == []


def test_the_members_take_turns_and_none_takes_what_is_anothers() -> None:
    members = [Member(name) for name in NAMES]
    for member in members:
        member.brain.expect_peers()
        for name in NAMES:
            if name != member.me:
                member.join_peer(name, HaveNone())
        member.join_origin()
    taken: dict[int, PeerId] = {}
    for number in range(20):
        for member in members:
            member.now = 0.1 * number
            for piece in member.asked:
                assert taken.setdefault(piece, member.me) == member.me
            if member.asked and number < 19:
                piece = member.asked[-1]
                member.deliver(piece)
                for other in members:
                    if other is not member:
                        other.do(other.brain.received(member.me, Have((piece,)), member.now))
    assert len(taken) > 100
    assert len(set(taken.values())) == len(NAMES)


def test_a_member_that_brings_nothing_loses_its_turns() -> None:
    member = Member(NAMES[0])
    member.brain.expect_peers()
    member.join_peer(NAMES[1], HaveNone())
    member.join_origin()
    got: set[int] = set()
    for _ in range(4000):
        for piece in [each for each in member.asked if each not in got]:
            got.add(piece)
            member.deliver(piece)
        member.wait(0.02)
        if len(got) == COUNT:
            break
    assert len(got) == COUNT
    assert member.now < 30


def test_what_a_peer_has_that_sends_next_to_nothing_is_asked_of_the_origin() -> None:
    member = Member(NAMES[0])
    member.brain.expect_peers()
    member.join_peer(NAMES[1], HaveAll())
    member.do(member.brain.received(NAMES[1], Unchoke(), 0.0))
    member.join_origin()
    member.wait(1.5)
    assert member.asked == []
    member.wait(4.0)
    assert len(member.asked) == 1


def _dripping(member: Member, seconds: float, rate: int = 20_000) -> None:
    """The peer sends so many bytes a second of the first piece that it was asked for."""
    until = member.now + seconds
    while member.now < until:
        member.wait(0.25)
        member.do(member.brain.data_received(NAMES[1], member.asked_of_peers[0], rate // 4, member.now))


def _beside_a_slow_peer(member: Member) -> None:
    member.brain.expect_peers()
    member.join_peer(NAMES[1], HaveAll())
    member.do(member.brain.received(NAMES[1], Unchoke(), 0.0))
    member.join_origin()
    while not member.asked:
        _dripping(member, 0.25)
        assert member.now < 6


def test_a_short_first_piece_does_not_make_an_origin_slow() -> None:
    # Its bytes over the least time that a rate is taken of are less than the peer's.
    member = Member(NAMES[0], files=COUNT, length=100)
    _beside_a_slow_peer(member)
    member.now += 0.01
    member.deliver(member.asked[0], 100)
    _dripping(member, 3.0)
    assert len(member.asked) > 1


def test_an_origin_that_was_slow_once_is_tried_again_with_one_piece() -> None:
    member = Member(NAMES[0])
    _beside_a_slow_peer(member)
    _dripping(member, 5.0)
    member.deliver(member.asked[0])
    _dripping(member, 9.0)
    assert len(member.asked) == 1
    _dripping(member, 4.0)
    assert len(member.asked) == 2
    member.now += 0.01
    member.deliver(member.asked[1])
    _dripping(member, 3.0)
    assert len(member.asked) > 2


def test_whole_pieces_that_come_together_count_for_their_peer() -> None:
    member = Member(NAMES[0])
    member.brain.expect_peers()
    member.join_peer(NAMES[1], HaveAll())
    member.do(member.brain.received(NAMES[1], Unchoke(), 0.0))
    member.join_origin()
    for _ in range(COUNT // 8):
        member.wait(0.1)
        whole = [(piece, PIECE) for piece in member.asked_of_peers[:1]]
        del member.asked_of_peers[:1]
        member.do(member.brain.pieces_received(NAMES[1], whole, member.now))
    assert member.now > 6
    assert member.asked == []


@pytest.mark.parametrize("seconds", [4.0, 6.0])
def test_a_fallback_is_asked_when_peers_have_given_nothing_for_five_seconds(seconds: float) -> None:
    member = Member(NAMES[0], fallback=True)
    member.brain.expect_peers()
    member.join_peer(NAMES[1], HaveNone())
    member.join_origin()
    member.wait(seconds)
    assert bool(member.asked) == (seconds > 5)


def test_a_wrong_piece_takes_its_file_and_not_the_origin() -> None:
    member = Member(NAMES[0], files=2)
    member.join_origin()
    (piece,) = member.asked
    member.do(member.brain.data_received(ORIGIN, piece, PIECE, 0.1))
    commands = member.brain.piece_received(ORIGIN, piece, 0.1)
    assert [each for each in commands if isinstance(each, StorePiece)]
    refused = member.do(member.brain.piece_refused(ORIGIN, piece, 0.2))
    assert [(each.source, each.piece) for each in refused if isinstance(each, Blame)] == [(ORIGIN, piece)]
    assert member.asked[1:] == []
    # The source itself leaves the file out from now on.
    rest = PieceSet.between(COUNT, COUNT // 2, COUNT)
    member.do(member.brain.received(ORIGIN, HaveBitfield(rest.to_bytes()), 0.3))
    assert member.asked[1:] == [COUNT // 2]
