"""Noise transport records as libp2p frames them: u16 big-endian length, ciphertext, tag.

A `Sealer` and an `Opener` each own their nonce and process records strictly in order, so no nonce is
skipped or used twice. Source: Noise specification revision 34, sections 3 and 5.1 (ChaChaPoly: 32
zero bits, then the nonce in little-endian), and the libp2p Noise specification, "Wire Format".

Opened records are placed in `Blocks`, which are reused: page faults and clearing of a fresh 64 KiB buffer
cost more than decrypting into it. `SendDepth` limits how much is sealed ahead of the network, because
urgent frames cannot overtake what is already sealed.
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
"""Blocks kept for reuse; 4 MiB."""


class Blocks:
    """A pool of reusable buffers of `BLOCK_BYTES` each."""

    def __init__(self) -> None:
        self._spare: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer, now the caller's; its content is arbitrary."""
        return self._spare.pop() if self._spare else bytearray(BLOCK_BYTES)

    def give(self, block: bytearray) -> None:
        """Return a buffer from `take` to the pool; the caller must not use it afterwards."""
        if len(self._spare) < SPARE_BLOCKS:
            self._spare.append(block)


_LENGTH = struct.Struct("!H")
_NONCE = struct.Struct("<4xQ")


class Sealer:
    """Encrypts plaintexts into records under one key."""

    def __init__(self, key: bytes, nonce: int) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._nonce = nonce

    def seal_into(self, plaintext: memoryview, out: memoryview) -> int:
        """Write ``plaintext`` as one record at the start of ``out``; return the record's size in bytes.

        Raises ValueError, without using a nonce, when ``plaintext`` exceeds `NOISE_MAX_PLAINTEXT` bytes
        or ``out`` is too small for the record. Raises RemoteError when the nonces are used up.
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
        """Return ``plaintext``, of any length, as one or more records."""
        view = memoryview(plaintext)
        out = bytearray()
        for start in range(0, len(view), NOISE_MAX_PLAINTEXT):
            part = view[start : start + NOISE_MAX_PLAINTEXT]
            record = bytearray(NOISE_LENGTH_PREFIX + len(part) + NOISE_TAG)
            self.seal_into(part, memoryview(record))
            out += record
        return bytes(out)


class Opener:
    """Decrypts received bytes, which may be split anywhere, into plaintexts under one key.

    Buffers at most one partial record, `NOISE_MAX_SEALED` bytes.
    """

    def __init__(self, key: bytes, nonce: int) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._nonce = nonce
        self._tail = bytearray()

    @property
    def missing(self) -> int:
        """The least number of further bytes needed to open another record, or to know its length."""
        kept = len(self._tail)
        if kept < NOISE_LENGTH_PREFIX:
            return NOISE_LENGTH_PREFIX - kept
        size: int = _LENGTH.unpack_from(self._tail)[0]
        return NOISE_LENGTH_PREFIX + size - kept

    def open(self, data: memoryview, blocks: Blocks) -> Iterator[tuple[bytearray, int]]:
        """Take the next received bytes and yield the plaintexts that they complete, in order.

        Yields a block, now the caller's, and the size of the plaintext at its start. Iterate to the end.
        Raises RemoteError for a record that is forged, damaged or shorter than its tag; the connection
        cannot continue after that.
        """
        start = 0
        if self._tail:
            start = self._extend_tail(data)
            if self.missing:
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
        """Complete the partial record from the front of ``data``; return the number of bytes used."""
        used = 0
        while used < len(data) and (missing := self.missing):
            part = data[used : used + missing]
            self._tail += part
            used += len(part)
        return used

    def _decrypt(self, sealed: memoryview, blocks: Blocks) -> tuple[bytearray, int]:
        size = len(sealed) - NOISE_TAG
        if size < 0:
            raise RemoteError(f"a Noise record of {len(sealed)} bytes is shorter than its tag")
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
"""Weight of all earlier observations when a new one is added."""


class SendDepth:
    """How many bytes to seal ahead: follows the rate at which a full socket drains.

    ``size`` is a power of two, in bytes.
    """

    def __init__(self) -> None:
        self.size = DEPTH_START
        self._bytes = 0.0
        self._seconds = 0.0

    def observe(self, sent: int, waited: float) -> bool:
        """Record that ``sent`` bytes were sent and the full socket then blocked for ``waited`` seconds.

        Returns whether ``size`` has changed. Only time with a full socket counts, so an idle connection
        does not look slow.
        """
        self._bytes = self._bytes * _FORGET + sent
        self._seconds = self._seconds * _FORGET + waited
        wanted = DEPTH_MAX if self._seconds <= 0 else self._bytes / self._seconds * DEPTH_SECONDS
        before = self.size
        # A factor of two in both directions is the hysteresis: the size does not oscillate at one rate.
        if wanted >= 2 * self.size and self.size < DEPTH_MAX:
            self.size *= 2
        elif wanted <= self.size / 2 and self.size > DEPTH_MIN:
            self.size //= 2
        return self.size != before
