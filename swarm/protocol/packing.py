"""Payload in compressed form: one zstd frame for each PACKED. Source: docs/protocol.md.

The module that compresses is loaded when it is first needed; most sessions need none.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from swarm.errors import RemoteError

LEVEL = 3
"""Of 1 to 22. It packs about 200 MB of text a second to a third; level 1 is twice as fast, and worse."""

WINDOW_BITS = 20
"""A frame refers back no farther than its payload is long, 1 MiB at most; more memory is not needed."""


def _zstd() -> ModuleType:
    # The standard library has it from Python 3.14. Named by a string, so that types are checked without it.
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def pack(payload: bytes | bytearray | memoryview) -> bytes | None:
    """Return ``payload`` as one zstd frame; None if that is not shorter."""
    packed: bytes = _zstd().compress(payload, LEVEL)
    return packed if len(packed) < len(payload) else None


def unpack(packed: bytes | bytearray | memoryview, size: int) -> bytes:
    """Return the ``size`` bytes in the one frame that ``packed`` is; never makes more than one byte beyond.

    Raises RemoteError for anything else.
    """
    zstd = _zstd()
    limit = {zstd.DecompressionParameter.window_log_max: WINDOW_BITS}
    opened = zstd.ZstdDecompressor(options=limit)
    try:
        payload: bytes = opened.decompress(packed, max_length=size + 1)
    except zstd.ZstdError as error:
        raise RemoteError("packed data that is no zstd frame, or one of too large a window") from error
    if len(payload) != size or not opened.eof or opened.unused_data:
        raise RemoteError(f"packed data that is not one frame of {size} bytes")
    return payload
