"""How far a transfer is: exact counts, rates of the last seconds, every event passed on."""

from __future__ import annotations

import pytest

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    PeerDisconnected,
    PieceLost,
    PieceRefused,
    PieceStored,
    PieceWasted,
)
from swarm.ids import PeerId, TransferId
from swarm.transfer.progress import Progress, TransferRecord

ONE = TransferId(1)
A = PeerId("A")
B = PeerId("B")
PIECE = 16384
LAYOUT = Layout(PIECE, [9 * PIECE + 100, 0])
"""Ten pieces, the last of 100 bytes."""


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def some(*pieces: int) -> PieceSet:
    found = PieceSet(LAYOUT.piece_count)
    for piece in pieces:
        found.add(piece)
    return found


class Recording:
    def __init__(self, stored: PieceSet, wanted: PieceSet) -> None:
        self.clock = Clock()
        self.told: list[Event] = []
        self.record = TransferRecord(ONE, self.told.append, self.clock)
        self.record.begin(LAYOUT, stored, wanted)

    def now(self, *, complete: bool = False) -> Progress:
        return self.record.progress(peers=2, complete=complete, paused=False)


def test_the_wanted_pieces_that_are_here_count_from_the_start() -> None:
    made = Recording(some(0, 5, 9), some(5, 6, 9))
    progress = made.now()
    assert (progress.done, progress.total) == (PIECE + 100, 2 * PIECE + 100)
    assert (progress.pieces_done, progress.pieces, progress.peers) == (2, 3, 2)


def test_all_of_it_is_the_length_of_the_content() -> None:
    everything = PieceSet.all(LAYOUT.piece_count)
    made = Recording(everything, everything)
    assert (made.now().done, made.now().total) == (9 * PIECE + 100, 9 * PIECE + 100)


def test_pieces_that_come_and_go_are_counted_if_they_are_wanted() -> None:
    made = Recording(some(), some(5, 6, 9))
    for event in (
        PieceStored(ONE, 9, 100, A),
        PieceStored(ONE, 5, PIECE, A),
        PieceStored(ONE, 1, PIECE, A),
        PieceLost(ONE, 5, PIECE),
        PieceLost(ONE, 1, PIECE),
    ):
        made.record.publish(event)
    assert (made.now().done, made.now().pieces_done) == (100, 1)
    made.record.publish(PieceStored(ONE, 5, PIECE, A))
    made.record.publish(PieceStored(ONE, 6, PIECE, A))
    assert (made.now().done, made.now().pieces_done) == (made.now().total, 3)


def test_waste_and_moved_bytes_are_summed_up_and_every_event_is_passed_on() -> None:
    made = Recording(some(), some(5))
    events: list[Event] = [
        BytesReceived(ONE, A, 70),
        BytesReceived(ONE, A, 7),
        BytesSent(ONE, A, 5),
        PieceRefused(ONE, 5, 40, A),
        PieceWasted(ONE, 5, 3, A),
        PeerDisconnected(ONE, A, "gone"),
    ]
    for event in events:
        made.record.publish(event)
    progress = made.now()
    assert (progress.received, progress.sent, progress.wasted) == (77, 5, 43)
    assert (progress.done, progress.pieces_done) == (0, 0)
    assert made.told == events


def test_rates_and_the_time_that_is_left_follow_what_arrives() -> None:
    made = Recording(some(), PieceSet.all(LAYOUT.piece_count))
    assert made.now().seconds_left is None
    for _ in range(100):
        made.clock.now += 0.1
        made.record.publish(BytesReceived(ONE, A, 1000))
        made.record.publish(BytesSent(ONE, A, 200))
    progress = made.now()
    assert progress.rate == pytest.approx(10_000, rel=0.06)
    assert progress.upload_rate == pytest.approx(2000, rel=0.06)
    assert progress.seconds_left == pytest.approx(progress.total / 10_000, rel=0.06)
    assert made.now(complete=True).seconds_left is None
    made.clock.now += 600
    assert made.now().seconds_left is None


def test_before_it_is_known_what_is_wanted_nothing_is_done() -> None:
    record = TransferRecord(ONE, lambda _: None, Clock())
    progress = record.progress(peers=0, complete=False, paused=True)
    assert (progress.done, progress.total, progress.pieces, progress.paused) == (0, 0, 0, True)


def test_bytes_count_as_an_advance_only_as_far_as_they_may_belong_to_a_piece() -> None:
    made = Recording(some(), PieceSet.all(LAYOUT.piece_count))
    assert made.record.advanced_at is None
    made.record.publish(BytesReceived(ONE, A, PIECE))
    assert made.record.advanced_at == 50
    made.clock.now = 60
    # The beginning of a second piece, and the first was not right: so it may go on for ever.
    made.record.publish(BytesReceived(ONE, A, 100))
    assert made.record.advanced_at == 50
    made.record.publish(BytesReceived(ONE, B, 100))
    assert made.record.advanced_at == 60
    made.clock.now = 70
    made.record.publish(PieceStored(ONE, 3, PIECE, B))
    made.clock.now = 80
    made.record.publish(BytesReceived(ONE, A, 100))
    assert made.record.advanced_at == 80
