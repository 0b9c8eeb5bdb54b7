"""Who of several is first for something, as each of them computes it alone.

Rendezvous hashing, Thaler and Ravishankar 1998: the least draw is first. Who leaves changes nothing for what
was not theirs.
"""

from __future__ import annotations

import zlib

from swarm.ids import SourceId


def draw(name: SourceId, number: int) -> int:
    """The same number for everybody, and no order that a name could make for all pieces."""
    return zlib.crc32(b"%d" % number, zlib.crc32(name.encode())) * 0x9E3779B1 & 0xFFFFFFFF
