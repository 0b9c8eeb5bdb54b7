"""Decides which payload one session sends in compressed form, and compresses it.

Compressing pays where the uplink is what a peer waits for. So nothing is compressed for a peer on this
machine, for one that takes bytes as fast as they can be compressed, or while this process is busy. A file
is judged by trying: one that does not shrink is tried again rarely.
"""

from __future__ import annotations

import math
import time

from swarm.content.layout import Layout
from swarm.endpoint import Endpoint
from swarm.protocol.packing import pack
from swarm.protocol.protocol_limits import MAX_DATA_BYTES

SLOW_RATE = 20e6
"""Bytes per second on the wire below which compressing is worth the processor: a tenth of what that makes."""

BUSY_SHARE = 0.7
"""The share of one core from which on the processor may be what is short."""

BUSY_SECONDS = 1.0
"""Over how long that share is measured."""

WORTHWHILE = 0.95
"""The size, as a share of the original, from which on plain payload is sent instead."""

CHUNKS_UNTRIED = 64
"""Chunks of a file that are sent plain after one that did not shrink."""

MOST_EXPANSION = 8.0
"""How many times its bytes on the wire a chunk may hold."""

LEAST_BYTES = 512
"""Less payload is sent plain."""

FILES_REMEMBERED = 1024


class Packer:
    """What one session compresses; ``address`` is the peer's multiaddr."""

    def __init__(self, layout: Layout, address: str) -> None:
        self._layout = layout
        endpoint = Endpoint.read(address.partition("/p2p")[0])
        self._near = endpoint is not None and endpoint.is_loopback
        self._untried: dict[int, int] = {}
        self._expansion = 1.0
        self._busy = False
        self._looked = (-math.inf, 0.0)

    def pack(self, piece: int, rest: memoryview, wire: int, rate: float) -> tuple[int, bytes] | None:
        """Compress as much of ``rest`` as may make ``wire`` bytes; returns how much that is, and the frame.

        ``rest`` is what of the piece is still to be sent, ``rate`` how many bytes per second the link takes.
        None if plain payload is better.
        """
        size = min(len(rest), MAX_DATA_BYTES, int(wire * self._expansion))
        if self._near or rate > SLOW_RATE or size < LEAST_BYTES or self._is_busy():
            return None
        file = self._layout.span(piece).file
        if left := self._untried.get(file, 0):
            self._untried[file] = left - 1
            return None
        frame = pack(rest[:size])
        if frame is None or len(frame) > WORTHWHILE * size:
            self._expansion = 1.0
            if len(self._untried) >= FILES_REMEMBERED:
                self._untried.clear()
            self._untried[file] = CHUNKS_UNTRIED
            return None
        self._expansion = min(MOST_EXPANSION, (self._expansion + size / len(frame)) / 2)
        return size, frame

    def _is_busy(self) -> bool:
        """Whether this process has used most of a core lately."""
        now, used = time.monotonic(), time.process_time()
        since, before = self._looked
        if now - since >= BUSY_SECONDS:
            self._busy = math.isfinite(since) and used - before > BUSY_SHARE * (now - since)
            self._looked = (now, used)
        return self._busy
