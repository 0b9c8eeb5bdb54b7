"""Waiting for the first of several things, without wrapping what it brings into exception groups."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def first_of(*waits: Callable[[], Awaitable[T | None]]) -> T | None:
    """Run all ``waits`` side by side; return what the first to end returns, and cancel the others."""
    results: list[T | None] = []
    async with trio.open_nursery() as nursery:

        async def run(wait: Callable[[], Awaitable[T | None]]) -> None:
            result = await wait()
            results.append(result)
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(run, wait)
    return results[0] if results else None
