"""The store in memory."""

from __future__ import annotations

import pytest

from swarm.bits import PieceSet
from swarm.errors import PieceMismatch, PieceWithdrawn
from swarm.ports import Store
from swarm.storage.memory_store import MemoryStore
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, copy, noise

DATA = noise(3 * PIECE + 1)
MANIFEST = file_manifest("f", DATA)


async def test_one_fills_another_and_shares_its_bytes() -> None:
    full, empty = MemoryStore(MANIFEST, DATA), MemoryStore(MANIFEST)
    assert full.stored.full
    assert not empty.stored.count
    source: Store = full
    await copy(source, empty)
    assert empty.content() == DATA
    assert (await empty.get(2)).obj is DATA


async def test_files_of_a_folder_lie_one_after_the_other() -> None:
    manifest = folder_manifest("x", {"a": DATA[:5], "b": b"", "c": DATA[5:]})
    store = MemoryStore(manifest, DATA)
    assert bytes(await store.get(0)) == DATA[:5]
    assert bytes(await store.get(1)) == DATA[5 : 5 + PIECE]


async def test_only_the_named_pieces_are_stored() -> None:
    some = PieceSet(4)
    some.add(2)
    store = MemoryStore(MANIFEST, DATA, some)
    assert list(store.stored) == [2]
    with pytest.raises(PieceWithdrawn, match="not stored"):
        await store.get(1)
    some.add(1)
    assert list(store.stored) == [2]


async def test_a_wrong_piece_is_refused() -> None:
    store = MemoryStore(MANIFEST)
    for wrong in (DATA[PIECE : 2 * PIECE], DATA[: PIECE - 1], b""):
        with pytest.raises(PieceMismatch):
            await store.put(0, memoryview(wrong))
    assert not store.stored.count


async def test_what_the_caller_does_to_its_buffer_later_does_not_matter() -> None:
    store = MemoryStore(MANIFEST)
    buffer = bytearray(DATA[:PIECE])
    await store.put(0, memoryview(buffer))
    buffer[0] ^= 1
    assert bytes(await store.get(0)) == DATA[:PIECE]


async def test_a_damaged_piece_is_withdrawn() -> None:
    store = MemoryStore(MANIFEST, DATA)
    store.damage(1)
    with pytest.raises(PieceWithdrawn, match="have changed"):
        await store.get(1)
    assert list(store.stored) == [0, 2, 3]


def test_content_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="has 49153 bytes, not 1"):
        MemoryStore(MANIFEST, b"1")
    with pytest.raises(ValueError, match="need the content"):
        MemoryStore(MANIFEST, None, PieceSet(4))
