"""Many small pieces at once: asked for in runs, answered and stored in batches, decided as one by one."""

from __future__ import annotations

import random
from itertools import pairwise

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.content.manifest import MIN_PIECE_LENGTH
from swarm.events import PieceStored
from swarm.ids import PeerId, TransferId
from swarm.protocol.messages import HaveAll, HaveNone, Interested, Reject, RejectReason, Request, Unchoke
from swarm.protocol.protocol_limits import MAX_REQUESTS
from swarm.strategy.brain import Brain, BrainSetup
from swarm.strategy.commands import Command, Publish, Send, StorePiece, Upload
from swarm.strategy.download.pipeline import PipelineWindow
from tests.unit.test_strategy_upload import some_uploads

KIB = 1024
A, B = PeerId("a" * 40), PeerId("b" * 40)


def brain_of(length: int, pieces: int, *, stored: bool = False) -> Brain:
    layout = Layout(MIN_PIECE_LENGTH, [length] * pieces)
    have = PieceSet.all(layout.piece_count) if stored else PieceSet(layout.piece_count)
    return Brain(BrainSetup(TransferId(1), layout, have), random.Random(4), 0.0)


def asked(commands: list[Command]) -> list[int]:
    return [c.message.piece for c in commands if isinstance(c, Send) and isinstance(c.message, Request)]


def joined(brain: Brain) -> list[Command]:
    brain.source_joined(A, 0.0, rtt=0.001)
    return brain.received(A, HaveAll(), 0.0) + brain.received(A, Unchoke(), 0.0)


def trusted(brain: Brain, length: int) -> list[int]:
    """What is asked once a first piece of the source was verified."""
    (first,) = asked(joined(brain))
    brain.pieces_received(A, [(first, length)], 0.1)
    return asked(brain.pieces_stored(A, [first], 0.1))


def test_small_pieces_are_asked_for_in_runs_as_long_as_the_shortest_large_piece() -> None:
    pieces = trusted(brain_of(KIB, 2000), KIB)
    assert len(pieces) == len(set(pieces)) == MAX_REQUESTS
    starts = [piece for at, piece in enumerate(pieces) if at == 0 or piece != pieces[at - 1] + 1]
    assert MAX_REQUESTS // 16 <= len(starts) < MAX_REQUESTS // 12
    assert starts != sorted(starts)


def test_large_pieces_are_drawn_one_by_one() -> None:
    pieces = trusted(brain_of(MIN_PIECE_LENGTH, 2000), MIN_PIECE_LENGTH)
    assert sum(one + 1 == two for one, two in pairwise(pieces)) <= 1


def test_more_small_pieces_are_asked_for_when_a_quarter_has_come() -> None:
    window = PipelineWindow()
    rate = 1e9
    assert all(window.fits(number * KIB, number, rate) for number in range(MAX_REQUESTS))
    assert not window.fits(MAX_REQUESTS * KIB, MAX_REQUESTS, rate)
    for number in range(MAX_REQUESTS - 1, MAX_REQUESTS * 3 // 4, -1):
        assert not window.fits(number * KIB, number, rate)
    assert window.fits(MAX_REQUESTS * 3 // 4 * KIB, MAX_REQUESTS * 3 // 4, rate)


def test_large_pieces_are_asked_for_one_for_one() -> None:
    window = PipelineWindow()
    large = 32 * KIB
    assert not window.fits(MAX_REQUESTS * large, MAX_REQUESTS, 1e12)
    assert window.fits((MAX_REQUESTS - 1) * large, MAX_REQUESTS - 1, 1e12)


def test_pieces_that_came_together_are_decided_as_one_by_one() -> None:
    together, single = brain_of(KIB, 600), brain_of(KIB, 600)
    pieces = trusted(together, KIB)
    assert trusted(single, KIB) == pieces
    batch = pieces[:40]
    commands = together.pieces_received(A, [(piece, KIB) for piece in batch], 0.2)
    assert [c.piece for c in commands if isinstance(c, StorePiece)] == batch
    one_by_one: list[Command] = []
    for piece in batch:
        one_by_one += single.data_received(A, piece, KIB, 0.2) + single.piece_received(A, piece, 0.2)
    assert [c for c in one_by_one if isinstance(c, StorePiece)] == [
        c for c in commands if isinstance(c, StorePiece)
    ]
    stored = together.pieces_stored(A, batch, 0.3)
    assert [
        c.event.piece for c in stored if isinstance(c, Publish) and isinstance(c.event, PieceStored)
    ] == batch


def test_a_run_of_requests_is_answered_like_single_ones() -> None:
    brain = brain_of(KIB, 600, stored=True)
    brain.source_joined(A, 0.0)
    brain.received(A, HaveNone(), 0.0)
    assert brain.pieces_requested(A, [1, 2], 0.0) == [
        Send(A, Reject(1, RejectReason.CHOKED)),
        Send(A, Reject(2, RejectReason.CHOKED)),
    ]
    brain.received(A, Interested(), 0.0)
    sent = brain.pieces_requested(A, list(range(100)), 0.1)
    assert [c.piece for c in sent if isinstance(c, Upload)] == list(range(100))
    assert brain.pieces_uploaded(A, list(range(100)), 100 * KIB, 0.2) == []


def test_who_asks_for_nothing_is_not_looked_at() -> None:
    uploads = some_uploads(A, B, length=KIB)
    uploads.add(A, 1, 0.0)
    uploads.add(B, 1, 0.0)
    assert uploads.waits_for([0, 1]) == [(A, 1), (B, 1)]
    assert {peer for peer, _ in uploads.release(0.0)} == {A, B}
    assert uploads.waits_for([0, 1]) == []
    assert uploads.kept_waiting() == []
    uploads.peer_left(A, 0.1)
    uploads.finished(B, 1, 0.1)
    assert uploads.next_look() == float("inf")
