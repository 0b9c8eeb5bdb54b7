"""One zstd frame (RFC 8878) from somebody else, read within bounds.

The module that compresses is loaded when it is first needed; most commands need none.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def zstd_module() -> ModuleType:
    """Return the module that compresses; the standard library has it from Python 3.14."""
    # Named by a string, so that types are checked without it.
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def read_frame(
    frame: bytes | bytearray | memoryview, most: int, *, window_bits: int, prefix: Any = None
) -> bytes:
    """Return what one frame makes, ``most`` bytes at the most; never makes more than one byte beyond.

    ``window_bits`` bounds the window to that power of two, in bytes; ``prefix`` is a `ZstdDict` that the
    frame was made with. Raises ValueError for anything but one whole frame within these bounds.
    """
    zstd = zstd_module()
    limit = {zstd.DecompressionParameter.window_log_max: window_bits}
    opened = zstd.ZstdDecompressor(zstd_dict=prefix, options=limit)
    try:
        data: bytes = opened.decompress(frame, max_length=most + 1)
    except zstd.ZstdError as error:
        raise ValueError("no zstd frame, or one of too large a window") from error
    if len(data) > most or not opened.eof or opened.unused_data:
        raise ValueError(f"not one frame of {most} bytes")
    return data
