"""Two ends of one stream in memory, with the promises and the perils of `swarm.ports.ByteStream`."""

from __future__ import annotations

import math
from collections import deque

import trio

from swarm.errors import LinkClosed
from swarm.ids import PeerId

DEFAULT_WINDOW = 256 * 1024


class _Pipe:
    """One direction: holds at most ``window`` bytes, readable ``latency`` seconds after they were written."""

    def __init__(self, window: int, latency: float) -> None:
        self.window = window
        self.latency = latency
        self.parts: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.ended = False
        self.broken = False
        self.changed = trio.Event()
        self.total = 0

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def break_(self) -> None:
        self.broken = True
        self.parts.clear()
        self.size = 0
        self.notify()

    async def write(self, data: memoryview) -> None:
        while data:
            if self.broken or self.ended:
                raise LinkClosed("the stream ended")
            room = self.window - self.size
            if not room:
                await self.changed.wait()
                continue
            part = bytes(data[:room])
            data = data[room:]
            self.parts.append((trio.current_time() + self.latency, part))
            self.size += len(part)
            self.total += len(part)
            self.notify()

    async def read_some(self, limit: int) -> bytes:
        while True:
            if self.broken:
                raise LinkClosed("the stream was reset")
            if self.parts:
                at, _ = self.parts[0]
                if at <= trio.current_time():
                    break
                with trio.move_on_at(at):
                    await self.changed.wait()
                continue
            if self.ended:
                raise LinkClosed("the stream ended")
            await self.changed.wait()
        return self.take(limit)

    def take(self, limit: int) -> bytes:
        """What can be read now, of one write; nothing if that is none."""
        if self.broken or not self.parts or self.parts[0][0] > trio.current_time():
            return b""
        at, part = self.parts[0]
        taken = part[:limit]
        if len(part) > limit:
            self.parts[0] = (at, part[limit:])
        else:
            self.parts.popleft()
        self.size -= len(taken)
        self.notify()
        return taken


class MemoryLink:
    """A `swarm.ports.ByteStream`: as in the port, a cancelled read or write resets the stream."""

    def __init__(self, peer: PeerId, remote_address: str, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.peer = peer
        self.remote_address = remote_address
        self.incoming = incoming
        self.outgoing = outgoing
        self.closed = False

    async def read_exactly(self, size: int) -> bytes:
        buffer = bytearray(size)
        await self.readinto_exactly(memoryview(buffer))
        return bytes(buffer)

    async def readinto_exactly(self, buffer: memoryview) -> None:
        await self.readinto_least(buffer, len(buffer))

    async def readinto_least(self, buffer: memoryview, least: int) -> int:
        return await self._sound(self._readinto(buffer, least))

    def read_now(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer) and (part := self.incoming.take(len(buffer) - filled)):
            buffer[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    def hold_credit(self) -> None:
        pass

    def give_credit(self) -> None:
        pass

    async def read_some(self, limit: int) -> bytes:
        return await self._sound(self.incoming.read_some(limit))

    async def write(self, *data: bytes | bytearray | memoryview, within: float = math.inf) -> None:
        try:
            with trio.fail_after(within):
                for part in data:
                    await self._sound(self.outgoing.write(memoryview(part)))
        except trio.TooSlowError as error:
            raise LinkClosed("the peer does not take what it is sent") from error

    def write_now(self, data: bytes | bytearray) -> bool:
        return False

    async def close(self) -> None:
        self.closed = True
        self.outgoing.ended = True
        self.outgoing.notify()
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        self.closed = True
        self.outgoing.break_()
        self.incoming.break_()
        await trio.lowlevel.checkpoint()

    async def _readinto(self, buffer: memoryview, least: int) -> int:
        filled = 0
        while filled < least:
            part = await self.incoming.read_some(len(buffer) - filled)
            buffer[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    async def _sound(self, work):
        try:
            result = await work
        except trio.Cancelled:
            self.outgoing.break_()
            self.incoming.break_()
            raise
        await trio.lowlevel.checkpoint()
        return result


def memory_link_pair(
    left: PeerId,
    right: PeerId,
    *,
    window: int = DEFAULT_WINDOW,
    latency: float = 0.0,
    left_address: str = "",
    right_address: str = "",
) -> tuple[MemoryLink, MemoryLink]:
    """The end that ``left`` holds and the end that ``right`` holds; ``latency`` is one way, in seconds."""
    there, back = _Pipe(window, latency), _Pipe(window, latency)
    return (
        MemoryLink(right, right_address, back, there),
        MemoryLink(left, left_address, there, back),
    )
