"""What bounds the memory of a transfer: budget, piece buffers, chunk sizes."""

import pytest
import trio
import trio.testing

from swarm.transfer.buffers import UNSTORED_BYTES, BufferPool, ByteBudget
from swarm.transfer.pacing import CHUNK_BYTES, FIRST_CHUNK_BYTES, LEAST_CHUNK_BYTES, ChunkSizer


def test_a_budget_grants_in_order_and_never_more_than_it_has():
    budget = ByteBudget(10)
    woken = []
    first = budget.take(6, lambda: woken.append(1))
    second = budget.take(6, lambda: woken.append(2))
    third = budget.take(1, lambda: woken.append(3))
    assert (first.granted, second.granted, third.granted) == (True, False, False)
    assert budget.used == 6
    assert budget.contended
    first.release()
    assert woken == [2, 3]
    assert budget.used == 7
    first.release()
    assert budget.used == 7


def test_a_wish_larger_than_the_budget_is_granted_alone():
    budget = ByteBudget(10)
    small = budget.take(1, lambda: None)
    large = budget.take(100, lambda: None)
    assert not large.granted
    small.release()
    assert large.granted
    assert not budget.take(1, lambda: None).granted


def test_who_stops_waiting_lets_the_next_one_through():
    budget = ByteBudget(10)
    budget.take(5, lambda: None)
    large = budget.take(8, lambda: None)
    small = budget.take(5, lambda: None)
    large.release()
    assert small.granted
    assert budget.used == 10
    assert not budget.contended


def test_what_a_grant_gives_back_goes_to_those_who_wait():
    budget = ByteBudget(10)
    large = budget.take(10, lambda: None)
    woken = []
    budget.take(4, lambda: woken.append(1))
    budget.take(4, lambda: woken.append(2))
    large.shrink(5)
    assert woken == [1]
    assert budget.used == 9
    large.release()
    assert woken == [1, 2]
    assert budget.used == 8
    large.shrink(0)
    assert budget.used == 8


def test_a_pool_is_short_when_more_than_half_is_used_or_somebody_waits():
    pool = BufferPool(10)
    half = pool.reserve(5, lambda: None)
    assert not pool.short
    more = pool.reserve(1, lambda: None)
    assert pool.short
    more.release()
    waits = pool.reserve(6, lambda: None)
    assert pool.short
    waits.release()
    half.release()
    assert not pool.short


async def test_a_pool_reuses_memory_and_waits_when_it_is_used_up():
    pool = BufferPool(200, idle=100)
    first = await pool.take(100)
    memory = first.view.obj
    first.release()
    again = await pool.take(100)
    assert again.view.obj is memory
    await pool.take(100)
    with trio.move_on_after(0) as scope:
        await pool.take(1)
    assert scope.cancelled_caught
    assert pool.used == 200
    again.release()
    again.release()
    assert pool.used == 100


async def test_small_pieces_count_with_what_their_tasks_take():
    """A million files of 100 bytes may arrive faster than they can be created."""
    pool = BufferPool(1000, least=400)
    share = pool.share()
    first = await share.take(1)
    second = await share.take(1)
    assert pool.used == 800
    with trio.move_on_after(0) as scope:
        await share.take(1)
    assert scope.cancelled_caught
    first.release()
    second.release()
    assert pool.used == 0


async def test_memory_that_somebody_may_still_see_is_not_reused():
    pool = BufferPool()
    first = await pool.take(100)
    memory = first.view.obj
    first.release(reuse=False)
    assert pool.used == 0
    assert (await pool.take(100)).view.obj is not memory


async def test_idle_memory_is_bounded():
    pool = BufferPool(1000, idle=250)
    for length in (100, 100, 101, 300):
        for buffer in [await pool.take(length), await pool.take(length)]:
            buffer.release()
        assert pool._idle_bytes <= 250
        assert pool._idle_bytes == sum(k * len(v) for k, v in pool._idle.items())


