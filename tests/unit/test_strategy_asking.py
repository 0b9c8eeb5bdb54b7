"""Depth, deadlines and claims: the numbers behind what is asked of a peer."""

from __future__ import annotations

import math

import pytest

from swarm.ids import PeerId
from swarm.protocol.protocol_limits import MAX_REQUESTS
from swarm.strategy.availability import Availability
from swarm.strategy.download.endgame import OVERDUE_SECONDS
from swarm.strategy.download.pipeline import (
    FIRST_BYTES,
    MOST_BYTES,
    QUEUE_SECONDS,
    PipelineWindow,
    demand,
)
from swarm.strategy.download.requests import (
    MOST_BACKOFF,
    Claims,
    DownloadRequests,
)
from swarm.strategy.download.timeouts import (
    CANCEL_SECONDS,
    LEAST_BYTES,
    PROVEN_SILENCE_SECONDS,
    RECHECK_SECONDS,
    SILENCE_SECONDS,
    Timeouts,
)

KIB = 1024
A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def depth(window: PipelineWindow, length: int, needed: float) -> int:
    """How many requests of ``length`` bytes the window takes."""
    count = 0
    while window.fits(count * length, count, needed):
        count += 1
    return count


def test_a_new_peer_gets_the_first_window() -> None:
    assert depth(PipelineWindow(), 64 * KIB, 0.0) == FIRST_BYTES // (64 * KIB)


def test_one_request_whatever_a_piece_measures() -> None:
    assert depth(PipelineWindow(), 16 << 20, 0.0) == 1


def test_small_pieces_fill_the_wire_limit_at_once() -> None:
    assert depth(PipelineWindow(), KIB, 0.0) == MAX_REQUESTS


def test_slow_start_doubles_until_the_rate_is_known() -> None:
    window = PipelineWindow()
    window.asked(0.0)
    sizes = []
    for trip in range(1, 4):
        size = depth(window, 64 * KIB, 0.0)
        sizes.append(size)
        for _ in range(size):
            window.delivered(64 * KIB, 0.0, trip * 0.1)
    assert sizes == [4, 8, 16]


def test_slow_start_ends_when_the_window_is_twice_the_demand() -> None:
    window = PipelineWindow()
    window.asked(0.0)
    for _ in range(16):
        window.delivered(64 * KIB, 1e5, 0.5)  # too young to tell
    assert depth(window, 64 * KIB, 1e5) == 20
    window.delivered(64 * KIB, 1e5, 1.0)
    assert depth(window, 64 * KIB, 1e5) == 2
    assert depth(window, 64 * KIB, 640 * KIB) == 10  # from here on the demand decides


def test_a_window_has_an_end() -> None:
    window = PipelineWindow()
    window.asked(0.0)
    for _ in range(10_000):
        window.delivered(64 * KIB, 1e12, 5.0)
    assert depth(window, 256 * KIB, 1e12) == MOST_BYTES // (256 * KIB)
    assert depth(window, KIB, 1e12) == MAX_REQUESTS


def test_demand_is_rate_times_round_trip_and_queue_time() -> None:
    assert demand(1e6, 0.2) == pytest.approx(1e6 * (0.2 + QUEUE_SECONDS))


class Lines:
    """Requests of 100-KiB pieces at peers who all have everything and choke nobody."""

    def __init__(self, *peers: PeerId, throttled: bool = False) -> None:
        self.availability, self.requests = Availability(64), DownloadRequests(64)
        self.stalls = Timeouts(self.availability, self.requests, throttled=throttled)
        for peer in peers:
            self.availability.source_joined(peer)
            self.requests.source_joined(peer)
            self.requests.choked(peer, yes=False)
            for piece in range(64):
                self.availability.have(peer, piece)

    def ask(self, peer: PeerId, pieces: range, now: float) -> None:
        for piece in pieces:
            if not self.requests.queues[peer].asked:
                self.stalls.moved(peer, now)
            self.requests.ask(peer, piece, 100 * KIB, now)

    def move(self, peer: PeerId, now: float) -> list[int] | None:
        """What moves if the peer is silent by now; None if it is not."""
        return self.stalls.movable(peer, now) if self.stalls.is_silent(peer, now) else None

    def data(self, peer: PeerId, piece: int, size: int, now: float) -> None:
        assert self.requests.progress(peer, piece, size, now)
        self.stalls.received(peer, size, now)


def test_a_silent_peer_loses_everything_and_is_snubbed() -> None:
    lines = Lines(A, B)
    lines.ask(A, range(3), 1.0)
    assert lines.move(A, 1.0 + SILENCE_SECONDS - 0.01) is None
    assert lines.stalls.next_look(A, 2.0) == 1.0 + SILENCE_SECONDS
    assert lines.move(A, 1.0 + SILENCE_SECONDS) == [0, 1, 2]


