"""Noise records over one TCP socket.

Nothing is awaited between sealing a record and queueing it for the socket, so a cancelled task can
neither lose a record nor send one twice. An idle connection holds no buffers: all connections of a thread
receive into and seal into the same buffers, each within one synchronous step.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable

import trio

from swarm.errors import LinkClosed
from swarm.mux.mux_limits import NOISE_MAX_PLAINTEXT, NOISE_MAX_SEALED
from swarm.mux.records import SEALED_BYTES, Blocks, Opener, PlaintextSink, Sealer, SendDepth, missing

RECEIVE_BYTES = 2 * 1024 * 1024 + 64 * 1024
"""The most bytes received in one step, or opened for readers that still wait, before other tasks run: what a
reader takes at once, with what travels beside it."""
PART_RECORDS = 8
"""Full records received with one system call: they are opened while they are in the processor's cache."""
TURN_BYTES = 1024 * 1024
"""The most bytes sealed before other tasks run."""
WHOLE_RECORDS = 8
"""From so many records on, a reader gets no more than fit into its buffer as a whole."""

WAKE_BYTES = 16 * 1024
"""Bytes. The socket becomes readable when the current record is complete or this much of it has arrived. On
a slow path, waking up for every packet would cost time and yield nothing. The bound keeps a very slow peer
visible as alive."""

_MIN_RTT = struct.Struct("148xI")
"""The offset of ``tcpi_min_rtt``, in microseconds, in Linux's ``struct tcp_info`` (linux/tcp.h)."""
_NO_RTT = 2**32 - 1


class _Buffers(threading.local):
    """The buffers of one thread, allocated on first use."""

    def __init__(self) -> None:
        self.received = memoryview(bytearray((1 + PART_RECORDS) * NOISE_MAX_SEALED))
        self.plaintext = memoryview(bytearray(NOISE_MAX_PLAINTEXT))
        self.sealed = memoryview(bytearray(SEALED_BYTES))
        self.blocks = Blocks()


_buffers = _Buffers()

Take = Callable[[int], list[bytes | memoryview]]
"""Returns the next plaintext in parts, at most so many bytes; nothing when there is none."""


