"""What requests to us get, and what everybody is told of our pieces."""

from __future__ import annotations

import math
import random

import pytest

from swarm.content.bitfield import Bitfield
from swarm.content.layout import Layout
from swarm.ids import PeerId
from swarm.strategy.announce import BATCH_SECONDS, Announcer
from swarm.strategy.commands import Command, DropUpload, Send, Upload
from swarm.strategy.pieces import Pieces
from swarm.strategy.serving import Serving
from swarm.strategy.timers import Alarm, Timers
from swarm.strategy.uploads import RELEASED_BYTES, RELEASED_PIECES, Uploads
from swarm.wire.limits import MAX_HAVE_BATCH, MAX_REQUESTS
from swarm.wire.messages import (
    Choke,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Reject,
    RejectReason,
    Unchoke,
    Withdraw,
)

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
PIECE = 256 << 10
SIZE = 300


def some_pieces(stored: range | list[int], length: int = PIECE, size: int = SIZE) -> Pieces:
    field = Bitfield(size)
    for piece in stored:
        field.add(piece)
    return Pieces(Layout(length, [length * size]), field)


def serving(*peers: PeerId, stored: range | list[int] = range(SIZE), limited: bool = False) -> Serving:
    made = Serving(some_pieces(stored), lambda _: False, random.Random(1), Timers(), limited=limited)
    for peer in peers:
        made.joined(peer, 0.0)
        made.interested(peer, 0.0, yes=True)
    return made


def uploads_of(commands: list[Command]) -> list[int]:
    return [command.piece for command in commands if isinstance(command, Upload)]


def test_interest_is_answered_at_once() -> None:
    made = serving()
    made.joined(A, 0.0)
    assert made.interested(A, 0.0, yes=True) == [Send(A, Unchoke())]
    assert made.interested(A, 1.0, yes=False) == [Send(A, Choke())]


@pytest.mark.parametrize(("limited", "served"), [(True, 5), (False, 8)])
def test_there_are_more_slots_while_the_uplink_is_not_limited(limited: bool, served: int) -> None:
    made = serving(limited=limited)
    told = []
    for number in range(12):
        made.joined(PeerId(str(number)), 0.0)
        told += made.interested(PeerId(str(number)), 0.0, yes=True)
    assert told == [Send(PeerId(str(number)), Unchoke()) for number in range(served)]


def test_a_choked_peer_is_rejected() -> None:
    made = serving()
    made.joined(A, 0.0)
    assert made.requested(A, 0) == [Send(A, Reject(0, RejectReason.CHOKED))]


def test_a_piece_that_is_not_stored_is_rejected() -> None:
    made = serving(A, stored=[1])
    assert made.requested(A, 0) == [Send(A, Reject(0, RejectReason.NOT_STORED))]
    assert made.requested(A, 1) == [Upload(A, 1)]


def test_uploads_are_released_a_little_ahead() -> None:
    made = serving(A)
    released = [uploads_of(made.requested(A, piece)) for piece in range(4)]
    assert released == [[0], [1], [], []]
    assert RELEASED_PIECES == 2
    assert RELEASED_BYTES == 2 * PIECE
    assert uploads_of(made.finished(A, 0)) == [2]
    assert uploads_of(made.finished(A, 0)) == []  # told twice
    assert uploads_of(made.finished(A, 1)) == [3]


def test_small_pieces_are_released_by_the_half_megabyte() -> None:
    uploads = Uploads(Layout(1024, [1024] * SIZE))
    uploads.joined(A)
    for piece in range(SIZE):
        uploads.add(A, piece)
    assert len(uploads.release(A)) == SIZE


def test_the_piece_that_was_sent_least_often_goes_first() -> None:
    made = serving(A, B)
    for piece in (0, 1):
        made.requested(A, piece)
    released = []
    for piece in (0, 1, 2, 3):
        released += uploads_of(made.requested(B, piece))
    assert released == [0, 1]  # nothing else was asked yet
    assert uploads_of(made.finished(B, 0)) == [2]
    made.requested(A, 2)
    made.requested(A, 5)
    assert uploads_of(made.finished(A, 0)) == [5]  # 2 was asked earlier, and was sent once


def test_a_cancelled_request_that_waits_is_rejected_here() -> None:
    made = serving(A)
    for piece in range(3):
        made.requested(A, piece)
    assert made.cancelled(A, 2) == [Send(A, Reject(2, RejectReason.CANCELLED))]
    assert made.finished(A, 0) == []


def test_a_cancelled_request_that_is_released_is_the_sessions_to_answer() -> None:
    made = serving(A)
    for piece in range(3):
        made.requested(A, piece)
    assert made.cancelled(A, 0) == [DropUpload(A, 0), Upload(A, 2)]
    assert made.finished(A, 0) == []
    assert made.cancelled(A, 0) == []  # crossed its own reply