async def test_an_abandoned_buffer_is_evicted_once_somebody_needs_it(nursery):
    pool = BufferPool(100)
    stuck = await pool.take(100)
    evicted = []

    def evict():
        evicted.append(True)
        stuck.release()

    stuck.abandon(evict)
    await trio.testing.wait_all_tasks_blocked()
    assert not evicted
    assert len((await pool.take(100)).view) == 100
    assert evicted


async def test_an_abandoned_buffer_is_evicted_at_once_if_somebody_waits(nursery):
    pool = BufferPool(100)
    stuck = await pool.take(100)
    nursery.start_soon(pool.take, 100)
    await trio.testing.wait_all_tasks_blocked()
    evicted = []
    stuck.abandon(lambda: evicted.append(True))
    assert evicted
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(1e9, CHUNK_BYTES), (2.5e6, 125_000), (1000, LEAST_CHUNK_BYTES)],
)
def test_chunks_follow_the_rate_so_that_control_waits_little(rate, expected):
    sizer = ChunkSizer()
    assert sizer.size == FIRST_CHUNK_BYTES
    for _ in range(30):
        sizer.moved(sizer.size, sizer.size / rate)
    assert sizer.size == pytest.approx(expected, rel=0.01)


def test_chunks_shrink_after_the_first_bytes_vanished_into_an_empty_window():
    sizer = ChunkSizer()
    for _ in range(4):
        sizer.moved(sizer.size, 0.0)
    assert sizer.size == CHUNK_BYTES
    sizer.moved(CHUNK_BYTES, 5.0)
    sizer.moved(sizer.size, 5.0)
    assert sizer.size == LEAST_CHUNK_BYTES


async def test_a_transfer_without_a_buffer_gets_one_whatever_the_others_hold():
    pool = BufferPool(200)
    greedy, modest = pool.share(), pool.share()
    held = [await greedy.take(100), await greedy.take(100)]
    with trio.move_on_after(0) as scope:
        await greedy.take(1)
    assert scope.cancelled_caught
    first = await modest.take(100)
    with trio.move_on_after(0) as scope:
        await modest.take(1)
    assert scope.cancelled_caught, "the second has to wait like everybody's"
    assert pool.used == 300
    again: list[object] = []

    async def wait() -> None:
        again.append(await modest.take(100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not again
        first.release()
        await trio.testing.wait_all_tasks_blocked()
        assert len(again) == 1, "one of those that wait, and no more"
        nursery.cancel_scope.cancel()
    first = again[0]
    for buffer in [*held, first]:
        buffer.release()
        buffer.release()
    assert pool.used == 0
    assert len((await modest.take(100)).view) == 100


async def test_a_transfer_without_a_buffer_gets_one_also_when_the_first_that_waits_gives_up_just_then():
    pool = BufferPool(200)
    greedy, modest = pool.share(), pool.share()
    held = [await greedy.take(100), await greedy.take(100), await modest.take(100)]
    got: list[object] = []

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            got.append(await modest.take(100))

    gives_up = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        for scope in (gives_up, trio.CancelScope()):
            nursery.start_soon(wait, scope)
            await trio.testing.wait_all_tasks_blocked()
        held[-1].release()
        gives_up.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert len(got) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("length", "at_once"), [(UNSTORED_BYTES // 4, 5), (3 * UNSTORED_BYTES, 2)])
async def test_what_waits_for_the_disk_is_bounded_and_what_is_on_its_way_is_not_in_the_way(length, at_once):
    share = BufferPool(100 * UNSTORED_BYTES).share()
    slow = [await share.take(length) for _ in range(12)]
    whole = []
    for _ in range(at_once):
        whole.append(await share.take(length))
        whole[-1].whole()
        whole[-1].whole()
    with trio.move_on_after(0) as scope:
        await share.take(length)
    assert scope.cancelled_caught
    again: list[object] = []

    async def wait() -> None:
        again.append(await share.take(length))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not again
        slow.pop().release()
        await trio.testing.wait_all_tasks_blocked()
        assert not again
        whole.pop().release()
        await trio.testing.wait_all_tasks_blocked()
        assert again
    assert share.unstored == length * (at_once - 1)
