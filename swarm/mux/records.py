"""Noise transport records as libp2p frames them: u16 big-endian length, ciphertext, tag.

A `Sealer` and an `Opener` own their nonce and take records strictly in order, so a nonce cannot be
skipped or used twice. Source: Noise specification revision 34, sections 3 and 5.1 (ChaChaPoly: 32
zero bits, then the nonce in little-endian), and the libp2p Noise specification, "Wire Format".

Opened records come in `Blocks`: buffers that are used again, because a fresh 64 KiB buffer for each
record costs more in page faults and clearing than its decryption. `SendDepth` says how much may be
sealed ahead of the network: what is sealed cannot be overtaken any more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from swarm.errors import RemoteError
from swarm.mux.mux_limits import (
    DEPTH_MAX,
    DEPTH_MIN,
    DEPTH_SECONDS,
    DEPTH_START,
    NOISE_LENGTH_PREFIX,
    NOISE_MAX_NONCE,
    NOISE_MAX_PLAINTEXT,
    NOISE_TAG,
)

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


_LENGTH = struct.Struct("!H")
_NONCE = struct.Struct("<4xQ")


class Sealer:
    """Turns plaintexts into records under one key."""

    def __init__(self, key: bytes, nonce: int) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._nonce = nonce

    def seal_into(self, plaintext: memoryview, out: memoryview) -> int:
        """Write one record of ``plaintext`` at the start of ``out``; return its size in bytes.

        ``plaintext`` is at most `NOISE_MAX_PLAINTEXT` bytes and ``out`` has room for it, its tag
        and its length; ValueError otherwise, with the nonce untouched. RemoteError once the key's
        nonces are used up.
        """
        sealed = len(plaintext) + NOISE_TAG
        total = NOISE_LENGTH_PREFIX + sealed
        if len(plaintext) > NOISE_MAX_PLAINTEXT or len(out) < total:
            raise ValueError(f"no room for a record of {len(plaintext)} bytes")
        if self._nonce > NOISE_MAX_NONCE:
            raise RemoteError("all nonces of this connection are used; reconnect")
        _LENGTH.pack_into(out, 0, sealed)
        nonce = _NONCE.pack(self._nonce)
        self._nonce += 1
        self._cipher.encrypt_into(nonce, plaintext, None, out[NOISE_LENGTH_PREFIX:total])
        return total

    def seal(self, plaintext: bytes) -> bytes:
        """Return ``plaintext``, of any length, as records."""
        view = memoryview(plaintext)
        out = bytearray()
        for start in range(0, len(view), NOISE_MAX_PLAINTEXT):
            part = view[start : start + NOISE_MAX_PLAINTEXT]
            record = bytearray(NOISE_LENGTH_PREFIX + len(part) + NOISE_TAG)
            self.seal_into(part, memoryview(record))
            out += record
        return bytes(out)


class Opener:
    """Turns received bytes, cut anywhere, back into plaintexts under one key.

    Keeps at most one unfinished record, `NOISE_MAX_SEALED` bytes.
    """

    def __init__(self, key: bytes, nonce: int) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._nonce = nonce
        self._tail = bytearray()

    @property
    def unfinished(self) -> int:
        """Bytes kept of a record whose end has not arrived."""
        return len(self._tail)

    @property
    def missing(self) -> int:
        """Bytes without which nothing more can be opened, at least."""
        return self._tail_misses()

    def open(self, data: memoryview, blocks: Blocks) -> Iterator[tuple[bytearray, int]]:
        """Take the next received bytes and yield the plaintexts that they complete, in order.

        Each is a block, now the caller's, and the size of the plaintext at its beginning. The
        iteration must be carried to its end. RemoteError for a record that is forged, damaged or
        shorter than its tag; nothing can be opened after that.
        """
        start = 0
        if self._tail:
            start = self._extend_tail(data)
            if self._tail_misses():
                return
            record, self._tail = memoryview(self._tail), bytearray()
            yield self._decrypt(record[NOISE_LENGTH_PREFIX:], blocks)
        end = len(data)
        while start + NOISE_LENGTH_PREFIX <= end:
            body = start + NOISE_LENGTH_PREFIX
            stop = body + _LENGTH.unpack_from(data, start)[0]
            if stop > end:
                break
            yield self._decrypt(data[body:stop], blocks)
            start = stop
        self._tail += data[start:]

    def _extend_tail(self, data: memoryview) -> int:
        """Move what the kept record misses from the front of ``data``; return how much that is."""
        used = 0
        while used < len(data) and (missing := self._tail_misses()):
            part = data[used : used + missing]
            self._tail += part
            used += len(part)
        return used

    def _tail_misses(self) -> int:
        """Bytes that the kept record misses, or that its length misses while that is incomplete."""
        kept = len(self._tail)
        if kept < NOISE_LENGTH_PREFIX:
            return NOISE_LENGTH_PREFIX - kept
        size: int = _LENGTH.unpack_from(self._tail)[0]
        return NOISE_LENGTH_PREFIX + size - kept

    def _decrypt(self, sealed: memoryview, blocks: Blocks) -> tuple[bytearray, int]:
        size = len(sealed) - NOISE_TAG
        if size < 0:
            raise RemoteError(f"a Noise record of {len(sealed)} bytes has no room for its tag")
        if self._nonce > NOISE_MAX_NONCE:
            raise RemoteError("all nonces of this connection are used; reconnect")
        block = blocks.take()
        try:
            with memoryview(block)[:size] as out:
                self._cipher.decrypt_into(_NONCE.pack(self._nonce), sealed, None, out)
        except InvalidTag:
            raise RemoteError("a Noise record is forged or damaged") from None
        self._nonce += 1
        return block, size


_FORGET = 0.75
"""Weight of everything before, at each new observation."""


class SendDepth:
    """Follows the rate at which a full socket drains; ``size`` is a power of two in bytes."""

    def __init__(self) -> None:
        self.size = DEPTH_START
        self._bytes = 0.0
        self._seconds = 0.0

    def observe(self, sent: int, waited: float) -> bool:
        """Take ``sent`` bytes after which the full socket made us wait ``waited`` seconds.

        Returns whether ``size`` has changed. Time in which the socket was not full does not
        count, so an idle link does not look slow.
        """
        self._bytes = self._bytes * _FORGET + sent
        self._seconds = self._seconds * _FORGET + waited
        wanted = DEPTH_MAX if self._seconds <= 0 else self._bytes / self._seconds * DEPTH_SECONDS
        before = self.size
        # Factors of two apart in both directions, so that it does not swing around one limit.
        if wanted >= 2 * self.size and self.size < DEPTH_MAX:
            self.size *= 2
        elif wanted <= self.size / 2 and self.size > DEPTH_MIN:
            self.size //= 2
        return self.size != before
