"""Payload in compressed form: one zstd frame for each PACKED. Source: docs/protocol.md."""

from __future__ import annotations

from swarm.content.zstd_frames import read_frame, zstd_module
from swarm.errors import RemoteError

LEVEL = 3
"""Of 1 to 22. It packs about 200 MB of text a second to a third; level 1 is twice as fast, and worse."""

WINDOW_BITS = 20
"""A frame refers back no farther than its payload is long, 1 MiB at most; more memory is not needed."""


def pack(payload: bytes | bytearray | memoryview) -> bytes | None:
    """Return ``payload`` as one zstd frame; None if that is not shorter."""
    packed: bytes = zstd_module().compress(payload, LEVEL)
    return packed if len(packed) < len(payload) else None


def unpack(packed: bytes | bytearray | memoryview, size: int) -> bytes:
    """Return the ``size`` bytes in the one frame that ``packed`` is; never makes more than one byte beyond.

    Raises RemoteError for anything else.
    """
    try:
        payload = read_frame(packed, size, window_bits=WINDOW_BITS)
    except ValueError as error:
        raise RemoteError(f"packed data cannot be used: {error}") from error
    if len(payload) != size:
        raise RemoteError(f"packed data that is not one frame of {size} bytes")
    return payload
