import os
import tracemalloc

import pytest

from swarm.mux.records import BLOCK_BYTES, SPARE_BLOCKS, Blocks
from swarm.mux.stream import COPIES_BYTES, KEEP_FROM, Inbox


def part_of(blocks: Blocks, data: bytes) -> tuple[bytearray, memoryview]:
    block = blocks.take()
    block[: len(data)] = data
    return block, memoryview(block)[: len(data)]


def test_any_cut_of_the_output_gives_the_bytes_back_in_order():
    blocks = Blocks()
    data = [os.urandom(size) for size in (1, 3, 40_000, 2, 65_000, 20_000, 7)]
    inbox = Inbox(blocks)
    for piece in data:
        block, part = part_of(blocks, piece)
        if not inbox.append(part):
            blocks.give(block)
    out = b""
    while inbox.size:
        out += inbox.take(977)
        room = bytearray(1313)
        out += room[: inbox.take_into(memoryview(room))]
    assert out == b"".join(data)


def test_a_large_part_keeps_its_block_until_it_is_read():
    blocks = Blocks()
    inbox = Inbox(blocks)
    block, part = part_of(blocks, os.urandom(KEEP_FROM))
    assert inbox.append(part)
    inbox.take(KEEP_FROM - 1)
    assert blocks.take() is not block
    inbox.take(1)
    assert blocks.take() is block


def test_clearing_gives_the_blocks_back():
    blocks = Blocks()
    inbox = Inbox(blocks)
    block, part = part_of(blocks, os.urandom(BLOCK_BYTES))
    inbox.append(part)
    inbox.take(5)
    inbox.clear()
    assert inbox.size == 0
    assert blocks.take() is block
    inbox.append(memoryview(b"new"))
    assert inbox.take(9) == b"new"


def test_small_parts_are_copied():
    inbox = Inbox(Blocks())
    buffer = bytearray(b"x")
    for _ in range(3 * COPIES_BYTES):
        assert not inbox.append(memoryview(buffer))
    buffer[0] = 0
    assert inbox.size == 3 * COPIES_BYTES
    assert inbox.take(inbox.size) == b"x" * 3 * COPIES_BYTES


def test_more_than_there_is_gives_what_there_is():
    inbox = Inbox(Blocks())
    assert inbox.take(10) == b""
    inbox.append(memoryview(b"abc"))
    assert inbox.take(10) == b"abc"
    assert inbox.take_into(memoryview(bytearray(4))) == 0


def test_only_so_many_blocks_are_kept():
    blocks = Blocks()
    given = [blocks.take() for _ in range(SPARE_BLOCKS + 5)]
    for block in given:
        blocks.give(block)
    again = [blocks.take() for _ in range(SPARE_BLOCKS + 5)]
    assert sum(any(block is old for old in given) for block in again) == SPARE_BLOCKS


@pytest.mark.parametrize("size", [1, 100, KEEP_FROM - 1, KEEP_FROM, BLOCK_BYTES])
def test_the_memory_used_stays_near_the_unread_bytes_whatever_the_sizes(size):
    blocks = Blocks()
    inbox = Inbox(blocks)
    tracemalloc.start()
    try:
        while inbox.size < 1_000_000:
            block, part = part_of(blocks, bytes(size))
            if not inbox.append(part):
                blocks.give(block)
        block = part = None
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert inbox.size <= used <= 1.5 * inbox.size
