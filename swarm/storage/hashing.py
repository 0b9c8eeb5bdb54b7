"""One pass over a file: its BLAKE3, and the BLAKE3 and XXH3-128 of each of its pieces.

BLAKE3 is what peers and manifests are checked with. XXH3-128 is for what this machine itself read
or wrote before: it costs a tenth and is not safe against anybody who means harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

import trio
from blake3 import blake3
from xxhash import xxh3_128

from swarm.storage.file_layer import FileLayer, read_at

READ_BYTES = 1024 * 1024
"""Memory of one pass: what is read at a time."""
HOP_SECONDS = 0.05
"""Work of one hop to a worker thread: progress and cancellation are as fine as this, and a hop's
50 microseconds do not count, whether a hop does half of a large piece or 1,000 small files."""

Progress = Callable[[int, int], None]
"""Told ``done`` and ``total`` bytes."""
Keep = Callable[[int, bytes], None]
"""Told a piece that is sound and its XXH3-128."""


class FileHashing:
    """The hashes of one file, complete once `steps` is exhausted.

    ``whole`` is its BLAKE3, ``pieces`` and ``checks`` the concatenated BLAKE3 and XXH3-128 of its
    pieces.
    """

    def __init__(self, piece_length: int) -> None:
        self._piece_length = piece_length
        self._whole = blake3()
        self.pieces = bytearray()
        self.checks = bytearray()
        self.length = 0

    @property
    def whole(self) -> bytes:
        """BLAKE3-256 of everything read."""
        return self._whole.digest()

    def steps(self, layer: FileLayer, fd: int, length: int, buffer: memoryview) -> Iterator[int]:
        """Read ``length`` bytes through ``buffer``; yields the bytes of each step.

        Ends early where the file ends; ``self.length`` says how much was read.
        """
        single = length <= self._piece_length
        while self.length < length:
            piece = min(self._piece_length, length - self.length)
            # The only piece of a file has the hash of the file.
            strong = self._whole if single else blake3()
            quick, left = xxh3_128(), piece
            while left:
                got = read_at(layer, fd, buffer[:left], self.length)
                chunk = buffer[:got]
                self._whole.update(chunk)
                quick.update(chunk)
                if not single:
                    strong.update(chunk)
                left -= got
                self.length += got
                yield got
                if got == 0:
                    length = self.length
                    break
            if left < piece:
                self.pieces += strong.digest()
                self.checks += quick.digest()


def new_buffer() -> memoryview:
    """Memory for one pass."""
    return memoryview(bytearray(READ_BYTES))


def piece_matches(data: memoryview, digest: bytes) -> bool:
    """Whether a piece has the BLAKE3-256 that its manifest names."""
    return blake3(data).digest() == digest


async def in_thread(steps: Generator[int, None, None], total: int, progress: Progress | None) -> None:
    """Exhaust ``steps`` in worker threads; each step says how many bytes it dealt with.

    ``progress`` is called in the event loop. When cancelled, the generator is closed before this returns.
    """
    done, more = 0, True
    try:
        while more:
            count, more = await trio.to_thread.run_sync(_advance, steps)
            done += count
            if progress is not None:
                progress(done, total)
    finally:
        steps.close()


def _advance(steps: Iterator[int]) -> tuple[int, bool]:
    """Take steps for `HOP_SECONDS`; returns their bytes and whether there are more."""
    end = time.perf_counter() + HOP_SECONDS
    done = 0
    for count in steps:
        done += count
        if time.perf_counter() > end:
            return done, True
    return done, False
