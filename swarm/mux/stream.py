"""One Yamux stream: its unread bytes, its receive window, its state.

`Connection` owns every state transition. Receive windows follow the bandwidth-delay product within one
memory budget for the whole process, which also counts received and unread bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from enum import Enum, auto

from swarm.errors import RemoteError
from swarm.mux.mux_limits import (
    GROWTH_BUDGET,
    GROWTH_RTTS,
    GROWTH_SHARE,
    INITIAL_WINDOW,
    LOCAL_GROWTH_SECONDS,
    LOCAL_WINDOW,
    MAX_WINDOW,
    MEMORY_BUDGET,
)
from swarm.mux.records import BLOCK_BYTES, Blocks

KEEP_FROM = BLOCK_BYTES * 3 // 4
"""Bytes. A part of at least this size keeps its block; smaller parts are copied."""
COPIES_BYTES = 32 * 1024
"""Bytes. A buffer of copied parts takes no further part once it has this size."""


class Inbox:
    """The unread bytes of a stream: appended in parts, read in any size."""

    __slots__ = ("_blocks", "_offset", "_parts", "size")

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._parts: deque[memoryview | bytearray] = deque()
        self._offset = 0
        self.size = 0

    def append(self, part: memoryview) -> bool:
        """Append ``part``, a view of a block; return whether the inbox keeps that block."""
        size = len(part)
        self.size += size
        if size >= KEEP_FROM:
            self._parts.append(part)
            return True
        last = self._parts[-1] if self._parts else None
        if isinstance(last, bytearray) and len(last) < COPIES_BYTES:
            last += part
        else:
            self._parts.append(bytearray(part))
        return False

    def take(self, size: int) -> bytes:
        """Remove and return the first ``size`` bytes, or all if there are fewer."""
        size = min(size, self.size)
        self.size -= size
        if size and self._offset + size < len(self._parts[0]):
            start, self._offset = self._offset, self._offset + size
            return bytes(self._parts[0][start : self._offset])
        pieces: list[memoryview | bytearray] = []
        spent: list[memoryview | bytearray] = []
        while size:
            part = self._parts[0]
            piece = part[self._offset : self._offset + size]
            pieces.append(piece)
            size -= len(piece)
            self._offset += len(piece)
            if self._offset == len(part):
                spent.append(self._parts.popleft())
                self._offset = 0
        data = b"".join(pieces)
        for part in spent:
            self._give_back(part)
        return data

    def take_into(self, out: memoryview) -> int:
        """Move bytes into ``out`` until it is full or the inbox is empty; return how many."""
        filled, wanted = 0, min(len(out), self.size)
        while filled < wanted:
            part = self._parts[0]
            size = min(len(part) - self._offset, wanted - filled)
            out[filled : filled + size] = memoryview(part)[self._offset : self._offset + size]
            filled += size
            self._offset += size
            if self._offset == len(part):
                self._offset = 0
                self._give_back(self._parts.popleft())
        self.size -= filled
        return filled

    def clear(self) -> None:
        """Drop all bytes."""
        while self._parts:
            self._give_back(self._parts.popleft())
        self._offset = 0
        self.size = 0

    def _give_back(self, part: memoryview | bytearray) -> None:
        if isinstance(part, memoryview):
            self._blocks.give(part.obj)  # type: ignore[arg-type]


class WindowBudget:
    """Memory budget of all receive windows: their growth, and the unread bytes in them."""

    def __init__(self, held_limit: int = MEMORY_BUDGET, growth_limit: int = GROWTH_BUDGET) -> None:
        self._held_limit = held_limit
        self.growth_left = growth_limit
        """Bytes by which windows may still grow."""
        self._unread: dict[Hashable, int] = {}
        self.held = 0

    def reserve_growth(self, size: int) -> bool:
        """Take ``size`` bytes of growth; return False, with nothing taken, for more than a fair share."""
        if size * GROWTH_SHARE > self.growth_left:
            return False
        self.growth_left -= size
        return True

    def release_growth(self, size: int) -> None:
        """Return the growth of a stream that has ended."""
        self.growth_left += size

    def record_unread(self, stream: Hashable, unread: int, *, consumed: bool) -> None:
        """Record that ``stream`` holds ``unread`` bytes; ``consumed`` is true when it was just read from."""
        before = self._unread.pop(stream, 0) if consumed or not unread else self._unread.get(stream, 0)
        if unread:
            self._unread[stream] = unread
        self.held += unread - before

    def least_recently_read(self) -> Hashable | None:
        """Return the least recently read stream when the budget is exceeded, else None."""
        if self.held <= self._held_limit:
            return None
        return next(iter(self._unread))


class ReceiveWindow:
    """The receive window of one stream, in bytes.

    ``credit`` is what the peer may still send, ``target`` the size of the window. Invariant: ``credit``
    plus the unread bytes never exceed ``target``.
    """

    __slots__ = ("_budget", "_grown", "_maximum", "_updated", "credit", "target")

    def __init__(self, budget: WindowBudget, maximum: int = MAX_WINDOW) -> None:
        self._budget = budget
        self._maximum = maximum
        self._grown = 0
        self._updated: float | None = None
        self.credit = INITIAL_WINDOW
        self.target = INITIAL_WINDOW

    def spend(self, size: int) -> None:
        """Deduct ``size`` bytes sent by the peer; RemoteError when they exceed the window."""
        if size > self.credit:
            raise RemoteError(f"the peer sent {size} bytes into a window of {self.credit}")
        self.credit -= size

    def replenish(self, unread: int, now: float, rtt: float) -> int:
        """Return the window increase to announce, 0 while it is less than half the target.

        The target doubles when the last update is so recent that the window is what limits the peer.
        Source: go-yamux `sendWindowUpdate`, with one budget for the process instead of one per session.
        """
        due = self.target - self.credit - unread
        if 2 * due < self.target:
            return 0
        if self._updated is not None:
            due += self._grow(now - self._updated, rtt)
        self._updated = now
        self.credit += due
        return due

    def _grow(self, age: float, rtt: float) -> int:
        if age <= GROWTH_RTTS * rtt:
            most = self._maximum
        elif age <= LOCAL_GROWTH_SECONDS:
            most = min(LOCAL_WINDOW, self._maximum)
        else:
            return 0
        step = min(self.target, most - self.target)
        if step <= 0 or not self._budget.reserve_growth(step):
            return 0
        self._grown += step
        self.target += step
        return step

    def release(self) -> None:
        """Return the growth to the budget; the stream takes no more data."""
        self._budget.release_growth(self._grown)
        self._grown = 0


class Ending(Enum):
    """Why a stream ended in both directions before both sides had finished it."""

    RESET_BY_PEER = auto()
    RESET_HERE = auto()
    CONNECTION_LOST = auto()


class Read:
    """A reader that waits with a buffer; payload goes straight into it, and only then to the inbox.

    It is content with ``least`` bytes.
    """

    __slots__ = ("buffer", "filled", "least")

    def __init__(self, buffer: memoryview, least: int) -> None:
        self.buffer = buffer
        self.filled = 0
        self.least = least

    @property
    def done(self) -> bool:
        """Whether the reader can go on."""
        return self.filled >= self.least

    @property
    def left(self) -> int:
        """Bytes for which there is room."""
        return len(self.buffer) - self.filled

    def room(self, size: int) -> memoryview:
        """Return where the next ``size`` bytes belong, as far as they fit."""
        return self.buffer[self.filled : self.filled + size]

    def take(self, part: memoryview) -> memoryview:
        """Copy the beginning of ``part``; return the rest, which does not fit."""
        size = min(len(part), len(self.buffer) - self.filled)
        self.buffer[self.filled : self.filled + size] = part[:size]
        self.filled += size
        return part[size:]


class Write:
    """A pending write of ``parts``; the caller must not change them until ``left`` is 0."""

    __slots__ = ("_next", "_parts", "_start", "left")

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts
        self._next = 0
        self._start = 0
        self.left = sum(map(len, parts))
        """Bytes not sealed yet."""

    def take(self, most: int, out: list[bytes | memoryview]) -> int:
        """Add views of the next bytes, at most ``most``, to ``out``; return how many bytes that is."""
        left = taken = min(most, self.left)
        self.left -= taken
        while left:
            part = self._parts[self._next]
            size = len(part) - self._start
            if size <= left:
                out.append(part[self._start :] if self._start else part)
                self._next, self._start = self._next + 1, 0
            else:
                size = left
                out.append(part[self._start : self._start + size])
                self._start += size
            left -= size
        return taken

    def keep(self) -> None:
        """Copy what is left, so that the caller may do as it likes with ``parts``."""
        rest: list[bytes | memoryview] = []
        left = self.take(self.left, rest)
        self._parts, self._next, self._start, self.left = (memoryview(b"".join(rest)),), 0, 0, left


class Stream:
    """The state of one stream.

    ``sending``: this end may still write. ``finished``: FIN is queued behind everything written.
    ``receiving``: the peer has not sent FIN. ``discarding``: closed here; arriving data is dropped.
    ``ending``: why the stream was reset or lost, if it was. A reset drops the unread bytes; a lost
    connection keeps them. ``reading``: the reader that waits, while the inbox is empty.
    """

    __slots__ = (
        "acknowledged",
        "closed_at",
        "discarding",
        "ending",
        "finished",
        "id",
        "inbound",
        "inbox",
        "queued",
        "reading",
        "receiving",
        "send_window",
        "sending",
        "window",
        "writes",
    )

    def __init__(self, stream_id: int, *, inbound: bool, inbox: Inbox, window: ReceiveWindow) -> None:
        self.id = stream_id
        self.inbound = inbound
        self.inbox = inbox
        self.window = window
        self.send_window = INITIAL_WINDOW
        self.writes: deque[Write] = deque()
        self.acknowledged = inbound
        self.sending = True
        self.finished = False
        self.receiving = True
        self.discarding = False
        self.queued = False
        self.closed_at = 0.0
        self.ending: Ending | None = None
        self.reading: Read | None = None
