"""The contract of the brain: inputs, and the commands that follow."""

from __future__ import annotations

import math
import random

import pytest

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.events import PieceLost, PieceRefused, PieceRequested, PieceStored, PieceWasted
from swarm.ids import PeerId, SourceId, TransferId
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Goodbye,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Interested,
    KeepAlive,
    NotInterested,
    Peers,
    Reject,
    RejectReason,
    Request,
    Unchoke,
    Withdraw,
)
from swarm.protocol.protocol_limits import MAX_REQUESTS
from swarm.strategy.brain import Brain, BrainSetup
from swarm.strategy.commands import Ban, Command, Disconnect, Publish, Send, StorePiece, Upload
from swarm.strategy.download.requests import MOST_BACKOFF
from swarm.strategy.download.timeouts import (
    CANCEL_SECONDS,
    LEAST_RATE,
    PROVEN_SILENCE_SECONDS,
    RECHECK_SECONDS,
    SILENCE_SECONDS,
)
from swarm.strategy.upload.choker import SLOTS, UNLIMITED_SLOTS

TRANSFER = TransferId(1)
A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
PIECE = 128 << 10


def a_brain(size: int = 8, stored: range | list[int] = (), *, length: int = PIECE) -> Brain:
    field = PieceSet(size)
    for piece in stored:
        field.add(piece)
    layout = Layout(length, [length * size])
    return Brain(BrainSetup(TRANSFER, layout, field), random.Random(1), 0.0)


def requests(commands: list[Command], peer: PeerId) -> list[int]:
    return [
        c.message.piece
        for c in commands
        if isinstance(c, Send) and c.source == peer and isinstance(c.message, Request)
    ]


def sent(commands: list[Command], peer: PeerId) -> list[object]:
    return [c.message for c in commands if isinstance(c, Send) and c.source == peer]


def published(commands: list[Command]) -> list[object]:
    return [c.event for c in commands if isinstance(c, Publish)]


def source(brain: Brain, peer: PeerId, now: float = 0.0, *, has: object = None) -> list[int]:
    """A peer with everything, of which a piece was verified, joins and unchokes us; what it is asked for."""
    brain.source_joined(peer, now, rtt=0.01)
    brain._download.requests.verified(peer)
    brain.received(peer, has or HaveAll(), now)
    return requests(brain.received(peer, Unchoke(), now), peer)


def deliver(brain: Brain, peer: PeerId, piece: int, now: float) -> list[Command]:
    """The piece arrives and is stored; everything that follows, in order."""
    commands = brain.data_received(peer, piece, PIECE, now) + brain.piece_received(peer, piece, now)
    assert commands[-1] == StorePiece(peer, piece)
    return commands[:-1] + brain.piece_stored(peer, piece, now)


def test_the_first_answer_to_a_session_is_the_announcement() -> None:
    assert a_brain().source_joined(A, 0.0, rtt=None) == [Send(A, HaveNone())]
    assert a_brain(8, range(8)).source_joined(A, 0.0, rtt=0.1) == [Send(A, HaveAll())]
    assert a_brain(8, [0]).source_joined(A, 0.0, rtt=0.1) == [Send(A, HaveBitfield(b"\x80"))]


def test_a_peer_is_asked_for_one_piece_until_one_of_it_is_verified() -> None:
    brain = a_brain(8)
    brain.source_joined(A, 0.0, rtt=0.01)
    brain.received(A, HaveAll(), 0.0)
    (first,) = requests(brain.received(A, Unchoke(), 0.0), A)
    arrived = brain.data_received(A, first, PIECE, 0.1) + brain.piece_received(A, first, 0.1)
    assert requests(arrived, A) == []
    assert len(requests(brain.piece_stored(A, first, 0.2), A)) > 1
    source(brain, B, 0.2)
    assert brain._download.requests.queues[A].trusted


def test_interest_follows_what_the_peer_has() -> None:
    brain = a_brain(8, [0, 1])
    brain.source_joined(A, 0.0, rtt=None)
    assert brain.received(A, HaveBitfield(b"\xc0"), 0.0) == []
    assert brain.received(A, Have((2,)), 0.0) == [Send(A, Interested())]
    assert brain.received(A, Have((3,)), 0.0) == []
    assert brain.received(A, Withdraw(3), 0.0) == []
    assert brain.received(A, Withdraw(2), 0.0) == [Send(A, NotInterested())]