class RecordSocket:
    """Sends and receives records over one socket. Methods raise LinkClosed once the socket has ended."""

    def __init__(self, stream: trio.SocketStream, sealer: Sealer, opener: Opener) -> None:
        self._socket = stream.socket
        self._sealer = sealer
        self._opener = opener
        self._unsent = memoryview(b"")
        self._unopened = b""
        self.received_bytes = 0
        self.sent_bytes = 0
        self._depth = SendDepth()
        self._sent_at_wait = 0
        self._low_water = 1
        self._waited_for = False
        self._now = trio.lowlevel.current_clock().current_time
        self._limit_unsent()

    def _limit_unsent(self) -> None:
        """Limit the unsent bytes that the kernel buffers to the send depth."""
        # A circuit through a relay ends in a Unix socket, which has no such limit.
        if hasattr(socket, "TCP_NOTSENT_LOWAT") and self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self._depth.size)

    @property
    def blocks(self) -> Blocks:
        """The pool of buffers for received records."""
        return _buffers.blocks

    @property
    def round_trip(self) -> float:
        """The shortest round trip measured by TCP, in seconds; 0.0 where the kernel does not report it."""
        try:
            data = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT.size)
        except (AttributeError, OSError):
            return 0.0
        if len(data) < _MIN_RTT.size:
            return 0.0
        microseconds: int = _MIN_RTT.unpack(data)[0]
        return microseconds / 1e6 if microseconds < _NO_RTT else 0.0

    @property
    def unsent(self) -> int:
        """Sealed bytes not accepted by the socket yet."""
        return len(self._unsent)

    def send(self, take: Take) -> bool:
        """Seal and send until ``take`` returns nothing, the socket is full, or TURN_BYTES are sent.

        Returns whether everything is sent. If not, wait for `writable` (while `unsent`) and call again.
        """
        turn = TURN_BYTES
        while self._send_unsent():
            parts = take(self._depth.records * NOISE_MAX_PLAINTEXT)
            if not parts:
                self._flowed(TURN_BYTES - turn)
                return True
            size = self._sealer.seal_parts(parts, _buffers.plaintext, _buffers.sealed)
            turn -= size
            self._unsent = _buffers.sealed[:size]
            done = self._send_unsent()
            if not done:
                # Another connection is about to use the shared buffer.
                self._unsent = memoryview(bytes(self._unsent))
                return False
            if turn <= 0:
                self._flowed(TURN_BYTES - turn)
                return False
        return False

    def _flowed(self, size: int) -> None:
        if size and self._depth.flowed(size, self._now()):
            self._limit_unsent()

    def _send_unsent(self) -> bool:
        """Write the sealed bytes to the socket; return whether it accepted all of them."""
        if not self._unsent:
            return True
        try:
            sent = os.write(self._fileno(), self._unsent)
        except BlockingIOError:
            return False
        except OSError as error:
            raise LinkClosed(f"the connection was lost: {error.strerror}") from error
        self.sent_bytes += sent
        self._unsent = self._unsent[sent:]
        return not self._unsent

    def queue(self, data: bytes) -> None:
        """Seal ``data`` behind the unsent bytes; `flush` sends it."""
        self._unsent = memoryview(bytes(self._unsent) + self._sealer.seal(data))

    async def flush(self) -> None:
        """Wait until the socket has accepted every sealed byte."""
        while not self._send_unsent():
            await self.writable()

    async def writable(self) -> None:
        """Wait until the socket accepts more bytes."""
        began = trio.current_time()
        try:
            await trio.lowlevel.wait_writable(self._fileno())
        except (trio.ClosedResourceError, OSError) as error:
            raise LinkClosed("the connection was closed") from error
        if self._depth.observe(self.sent_bytes - self._sent_at_wait, trio.current_time() - began):
            self._limit_unsent()
        self._sent_at_wait = self.sent_bytes

    async def receive(self, sink: PlaintextSink) -> None:
        """Wait for bytes, and open the records that they complete, if any, into ``sink``.

        Others run first, whatever has come: a peer may send records without end that bring nothing. Raises
        what `receive_now` raises.
        """
        await trio.lowlevel.checkpoint()
        while not self.receive_now(sink, NOISE_MAX_PLAINTEXT):
            await self.readable()

    async def readable(self) -> None:
        """Wait until the socket holds what is missing of a record, or `WAKE_BYTES` of it, or has ended."""
        self._set_low_water(min(missing(self._unopened), WAKE_BYTES))
        self._waited_for = True
        try:
            await trio.lowlevel.wait_readable(self._fileno())
        except (trio.ClosedResourceError, OSError) as error:
            raise LinkClosed("the connection was closed") from error
        finally:
            self._waited_for = False

    def receive_now(self, sink: PlaintextSink, most: int = RECEIVE_BYTES) -> int:
        """Open the records that the socket completes, if any, into ``sink``, without waiting.

        Returns the bytes received, 0 when there are none: no more than the records of ``most`` bytes of
        plaintext, or than `RECEIVE_BYTES`. Raises LinkClosed at the end of the connection, and RemoteError
        for a forged record or what ``sink`` raises.
        """
        buffer = _buffers.received
        end = len(self._unopened)
        buffer[:end] = self._unopened
        used, came = 0, 0
        # What does not fit has to be copied, but who waits for few bytes shall have them in one step.
        records = most // NOISE_MAX_PLAINTEXT
        left = min((records + (records < WHOLE_RECORDS)) * NOISE_MAX_SEALED - end, RECEIVE_BYTES)
        while left > 0:
            # The rest of a record belongs before what comes next.
            kept = end - used
            if used:
                buffer[:kept] = buffer[used:end]
            wanted = min(left, PART_RECORDS * NOISE_MAX_SEALED)
            size = self._read_into(buffer[kept : kept + wanted])
            used, end = 0, kept + size
            if size:
                used = self._opener.open(buffer[:end], _buffers.blocks, sink)
            came += size
            left -= size
            if size < wanted:
                break
        if came:
            self._unopened = bytes(buffer[used:end])
            if self._waited_for and (least := missing(self._unopened)) < self._low_water:
                # Another task waits in `readable` for what was missing before this step. Less is missing now,
                # and the peer may send no more than that.
                self._set_low_water(least)
        return came

    def _set_low_water(self, size: int) -> None:
        """Make the socket readable only once it holds ``size`` bytes or has ended."""
        if size != self._low_water:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            self._low_water = size

    def _read_into(self, buffer: memoryview) -> int:
        """Read without waiting; return the number of bytes, 0 when there are none."""
        try:
            size = os.readv(self._fileno(), [buffer])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LinkClosed(f"the connection was lost: {error.strerror}") from error
        if not size:
            raise LinkClosed("the peer closed the connection")
        self.received_bytes += size
        return size

    def _fileno(self) -> int:
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise LinkClosed("the connection is closed")
        return descriptor

    def finish(self) -> None:
        """Shut down the sending direction; receiving continues."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise LinkClosed("the connection was lost") from error

    def close(self) -> None:
        """Close the socket at once; waiting tasks get LinkClosed."""
        self._socket.close()
