"""Many pieces of a store, one after the other: where a batch has no shorter way."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.errors import PieceMismatch, SwarmError
from swarm.ports import Store


async def put_each(store: Store, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
    """Do what `Store.put_many` does with `Store.put`."""
    wrong = []
    for piece, data in pieces:
        try:
            await store.put(piece, data)
        except PieceMismatch:
            wrong.append(piece)
    return wrong


async def get_each(store: Store, pieces: Sequence[int]) -> list[memoryview | SwarmError]:
    """Do what `Store.get_many` does with `Store.get`."""
    found: list[memoryview | SwarmError] = []
    for piece in pieces:
        try:
            found.append(await store.get(piece))
        except SwarmError as error:
            return [*found, error]
    return found
