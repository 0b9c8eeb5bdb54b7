"""When the files of a manifest were last modified: kept beside it, because the id does not depend on it."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from typing import Final

from swarm.errors import ManifestError

TIME_BYTES: Final = 8
"""Bytes of one time: nanoseconds since 1970 (UTC), a signed big-endian integer."""
MAX_TIMES_BYTES: Final = 1_000_000 * TIME_BYTES
LATEST_NS: Final = 7_258_118_400 * 10**9
"""The year 2200. Later times, and those before 1970, are ignored: some file systems take neither."""

_UNKNOWN: Final = -(1 << 63)
_MOST: Final = (1 << 63) - 1


class FileTimes:
    """The times of all files of one manifest, in its order; nobody vouches for them, any may be missing.

    Those of its folders (`Manifest.folder_paths`) and then its links are kept in another one of these.

    Raises ManifestError for a wrong number of bytes.
    """

    __slots__ = ("_packed",)

    def __init__(self, packed: bytes) -> None:
        if len(packed) % TIME_BYTES or len(packed) > MAX_TIMES_BYTES:
            raise ManifestError(f"the times of files cannot have {len(packed)} bytes")
        self._packed = packed

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> FileTimes:
        """Pack times in nanoseconds; one that does not fit becomes unknown."""
        times = array("q", (time if 0 <= time <= _MOST else _UNKNOWN for time in nanoseconds))
        if sys.byteorder == "little":
            times.byteswap()
        return cls(times.tobytes())

    @property
    def packed(self) -> bytes:
        """What `FileTimes` is made of."""
        return self._packed

    def __len__(self) -> int:
        return len(self._packed) // TIME_BYTES

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTimes) and self._packed == other._packed

    def __hash__(self) -> int:
        return hash(self._packed)

    def of_file(self, file: int) -> int | None:
        """Return the time of the file with that index in nanoseconds, None if it is unknown or not sane."""
        (time,) = struct.unpack_from(">q", self._packed, file * TIME_BYTES)
        return time if 0 <= time <= LATEST_NS else None
