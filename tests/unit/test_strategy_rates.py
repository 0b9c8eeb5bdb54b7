from __future__ import annotations

import pytest

from swarm.strategy.rates import Meter


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
