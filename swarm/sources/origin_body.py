"""Receives the body of a web server's response straight into the memory of pieces, several at a time.

Pieces that came without a pause are handed over together: a step for each would cost more than its bytes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import trio

from swarm.ports import OriginDesk
from swarm.protocol.http_range import Concerns, Fault
from swarm.protocol.http_reader import ResponseReader
from swarm.sources.http_connection import ConnectionLost, HttpConnection

SLOW_SECONDS = 10.0
LEAST_RATE = 1024
"""Bytes a second, over `SLOW_SECONDS` of waiting: a server that sends less is given up for a while."""
WINDOW_BYTES = 1 << 20
"""Memory that is filled at once; a longer piece alone."""
TURN_BYTES = 4 << 20
"""Received without a pause for other tasks."""


class OriginFault(Exception):
    """A request came to nothing."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class ResponseBody:
    """The body of one response; notices a server that drips."""

    def __init__(self, connection: HttpConnection, reader: ResponseReader) -> None:
        self._connection = connection
        self._reader = reader
        self._waited = 0.0
        self._came = 0
        self._turn = TURN_BYTES

    def receive_now(self, memories: Sequence[memoryview]) -> int | None:
        """Receive what has come of the body, into one memory after the other; 0 at its end, None if nothing.

        Raises `ConnectionLost`, `HttpFault`.
        """
        reader = self._reader
        if size := reader.take(memories[0]):
            self._came += size
            return size
        if reader.ended:
            return 0
        if not reader.direct or reader.left is None:
            return None
        received = self._connection.receive_now(first_bytes(memories, reader.left))
        if received == 0:
            reader.feed(b"")
            raise ConnectionLost("the connection ended within the body")
        if received is not None:
            reader.arrived(received)
            self._came += received
        return received

    async def wait(self) -> None:
        """Wait for more of it. Raises `ConnectionLost`, `HttpFault`."""
        reader = self._reader
        self._turn = TURN_BYTES
        began = time.monotonic()
        if reader.direct and reader.left is not None:
            await self._connection.readable(reader.left)
        else:
            reader.feed(await self._connection.receive())
        self._judge(time.monotonic() - began)

    async def receive(self, memories: Sequence[memoryview]) -> int:
        """As `receive_now`, once there is something."""
        while (size := self.receive_now(memories)) is None:
            await self.wait()
        return size

    async def pause(self, size: int) -> None:
        """``size`` bytes were received: let other tasks run now and then."""
        self._turn -= size
        if self._turn <= 0:
            self._turn = TURN_BYTES
            await trio.lowlevel.checkpoint()

    def _judge(self, seconds: float) -> None:
        self._waited += seconds
        if self._waited >= SLOW_SECONDS:
            if self._came < LEAST_RATE * self._waited:
                raise ConnectionLost(f"it sends less than {LEAST_RATE} bytes a second")
            self._waited, self._came = 0.0, 0


class PieceWindow:
    """The pieces of a run that are being received: some in a row, of `WINDOW_BYTES` at most, or one."""

    def __init__(self, desk: OriginDesk, body: ResponseBody, run: Sequence[int]) -> None:
        self._desk = desk
        self._body = body
        self._waiting = deque(run)
        self._open: deque[tuple[int | None, memoryview]] = deque()
        self._bytes = 0
        self._whole: list[int] = []

    @property
    def waiting(self) -> Sequence[int]:
        """The pieces of the run whose bytes are still to come, and that have no memory yet."""
        return self._waiting

    @property
    def empty(self) -> bool:
        """Whether no piece is begun."""
        return not self._open

    async def begin(self) -> int | None:
        """Get memory for the next piece, and wait for it if need be; returns a piece that nobody wants.

        Its bytes are then to be read past.
        """
        piece = self._waiting.popleft()
        memory = await self._desk.begin(piece)
        if memory is not None:
            self._add(piece, memory)
            return None
        self._add(None, memoryview(bytearray(self._desk.manifest.layout.length(piece))))
        return piece

    def begin_more(self) -> None:
        """Begin those that follow, as far as they are wanted and there is memory."""
        length = self._desk.manifest.layout.length
        while self._waiting and self._bytes + length(self._waiting[0]) <= WINDOW_BYTES:
            memory = self._desk.begin_now(self._waiting[0])
            if memory is None:
                return
            self._add(self._waiting.popleft(), memory)

    def _add(self, piece: int | None, memory: memoryview) -> None:
        self._open.append((piece, memory))
        self._bytes += len(memory)

    async def fill(self) -> None:
        """Receive until nothing more has come and a piece is whole, or all are.

        Raises `OriginFault`, `ConnectionLost`, `HttpFault`.
        """
        while self._open:
            memories = first_bytes([memory for _, memory in self._open], self._desk.slice_bytes)
            size = self._body.receive_now(memories)
            if size is None:
                if self._whole:
                    return
                await self._body.wait()
            elif size:
                await self._arrived(size)
                await self._body.pause(size)
            else:
                raise OriginFault(Fault(Concerns.ANSWER, "it sends less than was asked for"))

    async def _arrived(self, size: int) -> None:
        while size:
            piece, memory = self._open.popleft()
            part = min(size, len(memory))
            size -= part
            if part < len(memory):
                self._open.appendleft((piece, memory[part:]))
            if piece is not None:
                # Before it counts as whole: a cancelled wait leaves it to be given back.
                await self._desk.received(piece, part)
                if part == len(memory):
                    self._whole.append(piece)

    def take_whole(self) -> list[int]:
        """The pieces that have come since the last call."""
        whole, self._whole = self._whole, []
        self._bytes -= sum(map(self._desk.manifest.layout.length, whole))
        if not self._open:
            self._bytes = 0
        return whole


def first_bytes(memories: Sequence[memoryview], most: int) -> list[memoryview]:
    """The first ``most`` bytes of some memory."""
    first = []
    for memory in memories:
        if len(memory) >= most:
            first.append(memory[:most])
            break
        first.append(memory)
        most -= len(memory)
    return first