def test_a_choke_rejects_what_waits_and_lets_what_is_released_go_out() -> None:
    made = serving(A)
    for piece in range(4):
        made.requested(A, piece)
    assert made.interested(A, 1.0, yes=False) == [
        Send(A, Choke()),
        Send(A, Reject(2, RejectReason.CHOKED)),
        Send(A, Reject(3, RejectReason.CHOKED)),
    ]
    assert made.finished(A, 0) == []


def test_more_than_the_wire_allows_is_refused() -> None:
    made = serving(A)
    for piece in range(MAX_REQUESTS):
        made.requested(A, piece)
    assert made.requested(A, MAX_REQUESTS) == [Send(A, Reject(MAX_REQUESTS, RejectReason.BUSY))]


def test_a_lost_piece_is_taken_from_everybody_who_waits_for_it() -> None:
    made = serving(A, B, C)
    for piece in range(3):
        made.requested(A, piece)
    made.requested(B, 2)
    assert made.lost(2) == [Send(A, Reject(2, RejectReason.NOT_STORED)), DropUpload(B, 2)]
    assert made.finished(A, 0) == []


def test_a_piece_asked_again_right_after_its_reply_waits_for_the_books() -> None:
    made = serving(A)
    made.requested(A, 0)
    made.requested(A, 0)
    assert uploads_of(made.requested(A, 1)) == [1]
    assert uploads_of(made.finished(A, 0)) == [0]


def test_the_slot_of_a_peer_that_left_is_given_on() -> None:
    made = serving(*(PeerId(str(number)) for number in range(9)))
    assert made.left(PeerId("3"), 1.0) == [Send(PeerId("8"), Unchoke())]


class Town:
    """An announcer and the peers who hear it."""

    def __init__(self, stored: range | list[int], *peers: PeerId) -> None:
        self.pieces, self.timers = some_pieces(stored), Timers()
        self.announcer = Announcer(self.pieces, self.timers)
        for peer in peers:
            self.announcer.joined(peer)

    def stored(self, piece: int, now: float) -> list[Command]:
        self.pieces.requested(piece)
        self.pieces.verifying(piece)
        self.pieces.now_stored(piece)
        return self.announcer.stored(piece, now)


def test_the_first_message_of_a_session() -> None:
    assert Town([]).announcer.joined(A) == [Send(A, HaveNone())]
    assert Town(range(SIZE)).announcer.joined(A) == [Send(A, HaveAll())]
    field = Bitfield(SIZE)
    field.add(3)
    assert Town([3]).announcer.joined(A) == [Send(A, HaveBitfield(field.to_bytes()))]


def test_pieces_that_come_slowly_are_announced_at_once() -> None:
    town = Town([], A, B)
    assert town.stored(1, 0.0) == [Send(A, Have((1,))), Send(B, Have((1,)))]
    assert town.stored(2, BATCH_SECONDS) == [Send(A, Have((2,))), Send(B, Have((2,)))]
    assert town.timers.next() == math.inf


def test_pieces_that_rush_are_announced_together() -> None:
    town = Town([], A)
    town.stored(1, 0.0)
    assert town.stored(2, 0.001) == []
    assert town.stored(3, 0.002) == []
    assert town.timers.due(BATCH_SECONDS) == [(Alarm.HAVES, None)]
    assert town.announcer.flush(BATCH_SECONDS) == [Send(A, Have((2, 3)))]
    assert town.announcer.flush(BATCH_SECONDS) == []


def test_the_last_piece_waits_for_nothing() -> None:
    town = Town(range(SIZE - 2), A)
    town.stored(SIZE - 2, 0.0)
    assert town.stored(SIZE - 1, 0.001) == [Send(A, Have((SIZE - 1,)))]


def test_a_newcomer_hears_of_no_piece_twice() -> None:
    town = Town([], A)
    town.stored(1, 0.0)
    town.stored(2, 0.001)
    field = Bitfield(SIZE)
    field.add(1)
    field.add(2)
    assert town.announcer.joined(B) == [Send(A, Have((2,))), Send(B, HaveBitfield(field.to_bytes()))]
    assert town.announcer.flush(1.0) == []
    assert town.timers.next() == math.inf


def test_a_lost_piece_is_withdrawn_unless_nobody_heard_of_it() -> None:
    town = Town([5], A)
    assert town.announcer.lost(5) == [Send(A, Withdraw(5))]
    town.stored(1, 0.0)
    town.stored(2, 0.001)
    assert town.announcer.lost(2) == []
    assert town.announcer.flush(1.0) == []


def test_a_message_holds_no_more_than_the_wire_allows() -> None:
    pieces = Pieces(Layout(1, [3000]), Bitfield(3000))
    announcer = Announcer(pieces, Timers())
    announcer.joined(A)
    announcer.stored(0, 0.0)
    for piece in range(1, 2 * MAX_HAVE_BATCH):
        announcer.stored(piece, 0.0)
    batches = [command.message.pieces for command in announcer.flush(1.0)]
    assert [len(batch) for batch in batches] == [MAX_HAVE_BATCH, MAX_HAVE_BATCH - 1]
