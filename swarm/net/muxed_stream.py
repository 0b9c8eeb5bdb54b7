"""One stream of our muxer under libp2p's interface, with `readinto` on top."""

from __future__ import annotations

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
from swarm.link.stream import Ending, Stream, Write

if TYPE_CHECKING:
    from swarm.net.driver import Driver
    from swarm.net.muxed_connection import MuxedConnection

_ENDINGS = {
    Ending.RESET_BY_PEER: "the peer reset the stream",
    Ending.RESET_HERE: "the stream was reset here",
    Ending.CONNECTION_LOST: "the connection was lost",
}


class MuxedStream(IMuxedStream):
    """A Yamux stream.

    A cancelled read takes nothing; a cancelled write resets the stream, for part of it may be on
    its way. Either leaves the connection and its other streams as they were.
    """

    def __init__(self, connection: MuxedConnection, driver: Driver, state: Stream) -> None:
        self.muxed_conn = self._connection = connection
        self.state = state
        self._driver = driver
        self._readable = trio.lowlevel.ParkingLot()
        self._written = trio.lowlevel.ParkingLot()
        self._deadline = float("inf")

    @property
    def stream_id(self) -> int:
        """The number of the stream on the wire."""
        return self.state.id

    # Reading.

    async def read(self, n: int | None = None) -> bytes:
        """Return 1 to ``n`` bytes as soon as there are any, or all there are for None and -1.

        MuxedStreamEOF once the peer has finished or the stream was closed here; MuxedStreamReset
        when either end reset it or the connection was lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if n == 0:
            return b""
        inbox = self.state.inbox
        if not inbox.size:
            await self._wait_readable()
        data = inbox.take(inbox.size if n is None or n < 0 else n)
        self._driver.consumed(self)
        return data

    async def readinto(self, buffer: memoryview) -> int:
        """Put 1 to ``len(buffer)`` bytes into ``buffer`` as soon as there are any; return how many.

        Raises as `read`. The buffer is written in one step, never after a cancellation.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not len(buffer):
            return 0
        inbox = self.state.inbox
        if not inbox.size:
            await self._wait_readable()
        size = inbox.take_into(buffer)
        self._driver.consumed(self)
        return size

    async def _wait_readable(self) -> None:
        with trio.CancelScope(deadline=self._deadline) as scope:
            while not self.state.inbox.size:
                self._check_readable()
                await self._readable.park()
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

    async def write(self, *data: bytes | bytearray | memoryview) -> None:
        """Hand all of ``data`` to the socket, in frames that take turns with those of other streams.

        The buffers may be reused once this returns. MuxedStreamClosed after `close` or
        `close_write`; MuxedStreamReset when either end reset the stream or the connection was lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            write = self._driver.write(self, [memoryview(part).cast("B") for part in data])
        except LinkClosed:
            self._check_writable()
            raise MuxedStreamClosed("the stream is closed for writing") from None
        if write is not None and write.left:
            await self._wait_written(write)

    async def _wait_written(self, write: Write) -> None:
        try:
            with trio.CancelScope(deadline=self._deadline) as scope:
                while write.left:
                    self._check_writable()
                    await self._written.park()
        except BaseException:
            self._driver.reset(self)
            raise
        if scope.cancelled_caught:
            self._driver.reset(self)
            raise MuxedStreamError("the deadline of the stream has passed")

    def _check_writable(self) -> None:
        if self.state.ending:
            raise MuxedStreamReset(_ENDINGS[self.state.ending])

    # Ending.

    async def close_write(self) -> None:
        """Write no more; the peer reads what was written and then EOF. Reading goes on."""
        self._driver.finish(self)
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Finish writing and read no more; tasks that wait in `read` get MuxedStreamEOF."""
        self._driver.close_stream(self)
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """Abandon the stream in both directions; tasks that wait in it get MuxedStreamReset."""
        self._driver.reset(self)
        await trio.lowlevel.checkpoint()

    def is_closed(self) -> bool:
        """Whether neither reading nor writing makes sense any more."""
        state = self.state
        return bool(state.ending or state.discarding or not (state.sending or state.receiving))

    def wake(self) -> None:
        """Let waiting tasks look again."""
        state = self.state
        if state.inbox.size or state.ending or state.discarding or not state.receiving:
            self._readable.unpark_all()
        self._written.unpark_all()

    def give_up(self) -> None:
        """Reset the stream in one synchronous step."""
        self._driver.reset(self)

    # The rest of libp2p's interface.

    def set_deadline(self, ttl: int) -> None:
        """Let reads and writes that still wait ``ttl`` seconds from now fail with MuxedStreamError.

        ValueError for a negative ``ttl``.
        """
        if ttl < 0:
            raise ValueError("a deadline lies in the future")
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
