"""What requests to us get, and what everybody is told of our pieces."""

from __future__ import annotations

import math
import random
from itertools import cycle, pairwise

import pytest

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId
from swarm.protocol.messages import (
    Choke,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Reject,
    RejectReason,
    Restate,
    Unchoke,
    Withdraw,
)
from swarm.protocol.protocol_limits import MAX_HAVE_BATCH, MAX_REQUESTS, RESTATE_BURST
from swarm.strategy.announcer import BATCH_SECONDS, Announcer
from swarm.strategy.availability import Availability
from swarm.strategy.commands import Command, Disconnect, DropUpload, Send, Upload
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup
from swarm.strategy.upload.upload import UNGIVING_COPIES, UploadSide
from swarm.strategy.upload.upload_queue import (
    LATE_SECONDS,
    LEAST_AHEAD,
    LOOKED_AT,
    Release,
    UploadQueue,
)

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
PIECE = 256 << 10
SIZE = 300


def some_pieces(stored: range | list[int], length: int = PIECE, size: int = SIZE) -> Pieces:
    field = PieceSet(size)
    for piece in stored:
        field.add(piece)
    return Pieces(Layout(length, [length * size]), field)


class Sources:
    """What the upload side asks about sources: nobody snubs."""

    def __init__(self) -> None:
        self.availability = Availability(SIZE)

    def snubbed(self, _source: PeerId) -> bool:
        return False


def serving(
    *peers: PeerId,
    stored: range | list[int] = range(SIZE),
    limited: bool = False,
    sources: Sources | None = None,
) -> UploadSide:
    sources = sources or Sources()
    made = UploadSide(some_pieces(stored), sources, random.Random(1), Timers(), 0.0, limited=limited)
    for peer in peers:
        made.peer_joined(peer, 0.0)
        made.interested(peer, 0.0, yes=True)
    return made


def uploads_of(commands: list[Command]) -> list[int]:
    return [command.piece for command in commands if isinstance(command, Upload)]


def some_uploads(*peers: PeerId, length: int = PIECE, copies: dict[int, int] | None = None) -> UploadQueue:
    known, layout = copies or {}, Layout(length, [length] * SIZE)
    made = UploadQueue(
        layout, lambda pieces: [known.get(piece, 0) for piece in pieces], lambda _peer, _now: 0, 0.0
    )
    for peer in peers:
        made.peer_joined(peer)
    return made


def test_interest_is_answered_at_once() -> None:
    made = serving()
    made.peer_joined(A, 0.0)
    assert made.interested(A, 0.0, yes=True) == [Send(A, Unchoke())]
    assert made.interested(A, 1.0, yes=False) == [Send(A, Choke())]


@pytest.mark.parametrize(("limited", "served"), [(True, 5), (False, 8)])
def test_there_are_more_slots_while_the_uplink_is_not_limited(limited: bool, served: int) -> None:
    made = serving(limited=limited)
    told = []
    for number in range(12):
        made.peer_joined(PeerId(str(number)), 0.0)
        told += made.interested(PeerId(str(number)), 0.0, yes=True)
    assert told == [Send(PeerId(str(number)), Unchoke()) for number in range(served)]


def test_a_choked_peer_is_rejected() -> None:
    made = serving()
    made.peer_joined(A, 0.0)
    assert made.requested(A, 0, 0.0) == [Send(A, Reject(0, RejectReason.CHOKED))]


def test_a_piece_that_is_not_stored_is_rejected() -> None:
    made = serving(A, stored=[1])
    assert made.requested(A, 0, 0.0) == [Send(A, Reject(0, RejectReason.NOT_STORED))]
    assert made.requested(A, 1, 0.0) == [Upload(A, 1)]


def test_uploads_are_released_a_little_ahead() -> None:
    made = serving(A)
    released = [uploads_of(made.requested(A, piece, 0.0)) for piece in range(4)]
    assert released == [[0], [], [], []]
    assert uploads_of(made.uploaded(A, PIECE - LEAST_AHEAD, 20.0)) == []
    assert uploads_of(made.uploaded(A, 1, 20.0)) == [1]
    assert uploads_of(made.finished(A, 0, 20.1)) == []
    assert uploads_of(made.uploaded(A, PIECE + LEAST_AHEAD - 1, 40.0)) == [2]
    assert uploads_of(made.finished(A, 0, 40.1)) == []  # told twice


def test_small_pieces_are_released_many_at_a_time() -> None:
    uploads = some_uploads(A, length=1024)
    for piece in range(SIZE):
        uploads.add(A, piece, 0.0)
    first = len(uploads.release(0.0))
    assert first > LOOKED_AT
    while more := len(uploads.release(0.0)):
        first += more
    assert LEAST_AHEAD // 1024 <= first <= 2 * LEAST_AHEAD // 1024


