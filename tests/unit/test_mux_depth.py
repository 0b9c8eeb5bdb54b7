import pytest

from swarm.mux.mux_limits import DEPTH_MAX, DEPTH_MIN, DEPTH_SECONDS, NOISE_MAX_PLAINTEXT
from swarm.mux.records import SendDepth


def settled(rate: float, depth: SendDepth | None = None) -> int:
    """Return the depth after a while on a link of ``rate`` bytes per second."""
    depth = depth or SendDepth()
    for _ in range(100):
        depth.observe(depth.size // 2, depth.size / 2 / rate)
    return depth.size


@pytest.mark.parametrize("rate", [10e3, 2.5e6])
def test_a_slow_link_is_kept_shallow(rate):
    assert settled(rate) == DEPTH_MIN


@pytest.mark.parametrize("rate", [200e6, 2e9])
def test_a_fast_link_may_run_deep(rate):
    assert settled(rate) == DEPTH_MAX


@pytest.mark.parametrize("rate", [8e6, 15e6, 30e6])
def test_in_between_it_holds_about_what_the_link_carries_in_the_time_named(rate):
    assert 0.5 <= settled(rate) / (rate * DEPTH_SECONDS) <= 2


def test_a_step_of_a_fast_link_is_a_mebibyte_with_its_headers():
    depth = SendDepth()
    assert settled(2e9, depth) == 1 << 20
    assert depth.records * NOISE_MAX_PLAINTEXT >= (1 << 20) + 1024


def test_it_follows_a_link_that_changes():
    depth = SendDepth()
    assert settled(1e9, depth) == DEPTH_MAX
    assert settled(1e6, depth) == DEPTH_MIN
    assert settled(1e9, depth) == DEPTH_MAX


def test_it_does_not_swing():
    depth = SendDepth()
    settled(15e6, depth)
    assert not any(depth.observe(depth.size // 2, depth.size / 2 / 15e6) for _ in range(100))


def test_a_wait_too_short_to_measure_means_fast():
    depth = SendDepth()
    assert depth.observe(1000, 0.0)


def test_a_socket_that_is_never_full_and_takes_much_is_sent_more_at_once():
    depth = SendDepth()
    now, before = 0.0, depth.size
    while depth.size < DEPTH_MAX and now < 1.0:
        now += 0.001
        depth.flowed(400_000, now)  # 400 MB/s
    assert depth.size == DEPTH_MAX
    slow = SendDepth()
    for step in range(1000):
        slow.flowed(before // 8, step * 0.01)  # 1.6 MB/s
    assert slow.size == before
