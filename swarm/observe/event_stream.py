"""Events to any number of observers; none of them can slow the transfer or fill the memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from types import TracebackType

import trio

from swarm.events import BytesReceived, BytesSent, Event, PieceRequested, PieceStored, PieceWasted, RoundTrip
from swarm.ids import ManifestId, PeerId

QUEUE_EVENTS = 8192
"""Events that an observer may be behind."""

PROGRESS_SECONDS = 0.1
"""Bytes that moved are summed up for so long before an observer is woken for them alone."""

_Key = tuple[type[BytesReceived] | type[BytesSent], ManifestId, PeerId]

# Of these, old ones are forgotten first when an observer falls too far behind.
_PROGRESS = (PieceRequested, PieceStored, PieceWasted, RoundTrip)


class Subscription:
    """One observer's queue: an async iterator of events that ends when the stream is closed.

    Events about moved bytes are merged for each peer and come at most every ``PROGRESS_SECONDS``, unless
    another event comes anyway. An observer that falls ``capacity`` events behind loses the oldest
    events about single pieces (counted in ``lost``), others only when nothing else is left to lose.
    """

    def __init__(self, capacity: int, on_close: Callable[[Subscription], None]) -> None:
        self._capacity = capacity
        self._on_close = on_close
        self._queue: deque[Event] = deque()
        self._moved: dict[_Key, int] = {}
        self._next_progress = -math.inf
        self._woken = trio.Event()
        self._closed = False
        self.lost = 0

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while True:
            if event := self._take():
                await trio.lowlevel.checkpoint()
                return event
            if self._closed:
                raise StopAsyncIteration
            self._woken = trio.Event()
            with trio.move_on_at(self._next_progress if self._moved else math.inf):
                await self._woken.wait()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more events; what is queued can still be read."""
        if not self._closed:
            self._closed = True
            self._woken.set()
            self._on_close(self)

    def put(self, event: Event) -> None:
        """Queue an event; the stream calls this."""
        if isinstance(event, BytesReceived | BytesSent):
            self._merge(event)
            return
        if len(self._queue) >= self._capacity:
            self._forget_one()
        self._queue.append(event)
        self._woken.set()

    def _merge(self, event: BytesReceived | BytesSent) -> None:
        key = (type(event), event.manifest, event.peer)
        if not self._moved:
            # The reader sleeps without a deadline for progress that is not there.
            self._woken.set()
        self._moved[key] = self._moved.get(key, 0) + event.size

    def _take(self) -> Event | None:
        if self._queue:
            return self._queue.popleft()
        if not self._moved or (not self._closed and trio.current_time() < self._next_progress):
            return None
        for (kind, manifest, peer), size in self._moved.items():
            self._queue.append(kind(manifest, peer, size))
        self._moved.clear()
        self._next_progress = trio.current_time() + PROGRESS_SECONDS
        return self._queue.popleft()

    def _forget_one(self) -> None:
        self.lost += 1
        for index, event in enumerate(self._queue):
            if isinstance(event, _PROGRESS):
                del self._queue[index]
                return
        self._queue.popleft()


class EventStream:
    """Fan-out of events; publishing never waits."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def subscribe(self, capacity: int = QUEUE_EVENTS) -> Subscription:
        """A new observer, which sees what is published from now on; close it or use it as a context."""
        subscription = Subscription(capacity, self._forget)
        self._subscriptions.append(subscription)
        if self._closed:
            subscription.close()
        return subscription

    def publish(self, event: Event) -> None:
        """Tell all observers."""
        for subscription in self._subscriptions:
            subscription.put(event)

    def close(self) -> None:
        """End every observer's iteration once it has read what is queued."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.remove(subscription)
