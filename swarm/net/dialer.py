"""Dial several addresses of one peer: the next starts when one fails or hesitates, the first wins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey

from swarm.errors import NoPeerReachable

HEAD_START = 0.3
"""Seconds that an address has for itself before the next one is tried beside it (RFC 8305)."""

_FAILURES = (BaseLibp2pError, OSError, trio.TooSlowError, trio.BrokenResourceError, ValueError)


async def dial_any(where: Sequence[str], dial: Callable[[str], Awaitable[None]], deadline: float) -> str:
    """Return the address of ``where`` whose ``dial`` succeeded first.

    Raises NoPeerReachable with the last reason when all failed or ``deadline`` seconds passed.
    """
    winners: list[str] = []
    reasons: list[str] = []
    with trio.move_on_after(deadline):
        async with trio.open_nursery() as nursery:

            async def attempt(address: str, settled: trio.Event) -> None:
                try:
                    await dial(address)
                except _FAILURES as error:
                    reasons.append(f"{address}: {_brief(error)}")
                else:
                    winners.append(address)
                    nursery.cancel_scope.cancel()
                finally:
                    settled.set()

            for address in where:
                settled = trio.Event()
                nursery.start_soon(attempt, address, settled)
                with trio.move_on_after(HEAD_START):
                    await settled.wait()
    if winners:
        return winners[0]
    if reasons:
        raise NoPeerReachable(reasons[-1])
    raise NoPeerReachable(f"no answer within {deadline:g} s" if where else "no address is known")


def _brief(error: BaseException) -> str:
    """The innermost reason in one line: libp2p and trio wrap it several times."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            break
    if isinstance(error, PeerIDMismatchesPubkey):
        return "another peer answers there"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    return (text or type(error).__name__).splitlines()[0][:160]