def test_an_unchoke_is_answered_with_requests_and_their_reasons() -> None:
    brain = a_brain()
    brain.source_joined(A, 0.0, rtt=0.0123)
    brain.received(A, HaveAll(), 0.0)
    commands = brain.received(A, Unchoke(), 0.0)
    asked = requests(commands, A)
    assert len(asked) == 1  # until it is verified
    events = published(commands)
    assert [event.piece for event in events] == asked
    assert events[0] == PieceRequested(TRANSFER, asked[0], A, "rarest (1 have it); new source, rtt 12.3 ms")


def test_every_arrival_is_followed_by_a_request_before_the_piece_is_stored() -> None:
    brain = a_brain()
    first, _ = source(brain, A)
    brain.data_received(A, first, PIECE, 0.1)
    commands = brain.piece_received(A, first, 0.1)
    assert requests(commands, A)
    assert commands[-1] == StorePiece(A, first)


def test_a_stored_piece_is_published_and_announced_to_all() -> None:
    brain = a_brain()
    brain.source_joined(B, 0.0, rtt=None)
    piece, _ = source(brain, A)
    brain.piece_received(A, piece, 0.1)
    assert brain.piece_stored(A, piece, 0.1) == [
        Publish(PieceStored(TRANSFER, piece, PIECE, A)),
        Send(B, Have((piece,))),
        Send(A, Have((piece,))),
    ]


def test_at_the_end_nobody_is_interesting_and_nothing_is_due() -> None:
    brain = a_brain(2)
    asked = source(brain, A)
    now = 0.0
    for piece in asked:
        now += 0.001
        commands = deliver(brain, A, piece, now)
    assert brain.complete
    assert sent(commands, A)[-2:] == [Have((asked[1],)), NotInterested()]
    brain.tick(brain.next_wakeup() if brain.next_wakeup() < math.inf else now)
    assert brain.next_wakeup() == math.inf
    assert list(brain.missing()) == []


def test_small_pieces_are_asked_for_up_to_the_wires_limit() -> None:
    assert len(source(a_brain(10_000, length=1024), A)) == MAX_REQUESTS


def test_every_input_about_an_unknown_peer_is_ignored() -> None:
    brain = a_brain(8, [0])
    inputs = [
        brain.source_left(A, 0.0),
        *(
            brain.received(A, message, 0.0)
            for message in (HaveAll(), Unchoke(), Interested(), Request(0), Cancel(0))
        ),
        brain.received(A, Reject(1, RejectReason.BUSY), 0.0),
        brain.data_received(A, 1, 5, 0.0),
        brain.piece_received(A, 1, 0.0),
        brain.uploaded(A, 0, 5, 0.0),
        brain.upload_finished(A, 0, 0.0),
        brain.round_trip(A, None, 0.0),
    ]
    assert inputs == [[]] * len(inputs)
    assert brain.next_wakeup() == math.inf


def test_what_is_not_the_brains_business_is_ignored() -> None:
    brain = a_brain()
    brain.source_joined(A, 0.0, rtt=None)
    for message in (KeepAlive(), Peers(), Goodbye("bye")):
        assert brain.received(A, message, 0.0) == []


def test_a_second_join_ends_the_first() -> None:
    brain = a_brain(2)
    asked = source(brain, A)
    brain.source_joined(A, 1.0, rtt=None)
    brain.received(A, HaveAll(), 1.0)
    (again,) = requests(brain.received(A, Unchoke(), 1.0), A)
    assert again in asked


def test_a_bad_piece_bans_exactly_its_sender_and_is_asked_elsewhere() -> None:
    brain = a_brain(2)
    asked = source(brain, A)
    assert source(brain, B) == []
    brain.piece_received(A, asked[0], 1.0)
    commands = brain.piece_refused(A, asked[0], 1.0)
    assert commands[0] == Publish(PieceRefused(TRANSFER, asked[0], PIECE, A))
    assert commands[1] == Ban(A, f"piece {asked[0]} does not match its hash", asked[0])
    assert sorted(requests(commands, B)) == [0, 1]
    assert sent(commands, A) == []
    assert brain.source_left(A, 1.1) == []


def test_a_leaving_peers_requests_go_to_the_others_in_turn() -> None:
    brain = a_brain(4)
    asked = source(brain, A)
    brain.received(A, Have(()), 0.0)
    rest = source(brain, B)
    assert sorted(asked + rest) == [0, 1, 2, 3]
    assert source(brain, C) == []
    commands = brain.source_left(A, 1.0)
    assert sorted(requests(commands, C)) == sorted(asked)


