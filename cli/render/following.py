"""Shows a node's events without losing any, and knows when all events so far are shown."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from swarm.events import PieceStored

if TYPE_CHECKING:
    from swarm.observe.event_stream import EventStream, Subscription


class _Stretch:
    """One subscription, and when all of it has been shown."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.shown = trio.Event()


class Follower:
    """Hands every event of a stream to ``show``, those of stored pieces that come together at once.

    A closed subscription hands out what it still holds, sums of bytes included, and ends. So to know
    that everything so far is shown, close it, begin another in the same instant, and wait for the end.
    """

    def __init__(self, stream: EventStream, show: Callable[..., None], *, requests: bool = True) -> None:
        self._stream = stream
        self._show = show
        self._requests = requests
        self._last = _Stretch(stream.subscribe(requests=requests))
        self._waiting = deque([self._last])

    async def settle(self) -> None:
        """Wait until everything that was published by now is shown."""
        last = self._last
        if not last.shown.is_set():
            self._last = _Stretch(self._stream.subscribe(replay=False, requests=self._requests))
            self._waiting.append(self._last)
            last.subscription.close()
            await last.shown.wait()

    async def finish(self) -> None:
        """Show what was published by now, and nothing later."""
        self._last.subscription.close()
        await self._last.shown.wait()

    async def run(self) -> None:
        """Show events until `finish`, or until the stream is closed."""
        while self._waiting:
            stretch = self._waiting[0]
            async for event in stretch.subscription:
                if type(event) is PieceStored:
                    self._show(event, *stretch.subscription.take_stored())
                else:
                    self._show(event)
            self._waiting.popleft()
            stretch.shown.set()


@asynccontextmanager
async def following(
    stream: EventStream, show: Callable[..., None], *, requests: bool = True
) -> AsyncIterator[Follower]:
    """Show the events of ``stream`` until the block is left, and then all that came by then.

    ``show`` is given an event, or several of stored pieces.
    Without ``requests`` those of requested pieces are not shown.
    """
    follower = Follower(stream, show, requests=requests)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        try:
            yield follower
        finally:
            await follower.finish()
