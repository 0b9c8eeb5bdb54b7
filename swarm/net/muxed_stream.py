"""One Yamux stream as libp2p's interface and as the reads and writes of `swarm.net.streams`.

Its state is a `swarm.mux.stream.Stream`; every change of it is a step of the connection's `Driver`.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import (
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)

from swarm.errors import LinkClosed
from swarm.mux.stream import Ending, Read, Stream, Write
from swarm.net.record_socket import RECEIVE_BYTES

if TYPE_CHECKING:
    from swarm.net.muxed_connection import Driver, MuxedConnection

_ENDINGS = {
    Ending.RESET_BY_PEER: "the peer reset the stream",
    Ending.RESET_HERE: "the stream was reset here",
    Ending.CONNECTION_LOST: "the connection was lost",
}


KEPT_BYTES = 4 * 1024
"""Bytes of a write that a stream keeps, when only the peer's window is in the way: windows and writes are of
about the same size, and would cut each other into a long and a short frame each time."""


class MuxedStream(IMuxedStream):
    """A Yamux stream.

    A cancelled read consumes nothing. A cancelled write resets the stream, because part of it may
    already be sent. Neither affects the connection or its other streams.
    """

    def __init__(self, connection: MuxedConnection, driver: Driver, state: Stream) -> None:
        self.muxed_conn = self._connection = connection
        self.state = state
        self._driver = driver
        self._readable = trio.lowlevel.ParkingLot()
        self._written = trio.lowlevel.ParkingLot()
        self._deadline = math.inf
        self.holds = False
        """Whether the reader sends the credit for what it read."""

    @property
    def stream_id(self) -> int:
        """The Yamux stream id."""
        return self.state.id

    @property
    def turn(self) -> int:
        """Another number each time that all tasks have run since the last one, as far as it is noticed."""
        return self._driver.turn

    # Reading.

    async def read(self, n: int | None = None) -> bytes:
        """Wait for data and return 1 to ``n`` bytes; None and -1 mean everything available.

        Raises MuxedStreamEOF once the peer has finished or the stream was closed here, and
        MuxedStreamReset when either end reset it or the connection was lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if n == 0:
            return b""
        inbox = self.state.inbox
        if not inbox.size:
            await self._wait_readable(RECEIVE_BYTES if n is None or n < 0 else n)
        data = inbox.take(inbox.size if n is None or n < 0 else n)
        self._driver.consumed(self)
        return data

    async def readinto(self, buffer: memoryview) -> int:
        """Wait for data and put 1 to ``len(buffer)`` bytes into ``buffer``; return how many.

        Raises what `read` does. The buffer is never written after a cancellation.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not len(buffer):
            return 0
        return self._read_unread(buffer) or await self._read_into(Read(buffer, 1))

    async def readinto_exactly(self, buffer: memoryview) -> None:
        """Fill ``buffer``; raises what `read` does, with what arrived before lost.

        No checkpoint if everything is here already. The buffer is never written after a cancellation.
        """
        await self.readinto_least(buffer, len(buffer))

    async def readinto_least(self, buffer: memoryview, least: int) -> int:
        """Wait for ``least`` bytes, and put them and what else has come into ``buffer``; return how many.

        Otherwise as `readinto_exactly`.
        """
        filled = self._read_unread(buffer)
        while filled < least:
            filled += await self._read_into(Read(buffer[filled:], least - filled))
        return filled

    async def read_exactly(self, size: int) -> bytes:
        """Return ``size`` bytes; otherwise as `readinto_exactly`."""
        inbox = self.state.inbox
        if inbox.size >= size:
            data = inbox.take(size)
            self._driver.consumed(self)
            return data
        buffer = bytearray(size)
        await self.readinto_exactly(memoryview(buffer))
        return bytes(buffer)

    def read_now(self, buffer: memoryview) -> int:
        """Move into ``buffer`` what has come, without waiting; return how many bytes that is.

        That may be less than has come: after a while other tasks have to run first.
        """
        state, filled = self.state, self._read_unread(buffer)
        if state.reading or filled == len(buffer):
            return filled
        state.reading = read = Read(buffer[filled:], len(buffer) - filled)
        try:
            while not read.done and self._driver.pull(read.left, hold=self.holds):
                pass
        finally:
            state.reading = None
        return filled + read.filled

    def hold_credit(self) -> None:
        """Let the credit for what is read wait for the next write, for `give_credit`, or a reader that waits.

        So one record carries both, where the reader is about to write.
        """
        self.holds = True

    def give_credit(self) -> None:
        """Send the credit that was held."""
        if self.holds:
            self.holds = False
            self._driver.flush()

    def _read_unread(self, buffer: memoryview) -> int:
        """Move unread bytes into ``buffer``; return how many."""
        if not self.state.inbox.size:
            return 0
        size = self.state.inbox.take_into(buffer)
        self._driver.consumed(self)
        return size

    async def _read_into(self, read: Read) -> int:
        """Wait until ``read`` has what it needs; return how many bytes that is."""
        state = self.state
        if state.reading:
            # Another task waits with a buffer; this one gets what comes after that.
            await self._wait_readable(len(read.buffer))
            return self._read_unread(read.buffer)
        state.reading = read
        try:
            await self._fill(read)
        finally:
            state.reading = None
            self._driver.readers.pop(self, None)
        return read.filled

    async def _fill(self, read: Read) -> None:
        driver = self._driver
        while not read.done:
            self._check_readable()
            if not driver.pull(read.left, hold=self.holds):
                driver.flush()
                driver.readers[self] = read.left
                await self._park(self._readable)

    async def _wait_readable(self, wanted: int) -> None:
        """Wait until something is in the inbox; the reader will take ``wanted`` bytes at most."""
        self._check_readable()
        if self._driver.pull(wanted) and self.state.inbox.size:
            return
        self._driver.readers[self] = wanted
        try:
            while not self.state.inbox.size:
                self._check_readable()
                await self._park(self._readable)
        finally:
            self._driver.readers.pop(self, None)

    async def _park(self, lot: trio.lowlevel.ParkingLot) -> None:
        """Wait to be woken, until the deadline of the stream at most."""
        if self._deadline == math.inf:
            await lot.park()
            return
        with trio.CancelScope(deadline=self._deadline) as scope:
            await lot.park()
        if scope.cancelled_caught:
            raise MuxedStreamError("the deadline of the stream has passed")

    def _check_readable(self) -> None:
        ending = self.state.ending
        if ending and (self.state.receiving or ending is not Ending.CONNECTION_LOST):
            raise MuxedStreamReset(_ENDINGS[ending])
        if self.state.discarding:
            raise MuxedStreamEOF("the stream was closed here")
        if not self.state.receiving:
            raise MuxedStreamEOF("the peer has finished")

    # Writing.

    async def write(self, *data: bytes | bytearray | memoryview, within: float = math.inf) -> None:
        """Send all of ``data``, in frames that alternate with those of other streams.

        The buffers may be reused once this returns. Raises MuxedStreamClosed after `close` or
        `close_write`, MuxedStreamReset when either end reset the stream or the connection was lost, and
        trio.TooSlowError, with the stream reset, when it has waited ``within`` seconds.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            write = self._driver.write(self, [memoryview(part).cast("B") for part in data])
        except LinkClosed:
            self._check_writable()
            raise MuxedStreamClosed("the stream is closed for writing") from None
        if write.left and not self._keeps(write):
            # Most writes need no wait, and a scope costs as much as all else that is done for one.
            with trio.fail_after(within):
                await self._wait_written(write)

    def write_now(self, data: bytes | bytearray) -> bool:
        """Send ``data`` if the window has room for it and nothing else waits; says whether it was taken."""
        state = self.state
        if state.ending or not state.sending or state.writes or state.send_window < len(data):
            return False
        if self._driver.sender_busy:
            return False
        self._driver.write(self, [memoryview(data)])
        return True

    def _keeps(self, write: Write) -> bool:
        """Whether the end of a write may wait for the window while its writer prepares what follows."""
        if self._driver.sender_busy or write.left > KEPT_BYTES or len(self.state.writes) > 1:
            return False
        write.keep()
        return True

    async def _wait_written(self, write: Write) -> None:
        try:
            while write.left:
                self._check_writable()
                await self._park(self._written)
        except BaseException:
            self._driver.reset(self)
            raise

    def _check_writable(self) -> None:
        if self.state.ending:
            raise MuxedStreamReset(_ENDINGS[self.state.ending])

    # Ending.

    async def close_write(self) -> None:
        """Stop writing; the peer reads what was written and then EOF. Reading continues."""
        self._driver.finish(self)
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Stop writing and reading; tasks waiting in `read` get MuxedStreamEOF."""
        self._driver.close_stream(self)
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """Abandon the stream in both directions; tasks waiting on it get MuxedStreamReset."""
        self._driver.reset(self)
        await trio.lowlevel.checkpoint()

    def is_closed(self) -> bool:
        """Whether the stream is closed for both reading and writing."""
        state = self.state
        return bool(state.ending or state.discarding or not (state.sending or state.receiving))

    @property
    def served(self) -> bool:
        """Whether a reader that waited has what it needs."""
        return self.state.reading.done if self.state.reading else self.state.inbox.size > 0

    def wake(self) -> bool:
        """Wake waiting tasks to check the state again, if it is worth it; return whether there are any."""
        state = self.state
        done = state.reading.done if state.reading else state.inbox.size
        woken: list[object] = []
        if self._readable and (done or state.ending or state.discarding or not state.receiving):
            woken += self._readable.unpark_all()
        if self._written:
            woken += self._written.unpark_all()
        return bool(woken)

    def give_up(self) -> None:
        """Reset the stream in one synchronous step."""
        self._driver.reset(self)

    # The rest of libp2p's interface.

    def set_deadline(self, ttl: int) -> None:
        """Fail reads and writes that are still waiting ``ttl`` seconds from now with MuxedStreamError.

        Raises ValueError for a negative ``ttl``.
        """
        if ttl < 0:
            raise ValueError("a deadline must be in the future")
        self._deadline = trio.current_time() + ttl

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the other end's host and port."""
        return self._connection.get_remote_address()

    async def __aenter__(self) -> MuxedStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()
