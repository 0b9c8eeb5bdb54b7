"""Runs a command under trio; a signal cancels it, and it is out within two seconds."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from cli import interrupts
from cli.interrupts import GRACE_SECONDS

__all__ = ["GRACE_SECONDS", "run"]


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` to its end.

    Raises what ``main`` raises, perhaps inside an ExceptionGroup, and `Interrupted` after a
    signal, once ``main`` has cleaned up. Journals are saved and connections closed by then; a
    second signal, or a clean-up that takes longer than `GRACE_SECONDS`, ends the process at once.
    """
    # What was imported until now stays; the collector need not search it again.
    gc.freeze()
    gc.enable()
    with interrupts.kept():
        trio.run(_guarded, main)


async def _guarded(main: Callable[[], Awaitable[None]]) -> None:
    # The receiver outlives the command: a second signal must not hit the clean-up.
    with trio.open_signal_receiver(*interrupts.SIGNALS) as received:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_cancel_on_signal, received, scope)
            with scope:
                await main()
            nursery.cancel_scope.cancel()


async def _cancel_on_signal(received: AsyncIterator[int], scope: trio.CancelScope) -> None:
    number = interrupts.kept_signal()
    if number is None:
        number = await anext(received)
        interrupts.keep(number)
    interrupts.end_in_time(number)
    scope.cancel()
    async for _ in received:
        interrupts.end_process(number)
