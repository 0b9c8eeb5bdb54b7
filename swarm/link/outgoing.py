"""What one connection has to send: control frames first, then the streams in turn."""

from __future__ import annotations

from collections import deque

from swarm.link import yamux
from swarm.link.control import ControlQueue
from swarm.link.limits import YAMUX_HEADER
from swarm.link.stream import Stream, Write
from swarm.link.yamux import DATA, FIN, WINDOW_UPDATE, Frame

LEAST_ROOM = 4096
"""A plaintext with less room than this left gets no further data: the frame would be too small."""


class Outgoing:
    """The queue of frames; every stream that may send is in it once, and gives one frame per turn."""

    def __init__(self, control_limit: int) -> None:
        self.control = ControlQueue(control_limit)
        self._ready: deque[Stream] = deque()

    def __bool__(self) -> bool:
        return bool(self._ready or self.control)

    def write(self, stream: Stream, write: Write) -> None:
        """Queue bytes of a stream behind its earlier ones."""
        if write.left:
            stream.writes.append(write)
            self.allow(stream)

    def allow(self, stream: Stream) -> None:
        """Give the stream its turns if it has both something to send and the window for it."""
        if stream.writes and stream.send_window and not stream.queued:
            stream.queued = True
            self._ready.append(stream)

    def finish(self, stream: Stream) -> None:
        """Send FIN once everything written is on its way."""
        stream.sending = False
        if not stream.writes:
            self._fin(stream)

    def cancel(self, stream: Stream) -> None:
        """Drop what the stream still has to send."""
        stream.writes.clear()
        self.control.drop_update(stream.id)
        if stream.queued:
            stream.queued = False
            self._ready.remove(stream)

    def fill(self, out: memoryview, progressed: set[Stream]) -> int:
        """Write the next plaintext into ``out`` and return its size, 0 when there is nothing to send.

        Streams of which a write is complete are added to ``progressed``.
        """
        used = self.control.fill(out)
        while self._ready and (len(out) - used >= LEAST_ROOM or not used):
            used += self._data(self._ready.popleft(), out[used:], progressed)
        return used

    def _data(self, stream: Stream, out: memoryview, progressed: set[Stream]) -> int:
        write = stream.writes[0]
        size = min(len(out) - YAMUX_HEADER, stream.send_window, write.left)
        yamux.encode_into(out, 0, Frame(DATA, 0, stream.id, size))
        out[YAMUX_HEADER : YAMUX_HEADER + size] = write.data[write.sent : write.sent + size]
        write.sent += size
        stream.send_window -= size
        if not write.left:
            stream.writes.popleft()
            progressed.add(stream)
        stream.queued = False
        self.allow(stream)
        if not stream.writes and not stream.sending:
            self._fin(stream)
        return YAMUX_HEADER + size

    def _fin(self, stream: Stream) -> None:
        stream.finished = True
        self.control.add(WINDOW_UPDATE, FIN, stream.id)
