"""The state machine of one Yamux connection.

It has no clock, no socket and no task. The caller passes in received plaintexts and the time, reads the
results with `take_results`, and gets the next plaintext to seal from `take`. Source: hashicorp/yamux
`spec.md`, libp2p Yamux specification.
"""

from __future__ import annotations

from collections import deque

from swarm.errors import LinkClosed, RemoteError
from swarm.lazy_dataclass import dataclass, field
from swarm.mux import frames as yamux
from swarm.mux.frames import ACK, DATA, FIN, GO_AWAY, NORMAL, PING, RST, SYN, WINDOW_UPDATE, Frame, FramePace
from swarm.mux.mux_limits import (
    ABANDONED_SECONDS,
    FRAME_BYTES,
    MAX_SEND_WINDOW,
    SHARED_FRAME_BYTES,
    SMALL_RECORD,
    YAMUX_HEADER,
    MuxLimits,
)
from swarm.mux.records import Blocks
from swarm.mux.stream import Ending, Inbox, ReceiveWindow, Stream, WindowBudget, Write


class ControlQueue:
    """Queued frames without payload; `check` enforces ``limit``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames: deque[bytes] = deque()
        self._updates: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._frames) + len(self._updates)

    def add(self, kind: int, flags: int, stream: int, length: int = 0) -> None:
        """Queue one frame."""
        self._frames.append(yamux.encode(kind, flags, stream, length))

    def add_update(self, stream: int, increase: int) -> bool:
        """Queue a window update of ``increase`` bytes, merged with one already queued; return False for 0."""
        if increase:
            self._updates[stream] = self._updates.get(stream, 0) + increase
        return increase > 0

    def drop_update(self, stream: int) -> None:
        """Drop the queued window update of a stream that takes no more data."""
        self._updates.pop(stream, None)

    def check(self) -> None:
        """Raise RemoteError when more than ``limit`` frames are queued because the peer does not read."""
        if len(self) > self._limit:
            raise RemoteError(f"the peer does not read: more than {self._limit} control frames are queued")

    def take(self, most: int) -> bytes:
        """Remove and return whole frames, at most ``most`` bytes of them."""
        count = most // YAMUX_HEADER
        taken: list[bytes] = []
        while self._frames and len(taken) < count:
            taken.append(self._frames.popleft())
        while self._updates and len(taken) < count:
            stream = next(iter(self._updates))
            taken.append(yamux.encode(WINDOW_UPDATE, 0, stream, self._updates.pop(stream)))
        return b"".join(taken)


LEAST_ROOM = 4096
"""Bytes. A batch with less room left gets no further DATA frame, which would be too small."""


class Outgoing:
    """The send queue: control frames first, then one DATA frame of each ready stream in turn."""

    def __init__(self, control_limit: int) -> None:
        self.control = ControlQueue(control_limit)
        self._ready: deque[Stream] = deque()

    def __bool__(self) -> bool:
        return bool(self._ready or self.control)

    def write(self, stream: Stream, write: Write) -> None:
        """Queue bytes of a stream behind its earlier writes."""
        if write.left:
            stream.writes.append(write)
            self.schedule(stream)

    def schedule(self, stream: Stream) -> None:
        """Schedule the stream if it has both bytes to send and a send window."""
        if stream.writes and stream.send_window and not stream.queued:
            stream.queued = True
            self._ready.append(stream)

    def finish(self, stream: Stream) -> None:
        """Send FIN after everything that was written."""
        stream.sending = False
        if not stream.writes:
            self._fin(stream)

    def cancel(self, stream: Stream) -> None:
        """Drop everything the stream has queued."""
        stream.writes.clear()
        self.control.drop_update(stream.id)
        if stream.queued:
            stream.queued = False
            self._ready.remove(stream)

    def take(self, most: int, progressed: set[Stream]) -> list[bytes | memoryview]:
        """Remove and return the next plaintext in parts, at most ``most`` bytes; nothing when none is queued.

        The parts are views of what was written: use them before the writers go on. Adds each stream with a
        completed write to ``progressed``.
        """
        parts: list[bytes | memoryview] = []
        if self.control:
            parts.append(self.control.take(most))
            most -= len(parts[0])
        while self._ready and (most >= LEAST_ROOM or not parts):
            stream = self._ready.popleft()
            longest = SHARED_FRAME_BYTES if self._ready else FRAME_BYTES
            most -= self._data(stream, min(longest, most - YAMUX_HEADER), parts, progressed)
        return parts

    def _data(
        self, stream: Stream, longest: int, parts: list[bytes | memoryview], progressed: set[Stream]
    ) -> int:
        """Cut one DATA frame of a stream, from as many of its writes as it holds; return its bytes."""
        left = longest = min(longest, stream.send_window)
        header = len(parts)
        parts.append(b"")
        while stream.writes and left:
            write = stream.writes[0]
            left -= write.take(left, parts)
            if not write.left:
                stream.writes.popleft()
                progressed.add(stream)
        size = longest - left
        parts[header] = yamux.encode(DATA, 0, stream.id, size)
        stream.send_window -= size
        stream.queued = False
        self.schedule(stream)
        if not stream.writes and not stream.sending:
            self._fin(stream)
        return YAMUX_HEADER + size

    def _fin(self, stream: Stream) -> None:
        stream.finished = True
        self.control.add(WINDOW_UPDATE, FIN, stream.id)


@dataclass(slots=True)
class MuxResults:
    """What the caller has to act on.

    ``touched``: streams with new data, a completed write, or an end.
    ``acceptable``: the peer opened a stream; call `Connection.accept`.
    ``freed``: a stream was acknowledged or has ended; `Connection.may_open` may have changed.
    ``pongs``: values of the ping answers received, checked by nobody yet.
    """

    touched: set[Stream] = field(default_factory=set)
    acceptable: bool = False
    freed: bool = False
    pongs: list[int] = field(default_factory=list)


class PeerIds:
    """The stream ids that the peer has used.

    Some peers open streams concurrently and send the ids out of order. A skipped id may therefore
    arrive late, as long as it is one of the last ``skipped_limit`` skipped ids.
    """

    def __init__(self, *, even: bool, skipped_limit: int) -> None:
        self._parity = 0 if even else 1
        self._highest = 0 if even else -1
        self._limit = skipped_limit
        self._skipped: dict[int, None] = {}

    def register(self, stream_id: int) -> None:
        """Record the id of a new stream; RemoteError for an id of this end or one already used."""
        if stream_id % 2 != self._parity:
            raise RemoteError(f"the peer opened stream {stream_id}, an id that belongs to this end")
        if stream_id > self._highest:
            oldest = max(self._highest + 2, stream_id - 2 * self._limit)
            for skipped in range(oldest, stream_id, 2):
                self._skipped[skipped] = None
            self._highest = stream_id
            while len(self._skipped) > self._limit:
                del self._skipped[next(iter(self._skipped))]
        elif stream_id in self._skipped:
            del self._skipped[stream_id]
        else:
            raise RemoteError(f"the peer opened stream {stream_id} twice")

    def was_used(self, stream_id: int) -> bool:
        """Whether the peer has opened this id, or skipped it too long ago to open it now."""
        return stream_id % 2 == self._parity and stream_id <= self._highest and stream_id not in self._skipped


class Connection:
    """The streams of one connection and the protocol state shared with the peer."""

    def __init__(
        self, *, initiator: bool, blocks: Blocks, budget: WindowBudget, limits: MuxLimits | None = None
    ) -> None:
        self._limits = limits or MuxLimits()
        self._blocks = blocks
        self._budget = budget
        self._outgoing = Outgoing(self._limits.control_frames)
        self._control = self._outgoing.control
        self._reader = yamux.FrameReader()
        self._peer_ids = PeerIds(even=initiator, skipped_limit=self._limits.skipped_ids)
        self._next_id = 1 if initiator else 2
        self._backlog: dict[int, Stream] = {}
        self._inbound = 0
        self._unacknowledged = 0
        self._payload_of: Stream | None = None
        self._payload_finishes = False
        self._results = MuxResults()
        self.streams: dict[int, Stream] = {}
        self.opened = 0
        """Streams that either end has opened so far."""
        self.pace = FramePace()
        self.rtt = 0.0
        self.peer_leaving = False
        self.leaving = False

    # Results for the caller.

    @property
    def sends(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._outgoing)

    @property
    def has_results(self) -> bool:
        """Whether there are results since the last call of `take_results`."""
        results = self._results
        return bool(results.touched or results.acceptable or results.freed or results.pongs)

    def take_results(self) -> MuxResults:
        """Return the results since the last call."""
        results, self._results = self._results, MuxResults()
        return results

    @property
    def may_open(self) -> bool:
        """Whether `open` may be called now; otherwise wait until the peer acknowledges streams."""
        return self._unacknowledged < self._limits.unacknowledged

    @property
    def should_flush(self) -> bool:
        """Whether the queue of control frames is half full; time to send some."""
        return 2 * len(self._control) > self._limits.control_frames

    def take(self, most: int) -> list[bytes | memoryview]:
        """Return the next plaintext to seal in parts, at most ``most`` bytes; empty when nothing is queued.

        Seal it before anything else happens: the parts belong to writers, who are told that they are sent.
        """
        progressed: set[Stream] = set()
        parts = self._outgoing.take(most, progressed)
        for stream in progressed:
            self._results.touched.add(stream)
            self._forget_if_done(stream)
        return parts

    # Actions of this end.

    def open(self) -> Stream:
        """Open a stream; LinkClosed when either end is closing or no stream id is left."""
        if self.leaving or self.peer_leaving:
            raise LinkClosed("the connection is closing")
        if self._next_id > self._limits.last_stream_id:
            raise LinkClosed("the connection has used all its stream ids; reconnect")
        stream = self._add(self._next_id, inbound=False)
        self._next_id += 2
        self._unacknowledged += 1
        self._control.add(WINDOW_UPDATE, SYN, stream.id)
        return stream

    def accept(self) -> Stream | None:
        """Return the oldest stream of the peer that was not accepted yet, or None."""
        if not self._backlog:
            return None
        return self._backlog.pop(next(iter(self._backlog)))

    def write(self, stream: Stream, *parts: memoryview) -> Write:
        """Queue bytes; LinkClosed when the stream is closed for writing. `Write.left` tells the progress."""
        if not stream.sending:
            raise LinkClosed("the stream is closed for writing")
        write = Write(parts)
        self._outgoing.write(stream, write)
        return write

    def consumed(self, stream: Stream, now: float) -> bool:
        """Note that bytes were read from the stream; return whether a window update is queued."""
        is_open = stream.receiving and not stream.ending and not stream.discarding
        increase = stream.window.replenish(stream.inbox.size, now, self.rtt) if is_open else 0
        return self._control.add_update(stream.id, increase)

    def finish(self, stream: Stream) -> None:
        """Stop writing: FIN follows the queued bytes. Reading continues."""
        if stream.sending:
            self._outgoing.finish(stream)
            self._forget_if_done(stream)

    def close(self, stream: Stream, now: float) -> None:
        """Stop writing and reading: data that still arrives is dropped.

        `reset_abandoned` resets the stream if the peer has not finished it within `ABANDONED_SECONDS`.
        """
        self.finish(stream)
        if not stream.discarding:
            stream.discarding = True
            stream.closed_at = now
            stream.inbox.clear()
            self._control.drop_update(stream.id)
            self._results.touched.add(stream)

    def reset(self, stream: Stream) -> None:
        """Abandon the stream in both directions at once; unread bytes are dropped."""
        if stream.id in self.streams:
            self._end(stream, Ending.RESET_HERE)
            self._control.add(WINDOW_UPDATE, RST, stream.id)
        elif stream.inbox.size or not stream.ending:
            self._end(stream, Ending.RESET_HERE)

    def ping(self, value: int) -> None:
        """Queue a ping with this 32-bit value; the peer's answer appears in `MuxResults.pongs`."""
        self._control.add(PING, SYN, 0, value)

    def go_away(self, code: int = NORMAL) -> None:
        """Send GO_AWAY with ``code`` and end every stream; new streams of the peer are reset."""
        if not self.leaving:
            self.leaving = True
            self._control.add(GO_AWAY, 0, 0, code)
        self.connection_lost()

    def connection_lost(self) -> None:
        """End every stream because the connection is lost. Received bytes stay readable."""
        for stream in list(self.streams.values()):
            self._end(stream, Ending.CONNECTION_LOST)

    def reset_abandoned(self, now: float) -> None:
        """Reset streams closed here `ABANDONED_SECONDS` ago that the peer has not finished."""
        for stream in list(self.streams.values()):
            if stream.discarding and now - stream.closed_at >= ABANDONED_SECONDS:
                self.reset(stream)

    # Frames of the peer.

    def room(self) -> memoryview | None:
        """Return where the next bytes belong if they are payload for a reader that waits."""
        stream, left = self._payload_of, self._reader.payload_left
        # A stream that has ended has no reader: it was woken and takes nothing more.
        if left and stream and stream.reading and not (stream.ending or stream.discarding):
            return stream.reading.room(left)
        return None

    def placed(self, size: int) -> None:
        """Note that ``size`` bytes are where `room` said."""
        stream = self._payload_of
        if not stream or not stream.reading:
            raise ValueError("no reader waits")
        self._reader.skip(size)
        stream.reading.filled += size
        self._payload_came(stream)

    def receive(self, block: bytearray, size: int) -> None:
        """Process one opened record, the first ``size`` bytes of ``block``, and take over the block.

        RemoteError when the peer breaks the protocol.
        """
        kept = False
        for item in self._reader.read(memoryview(block)[:size]):
            if isinstance(item, memoryview):
                kept |= self._payload(item)
            else:
                self._frame(item)
        if size < SMALL_RECORD:
            self.pace.take_small_record()
        if not kept:
            self._blocks.give(block)
        self._control.check()

    def _frame(self, frame: Frame) -> None:
        self.pace.take(frame)
        if frame.kind == PING:
            self._ping(frame)
        elif frame.kind == GO_AWAY:
            self.peer_leaving = True
        else:
            stream = self._stream_of(frame)
            if frame.kind == DATA:
                self._data_header(stream, frame)
            elif stream:
                self._window_update(stream, frame)

    def _ping(self, frame: Frame) -> None:
        if frame.flags == SYN:
            self._control.add(PING, ACK, 0, frame.length)
        else:
            self._results.pongs.append(frame.length)

    def _stream_of(self, frame: Frame) -> Stream | None:
        """Return the stream that a frame names; None when the stream has ended or was refused."""
        if frame.flags & SYN:
            return self._syn(frame.stream)
        stream = self.streams.get(frame.stream)
        if stream:
            if not stream.acknowledged:
                stream.acknowledged = True
                self._unacknowledged -= 1
                self._results.freed = True
                self._results.touched.add(stream)
        elif not self._used(frame.stream):
            raise RemoteError(f"the peer sent a frame for stream {frame.stream}, which was never opened")
        return stream

    def _used(self, stream_id: int) -> bool:
        if stream_id % 2 == self._next_id % 2:
            return stream_id < self._next_id
        return self._peer_ids.was_used(stream_id)

    def _syn(self, stream_id: int) -> Stream | None:
        self._peer_ids.register(stream_id)
        limits, waiting = self._limits, len(self._backlog)
        if self.leaving or self._inbound >= limits.inbound_streams or waiting >= limits.accept_backlog:
            self._control.add(WINDOW_UPDATE, RST, stream_id)
            return None
        stream = self._add(stream_id, inbound=True)
        self._inbound += 1
        self._backlog[stream_id] = stream
        self._results.acceptable = True
        self._control.add(WINDOW_UPDATE, ACK, stream_id)
        return stream

    def _window_update(self, stream: Stream, frame: Frame) -> None:
        stream.send_window = min(stream.send_window + frame.length, MAX_SEND_WINDOW)
        self._outgoing.schedule(stream)
        self._closing_flags(stream, frame.flags)

    def _data_header(self, stream: Stream | None, frame: Frame) -> None:
        self._payload_of = stream
        self._payload_finishes = bool(frame.flags & FIN)
        if not stream:
            return
        if frame.length and not stream.receiving:
            self.reset(stream)
            return
        stream.window.spend(frame.length)
        if frame.flags & RST or not frame.length:
            self._closing_flags(stream, frame.flags)

    def _payload(self, part: memoryview) -> bool:
        """Deliver a part of a DATA payload; return whether its block was kept."""
        stream, kept = self._payload_of, False
        if not stream or stream.ending:
            return False
        if not stream.discarding:
            if stream.reading and not stream.inbox.size:
                part = stream.reading.take(part)
            if part:
                kept = stream.inbox.append(part)
        self._payload_came(stream)
        return kept

    def _payload_came(self, stream: Stream) -> None:
        if not stream.discarding:
            self._results.touched.add(stream)
        if not self._reader.payload_left and self._payload_finishes:
            self._closing_flags(stream, FIN)

    def _closing_flags(self, stream: Stream, flags: int) -> None:
        if flags & RST:
            self._end(stream, Ending.RESET_BY_PEER)
        elif flags & FIN and stream.receiving:
            stream.receiving = False
            self._control.drop_update(stream.id)
            self._results.touched.add(stream)
            self._forget_if_done(stream)

    def _add(self, stream_id: int, *, inbound: bool) -> Stream:
        window = ReceiveWindow(self._budget, self._limits.max_window)
        stream = Stream(stream_id, inbound=inbound, inbox=Inbox(self._blocks), window=window)
        self.streams[stream_id] = stream
        self.opened += 1
        return stream

    def _forget_if_done(self, stream: Stream) -> None:
        if stream.finished and not stream.receiving:
            self._forget(stream)

    def _end(self, stream: Stream, ending: Ending) -> None:
        stream.ending = ending
        stream.sending = False
        self._outgoing.cancel(stream)
        if ending is not Ending.CONNECTION_LOST:
            stream.inbox.clear()
            self._backlog.pop(stream.id, None)
        self._results.touched.add(stream)
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        if not self.streams.pop(stream.id, None):
            return
        self._results.freed = True
        self._control.drop_update(stream.id)
        stream.window.release()
        if stream.inbound:
            self._inbound -= 1
        elif not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1