def test_one_piece_goes_after_another_and_the_rarest_first() -> None:
    uploads = some_uploads(A, B, copies={2: 1, 3: 5})
    uploads.add(A, 0, 0.0)
    assert uploads.release(0.0) == [(A, 0)]
    for piece in (0, 3, 2):
        uploads.add(B, piece, 0.0)
    uploads.add(A, 1, 0.0)
    uploads.add(A, 2, 0.0)
    assert uploads.release(0.1) == []
    order = []
    for step in range(4):
        (last,) = [(A, 0)] if not order else [order[-1]]
        uploads.sent(last[0], PIECE, step + 1.0)
        uploads.finished(*last, step + 1.0)
        order += uploads.release(step + 1.0)
    # 1 has nobody; 0 is on its way to A alone; 2 and 3 have others, and A has waited longer than B
    assert order == [(A, 1), (B, 0), (A, 2), (B, 2)]


def test_what_the_receiver_says_it_has_is_not_counted_twice() -> None:
    uploads = some_uploads(A, B)
    uploads.add(A, 0, 0.0)
    uploads.release(0.0)
    assert uploads.rarity(0) == 1
    uploads.has(A, 0)
    assert uploads.rarity(0) == 0  # what it has is the availability's to count
    uploads.add(B, 1, 1.0)
    uploads.peer_left(A, 2.0)
    assert uploads.release(2.0) == [(B, 1)]
    uploads.peer_left(B, 3.0)
    assert uploads.rarity(1) == 0


def test_a_receiver_that_is_late_holds_nobody_up() -> None:
    uploads = some_uploads(A, B)
    for piece in range(9):
        uploads.add(A, piece, 0.0)
        uploads.add(B, 10 + piece, 0.0)
    ((slow, _),) = uploads.release(0.0)
    other = B if slow == A else A
    late_at = uploads.next_look()
    assert late_at == LATE_SECONDS
    uploads.look(late_at - 0.01)
    assert uploads.release(late_at - 0.01) == []
    uploads.look(late_at)
    released = uploads.release(late_at)
    assert sorted(peer for peer, _ in released) == sorted([slow, other])  # its own lane, and the uplink's
    uploads.sent(slow, 2 * PIECE, 10.0)
    for piece in (piece for peer, piece in [*released, (slow, 0), (slow, 10)] if peer == slow):
        uploads.finished(slow, piece, 10.0)
    assert uploads.release(10.0) == []  # it is one of all again, and the other has the turn


def test_receivers_that_take_nothing_do_not_hold_the_uplink_however_many_they_are() -> None:
    """Pieces of 1 MiB over an uplink of 16 MiB/s; eight come who ask and never take a byte."""
    honest, hoarders = PeerId("honest"), [PeerId(f"hoarder{number}") for number in range(8)]
    uploads = some_uploads(honest, *hoarders, length=1 << 20)
    asked = {peer: cycle(range(SIZE)) for peer in (honest, *hoarders)}
    for _ in range(16):
        uploads.add(honest, next(asked[honest]), 0.0)
    came, being_sent = [0.0], []
    for step in range(30 * 16):
        now = step / 16
        if step == 2 * 16:
            for peer in hoarders:
                for _ in range(64):
                    uploads.add(peer, next(asked[peer]), now)
        if being_sent:
            uploads.sent(honest, 1 << 20, now)
            uploads.finished(honest, being_sent.pop(0), now)
            uploads.add(honest, next(asked[honest]), now)
            came.append(now)
        uploads.look(now)
        being_sent += [piece for peer, piece in uploads.release(now) if peer == honest]
    assert max(later - before for before, later in pairwise(came)) < 1.5
    assert len(came) > 0.9 * 30 * 16


def test_a_cancelled_request_that_waits_is_rejected_here() -> None:
    made = serving(A)
    for piece in range(3):
        made.requested(A, piece, 0.0)
    assert made.cancelled(A, 2, 0.0) == [Send(A, Reject(2, RejectReason.CANCELLED))]
    assert made.finished(A, 0, 0.1) == [Upload(A, 1)]
    assert made.finished(A, 1, 0.2) == []


def test_a_cancelled_request_that_is_released_is_the_sessions_to_answer() -> None:
    made = serving(A)
    for piece in range(3):
        made.requested(A, piece, 0.0)
    assert made.cancelled(A, 0, 0.0) == [DropUpload(A, 0), Upload(A, 1)]
    assert made.finished(A, 0, 0.1) == []
    assert made.cancelled(A, 0, 0.0) == []  # crossed its own reply


