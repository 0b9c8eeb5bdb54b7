"""Buffers for opened records, used again and again so that their memory stays warm.

A fresh 64 KiB buffer for each record costs more in page faults and clearing than its decryption.
A block has one owner at a time: the opener that fills it, then either the stream whose unread bytes
are in it or, when no stream keeps it, the stock again.
"""

from __future__ import annotations

from swarm.link.limits import NOISE_MAX_PLAINTEXT

BLOCK_BYTES = NOISE_MAX_PLAINTEXT
SPARE_BLOCKS = 64
"""Blocks kept for the next records; 4 MiB."""


class Blocks:
    """A stock of buffers of `BLOCK_BYTES` each."""

    def __init__(self) -> None:
        self._spare: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer of the caller's own, with anything in it."""
        return self._spare.pop() if self._spare else bytearray(BLOCK_BYTES)

    def give(self, block: bytearray) -> None:
        """Take back a buffer from `take`; nobody may look at it any more."""
        if len(self._spare) < SPARE_BLOCKS:
            self._spare.append(block)
