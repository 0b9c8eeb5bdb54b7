"""Messages with their length in front, on any stream. Pure: nothing is awaited but the stream."""

from __future__ import annotations

from typing import Protocol

from swarm.errors import RemoteError
from swarm.reach.protobuf import delimited

_LENGTH_BYTES = 4
"""Longer lengths are of messages that nobody takes."""


class MessageStream(Protocol):
    """The part of a stream that messages need."""

    async def read_exactly(self, size: int) -> bytes:
        """Return exactly ``size`` bytes."""

    async def write(self, *data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``."""


async def read_message(stream: MessageStream, limit: int) -> bytes:
    """Read one message and not a byte of what follows it; RemoteError for more than ``limit`` bytes."""
    size = 0
    for index in range(_LENGTH_BYTES):
        byte = (await stream.read_exactly(1))[0]
        size |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if size > limit:
                break
            return await stream.read_exactly(size)
    raise RemoteError(f"a message exceeds the limit of {limit} bytes")


async def write_message(stream: MessageStream, body: bytes) -> None:
    """Send one message."""
    await stream.write(delimited(body))
