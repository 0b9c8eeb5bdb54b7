"""Carries bytes between two ends, each direction by itself, until both have finished."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from swarm.errors import LinkClosed
from swarm.net.streams import NegotiatedStream
from swarm.reach.circuit_budget import CircuitBudget

CHUNK_BYTES = 256 * 1024
"""Bytes carried in one step; nothing is held between two steps."""

RECEIVE_BYTES = 64 * 1024


class LimitReached(LinkClosed):
    """A circuit has carried as much as it may."""


async def between(one: NegotiatedStream, other: NegotiatedStream, size: int) -> None:
    """Join two streams, at most ``size`` bytes in each direction (0: any number).

    Returns when both directions have ended; raises LimitReached, LinkClosed.
    """
    async with trio.open_nursery() as nursery:
        for source, sink in ((one, other), (other, one)):
            nursery.start_soon(_carry, source.read_some, sink, CircuitBudget(size))


async def with_socket(stream: NegotiatedStream, end: trio.SocketStream) -> None:
    """Join a stream and a socket of this process; returns when both directions have ended."""

    async def from_socket(most: int) -> bytes:
        try:
            return bytes(await end.receive_some(min(most, RECEIVE_BYTES)))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkClosed("the circuit was closed here") from error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_carry, from_socket, stream, CircuitBudget(0))
        nursery.start_soon(_into_socket, stream, end)


async def _carry(
    read: Callable[[int], Awaitable[bytes]], sink: NegotiatedStream, budget: CircuitBudget
) -> None:
    while True:
        most = budget.next_read(CHUNK_BYTES)
        if not most:
            raise LimitReached("the circuit has carried as much as it may")
        data = await read(most)
        if not data:
            await sink.finish()
            return
        await sink.write(data)
        budget.carried(len(data))


async def _into_socket(stream: NegotiatedStream, end: trio.SocketStream) -> None:
    try:
        while data := await stream.read_some(CHUNK_BYTES):
            await end.send_all(data)
        await end.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise LinkClosed("the circuit was closed here") from error
