"""libp2p streams behind the `swarm.ports.ByteStream` port, with their exceptions mapped to `LinkClosed`."""

from __future__ import annotations

import trio
from libp2p.abc import INetStream
from libp2p.io.exceptions import IOException
from libp2p.network.stream.exceptions import StreamError as NetStreamError
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamError

from swarm.errors import LinkClosed
from swarm.ids import PeerId


def shielded(seconds: float) -> trio.CancelScope:
    """Return a scope shielded from outer cancellation that itself ends after ``seconds``.

    For clean-up that must complete but must not block: closing, resetting, saving.
    """
    scope = trio.CancelScope(deadline=trio.current_time() + seconds)
    scope.shield = True
    return scope


CLOSE_DEADLINE = 2.0
"""The most seconds that closing or resetting a stream takes, whatever the peer does."""

ENDED = (NetStreamError, MuxedStreamError, MuxedConnError, IOException, trio.ClosedResourceError, OSError)


class NegotiatedStream:
    """A `swarm.ports.ByteStream` over one negotiated libp2p stream.

    When the muxed stream has ``readinto`` (`MuxedStream` does), reads and writes go to it directly: this
    saves a copy and takes several buffers at once. libp2p's own muxers are used through NetStream.
    """

    def __init__(self, stream: INetStream, peer: PeerId, remote_address: str) -> None:
        self._stream = stream
        self._peer = peer
        self._remote_address = remote_address
        muxed = getattr(stream, "muxed_stream", None)
        self._readinto = getattr(muxed, "readinto", None)
        self._write, self._read = None, stream.read
        if muxed is not None and self._readinto is not None:
            self._write, self._read = muxed.write, muxed.read

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
        buffer = bytearray(size)
        await self.readinto_exactly(memoryview(buffer))
        return bytes(buffer)

    async def readinto_exactly(self, buffer: memoryview) -> None:
        """Fill ``buffer`` from the stream; raises LinkClosed."""
        filled = 0
        size = len(buffer)
        try:
            while filled < size:
                filled += await self._read_some(buffer[filled:])
        except ENDED as error:
            raise LinkClosed("the stream ended") from error

    async def read_some(self, limit: int) -> bytes:
        """Wait for data and return what has come, 1 to ``limit`` bytes; raises LinkClosed."""
        try:
            data: bytes = await self._read(limit)
        except ENDED as error:
            raise LinkClosed("the stream ended") from error
        if not data:
            raise LinkClosed("the stream ended")
        return data

    async def _read_some(self, buffer: memoryview) -> int:
        if self._readinto is not None:
            count: int = await self._readinto(buffer)
        else:
            data = await self._stream.read(len(buffer))
            count = len(data)
            buffer[:count] = data
        if count == 0:
            raise LinkClosed("the stream ended")
        return count

    async def write(self, *data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data`` in order; raises LinkClosed."""
        try:
            if self._write is not None:
                # A write that the socket takes at once awaits nothing, so let other tasks run here.
                await trio.lowlevel.checkpoint()
                await self._write(*data)
            else:
                for part in data:
                    await self._stream.write(part)  # type: ignore[arg-type]
        except ENDED as error:
            raise LinkClosed("the stream ended") from error

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
