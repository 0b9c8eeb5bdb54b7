"""One Yamux stream: its unread bytes, its receive window, its state.

`Connection` owns every transition. Receive windows follow bandwidth x round trip within one budget of
memory for the whole process, which also counts what is received and unread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
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
"""A part of at least this size keeps its block, which then has room for no other such part."""
COPIES_BYTES = 32 * 1024
"""A buffer of copied parts grows no further than this and one more part."""


class Inbox:
    """A queue of bytes with whole-part input and any-size output."""

    __slots__ = ("_blocks", "_offset", "_parts", "size")

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._parts: deque[memoryview | bytearray] = deque()
        self._offset = 0
        self.size = 0

    def append(self, part: memoryview) -> bool:
        """Add ``part``, a view of a block; return whether the block now belongs to this inbox."""
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
        """Move bytes from the front into ``out`` until one of the two is exhausted; return how many."""
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
        """Forget everything."""
        while self._parts:
            self._give_back(self._parts.popleft())
        self._offset = 0
        self.size = 0

    def _give_back(self, part: memoryview | bytearray) -> None:
        if isinstance(part, memoryview):
            self._blocks.give(part.obj)  # type: ignore[arg-type]


class WindowBudget:
    """Memory of all windows together: what they may grow by, and what is unread in them."""

    def __init__(self, held_limit: int = MEMORY_BUDGET, growth_limit: int = GROWTH_BUDGET) -> None:
        self._held_limit = held_limit
        self._growth_left = growth_limit
        self._unread: dict[Hashable, int] = {}
        self.held = 0

    @property
    def growth_left(self) -> int:
        """Bytes that windows may still grow by."""
        return self._growth_left

    def grow(self, size: int) -> bool:
        """Take ``size`` bytes of growth; False, with nothing taken, where that is more than a fair share."""
        if size * GROWTH_SHARE > self._growth_left:
            return False
        self._growth_left -= size
        return True

    def give_back(self, size: int) -> None:
        """Return growth of a stream that has ended."""
        self._growth_left += size

    def note(self, stream: Hashable, unread: int, *, consumed: bool) -> None:
        """Record that ``stream`` now holds ``unread`` bytes; ``consumed`` when its owner has just read."""
        before = self._unread.pop(stream, 0) if consumed or not unread else self._unread.get(stream, 0)
        if unread:
            self._unread[stream] = unread
        self.held += unread - before

    def stalest(self) -> Hashable | None:
        """Return the stream read longest ago when more is held than the budget allows, else None."""
        if self.held <= self._held_limit:
            return None
        return next(iter(self._unread))


class ReceiveWindow:
    """What one stream's peer may still send, and when it is told of more.

    Invariant: ``credit`` plus the unread bytes never exceed ``target``.
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
        """Account for ``size`` bytes that the peer sends; RemoteError when it was not allowed that many."""
        if size > self.credit:
            raise RemoteError(f"the peer sent {size} bytes into a window of {self.credit}")
        self.credit -= size

    def replenish(self, unread: int, now: float, rtt: float) -> int:
        """Return how many bytes to allow the peer on top, 0 while less than half the target is due.

        The target doubles when the last update was so short ago that the window held the peer up.
        Source: go-yamux `sendWindowUpdate`, with a budget for the process instead of one per session.
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
        if step <= 0 or not self._budget.grow(step):
            return 0
        self._grown += step
        self.target += step
        return step

    def release(self) -> None:
        """Give the growth back to the budget; the stream takes no more data."""
        self._budget.give_back(self._grown)
        self._grown = 0


class Ending(Enum):
    """Why a stream is dead in both directions."""

    RESET_BY_PEER = auto()
    RESET_HERE = auto()
    CONNECTION_LOST = auto()


class Write:
    """Bytes of the caller on their way out; the caller must not change them until ``left`` is 0."""

    __slots__ = ("data", "sent")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.sent = 0

    @property
    def left(self) -> int:
        """Bytes that are not sealed yet."""
        return len(self.data) - self.sent


class Stream:
    """One stream as both ends see it.

    ``sending``: we may still write. ``finished``: our FIN is queued behind everything written.
    ``receiving``: the peer has not sent FIN. ``discarding``: closed here, arriving data is dropped.
    ``ending``: set when the stream is dead in both directions before both were finished; unread
    bytes are gone then, but for a lost connection.
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
