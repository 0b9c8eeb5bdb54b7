"""Control frames that wait to be sent: short, merged, bounded.

They go before queued data, in the order in which they were queued, but for window updates, which
are merged per stream and follow the rest.
"""

from __future__ import annotations

from collections import deque

from swarm.errors import RemoteError
from swarm.link import yamux
from swarm.link.limits import YAMUX_HEADER


class ControlQueue:
    """Frames without payload, at most ``limit`` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames: deque[bytes] = deque()
        self._updates: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._frames) + len(self._updates)

    def add(self, kind: int, flags: int, stream: int, length: int = 0) -> None:
        """Queue one frame."""
        self._frames.append(yamux.encode(kind, flags, stream, length))

    def update(self, stream: int, increase: int) -> bool:
        """Queue a window update of ``increase`` bytes, merged with one that still waits; False if it is 0."""
        if increase:
            self._updates[stream] = self._updates.get(stream, 0) + increase
        return increase > 0

    def drop_update(self, stream: int) -> None:
        """Forget a waiting window update of a stream that takes no more data."""
        self._updates.pop(stream, None)

    def check(self) -> None:
        """RemoteError when more frames wait than allowed: the peer provokes answers that it does not read."""
        if len(self) > self._limit:
            raise RemoteError(f"more than {self._limit} control frames wait for the peer to read them")

    def fill(self, out: memoryview) -> int:
        """Move frames into ``out`` while whole ones fit; return the bytes written."""
        used = 0
        room = len(out) - YAMUX_HEADER
        while self._frames and used <= room:
            out[used : used + YAMUX_HEADER] = self._frames.popleft()
            used += YAMUX_HEADER
        while self._updates and used <= room:
            stream = next(iter(self._updates))
            increase = self._updates.pop(stream)
            yamux.encode_into(out, used, yamux.Frame(yamux.WINDOW_UPDATE, 0, stream, increase))
            used += YAMUX_HEADER
        return used
