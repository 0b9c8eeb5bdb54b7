from __future__ import annotations

import random

import pytest

from swarm.strategy.rates import Meter, TokenBucket


def fed(rate: float, seconds: float, step: float = 0.1, constant: float = 2.0) -> tuple[Meter, float]:
    meter, now = Meter(constant, 0.0), 0.0
    while now < seconds:
        now += step
        meter.add(int(rate * step), now)
    return meter, now


@pytest.mark.parametrize("seconds", [1, 3, 30])
def test_a_steady_rate_is_measured_from_the_first_second_on(seconds: float) -> None:
    meter, now = fed(100_000, seconds)
    assert meter.rate(now) == pytest.approx(100_000, rel=0.06)


def test_a_rate_follows_a_change_with_its_time_constant() -> None:
    meter, now = fed(100_000, 30)
    for _ in range(20):
        now += 0.1
        meter.add(1_000_000, now)
    # One time constant later 63 % of the step are through.
    assert meter.rate(now) == pytest.approx(100_000 + 0.63 * 9_900_000, rel=0.06)


def test_a_rate_fades_in_silence() -> None:
    meter, now = fed(100_000, 30)
    assert meter.rate(now + 2.0) == pytest.approx(100_000 / 2.718, rel=0.06)
    assert meter.rate(now + 60.0) < 1


def test_nothing_is_no_rate() -> None:
    assert Meter(2.0, 0.0).rate(100.0) == 0.0


def test_one_burst_at_the_beginning_is_no_infinite_rate() -> None:
    meter = Meter(2.0, 0.0)
    meter.add(1000, 0.0)
    assert meter.rate(0.0) < 1000 / 0.15


def test_time_left_out_does_not_lower_the_rate() -> None:
    meter, now = fed(100_000, 30)
    before = meter.rate(now)
    meter.skip(50.0)
    assert meter.rate(now + 50.0) == pytest.approx(before)


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
    assert bucket.available(1e6) == 500
    bucket.take(500, 1e6)
    assert bucket.delay(100, 1e6) == pytest.approx(0.1)


def test_a_debt_is_waited_for() -> None:
    bucket = TokenBucket(1000, 500, 0.0)
    bucket.take(2500, 0.0)
    assert bucket.available(0.0) == -2000
    assert bucket.delay(500, 0.0) == pytest.approx(2.5)
    assert bucket.delay(10_000, 0.0) == pytest.approx(2.5)  # more than a burst can never be there
    assert bucket.delay(500, 2.5) == 0.0


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1000, 500, 10.0)
    bucket.take(500, 10.0)
    assert bucket.available(9.0) == 0.0
    assert bucket.available(10.1) == pytest.approx(100)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_a_bucket_without_rate_or_burst_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="positive rate and burst"):
        TokenBucket(rate, burst, 0.0)
