from __future__ import annotations

from collections import Counter

import pytest

from swarm.ids import PeerId
from swarm.strategy.download.ranking import LOST_PINGS, Ranking, RoundTripEstimate

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
MIB = 1 << 20


def ranking(*peers: tuple[PeerId, float | None], piece_length: int = MIB) -> Ranking:
    made = Ranking(piece_length)
    for peer, rtt in peers:
        made.source_joined(peer, rtt, 0.0)
    return made


def deliver(made: Ranking, peer: PeerId, rate: float, *, until: float = 10.0) -> None:
    """The peer delivers at ``rate`` from 0 to ``until``, in pieces that all arrive."""
    made.busy(peer, 0.0)
    for step in range(int(until * 10)):
        made.received(peer, int(rate / 10), step / 10 + 0.1)
    made.outcome(peer, good=True)


def test_the_round_trip_is_smoothed_as_in_rfc_6298() -> None:
    trip = RoundTripEstimate(None)
    trip.measured(0.100)
    assert (trip.smoothed, trip.deviation) == (0.100, 0.050)
    trip.measured(0.180)
    # RTTVAR = 3/4 * 0.050 + 1/4 * |0.100 - 0.180|; SRTT = 7/8 * 0.100 + 1/8 * 0.180
    assert trip.deviation == pytest.approx(0.0575)
    assert trip.smoothed == pytest.approx(0.110)


def test_three_lost_pings_in_a_row_are_a_dead_peer() -> None:
    made = ranking((A, 0.01))
    assert [made.pinged(A, None), made.pinged(A, None)] == [True, True]
    assert made.pinged(A, 0.02)  # one answer begins the count anew
    assert [made.pinged(A, None) for _ in range(LOST_PINGS)] == [True, True, False]


def test_the_faster_peer_is_asked_first() -> None:
    made = ranking((A, 0.01), (B, 0.01))
    deliver(made, A, 1e6)
    deliver(made, B, 5e6)
    assert {tuple(made.order([A, B], 10.0)) for _ in range(50)} == {(B, A)}


def test_the_nearer_of_two_equally_fast_peers_is_asked_first() -> None:
    made = ranking((A, 0.2), (B, 0.01))
    deliver(made, A, 1e6)
    deliver(made, B, 1e6)
    assert made.order([A, B], 10.0) == [B, A]


def test_a_round_trip_does_not_outweigh_the_rate_of_a_long_piece() -> None:
    made = ranking((A, 0.0001), (B, 0.2))
    deliver(made, A, 1e6)
    deliver(made, B, 5e6)
    assert made.order([A, B], 10.0) == [B, A]


def test_a_peer_that_fails_is_asked_later() -> None:
    made = ranking((A, 0.01), (B, 0.01))
    deliver(made, A, 1.2e6)
    deliver(made, B, 1.0e6)
    assert made.order([A, B], 10.0) == [A, B]
    for _ in range(4):
        made.outcome(A, good=False)
    assert made.order([A, B], 10.0) == [B, A]


def test_a_fresh_peer_is_judged_as_the_average_of_the_others() -> None:
    made = ranking((A, 0.01), (B, 0.01), (C, 0.01))
    deliver(made, A, 4e6)
    deliver(made, B, 2e6)
    assert made.seconds_for(C, 3_000_000, 10.0) == pytest.approx(1.01, rel=0.05)
    usual = Counter(tuple(made.order([A, B, C], 10.0)) for _ in range(200)).most_common(1)[0][0]
    assert usual == (A, C, B)


def test_idle_time_does_not_lower_a_rate() -> None:
    made = ranking((A, 0.01))
    deliver(made, A, 1e6)
    made.idle(A, 10.0)
    assert made.rate(A, 500.0) == pytest.approx(made.rate(A, 10.0))
    made.busy(A, 500.0)
    assert made.rate(A, 500.0) == pytest.approx(1e6, rel=0.1)
    assert made.rate(A, 510.0) < 1e5  # asked and silent: that counts


def test_the_words_for_observers() -> None:
    made = ranking((A, 0.0008), (B, None))
    deliver(made, A, 1.2e6)
    assert made.describe(A, 10.0) == "1.2 MB/s, rtt 0.8 ms"
    assert made.describe(B, 10.0) == "new source, rtt unknown"
    made.pinged(B, 0.004)
    assert made.describe(B, 10.0) == "new source, rtt 4.0 ms"


def test_the_least_round_trip_is_kept_whatever_queues_do() -> None:
    made = ranking((A, 0.02), (B, None))
    for seconds in (0.01, None, 0.5):
        made.pinged(A, seconds)
    assert made.least_round_trip(A) == 0.01
    assert made.least_round_trip(B) == float("inf")


def test_a_peer_that_left_is_forgotten() -> None:
    made = ranking((A, 0.01), (B, 0.01))
    deliver(made, A, 1e6)
    made.describe(A, 10.0)
    made.source_left(A)
    made.source_joined(A, None, 10.2)
    assert made.describe(A, 10.3) == "new source, rtt unknown"
    assert made.rate(A, 11.0) == 0.0