def test_a_choke_rejects_what_waits_and_lets_what_is_released_go_out() -> None:
    made = serving(A)
    for piece in range(4):
        made.requested(A, piece, 0.0)
    assert made.interested(A, 1.0, yes=False) == [
        Send(A, Choke()),
        Send(A, Reject(1, RejectReason.CHOKED)),
        Send(A, Reject(2, RejectReason.CHOKED)),
        Send(A, Reject(3, RejectReason.CHOKED)),
    ]
    assert made.finished(A, 0, 0.1) == []


def test_more_than_the_wire_allows_is_refused() -> None:
    made = serving(A)
    for piece in range(MAX_REQUESTS):
        made.requested(A, piece, 0.0)
    assert made.requested(A, MAX_REQUESTS, 0.0) == [Send(A, Reject(MAX_REQUESTS, RejectReason.BUSY))]


def test_a_lost_piece_is_taken_from_everybody_who_waits_for_it() -> None:
    made = serving(A, B, C)
    for piece in range(3):
        made.requested(A, piece, 0.0)
    made.requested(B, 2, 0.0)
    assert made.finished(A, 0, 0.1) == [Upload(A, 1)]
    assert made.finished(A, 1, 0.2) == [Upload(B, 2), Send(A, Reject(2, RejectReason.BUSY))]
    assert made.requested(A, 2, 0.2) == []  # it insists
    assert made.lost(PieceSet.of(3, [2]), 0.3) == [
        Send(A, Reject(2, RejectReason.NOT_STORED)),
        DropUpload(B, 2),
    ]
    assert made.finished(A, 1, 0.4) == []


def test_a_seeder_gives_nothing_twice_while_something_was_given_to_nobody() -> None:
    made = serving(A, B, C)
    busy = RejectReason.BUSY
    assert made.requested(A, 0, 0.0) == [Upload(A, 0)]
    assert made.requested(B, 0, 0.0) == [Send(B, Reject(0, busy))]
    assert made.requested(B, 1, 0.0) == []
    assert made.requested(C, 1, 0.0) == []
    told = made.uploaded(A, PIECE, 1.0)
    (given,) = [command.peer for command in told if isinstance(command, Upload)]
    assert told == [Upload(given, 1), Send(B if given == C else C, Reject(1, busy))]
    assert made.requested(B, 0, 1.0) == []  # twice it is not sent away for the same piece
    made.peer_left(A, 2.0)
    assert made.requested(C, 0, 2.0) == []  # B waits for it, but nobody has it


def test_nobody_is_sent_away_when_everything_is_out_or_by_who_is_no_seeder() -> None:
    sources = Sources()
    everybody, availability = serving(A, B, sources=sources), sources.availability
    availability.source_joined(C)
    for piece in range(SIZE - 1):
        availability.have(C, piece)
    assert uploads_of(everybody.requested(A, SIZE - 1, 0.0)) == [SIZE - 1]
    assert everybody.requested(B, 0, 0.0) == []
    leecher = serving(A, B, stored=range(SIZE - 1))
    leecher.requested(A, 0, 0.0)
    assert leecher.requested(B, 0, 0.0) == []


def test_a_piece_asked_again_right_after_its_reply_waits_for_the_books() -> None:
    made = serving(A)
    made.requested(A, 0, 0.0)
    made.requested(A, 0, 0.0)
    assert uploads_of(made.requested(A, 1, 0.0)) == []
    assert uploads_of(made.uploaded(A, PIECE, 0.1)) == [1]
    assert uploads_of(made.uploaded(A, PIECE, 0.2)) == []
    assert uploads_of(made.finished(A, 0, 0.2)) == [0]


def test_the_slot_of_a_peer_that_left_is_given_on() -> None:
    made = serving(*(PeerId(str(number)) for number in range(9)))
    assert made.peer_left(PeerId("3"), 1.0) == [Send(PeerId("8"), Unchoke())]


class Town:
    """An announcer and the peers who hear it."""

    def __init__(self, stored: range | list[int], *peers: PeerId) -> None:
        self.pieces, self.timers = some_pieces(stored), Timers()
        self.announcer = Announcer(self.pieces, self.timers)
        for peer in peers:
            self.announcer.peer_joined(peer)

    def stored(self, piece: int, now: float) -> list[Command]:
        self.pieces.requested(piece)
        self.pieces.verifying(piece)
        self.pieces.now_stored(piece)
        return self.announcer.stored([piece], now)


