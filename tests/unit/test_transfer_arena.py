"""The memory that a fast peer's pieces are read into and stay in until they are stored."""

from __future__ import annotations

import trio
import trio.testing

from swarm.transfer.arena import ARENA_BYTES, Arena
from swarm.transfer.buffers import BufferPool
from tests.fuzz.session_surface import MANIFEST, content, frame, read

LARGE = [piece for piece in range(MANIFEST.piece_count) if len(content(piece)) > 1000]


def arena(pool: BufferPool) -> Arena:
    buffer = pool.share().take_free(ARENA_BYTES)
    assert buffer is not None
    return Arena(buffer)


def filled(one: Arena, data: bytes, unread: int = 0) -> memoryview:
    one.room[: len(data)] = data
    return one.came(len(data), unread)


def test_what_is_unread_moves_to_the_front():
    one = arena(BufferPool())
    unread = filled(one, b"whole piece, begun")
    unread = one.restart(unread[-5:])
    assert bytes(unread) == b"begun"
    assert bytes(filled(one, b" piece", len(unread))) == b"begun piece"


def test_it_is_given_back_once_nobody_looks_at_it():
    pool = BufferPool()
    one = arena(pool)
    first, second = one.lend(), one.lend()
    one.close()
    first.release()
    first.release()
    assert pool.used == ARENA_BYTES
    second.release()
    assert pool.used == 0


def test_it_waits_for_the_disk_only_while_it_is_lent():
    pool = BufferPool()
    share = pool.share()
    one = Arena(share.take_free(ARENA_BYTES))
    loan = one.lend()
    loan.whole()
    assert share.unstored == ARENA_BYTES
    loan.release()
    assert share.unstored == 0
    assert one.free


def test_memory_that_may_still_be_read_is_not_used_again():
    pool = BufferPool()
    one = arena(pool)
    before = one.room.obj
    one.lend().release(reuse=False)
    assert not one.free
    one.close()
    assert pool.used == 0
    assert arena(pool).room.obj is not before


async def test_who_waits_for_it_goes_on_when_the_last_loan_is_over():
    one = arena(BufferPool())
    loans = [one.lend(), one.lend()]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.returned)
        await trio.testing.wait_all_tasks_blocked()
        loans.pop().release()
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        loans.pop().release()
    assert one.free


def test_arenas_leave_half_of_the_pool_to_pieces():
    pool = BufferPool(capacity=4 * ARENA_BYTES)
    share = pool.share()
    taken = [share.take_spare(ARENA_BYTES) for _ in range(4)]
    assert [each is not None for each in taken] == [True, True, False, False]
    assert share.take_free(ARENA_BYTES) is not None


def test_pieces_of_a_fast_peer_are_handed_over_together():
    data = b"".join(map(frame, LARGE))
    assert read([data], fast=True).batches == 1
    assert len(LARGE) > 2