def test_a_choke_is_waited_out_and_its_rejects_are_no_strikes() -> None:
    brain = a_brain(2)
    asked = source(brain, A)
    for _ in range(5):
        assert brain.received(A, Choke(), 1.0) == []
        for piece in asked:
            assert requests(brain.received(A, Reject(piece, RejectReason.CHOKED), 1.0), A) == []
        assert sorted(requests(brain.received(A, Unchoke(), 1.0), A)) == [0, 1]


def test_rejects_of_an_unchoking_peer_cost_time_and_in_the_end_the_claim() -> None:
    brain = a_brain(1)
    source(brain, A)
    now, waits = 0.0, []
    for _ in range(2):
        assert brain.received(A, Reject(0, RejectReason.READ_FAILED), now) == []
        waits.append(brain.next_wakeup() - now)
        now = brain.next_wakeup()
        assert requests(brain.tick(now), A) == [0]
    assert waits == pytest.approx([0.1, 0.2])
    assert brain.received(A, Reject(0, RejectReason.READ_FAILED), now) == [Send(A, NotInterested())]
    assert list(brain.missing()) == [0]
    while (at := brain.next_wakeup()) < now + MOST_BACKOFF:
        assert brain.tick(at) == []
    commands = brain.tick(now + MOST_BACKOFF)
    assert sent(commands, A) == [Interested(), Request(0)]


def test_who_is_too_busy_for_a_piece_is_asked_for_all_others_first_and_then_counts_as_failing() -> None:
    brain = a_brain(8)
    waiting = source(brain, A)
    refused: list[int] = []
    while waiting and len(refused) < 20:
        refused.append(waiting.pop(0))
        waiting += requests(brain.received(A, Reject(refused[-1], RejectReason.BUSY), 0.1), A)
    assert sorted(refused[:8]) == list(range(8))
    assert 8 < len(refused) < 20
    assert 0.1 < brain.next_wakeup() < 1.0  # from then on it is left alone for a while
    waiting = []
    while not waiting:
        waiting = requests(brain.tick(now := brain.next_wakeup()), A)
    assert now < 1.0
    deliver(brain, A, waiting[0], 1.0)
    assert brain.received(A, Reject(refused[0], RejectReason.BUSY), 1.1) == []  # not asked for


def test_a_denied_piece_is_asked_elsewhere_at_once() -> None:
    brain = a_brain(1)
    source(brain, A)
    assert source(brain, B) == []
    commands = brain.received(A, Reject(0, RejectReason.NOT_STORED), 1.0)
    assert sent(commands, A) == [NotInterested()]
    assert requests(commands, B) == [0]


def test_a_withdrawn_piece_does_not_come_back_by_itself() -> None:
    brain = a_brain(1)
    source(brain, A)
    brain.received(A, Withdraw(0), 1.0)
    brain.received(A, Reject(0, RejectReason.NOT_STORED), 1.0)
    while (at := brain.next_wakeup()) < math.inf:
        assert brain.tick(at) == []
    assert list(brain.missing()) == [0]
    assert sent(brain.received(A, Have((0,)), 99.0), A) == [Interested(), Request(0)]


def stalled(brain: Brain) -> tuple[list[int], list[Command]]:
    """A holds two requests in silence, B has the same two pieces; until they move."""
    asked = source(brain, A)
    bits = HaveBitfield(bytes([0x80 >> asked[0] | 0x80 >> asked[1]]))
    assert source(brain, B, has=bits) == []
    commands: list[Command] = []
    while not commands:
        at = brain.next_wakeup()
        commands = brain.tick(at)
    assert at == PROVEN_SILENCE_SECONDS
    return asked, commands


def test_a_silent_peer_is_cancelled_and_its_late_piece_is_dropped() -> None:
    brain = a_brain(8)
    asked, commands = stalled(brain)
    assert sent(commands, A) == [Cancel(piece) for piece in asked]
    assert sorted(requests(commands, B)) == sorted(asked)
    brain.data_received(A, asked[0], PIECE, 6.0)
    commands = brain.piece_received(A, asked[0], 6.0)
    assert published(commands)[0] == PieceWasted(TRANSFER, asked[0], PIECE, A)
    assert not any(isinstance(command, StorePiece) for command in commands)


