from __future__ import annotations

import random

import pytest

from swarm.limits import TokenBucket


def test_a_bucket_holds_its_rate_whatever_sizes_are_taken() -> None:
    rng, bucket, now, taken = random.Random(1), TokenBucket(1_000_000, 50_000, 0.0), 0.0, 0
    while now < 10:
        size = rng.choice([100, 16_384, 65_536, 300_000])
        now += bucket.delay(size, now)
        bucket.take(size, now)
        taken += size
    assert taken == pytest.approx(10 * 1_000_000, rel=0.05)


def test_a_bucket_lets_no_more_than_a_burst_pass_after_a_pause() -> None:
    bucket = TokenBucket(1000, 500, 0.0)
    assert bucket.refill(1e6) == 500
    bucket.take(500, 1e6)
    assert bucket.delay(100, 1e6) == pytest.approx(0.1)


def test_a_debt_is_waited_for() -> None:
    bucket = TokenBucket(1000, 500, 0.0)
    bucket.take(2500, 0.0)
    assert bucket.refill(0.0) == -2000
    assert bucket.delay(500, 0.0) == pytest.approx(2.5)
    assert bucket.delay(10_000, 0.0) == pytest.approx(2.5)  # more than a burst can never be there
    assert bucket.delay(500, 2.5) == 0.0


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1000, 500, 10.0)
    bucket.take(500, 10.0)
    assert bucket.refill(9.0) == 0.0
    assert bucket.refill(10.1) == pytest.approx(100)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_a_bucket_without_rate_or_burst_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="positive rate and burst"):
        TokenBucket(rate, burst, 0.0)


def test_spending_refuses_what_is_not_there_and_earning_adds_to_it() -> None:
    bucket = TokenBucket(2.0, 3.0, 0.0)
    assert [bucket.spend(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.spend(0.5)
    bucket.earn(10.0)
    assert bucket.refill(0.5) == 3.0
    assert not bucket.spend(0.5, 3.5)
    assert bucket.refill(0.5) == 3.0
