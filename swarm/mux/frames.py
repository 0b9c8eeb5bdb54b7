"""Yamux frames: a 12-byte header, followed by a payload for DATA only.

`FrameReader` passes payloads on in the parts in which they arrive, so it never buffers more than one
partial header. `FramePace` limits frames without payload and records with little in them, which are cheap to
send and costly to process.
Source: hashicorp/yamux `spec.md`, libp2p Yamux specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from swarm.errors import RemoteError
from swarm.limits import TokenBucket
from swarm.mux.mux_limits import (
    FRAME_BURST,
    FRAME_EARNINGS,
    FRAME_RATE,
    FRAMES_PER_STREAM,
    MAX_WINDOW,
    RECORDS_PER_FRAME,
    YAMUX_HEADER,
)

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
NORMAL, PROTOCOL_ERROR = range(2)
"""Codes of GO_AWAY."""

_HEADER = struct.Struct("!BBHII")
_ALL_FLAGS = SYN | ACK | FIN | RST
_U32 = 2**32 - 1


class Frame(NamedTuple):
    """One header; ``length`` is a payload size, a window increase, a ping value or a GO_AWAY code."""

    kind: int
    flags: int
    stream: int
    length: int


def encode(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Return the 12 bytes of a header; ValueError when a field does not fit."""
    if not (0 <= stream <= _U32 and 0 <= length <= _U32):
        raise ValueError(f"stream {stream} or length {length} does not fit 32 bits")
    return _HEADER.pack(0, kind, flags, stream, length)


def encode_into(out: memoryview, offset: int, frame: Frame) -> None:
    """Write a header at ``offset`` of ``out``."""
    _HEADER.pack_into(out, offset, 0, *frame)


def decode(data: bytes | memoryview, offset: int = 0) -> Frame:
    """Decode and check the header at ``offset``; RemoteError when the specification forbids it."""
    version, kind, flags, stream, length = _HEADER.unpack_from(data, offset)
    if version or kind > GO_AWAY or flags & ~_ALL_FLAGS:
        raise RemoteError(f"not a Yamux header: version {version}, type {kind}, flags {flags:#x}")
    if kind <= WINDOW_UPDATE:
        if not stream:
            raise RemoteError("a Yamux stream frame names stream 0")
        if kind == DATA and length > MAX_WINDOW:
            raise RemoteError(f"a Yamux DATA frame of {length} bytes exceeds every window")
    elif stream:
        raise RemoteError(f"a Yamux connection frame names stream {stream}")
    elif kind == PING and flags not in (SYN, ACK):
        raise RemoteError(f"a Yamux ping with flags {flags:#x}")
    return Frame(kind, flags, stream, length)


class FrameReader:
    """Splits plaintexts, whose boundaries are arbitrary, into headers and parts of DATA payloads."""

    def __init__(self) -> None:
        self._header = b""
        self.payload_left = 0
        """Bytes of payload that follow before the next header."""

    def skip(self, size: int) -> None:
        """Note that the next ``size`` bytes of payload were taken without `read`."""
        self.payload_left -= size

    def read(self, data: memoryview) -> Iterator[Frame | memoryview]:
        """Yield the content of ``data`` in order: frames, each DATA frame followed by parts of its payload.

        The parts are views of ``data``. Iterate to the end. Raises RemoteError as `decode` does, but
        only after everything before the bad header was yielded, however the bytes were split.
        """
        position, end = 0, len(data)
        while position < end:
            if self.payload_left:
                size = min(self.payload_left, end - position)
                self.payload_left -= size
                yield data[position : position + size]
                position += size
                continue
            if not self._header and end - position >= YAMUX_HEADER:
                frame = decode(data, position)
                position += YAMUX_HEADER
            else:
                size = min(YAMUX_HEADER - len(self._header), end - position)
                self._header += data[position : position + size]
                position += size
                if len(self._header) < YAMUX_HEADER:
                    break
                frame = decode(self._header)
                self._header = b""
            if frame.kind == DATA:
                self.payload_left = frame.length
            yield frame


class FramePace:
    """Rate limit on the peer's frames: FRAME_RATE a second, FRAME_BURST at once, more with payload.

    A frame costs one token, a new stream FRAMES_PER_STREAM. FRAME_EARNINGS bytes of payload earn one. A small
    record costs one, too, unless it is one of RECORDS_PER_FRAME since the last frame began.
    """

    __slots__ = ("_bucket", "_free_records", "refill")

    def __init__(self) -> None:
        self._bucket = TokenBucket(FRAME_RATE, FRAME_BURST, 0.0)
        self._free_records = 0
        self.refill = self._bucket.refill
        """Call with the time, in monotonic seconds, before frames are taken."""

    def take(self, frame: Frame) -> None:
        """Count one frame of the peer; RemoteError when it has sent too many."""
        bucket = self._bucket
        self._free_records = RECORDS_PER_FRAME
        bucket.tokens -= FRAMES_PER_STREAM if frame.flags & SYN and frame.stream else 1
        if frame.kind == DATA:
            bucket.earn(frame.length / FRAME_EARNINGS)
        if bucket.tokens < 0:
            raise RemoteError("the peer sent too many Yamux frames without payload")

    def take_small_record(self) -> None:
        """Count one record of less than SMALL_RECORD bytes, after what it holds; RemoteError as in `take`."""
        if self._free_records:
            self._free_records -= 1
            return
        self._bucket.tokens -= 1
        if self._bucket.tokens < 0:
            raise RemoteError("the peer sent too many Noise records with hardly anything in them")