def test_the_first_message_of_a_session() -> None:
    assert Town([]).announcer.peer_joined(A) == [Send(A, HaveNone())]
    assert Town(range(SIZE)).announcer.peer_joined(A) == [Send(A, HaveAll())]
    field = PieceSet(SIZE)
    field.add(3)
    assert Town([3]).announcer.peer_joined(A) == [Send(A, HaveBitfield(field.to_bytes()))]


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
    assert town.timers.due(BATCH_SECONDS) == [(Wakeup.HAVES, None)]
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
    field = PieceSet(SIZE)
    field.add(1)
    field.add(2)
    assert town.announcer.peer_joined(B) == [Send(A, Have((2,))), Send(B, HaveBitfield(field.to_bytes()))]
    assert town.announcer.flush(1.0) == []
    assert town.timers.next() == math.inf


def test_a_lost_piece_is_withdrawn_unless_nobody_heard_of_it() -> None:
    town = Town([5], A)
    size = town.pieces.size
    assert town.announcer.lost(PieceSet.of(size, [5]), 0.0) == [Send(A, Withdraw(5))]
    town.stored(1, 0.0)
    town.stored(2, 0.001)
    assert town.announcer.lost(PieceSet.of(size, [2]), 0.002) == []
    assert town.announcer.flush(1.0) == []


def test_many_lost_pieces_are_one_message_or_a_new_session() -> None:
    pieces = Pieces(Layout(1, [3000]), PieceSet.all(3000))
    announcer = Announcer(pieces, Timers())
    announcer.peer_joined(A, restates=True)
    announcer.peer_joined(B)
    gone = pieces.lost_many(PieceSet.between(3000, 500, 2500))
    kept = Restate(pieces.stored.to_bytes())
    assert announcer.lost(gone, 0.0) == [Send(A, kept), Disconnect(B, "what is served has changed")]
    assert pieces.found_many(gone) == gone
    assert announcer.found(gone, 0.0)[0] == Send(A, Restate(PieceSet.all(3000).to_bytes()))


def test_restating_stays_within_what_a_peer_allows() -> None:
    pieces = Pieces(Layout(1, [3000]), PieceSet.all(3000))
    announcer = Announcer(pieces, Timers())
    announcer.peer_joined(A, restates=True)
    said = [announcer.found(PieceSet.all(3000), number / 1000)[0] for number in range(1000)]
    assert sum(isinstance(command, Send) for command in said) <= RESTATE_BURST
    assert isinstance(said[-1], Disconnect)


def test_a_message_holds_no_more_than_the_wire_allows() -> None:
    pieces = Pieces(Layout(1, [3000]), PieceSet(3000))
    announcer = Announcer(pieces, Timers())
    announcer.peer_joined(A)
    announcer.stored([0], 0.0)
    for piece in range(1, 2 * MAX_HAVE_BATCH):
        announcer.stored([piece], 0.0)
    batches = [command.message.pieces for command in announcer.flush(1.0)]
    assert [len(batch) for batch in batches] == [MAX_HAVE_BATCH, MAX_HAVE_BATCH - 1]


def test_a_seeders_slot_is_used_by_who_waits_for_its_turn() -> None:
    peers = [PeerId(str(number)) for number in range(9)]
    made = serving(*peers)
    for peer in peers[:7]:
        made.requested(peer, int(peer), 0.0)  # the uplink is slow: only the first has its turn
    told = made.round(20.0)
    assert told == [Send(peers[7], Choke()), Send(peers[8], Unchoke())]


def test_who_gives_goes_before_who_does_not_unless_what_is_asked_is_much_rarer() -> None:
    def order(copies: dict[int, int]) -> list[PeerId]:
        layout = Layout(PIECE, [PIECE] * SIZE)
        uploads = UploadQueue(
            layout,
            lambda pieces: [copies[piece] for piece in pieces],
            lambda peer, _now: 0 if peer == A else UNGIVING_COPIES,
            0.0,
        )
        for peer, piece in ((A, 0), (B, 1), (C, 2)):
            uploads.peer_joined(peer)
            uploads.add(peer, piece, 0.0)
        released: list[Release] = []
        for second in range(3):
            for peer, piece in uploads.release(float(second)):
                released.append((peer, piece))
                uploads.sent(peer, PIECE, float(second))
                uploads.finished(peer, piece, float(second))
        return [peer for peer, _ in released]

    assert order({0: UNGIVING_COPIES, 1: 1, 2: 2}) == [A, B, C]
    assert order({0: UNGIVING_COPIES + 3, 1: 4, 2: 2}) == [C, A, B]