@pytest.mark.parametrize("spent", [0, 1, PIECE])
def test_who_never_delivered_is_given_no_time_though_it_answers_pings(spent: int) -> None:
    brain = a_brain(8)
    brain.source_joined(A, 0.0, rtt=0.01)
    brain.received(A, HaveAll(), 0.0)
    asked = requests(brain.received(A, Unchoke(), 0.0), A)
    brain._download._endgame.wasted(spent)
    source(brain, B, has=HaveBitfield(bytes([0x80 >> asked[0]])))
    moved: list[object] = []
    while not moved:
        brain.round_trip(A, 0.1, at := brain.next_wakeup())
        moved = [message for message in sent(brain.tick(at), A) if isinstance(message, Cancel)]
    assert at == pytest.approx(SILENCE_SECONDS, abs=0.1)


def test_a_back_off_that_grew_while_it_ran_ends_all_the_same() -> None:
    brain = a_brain(8)
    for piece in source(brain, A):  # each failure lengthens the back-off, whose alarm is set
        brain.received(A, Reject(piece, RejectReason.READ_FAILED), 0.0)
    asked: list[int] = []
    while brain.next_wakeup() < 1.0:
        asked += requests(brain.tick(brain.next_wakeup()), A)
    assert asked


def test_drops_buy_a_silent_peer_no_more_time() -> None:
    brain = a_brain(8)
    asked = source(brain, A)
    source(brain, B, has=HaveBitfield(bytes([0x80 >> asked[0] | 0x80 >> asked[1]])))
    moved: list[object] = []
    at = 0.0
    while not moved:
        before, at = at, brain.next_wakeup()
        brain.round_trip(A, 0.1, at)
        brain.data_received(A, asked[0], int(0.7 * LEAST_RATE * (at - before)), at)
        moved = [message for message in sent(brain.tick(at), A) if isinstance(message, Cancel)]
        assert at < PROVEN_SILENCE_SECONDS + 2


def test_a_snubbed_peer_is_asked_for_one_piece_until_it_delivers() -> None:
    brain = a_brain(8)
    asked, _ = stalled(brain)
    for piece in asked:
        assert requests(brain.received(A, Reject(piece, RejectReason.CANCELLED), 6.0), A) == []
    only: list[int] = []
    while not only:
        now = brain.next_wakeup()
        only = requests(brain.tick(now), A)
    assert now == PROVEN_SILENCE_SECONDS + SILENCE_SECONDS
    assert len(only) == 1
    assert brain.data_received(A, only[0], PIECE, now + 0.1) == []
    assert requests(brain.piece_received(A, only[0], now + 0.1), A)
    assert not brain._download.snubbed(A)


@pytest.mark.parametrize("served", [True, False])
def test_who_never_delivered_and_falls_silent_waits_long_where_others_deliver(served: bool) -> None:
    brain = a_brain(40)
    brain.source_joined(A, 0.0, rtt=0.01)
    brain.received(A, HaveAll(), 0.0)
    asked = requests(brain.received(A, Unchoke(), 0.0), A)
    queue = source(brain, B)
    brain._download.requests.queues[B].trusted = served
    second = 0.0
    while not brain._download.snubbed(A):
        second += 1.0
        queue = [*queue[1:], *requests(deliver(brain, B, queue[0], second), B)]
        brain._download.requests.queues[B].trusted = served
        brain.tick(second)
    assert second == SILENCE_SECONDS
    wait = brain._download.requests.queues[A].retry_at - second
    assert wait == (MOST_BACKOFF if served else SILENCE_SECONDS)
    assert asked


def test_the_first_of_two_copies_wins_and_the_loser_is_cancelled() -> None:
    brain = a_brain(1)
    source(brain, A)
    assert source(brain, B) == []
    commands: list[Command] = []
    while not requests(commands, B):
        commands = brain.tick(brain.next_wakeup())
    assert "endgame" in published(commands)[0].why
    assert sent(commands, A) == []
    commands = brain.piece_received(B, 0, 4.0)
    assert commands == [Send(A, Cancel(0)), StorePiece(B, 0)]


def test_a_peer_that_never_answers_a_cancel_is_disconnected() -> None:
    brain = a_brain(2)
    source(brain, A)
    source(brain, B)
    commands: list[Command] = []
    while not any(isinstance(command, Disconnect) for command in commands):
        at = brain.next_wakeup()
        assert at < 200
        commands = brain.tick(at)
    assert Disconnect(A, "does not answer cancelled requests") in commands
    assert at == PROVEN_SILENCE_SECONDS + CANCEL_SECONDS


