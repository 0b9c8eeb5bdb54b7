import random

import pytest
import trio.testing

from swarm.transfer.pacing import (
    BURST_SECONDS,
    CHUNK_BYTES,
    KEEP_SECONDS,
    LEAST_KEPT_BYTES,
    KeepSizer,
    Pacer,
    RateLimit,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def paced(limit: int, clock: Clock) -> Pacer:
    return Pacer(RateLimit(limit, clock), now=clock)


@pytest.mark.parametrize("limit", [1_000_000, 5_000_000, 20_000_000])
def test_a_busy_machine_that_wakes_late_uses_the_limit_and_keeps_it(limit):
    rng = random.Random(limit)
    clock = Clock()
    pacer = paced(limit, clock)
    passed: list[tuple[float, int]] = []
    while clock.now < 110.0:
        at = pacer.turn(pacer.slice_bytes)
        if at > clock.now:
            # Now and then the process gets no processor for a tenth of a second.
            clock.now = at + rng.choice([0.001] * 19 + [0.1])
        passed.append((clock.now, pacer.slice_bytes))
    total = sum(size for _, size in passed)
    assert 0.98 * 10 * limit <= total <= 1.05 * 10 * limit
    for start in range(100, 110):
        second = sum(size for at, size in passed if start <= at < start + 1)
        assert second <= (1 + BURST_SECONDS) * limit + 2 * pacer.slice_bytes


@pytest.mark.parametrize("limit", [100_000, 1_000_000, 20_000_000])
def test_ten_seconds_of_turns_hold_the_limit_even_for_a_late_riser(limit):
    clock = Clock()
    pacer = paced(limit, clock)
    sent = 0
    while clock.now < 110.0:
        at = pacer.turn(pacer.slice_bytes)
        # A timer that is up to a millisecond late, as epoll's is.
        clock.now = max(clock.now, at + 0.001)
        sent += pacer.slice_bytes
    assert sent == pytest.approx(10 * limit, rel=0.01 + BURST_SECONDS / 10)


def test_nothing_is_saved_up_beyond_the_burst():
    clock = Clock()
    pacer = paced(1_000_000, clock)
    clock.now += 1000
    passed = 0
    while pacer.turn(pacer.slice_bytes) <= clock.now:
        passed += pacer.slice_bytes
    assert passed <= 1_000_000 * BURST_SECONDS


def test_those_who_ask_get_equal_turns():
    clock = Clock()
    pacer = paced(1_000_000, clock)
    at_once = int(1_000_000 * BURST_SECONDS / 10_000)
    turns = [pacer.turn(10_000) for _ in range(at_once + 100)]
    assert turns == sorted(turns)
    assert turns[-1] - turns[at_once] == pytest.approx(0.99, rel=0.01)


def test_what_is_given_back_passes_for_others():
    clock = Clock()
    pacer = paced(1_000_000, clock)
    for _ in range(20):
        pacer.turn(10_000)
    before = pacer.turn(10_000)
    pacer.give_back(10_000)
    assert pacer.turn(10_000) == pytest.approx(before)


def test_slices_are_small_when_the_limit_is():
    assert paced(1000, Clock()).slice_bytes <= 4096
    assert paced(10**10, Clock()).slice_bytes == CHUNK_BYTES


def test_a_node_and_a_transfer_limit_both_hold():
    clock = Clock()
    node = RateLimit(1_000_000, clock)
    slow = Pacer(RateLimit(200_000, clock), node, now=clock)
    fast = Pacer(node, now=clock)
    passed = {slow: 0, fast: 0}
    due = {slow: clock.now, fast: clock.now}
    while clock.now < 110.0:
        pacer = min(due, key=due.__getitem__)
        clock.now = max(clock.now, due[pacer])
        passed[pacer] += pacer.slice_bytes
        due[pacer] = pacer.turn(pacer.slice_bytes)
    # Its slices are smaller, so it gets a little less than its limit while the node's is used up.
    assert 1_700_000 <= passed[slow] <= 2_080_000
    assert passed[slow] + passed[fast] == pytest.approx(10_000_000, rel=0.05)


def test_a_limit_can_be_changed_and_taken_away():
    clock = Clock()
    limit = RateLimit(None, clock)
    pacer = Pacer(limit, now=clock)
    assert not pacer.limited
    assert pacer.turn(10**9) == clock.now
    limit.change(1000)
    assert pacer.limited
    assert pacer.turn(4096) == clock.now
    assert pacer.turn(4096) > clock.now + 3
    limit.change(None)
    assert pacer.turn(10**9) == clock.now


async def test_without_a_limit_nothing_is_waited_for_although_time_goes_on() -> None:
    class Running(Clock):
        def __call__(self) -> float:
            self.now += 1e-6
            return self.now

    clock = Running()
    pacer = Pacer(RateLimit(None, clock), RateLimit(None, clock), now=clock)
    with trio.testing.assert_no_checkpoints():
        for _ in range(3):
            assert await pacer.wait(CHUNK_BYTES) == 0.0


def test_what_is_kept_is_what_the_peer_takes_soon_and_grows_by_what_it_took():
    kept = KeepSizer()
    assert kept.size == LEAST_KEPT_BYTES
    for factor in (2, 4, 8):
        kept.taken(kept.size, 0.0)
        assert kept.size == factor * LEAST_KEPT_BYTES
    kept.taken(10_000_000, 2 * KEEP_SECONDS)
    assert kept.size == 5_000_000
    # The short rest of a piece shows nothing, unless it took long.
    kept.taken(1000, KEEP_SECONDS / 2)
    assert kept.size == 5_000_000
    kept.taken(1000, KEEP_SECONDS)
    assert kept.size == LEAST_KEPT_BYTES