def test_a_trickle_is_silence() -> None:
    lines = Lines(A, B)
    lines.ask(A, range(1), 0.0)
    for second in range(1, 6):
        lines.data(A, 0, 1, float(second))
    assert lines.move(A, 5.0) == [0]


def test_a_source_that_has_delivered_is_given_two_seconds_more() -> None:
    lines = Lines(A, B)
    lines.requests.verified(A)
    lines.ask(A, range(1), 0.0)
    assert lines.move(A, PROVEN_SILENCE_SECONDS - 0.1) is None
    assert lines.move(A, PROVEN_SILENCE_SECONDS) == [0]


def test_pings_break_the_silence_once_the_allowance_is_spent_until_the_request_is_overdue() -> None:
    lines = Lines(A, B)
    lines.requests.verified(A)
    lines.ask(A, range(1), 0.0)
    lines.stalls.answered(A, 4.0)
    assert lines.move(A, PROVEN_SILENCE_SECONDS) == [0]
    lines.stalls.allowance_is(spent=True)
    assert lines.move(A, PROVEN_SILENCE_SECONDS) is None
    assert lines.stalls.next_look(A, PROVEN_SILENCE_SECONDS) == 4.0 + PROVEN_SILENCE_SECONDS
    assert lines.move(A, 4.0 + PROVEN_SILENCE_SECONDS) == [0]  # it answers no more: it may have crashed
    for second in range(5, 30, 2):
        lines.stalls.answered(A, float(second))
    assert lines.move(A, OVERDUE_SECONDS - 0.1) is None
    assert lines.move(A, OVERDUE_SECONDS) == [0]


def test_a_ping_that_was_answered_before_the_request_counts_for_nothing() -> None:
    lines = Lines(A, B)
    lines.requests.verified(A)
    lines.stalls.allowance_is(spent=True)
    lines.stalls.answered(A, 1.0)
    lines.ask(A, range(1), 10.0)
    assert lines.stalls.next_look(A, 10.0) == 10.0 + PROVEN_SILENCE_SECONDS


def test_of_two_sources_the_first_that_begins_keeps_the_piece() -> None:
    requests = DownloadRequests(64)
    for source in (A, B):
        requests.source_joined(source)
        requests.verified(source)
        requests.ask(source, 1, 10, 0.0)
    requests.progress(B, 1, 4, 1.0)
    assert requests.begun(B, 1, 4, 1.0) == [A]
    assert requests.holders == {1: [B]}
    requests.progress(A, 1, 4, 1.1)  # what was under way
    assert requests.begun(A, 1, 4, 1.1) == []


def test_what_has_begun_is_not_cancelled_by_the_first_bytes_of_another() -> None:
    requests = DownloadRequests(64)
    for source in (A, B):
        requests.source_joined(source)
        requests.verified(source)
    requests.ask(A, 1, 10, 0.0)
    requests.progress(A, 1, 4, 1.0)
    requests.ask(B, 1, 10, 1.5)
    requests.progress(A, 1, 4, 2.0)
    assert requests.begun(A, 1, 4, 2.0) == []  # not its first bytes: A may be too slow
    requests.progress(B, 1, 4, 3.0)
    assert requests.begun(B, 1, 4, 3.0) == []


def test_the_first_bytes_of_a_source_that_never_delivered_win_nothing() -> None:
    requests = DownloadRequests(64)
    for source in (A, B):
        requests.source_joined(source)
        requests.ask(source, 1, 10, 0.0)
    requests.progress(B, 1, 4, 1.0)
    assert requests.begun(B, 1, 4, 1.0) == []


def test_the_least_rate_is_no_silence() -> None:
    lines = Lines(A, B)
    lines.ask(A, range(1), 0.0)
    lines.data(A, 0, LEAST_BYTES, 4.9)
    assert lines.move(A, 9.8) is None
    assert lines.move(A, 9.9) == [0]


def test_under_a_download_limit_any_byte_breaks_the_silence() -> None:
    lines = Lines(A, B, throttled=True)
    lines.ask(A, range(1), 0.0)
    lines.data(A, 0, 1, 4.0)
    assert lines.move(A, 8.0) is None


def test_the_only_source_keeps_its_requests_and_is_looked_at_again() -> None:
    lines = Lines(A)
    lines.ask(A, range(2), 0.0)
    assert lines.move(A, 6.0) == []
    assert lines.stalls.next_look(A, 6.0) == 6.0 + RECHECK_SECONDS


@pytest.mark.parametrize("why", ["chokes us", "is snubbed", "is in back-off", "lacks the piece"])
def test_requests_move_only_to_somebody_who_could_take_them(why: str) -> None:
    lines = Lines(A, B)
    lines.ask(A, range(1), 0.0)
    if why == "chokes us":
        lines.requests.choked(B, yes=True)
    if why == "is snubbed":
        lines.requests.snub(B)
    if why == "is in back-off":
        lines.requests.back_off(B, 7.0)
    if why == "lacks the piece":
        lines.availability.withdraw(B, 0)
    assert lines.move(A, 6.0) == []