def test_three_lost_pings_disconnect() -> None:
    brain = a_brain()
    brain.source_joined(A, 0.0, rtt=None)
    assert brain.round_trip(A, None, 1.0) == []
    assert brain.round_trip(A, None, 2.0) == []
    assert brain.round_trip(A, None, 3.0) == [Disconnect(A, "does not answer pings")]


def test_our_own_disks_refusal_blames_nobody_and_is_not_hurried() -> None:
    brain = a_brain(1)
    source(brain, A)
    brain.piece_received(A, 0, 1.0)
    assert brain.piece_failed(A, 0, 1.0) == []
    commands: list[Command] = []
    while not commands:
        at = brain.next_wakeup()
        commands = brain.tick(at)
    assert at == 1.0 + RECHECK_SECONDS
    assert requests(commands, A) == [0]


def test_a_lost_piece_is_withdrawn_and_fetched_again() -> None:
    brain = a_brain(2, [0])
    source(brain, A, has=HaveBitfield(b"\x80"))
    commands = brain.piece_lost(0, 1.0)
    assert published(commands)[0] == PieceLost(TRANSFER, 0, PIECE)
    assert sent(commands, A) == [Withdraw(0), Interested(), Request(0)]
    assert brain.piece_lost(0, 1.0) == []


def test_a_seeder_does_not_fetch_what_it_loses() -> None:
    brain = a_brain(2, [0, 1])
    source(brain, A)
    commands = brain.piece_lost(0, 1.0)
    assert sent(commands, A) == [Withdraw(0)]
    assert brain.complete
    assert sent(brain.source_joined(B, 2.0, rtt=None), B) == [HaveBitfield(b"\x40")]


def test_missing_is_what_nobody_connected_has() -> None:
    brain = a_brain(8, [0])
    assert list(brain.missing()) == [1, 2, 3, 4, 5, 6, 7]
    brain.source_joined(A, 0.0, rtt=None)
    brain.received(A, HaveBitfield(b"\xf0"), 0.0)
    brain.source_joined(B, 0.0, rtt=None)
    brain.received(B, Have((6,)), 0.0)
    assert list(brain.missing()) == [4, 5, 7]
    brain.source_left(B, 1.0)
    assert list(brain.missing()) == [4, 5, 6, 7]
    brain.received(A, HaveAll(), 0.0)
    assert list(brain.missing()) == []


def test_a_request_is_served_from_the_moment_the_piece_is_stored() -> None:
    brain = a_brain()
    piece, _ = source(brain, A)
    brain.source_joined(B, 0.0, rtt=None)
    assert sent(brain.received(B, Interested(), 0.0), B) == [Unchoke()]
    assert sent(brain.received(B, Request(piece), 0.0), B) == [Reject(piece, RejectReason.NOT_STORED)]
    deliver(brain, A, piece, 0.1)
    assert brain.received(B, Request(piece), 0.2) == [Upload(B, piece)]
    assert brain.uploaded(B, piece, PIECE, 0.3) == []
    assert brain.upload_finished(B, piece, 0.3) == []


def a_selection(*pieces: int) -> PieceSet:
    wanted = PieceSet(8)
    for piece in pieces:
        wanted.add(piece)
    return wanted


def test_a_selection_is_all_that_is_asked_for_and_all_that_is_needed() -> None:
    layout = Layout(PIECE, [PIECE * 8])
    setup = BrainSetup(TRANSFER, layout, PieceSet(8), wanted=a_selection(2, 5))
    brain = Brain(setup, random.Random(1), 0.0)
    assert sorted(source(brain, A)) == [2, 5]
    deliver(brain, A, 2, 1.0)
    assert not brain.complete
    assert Send(A, NotInterested()) in deliver(brain, A, 5, 2.0)
    assert brain.complete
    brain.source_left(A, 3.0)
    assert list(brain.missing()) == []


def test_a_sequential_fetch_asks_mostly_in_order() -> None:
    layout = Layout(PIECE, [PIECE * 100])
    setup = BrainSetup(TRANSFER, layout, PieceSet(100), sequential=True)
    brain = Brain(setup, random.Random(1), 0.0)
    order = source(brain, A)
    for number in range(40):
        order += requests(deliver(brain, A, order[number], number / 5), A)
    assert len(set(order[:40]) & set(range(40))) > 28
    assert set(order[:40]) - set(range(40))


FOLDER = SourceId("file:///somewhere")


