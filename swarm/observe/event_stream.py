"""Events to any number of observers; none of them can slow a transfer or fill the memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import cast
from weakref import ref as weakref

import trio

from swarm.events import (
    BytesReceived,
    BytesSent,
    ContentRestored,
    ContentWithdrawn,
    Event,
    FilesSelected,
    ManifestReady,
    NodeListening,
    PieceLost,
    PieceRequested,
    PieceStored,
    PieceWasted,
    RoundTrip,
    TransferComplete,
    TransferContinued,
    TransferEnded,
    TransferEvent,
    TransferPaused,
    TransferResumed,
    TransferStarted,
    Warned,
)
from swarm.ids import SourceId, TransferId

QUEUE_EVENTS = 8192
"""Events that an observer may be behind."""

EVENTS_IN_A_ROW = 32
"""Queued events that an observer is handed without a pause for other tasks."""

PROGRESS_SECONDS = 0.1
"""Bytes that moved are summed up for so long before an observer is woken for them alone."""

PIECES_SECONDS = 0.02
"""An observer that was told of pieces is woken for more of them alone after so long."""

LOOKED_AT = 256
"""Queued events among which one about a single piece is searched to be forgotten."""

MAX_WARNINGS = 64
"""Warnings of the node, and of each transfer, that a later observer is still told."""

_Key = tuple[type[BytesReceived] | type[BytesSent], TransferId, SourceId]

# Of these, old ones are forgotten first when an observer falls too far behind.
_PROGRESS = (PieceRequested, PieceStored, PieceWasted, RoundTrip)

_MOVED = (BytesReceived, BytesSent)
_OF_PIECES = (PieceRequested, PieceStored)
_OF_TRANSFERS = (TransferEvent, Warned)

# Most events. A later observer needs none of these.
_OF_THE_MOMENT = (BytesReceived, BytesSent, PieceRequested)

# A later observer is told these of a transfer again, because other events mean nothing without them. Each
# happens once in a transfer.
_LASTING = (
    ManifestReady,
    FilesSelected,
    TransferComplete,
)


class Subscription:
    """One observer's queue: an async iterator of events that ends when the stream is closed.

    Events about moved bytes are merged for each source and come at most every ``PROGRESS_SECONDS``, those
    about single pieces together every ``PIECES_SECONDS``, unless another event comes anyway. An observer that
    falls ``capacity`` events behind loses the oldest events about single pieces (counted in ``lost``), others
    only when nothing else is left to lose. With ``transfer`` only the events about that transfer are queued,
    and the queue ends with its last. Without ``requests`` none of each requested piece is.
    """

    def __init__(
        self,
        on_close: Callable[[Subscription], None],
        transfer: TransferId | None,
        capacity: int,
        *,
        requests: bool,
    ) -> None:
        self.requests = requests
        self._capacity = capacity
        self._on_close = on_close
        self._transfer = transfer
        self._queue: deque[Event] = deque()
        self._moved: dict[_Key, int] = {}
        self._next_progress = self._next_piece = -math.inf
        self._resting = False
        self._woken = trio.Event()
        self._closed = False
        self._in_a_row = 0
        self.lost = 0

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while True:
            if event := self._take():
                self._in_a_row += 1
                if self._in_a_row >= EVENTS_IN_A_ROW:
                    self._in_a_row = 0
                    await trio.lowlevel.checkpoint()
                return event
            if self._closed:
                raise StopAsyncIteration
            self._in_a_row = 0
            self._woken = trio.Event()
            if self._resting:
                # What is told of single pieces meanwhile waits until then.
                with trio.move_on_at(self._next_piece):
                    await self._woken.wait()
                self._resting = False
            elif self._moved:
                with trio.move_on_at(self._next_progress):
                    await self._woken.wait()
            else:
                await self._woken.wait()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def take_stored(self) -> list[PieceStored]:
        """Take the events of stored pieces that are next in the queue, but not too many; never waits."""
        taken: list[PieceStored] = []
        while (
            len(taken) < EVENTS_IN_A_ROW and self._queue and isinstance(event := self._queue[0], PieceStored)
        ):
            taken.append(event)
            self._queue.popleft()
        self._in_a_row += len(taken)
        return taken

    def close(self) -> None:
        """Take no more events; what is queued can still be read."""
        if not self._closed:
            self._closed = True
            self._woken.set()
            self._on_close(self)

    def put(self, *events: Event) -> None:
        """Queue events as `EventStream.publish` is given them; the stream calls this."""
        first = events[0]
        if self._transfer is not None and not _is_about(first, self._transfer):
            return
        kind = type(first)
        if kind in _MOVED:
            for event in events:
                self._merge(event)  # type: ignore[arg-type]
            return
        if kind is PieceRequested and not self.requests:
            return
        if isinstance(first, TransferEnded):
            # The last event of a transfer, so what has moved comes before it.
            self._queue_moved(first.transfer)
        for event in events:
            if len(self._queue) >= self._capacity:
                self._forget_one()
            self._queue.append(event)
        if not (self._resting and kind in _OF_PIECES):
            self._woken.set()
        if kind is TransferEnded and self._transfer is not None:
            self.close()

    def _merge(self, event: BytesReceived | BytesSent) -> None:
        source = event.source if isinstance(event, BytesReceived) else event.peer
        key = (type(event), event.transfer, source)
        if not self._moved and not self._resting:
            # The reader sleeps without a deadline for progress that is not there.
            self._woken.set()
        if len(self._moved) >= self._capacity and key not in self._moved:
            self.lost += 1
            del self._moved[next(iter(self._moved))]
        self._moved[key] = self._moved.get(key, 0) + event.size

    def _take(self) -> Event | None:
        if self._queue:
            event = self._queue.popleft()
            if type(event) in _OF_PIECES and not self._resting:
                self._next_piece = trio.current_time() + PIECES_SECONDS
                self._resting = True
            return event
        if not self._moved or (not self._closed and trio.current_time() < self._next_progress):
            return None
        self._queue_moved()
        self._next_progress = trio.current_time() + PROGRESS_SECONDS
        return self._queue.popleft()

    def _queue_moved(self, of: TransferId | None = None) -> None:
        """Queue the bytes that have moved so far, of one transfer or of all."""
        for key in [key for key in self._moved if of is None or key[1] == of]:
            kind, transfer, source = key
            self._queue.append(kind(transfer, source, self._moved.pop(key)))  # type: ignore[arg-type]

    def _forget_one(self) -> None:
        self.lost += 1
        for index, event in enumerate(islice(self._queue, LOOKED_AT)):
            if isinstance(event, _PROGRESS):
                del self._queue[index]
                return
        self._queue.popleft()


class EventStream:
    """Fan-out of events; publishing never waits.

    A new observer is first told what lasts, of the node and of every transfer that has not ended: so it
    understands what follows, whenever it comes. An observer that is dropped unclosed is forgotten.
    """

    def __init__(self) -> None:
        # Weak: an observer that is no longer read, as after a break out of its loop, costs nothing.
        self._observers: tuple[weakref[Subscription], ...] = ()
        self.requests_observed = False
        """Whether any observer wants to hear of each requested piece."""
        self._stored: dict[TransferId, tuple[int, int]] = {}
        self._closed = False
        self._listening: NodeListening | None = None
        self._warnings: deque[Warned] = deque(maxlen=MAX_WARNINGS)
        self._of_transfers: dict[TransferId, list[Event]] = {}

    def subscribe(
        self,
        transfer: TransferId | None = None,
        *,
        replay: bool = True,
        capacity: int = QUEUE_EVENTS,
        requests: bool = True,
    ) -> Subscription:
        """A new observer of everything, or of one transfer; close it or use it as a context.

        With ``replay`` it is first told what lasts of what was published before. Without ``requests`` it is
        told no `PieceRequested`, and if nobody is, none is made.
        """
        subscription = Subscription(self._forget, transfer, capacity, requests=requests)
        self._observe((*self._observers, weakref(subscription, self._drop)))
        if replay:
            for event in self._lasting():
                subscription.put(event)
        if self._closed or (transfer is not None and transfer not in self._of_transfers):
            subscription.close()
        return subscription

    def publish(self, *events: Event) -> None:
        """Tell all observers of an event, or of several of one kind and of one transfer."""
        first = events[0]
        if isinstance(first, PieceStored):
            stored = cast(tuple[PieceStored, ...], events)
            self._count_pieces(first.transfer, len(stored), sum(event.size for event in stored))
        elif type(first) not in _OF_THE_MOMENT:
            for event in events:
                self._remember(event)
        for observer in self._observers:
            if (subscription := observer()) is not None:
                subscription.put(*events)

    def _observe(self, observers: Iterable[weakref[Subscription]]) -> None:
        self._observers = tuple(observers)
        known = (observer() for observer in self._observers)
        self.requests_observed = any(each is not None and each.requests for each in known)

    def close(self) -> None:
        """End every observer's iteration once it has read what is queued."""
        self._closed = True
        for observer in self._observers:
            if (subscription := observer()) is not None:
                subscription.close()

    def _lasting(self) -> Iterator[Event]:
        """What is told again, in an order that makes sense."""
        if self._listening is not None:
            yield self._listening
        yield from self._warnings
        for transfer, events in self._of_transfers.items():
            stored = self._stored.get(transfer)
            # What is stored by now, as if it had been there from the start.
            resumed = [] if stored is None else [TransferResumed(transfer, *stored)]
            for event in events:
                if isinstance(event, TransferComplete):
                    yield from resumed
                    resumed = []
                yield event
            yield from resumed

    def _remember(self, event: Event) -> None:
        match event:
            case NodeListening():
                self._listening = event
            case TransferStarted():
                self._of_transfers[event.transfer] = [event]
            case TransferEnded():
                self._of_transfers.pop(event.transfer, None)
                self._stored.pop(event.transfer, None)
            case TransferResumed():
                self._stored[event.transfer] = event.pieces, event.size
            case PieceLost() | ContentWithdrawn() | ContentRestored():
                self._count_pieces(event.transfer, *_gained(event))
            case TransferPaused() | TransferContinued():
                self._remember_pause(event)
            case Warned():
                self._remember_warning(event)
            case TransferEvent() if isinstance(event, _LASTING):
                self._of_transfers.get(event.transfer, []).append(event)

    def _remember_pause(self, event: TransferPaused | TransferContinued) -> None:
        known = self._of_transfers.get(event.transfer, [])
        known[:] = [each for each in known if not isinstance(each, TransferPaused)]
        if isinstance(event, TransferPaused):
            known.append(event)

    def _count_pieces(self, transfer: TransferId, pieces: int, size: int) -> None:
        if transfer in self._of_transfers:
            known_pieces, known_size = self._stored.get(transfer) or self._from_the_start(transfer)
            self._stored[transfer] = max(0, known_pieces + pieces), max(0, known_size + size)

    def _from_the_start(self, transfer: TransferId) -> tuple[int, int]:
        """The pieces and bytes that are stored before any event about them: a share has everything."""
        started, *others = self._of_transfers[transfer]
        if isinstance(started, TransferStarted) and started.kind == "share":
            for event in others:
                if isinstance(event, ManifestReady):
                    return event.pieces, event.size
        return 0, 0

    def _remember_warning(self, event: Warned) -> None:
        if event.transfer is None:
            self._warnings.append(event)
            return
        known = self._of_transfers.get(event.transfer, [])
        if sum(isinstance(each, Warned) for each in known) < MAX_WARNINGS:
            known.append(event)

    def _forget(self, subscription: Subscription) -> None:
        self._observe(each for each in self._observers if each() not in {None, subscription})

    def _drop(self, gone: weakref[Subscription]) -> None:
        self._observe(each for each in self._observers if each is not gone)


def _is_about(event: Event, transfer: TransferId) -> bool:
    return isinstance(event, _OF_TRANSFERS) and event.transfer == transfer


def _gained(event: PieceLost | ContentWithdrawn | ContentRestored) -> tuple[int, int]:
    """Return how many pieces and bytes there are more, or less, after the event."""
    match event:
        case PieceLost(size=size):
            return -1, -size
        case ContentWithdrawn(pieces=pieces, size=size):
            return -pieces, -size
        case _:
            return event.pieces, event.size