def test_nothing_asked_is_never_looked_at() -> None:
    lines = Lines(A)
    assert lines.stalls.next_look(A, 5.0) == math.inf
    assert lines.move(A, 500.0) is None


def test_a_reply_to_a_cancel_is_owed_for_a_minute() -> None:
    lines = Lines(A, B)
    lines.ask(A, range(1), 0.0)
    assert lines.move(A, 5.0) == [0]
    lines.requests.snub(A)
    lines.requests.cancel(A, 0, 5.0)
    assert lines.stalls.next_look(A, 5.0) == 5.0 + CANCEL_SECONDS
    assert not lines.stalls.owes(A, 5.0 + CANCEL_SECONDS - 0.1)
    assert lines.stalls.owes(A, 5.0 + CANCEL_SECONDS)
    lines.requests.settle(A, 0)
    assert not lines.stalls.owes(A, 1000.0)


def test_a_peer_that_answers_no_cancel_is_silent_too() -> None:
    lines = Lines(A, B)
    lines.ask(A, range(1), 0.0)
    lines.requests.cancel(A, 0, 1.0)
    assert lines.stalls.next_look(A, 1.0) == SILENCE_SECONDS
    assert lines.move(A, SILENCE_SECONDS) == []


def test_the_ledger_of_requests() -> None:
    requests = DownloadRequests(64)
    requests.source_joined(A)
    requests.source_joined(B)
    requests.ask(A, 1, 10, 0.0)
    requests.ask(B, 1, 10, 1.0)
    assert requests.holders == {1: [A, B]}
    with pytest.raises(ValueError, match="already asked"):
        requests.ask(A, 1, 10, 2.0)
    assert requests.cancel(A, 1, 3.0) is False  # B still holds it
    assert list(requests.occupied(A)) == [1]
    assert requests.occupied(B) is None
    assert requests.queues[A].bytes == 10  # the place is taken until the reply
    settled = requests.settle(B, 1)
    assert settled is not None
    assert settled[1] is True
    assert requests.holders == {}
    asked, free = requests.settle(A, 1)
    assert (asked.live, free) == (False, False)
    assert requests.queues[A].bytes == 0
    assert requests.settle(A, 1) is None


def test_a_leaving_peer_frees_what_only_it_was_asked_for() -> None:
    requests = DownloadRequests(64)
    requests.source_joined(A)
    requests.source_joined(B)
    for piece in (1, 2, 3):
        requests.ask(A, piece, 10, 0.0)
    requests.ask(B, 2, 10, 0.0)
    requests.cancel(A, 3, 0.0)
    assert requests.source_left(A) == [1]
    assert requests.holders == {2: [B]}


def test_three_failures_clear_a_claim_for_a_while() -> None:
    claims = Claims()
    assert [claims.failed(A, [7], 0.0) for _ in range(3)] == [[], [], [7]]
    assert claims.next_due(A) == MOST_BACKOFF
    assert claims.due(A, MOST_BACKOFF - 0.1) == []
    assert claims.due(A, MOST_BACKOFF) == [7]
    assert claims.next_due(A) is None
    assert claims.failed(A, [7], 99.0) == []  # three again


def test_a_denied_claim_is_cleared_at_once() -> None:
    assert Claims().failed(A, [7], 0.0, denied=True) == [7]


def test_strikes_count_for_each_piece_and_peer() -> None:
    claims = Claims()
    for peer, piece in ((A, 1), (A, 2), (B, 1), (A, 1), (B, 1), (A, 2)):
        assert claims.failed(peer, [piece], 0.0) == []
    claims.delivered(A, 1)
    assert claims.failed(A, [1], 0.0) == []
    assert claims.failed(B, [1], 0.0) == [1]


def test_back_off_doubles_up_to_its_end_and_one_delivery_ends_it() -> None:
    claims = Claims()
    assert claims.backoff(A) == 0.0
    waits = []
    for piece in range(10):
        claims.failed(A, [piece], 0.0)
        waits.append(claims.backoff(A))
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert waits[-1] == MOST_BACKOFF
    claims.delivered(A, 0)
    assert claims.backoff(A) == 0.0


def test_a_silence_costs_a_longer_back_off() -> None:
    claims = Claims()
    waits = []
    for piece in range(5):
        claims.failed(A, [piece], 0.0)
        waits.append(claims.backoff(A, SILENCE_SECONDS))
    assert waits == [5, 10, 20, 30, 30]


def test_many_pieces_lost_in_one_stall_are_one_failure_in_the_row() -> None:
    claims = Claims()
    claims.failed(A, range(64), 0.0)
    assert claims.backoff(A) == pytest.approx(0.1)


def test_what_the_peer_says_itself_voids_what_was_held_against_it() -> None:
    claims = Claims()
    claims.failed(A, [7], 0.0, denied=True)
    claims.restated(A, 7)
    assert claims.next_due(A) is None