def a_folder(brain: Brain, message: object, now: float = 0.0) -> list[Command]:
    """A source that is no peer joins, says what it has and serves us; everything that follows."""
    commands = brain.source_joined(FOLDER, now, receives=False)
    return [*commands, *brain.received(FOLDER, message, now), *brain.received(FOLDER, Unchoke(), now)]


def test_a_source_that_is_no_peer_is_asked_and_told_nothing_else() -> None:
    brain = a_brain(8)
    commands = a_folder(brain, HaveAll())
    (first,) = requests(commands, FOLDER)
    assert sent(commands, FOLDER) == [Request(first)]
    commands = deliver(brain, FOLDER, first, 0.1)
    assert published(commands)[0] == PieceStored(TRANSFER, first, PIECE, FOLDER)
    assert len(requests(commands, FOLDER)) > 1
    everything, waiting = list(commands), requests(commands, FOLDER)
    while waiting:
        commands = deliver(brain, FOLDER, waiting.pop(0), 0.2)
        waiting += requests(commands, FOLDER)
        everything += commands
    assert brain.complete
    assert {type(message) for message in sent(everything, FOLDER)} == {Request}


def test_a_source_that_is_no_peer_is_never_served() -> None:
    brain = a_brain(8, [0, 1])
    a_folder(brain, HaveAll())
    for message in (Interested(), Request(0), Cancel(0), NotInterested()):
        assert brain.received(FOLDER, message, 0.1) == []
    assert brain.uploaded(FOLDER, 0, 1, 0.1) == brain.upload_finished(FOLDER, 0, 0.1) == []


def test_what_a_source_that_is_no_peer_has_is_not_passed_on_by_it() -> None:
    """A piece that only a folder has is the first that a lone uploader sends."""
    brain = a_brain(8, [0, 1, 2])
    a_folder(brain, HaveBitfield(b"\x40"))
    for peer in (A, B, C):
        brain.source_joined(peer, 0.0)
        brain.received(peer, Interested(), 0.0)
    brain.received(C, HaveBitfield(b"\x80"), 0.0)
    assert brain.received(A, Request(2), 0.0) == [Upload(A, 2)]
    assert brain.received(B, Request(0), 0.0) == brain.received(B, Request(1), 0.0) == []
    assert brain.uploaded(A, 2, PIECE, 1.0)[0] == Upload(B, 1)


def test_a_source_that_is_no_peer_leaves_and_its_requests_go_elsewhere() -> None:
    brain = a_brain(2)
    (asked,) = requests(a_folder(brain, HaveAll()), FOLDER)
    source(brain, A)
    assert asked in requests(brain.source_left(FOLDER, 1.0), A)


def test_a_rate_limit_that_is_set_later_decides_how_many_peers_are_served() -> None:
    brain = a_brain(8, range(8))
    peers = [PeerId(f"peer {number}") for number in range(UNLIMITED_SLOTS)]
    served = set()
    for peer in peers:
        brain.source_joined(peer, 0.0, rtt=0.01)
        brain.received(peer, HaveNone(), 0.0)
        served |= {c.source for c in brain.received(peer, Interested(), 0.0) if c == Send(peer, Unchoke())}
    assert served == set(peers)
    limited = brain.limits_changed(1.0, upload_limited=True, download_limited=False)
    assert [c.message for c in limited if isinstance(c, Send)] == [Choke()] * (UNLIMITED_SLOTS - SLOTS)
    assert brain.limits_changed(2.0, upload_limited=True, download_limited=True) == []
    free = brain.limits_changed(3.0, upload_limited=False, download_limited=False)
    assert [c.message for c in free if isinstance(c, Send)] == [Unchoke()] * (UNLIMITED_SLOTS - SLOTS)


@pytest.mark.parametrize("throttled", [False, True])
def test_under_a_download_limit_that_is_set_later_a_slow_source_is_not_silent(throttled: bool) -> None:
    brain = a_brain(8)
    asked = source(brain, A)
    source(brain, B, has=HaveBitfield(bytes([0x80 >> asked[0] | 0x80 >> asked[1]])))
    brain.limits_changed(0.0, upload_limited=False, download_limited=throttled)
    cancelled: list[object] = []
    for second in range(1, 20):
        commands = brain.data_received(A, asked[0], 100, float(second)) + brain.tick(float(second))
        cancelled += [message for message in sent(commands, A) if isinstance(message, Cancel)]
    assert bool(cancelled) is not throttled
