"""Hashes a file in one pass: its BLAKE3, and the BLAKE3 and XXH3-128 of each of its pieces.

BLAKE3 verifies data from peers. XXH3-128 recognizes data that this machine itself read or wrote before; it
costs a tenth and gives no protection against forgery.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

import trio
from blake3 import blake3
from xxhash import xxh3_128

from swarm.storage.file_layer import FileLayer, read_at

READ_BYTES = 1024 * 1024
"""Bytes read at a time, and so the memory of one pass."""
THREAD_CALL_SECONDS = 0.05
"""Work done in one call to a worker thread. It sets the granularity of progress and cancellation, and makes
the 50 microseconds of a call negligible, for half of a large piece as for 1,000 small files."""

Progress = Callable[[int, int], None]
"""Called with ``done`` and ``total`` bytes."""
Keep = Callable[[int, bytes], None]
"""Called with each valid piece and its XXH3-128."""


class FileHashing:
    """The hashes of one file, complete once `steps` is exhausted.

    ``whole`` is its BLAKE3; ``pieces`` and ``checks`` are the concatenated BLAKE3 and XXH3-128 of its
    pieces; ``length`` is the number of bytes read.
    """

    def __init__(self, piece_length: int) -> None:
        self._piece_length = piece_length
        self._whole = blake3()
        self.pieces = bytearray()
        self.checks = bytearray()
        self.length = 0

    @property
    def whole(self) -> bytes:
        """The BLAKE3-256 of everything read."""
        return self._whole.digest()

    def steps(self, layer: FileLayer, fd: int, length: int, buffer: memoryview) -> Iterator[int]:
        """Read ``length`` bytes through ``buffer``; yields the bytes of each step.

        Stops early at the end of the file.
        """
        single = length <= self._piece_length
        while self.length < length:
            piece = min(self._piece_length, length - self.length)
            # A file of one piece has the same hash as its piece.
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
    """Allocate the buffer for one pass."""
    return memoryview(bytearray(READ_BYTES))


def piece_matches(data: memoryview, digest: bytes) -> bool:
    """Whether ``data`` has the BLAKE3-256 ``digest``."""
    return blake3(data).digest() == digest


async def in_thread(steps: Generator[int, None, None], total: int, progress: Progress | None) -> None:
    """Exhaust ``steps`` in worker threads; each step yields the number of bytes it processed.

    ``progress`` is called in the event loop. On cancellation, the generator is closed before this returns.
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
    """Run steps for `THREAD_CALL_SECONDS`; return their bytes and whether there are more."""
    end = time.perf_counter() + THREAD_CALL_SECONDS
    done = 0
    for count in steps:
        done += count
        if time.perf_counter() > end:
            return done, True
    return done, False
