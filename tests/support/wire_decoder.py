"""Frames out of a stream of bytes that arrives in pieces of any size."""

from __future__ import annotations

from typing import NamedTuple

from swarm.protocol.codec import (
    DATA,
    DATA_HEAD_BYTES,
    HEADER_BYTES,
    PACKED,
    PACKED_HEAD_BYTES,
    decode_body,
    decode_data_head,
    decode_header,
    decode_packed_head,
)
from swarm.protocol.messages import Message


class Frame(NamedTuple):
    """One message; ``payload`` is what a `Data` or `Packed` carries and empty for every other message."""

    message: Message
    payload: bytes


class Decoder:
    """Keeps at most one unfinished frame; the frames are the same however the bytes were cut.

    A session reads DATA straight into the piece instead; this is for whoever gets bytes pushed.
    """

    __slots__ = ("_buffer", "_need")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need: tuple[int, int] | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take ``data`` and return the frames that are whole now.

        Raises RemoteError as `decode_header` and `decode_body` do; the decoder is of no use after that.
        """
        self._buffer += data
        frames: list[Frame] = []
        at = 0
        while True:
            if self._need is None and len(self._buffer) - at >= HEADER_BYTES:
                self._need = decode_header(bytes(self._buffer[at : at + HEADER_BYTES]))
                at += HEADER_BYTES
            if self._need is None or len(self._buffer) - at < self._need[1]:
                break
            kind, size = self._need
            frames.append(_frame(kind, bytes(self._buffer[at : at + size])))
            at += size
            self._need = None
        del self._buffer[:at]
        return frames


def _frame(kind: int, body: bytes) -> Frame:
    if kind == DATA:
        return Frame(decode_data_head(body[:DATA_HEAD_BYTES], len(body)), body[DATA_HEAD_BYTES:])
    if kind == PACKED:
        return Frame(decode_packed_head(body[:PACKED_HEAD_BYTES], len(body)), body[PACKED_HEAD_BYTES:])
    return Frame(decode_body(kind, body), b"")
