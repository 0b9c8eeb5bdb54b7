"""libp2p streams behind the `swarm.ports.ByteStream` port, with their exceptions mapped to `LinkClosed`."""

from __future__ import annotations

import math
from contextlib import suppress

import trio
from libp2p.abc import INetStream
from libp2p.io.exceptions import IOException
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.stream.exceptions import StreamError as NetStreamError
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamEOF, MuxedStreamError

from swarm.errors import LinkClosed
from swarm.ids import PeerId
from swarm.net.record_socket import TURN_BYTES


def shielded(seconds: float) -> trio.CancelScope:
    """Return a scope shielded from outer cancellation that itself ends after ``seconds``.

    For clean-up that must complete but must not block: closing, resetting, saving.
    """
    scope = trio.CancelScope(deadline=trio.current_time() + seconds)
    scope.shield = True
    return scope


CLOSE_DEADLINE = 2.0
"""The most seconds that closing or resetting a stream takes, whatever the peer does."""

WRITE_COST = 32 * 1024
"""What a write costs besides its bytes, in bytes that could be sent meanwhile."""

ENDED = (NetStreamError, MuxedStreamError, MuxedConnError, IOException, trio.ClosedResourceError, OSError)


class NotSpoken(LinkClosed):
    """The other end says that it does not speak the protocol of a new stream."""


class NegotiatedStream:
    """A `swarm.ports.ByteStream` over one negotiated libp2p stream.

    When the muxed stream has ``readinto_exactly`` (`MuxedStream` does), reads and writes go to it directly:
    this saves copies and takes several buffers at once. libp2p's own muxers are used through NetStream.
    """

    def __init__(self, stream: INetStream, peer: PeerId, remote_address: str) -> None:
        self._stream = stream
        self._peer = peer
        self._remote_address = remote_address
        muxed = getattr(stream, "muxed_stream", None)
        self._turn, self._turn_left = 0, TURN_BYTES
        self._muxed = muxed if hasattr(muxed, "readinto_exactly") else None
        own = self._muxed
        self._read = stream.read if own is None else own.read
        self._finish = stream.close if own is None else own.close_write

    @property
    def peer(self) -> PeerId:
        """The authenticated peer at the other end."""
        return self._peer

    @property
    def remote_address(self) -> str:
        """The multiaddr of the other end without ``/p2p``, or an empty string if unknown."""
        return self._remote_address

    async def read_exactly(self, size: int) -> bytes:
        """Return exactly ``size`` bytes; raises LinkClosed."""
        if self._muxed is None:
            buffer = bytearray(size)
            await self.readinto_exactly(memoryview(buffer))
            return bytes(buffer)
        try:
            data: bytes = await self._muxed.read_exactly(size)
        except ENDED as error:
            raise LinkClosed("the stream ended") from error
        return data

    async def read_some(self, limit: int) -> bytes:
        """Return 1 to ``limit`` bytes as they come, none once the peer has finished; raises LinkClosed."""
        try:
            return await self._read(limit)
        except (StreamEOF, MuxedStreamEOF):
            return b""
        except ENDED as error:
            raise LinkClosed("the stream ended") from error

    def read_now(self, buffer: memoryview) -> int:
        """Move into ``buffer`` what has come, without waiting; return how many bytes that is."""
        return 0 if self._muxed is None else self._muxed.read_now(buffer)

    def hold_credit(self) -> None:
        """Let the credit for what is read wait for the next write, `give_credit`, or a read that waits."""
        if self._muxed is not None:
            self._muxed.hold_credit()

    def give_credit(self) -> None:
        """Send the credit that was held."""
        if self._muxed is not None:
            self._muxed.give_credit()

    async def finish(self) -> None:
        """Finish sending; the peer's bytes can still be read. Never raises an error."""
        with suppress(*ENDED):
            await self._finish()

    async def readinto_exactly(self, buffer: memoryview) -> None:
        """Fill ``buffer`` from the stream; raises LinkClosed."""
        await self.readinto_least(buffer, len(buffer))

    async def readinto_least(self, buffer: memoryview, least: int) -> int:
        """Wait for ``least`` bytes, and put what has come into ``buffer``; return how many, or LinkClosed."""
        try:
            if self._muxed is not None:
                size: int = await self._muxed.readinto_least(buffer, least)
                return size
            return await self._copy_into(buffer, least)
        except ENDED as error:
            raise LinkClosed("the stream ended") from error

    async def _copy_into(self, buffer: memoryview, least: int) -> int:
        filled = 0
        while filled < least:
            data = await self._stream.read(len(buffer) - filled)
            if not data:
                raise LinkClosed("the stream ended")
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    async def write(self, *data: bytes | bytearray | memoryview, within: float = math.inf) -> None:
        """Send all of ``data`` in order; raises LinkClosed, also after a wait of ``within`` seconds."""
        try:
            if self._muxed is not None:
                # A write that the socket takes at once awaits nothing, so let other tasks run now and then.
                if self._turn == self._muxed.turn and self._turn_left <= 0:
                    await trio.lowlevel.checkpoint()
                    self._turn_left = TURN_BYTES
                if self._turn != self._muxed.turn:
                    self._turn, self._turn_left = self._muxed.turn, TURN_BYTES
                self._turn_left -= WRITE_COST + sum(map(len, data))
                await self._muxed.write(*data, within=within)
            else:
                with trio.fail_after(within):
                    for part in data:
                        await self._stream.write(part)  # type: ignore[arg-type]
        except trio.TooSlowError as error:
            if self._muxed is None:
                await self.reset()
            raise LinkClosed("the peer does not take what it is sent") from error
        except ENDED as error:
            raise LinkClosed("the stream ended") from error

    def write_now(self, data: bytes | bytearray) -> bool:
        """Send all of ``data`` if that needs no wait; says whether it did."""
        return self._muxed is not None and self._muxed.write_now(data)

    async def close(self) -> None:
        """Finish sending and release the stream; never raises an error."""
        with shielded(CLOSE_DEADLINE) as scope:
            try:
                await self._stream.close()
            except ENDED:
                await self.reset()
        if scope.cancelled_caught:
            await self.reset()

    async def reset(self) -> None:
        """Abandon the stream in both directions; never raises an error."""
        with shielded(CLOSE_DEADLINE):
            try:
                await self._stream.reset()
            except ENDED:
                return
