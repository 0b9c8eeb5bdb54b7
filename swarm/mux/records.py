"""Noise transport records as libp2p frames them: u16 big-endian length, ciphertext, tag.

The cipher is libp2p's ChaCha20-Poly1305, or AES-256-GCM where both ends have agreed on it.

A `Sealer` and an `Opener` each own their nonce and process records strictly in order, so no nonce is
skipped or used twice. Source: Noise specification revision 34, sections 3, 5.1 and 12 (ChaChaPoly: 32
zero bits, then the nonce in little-endian; AESGCM: in big-endian), and the libp2p Noise specification,
"Wire Format".

Records are sealed and opened a batch at a time: `Sealer.seal_parts` cuts many parts of plaintext into full
records, and `Opener.open` opens every whole record of what a socket returned. A record that is nothing but
payload for a waiting reader is opened into the reader's buffer; any other into one of `Blocks`, which are
reused: page faults and clearing of a fresh 64 KiB buffer cost more than decrypting into it. `SendDepth`
limits how much is sealed ahead of the network, because urgent frames cannot overtake what is already sealed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from swarm.errors import RemoteError
from swarm.mux.mux_limits import (
    AES_MAX_NONCE,
    DEPTH_MAX,
    DEPTH_MIN,
    DEPTH_SECONDS,
    DEPTH_START,
    NOISE_LENGTH_PREFIX,
    NOISE_MAX_MESSAGE,
    NOISE_MAX_NONCE,
    NOISE_MAX_PLAINTEXT,
    NOISE_MAX_SEALED,
    NOISE_TAG,
    SMALL_RECORD,
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
_FULL_LENGTH = _LENGTH.pack(NOISE_MAX_MESSAGE)


class RecordCipher(NamedTuple):
    """A cipher of Noise: ``make`` it of a key of 32 bytes; the form of its nonce, and the last one."""

    make: Callable[[bytes], ChaCha20Poly1305 | AESGCM]
    nonce: struct.Struct
    last_nonce: int


CHACHA = RecordCipher(ChaCha20Poly1305, struct.Struct("<4xQ"), NOISE_MAX_NONCE)
AES = RecordCipher(AESGCM, struct.Struct(">4xQ"), AES_MAX_NONCE)


class Sealer:
    """Encrypts plaintexts into records under one key."""

    def __init__(self, key: bytes, nonce: int, cipher: RecordCipher = CHACHA) -> None:
        self._cipher = cipher.make(key)
        self._form, self._last = cipher.nonce, cipher.last_nonce
        self._nonce = nonce

    def seal_into(self, plaintext: memoryview, out: memoryview) -> int:
        """Write ``plaintext`` as one record at the start of ``out``; return the record's size in bytes.

        Raises ValueError, without using a nonce, when ``plaintext`` exceeds `NOISE_MAX_PLAINTEXT` bytes
        or ``out`` is too small for the record. Raises RemoteError when the nonces are used up.
        """
        return self._seal_at(plaintext, out, 0)

    def _seal_at(self, plaintext: memoryview, out: memoryview, at: int) -> int:
        """As `seal_into`, behind ``at`` bytes of ``out``; returns where the record ends."""
        size = len(plaintext)
        body = at + NOISE_LENGTH_PREFIX
        end = body + size + NOISE_TAG
        if size > NOISE_MAX_PLAINTEXT or end > len(out):
            raise ValueError(f"no room for a record of {size} bytes")
        if self._nonce > self._last:
            raise RemoteError("all nonces of this connection are used; reconnect")
        _LENGTH.pack_into(out, at, size + NOISE_TAG)
        nonce = self._form.pack(self._nonce)
        self._nonce += 1
        self._cipher.encrypt_into(nonce, plaintext, None, out[body:end])
        return end

    def seal_parts(self, parts: Iterable[bytes | memoryview], staging: memoryview, out: memoryview) -> int:
        """Write the plaintext that ``parts`` make together as records; return their size in bytes.

        What lies in one part for a whole record is sealed from where it lies, and comes alone: the other end
        then opens it where it belongs, although a header stands before it. The rest is put together in
        ``staging``, of `NOISE_MAX_PLAINTEXT` bytes. ``out`` needs room for `SEALED_BYTES` if the parts are
        `SEAL_RECORDS` full records long. Raises what `seal_into` raises.
        """
        used = staged = 0
        for part in parts:
            view, size = memoryview(part), len(part)
            if size >= NOISE_MAX_PLAINTEXT:
                if staged:
                    used = self._seal_at(staging[:staged], out, used)
                whole = size - size % NOISE_MAX_PLAINTEXT
                used, staged = self._seal_full(view[:whole], out, used), 0
                view, size = view[whole:], size - whole
            if staged + size > NOISE_MAX_PLAINTEXT:
                fits = NOISE_MAX_PLAINTEXT - staged
                staging[staged:] = view[:fits]
                used, staged = self._seal_at(staging, out, used), 0
                view, size = view[fits:], size - fits
            staging[staged : staged + size] = view
            staged += size
        if staged:
            used = self._seal_at(staging[:staged], out, used)
        return used

    def _seal_full(self, plaintext: memoryview, out: memoryview, at: int) -> int:
        """As `_seal_at`, for the bytes of any number of full records."""
        size = len(plaintext)
        if at + size // NOISE_MAX_PLAINTEXT * NOISE_MAX_SEALED > len(out):
            raise ValueError(f"no room for records of {size} bytes")
        make_nonce, encrypt = self._form.pack, self._cipher.encrypt_into
        for start in range(0, size, NOISE_MAX_PLAINTEXT):
            if self._nonce > self._last:
                raise RemoteError("all nonces of this connection are used; reconnect")
            nonce = make_nonce(self._nonce)
            self._nonce += 1
            body, end = at + NOISE_LENGTH_PREFIX, at + NOISE_MAX_SEALED
            out[at:body] = _FULL_LENGTH
            encrypt(nonce, plaintext[start : start + NOISE_MAX_PLAINTEXT], None, out[body:end])
            at = end
        return at

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


class PlaintextSink(Protocol):
    """Where opened records go."""

    def room(self) -> memoryview | None:
        """Return where the next plaintext belongs, as much as is payload and nothing else; None for nowhere.

        Several records may go there one behind the other. One that does not fit, or is shorter than
        `SMALL_RECORD`, goes into a block.
        """

    def placed(self, size: int) -> None:
        """So many bytes are in the room now; it is used no more."""

    def receive(self, block: bytearray, size: int) -> None:
        """Take over a block with ``size`` bytes of plaintext at its start."""


class Opener:
    """Decrypts records, in order, into plaintexts under one key."""

    def __init__(self, key: bytes, nonce: int, cipher: RecordCipher = CHACHA) -> None:
        self._cipher = cipher.make(key)
        self._form, self._last = cipher.nonce, cipher.last_nonce
        self._nonce = nonce

    def open(self, data: memoryview, blocks: Blocks, sink: PlaintextSink) -> int:
        """Open the whole records at the start of ``data`` into ``sink``; return how many bytes they are.

        The rest, less than a record, belongs before the bytes that come next. Raises RemoteError for a
        record that is forged, damaged or shorter than its tag; the connection cannot continue after that.
        """
        start, end = 0, len(data)
        room = sink.room()
        left, placed = (0 if room is None else len(room)), 0
        # Everything that the loop needs is at hand: it runs for each record.
        decrypt_into, pack, length_at = self._cipher.decrypt_into, self._form.pack, _LENGTH.unpack_from
        nonce, last = self._nonce, self._last
        try:
            while end - start >= NOISE_LENGTH_PREFIX:
                body = start + NOISE_LENGTH_PREFIX
                stop = body + length_at(data, start)[0]
                if stop > end:
                    break
                size = stop - body - NOISE_TAG
                if size < 0:
                    raise RemoteError(f"a Noise record of {stop - body} bytes is shorter than its tag")
                if nonce > last:
                    raise RemoteError("all nonces of this connection are used; reconnect")
                # The sink counts small records: it is asked about each, although there is room.
                if room is not None and SMALL_RECORD <= size <= left:
                    decrypt_into(pack(nonce), data[body:stop], None, room[placed : placed + size])
                    nonce += 1
                    placed += size
                    left -= size
                else:
                    block = blocks.take()
                    decrypt_into(pack(nonce), data[body:stop], None, memoryview(block)[:size])
                    nonce += 1
                    if placed:
                        done, placed = placed, 0
                        sink.placed(done)
                    sink.receive(block, size)
                    room = sink.room()
                    left = 0 if room is None else len(room)
                start = stop
        except InvalidTag:
            raise RemoteError("a Noise record is forged or damaged") from None
        finally:
            self._nonce = nonce
            # What came before a fault counts.
            if placed:
                sink.placed(placed)
        return start


def missing(rest: bytes) -> int:
    """The least number of further bytes to open the record that ``rest`` begins, or to know its length."""
    kept = len(rest)
    if kept < NOISE_LENGTH_PREFIX:
        return NOISE_LENGTH_PREFIX - kept
    size: int = _LENGTH.unpack_from(rest)[0]
    return NOISE_LENGTH_PREFIX + size - kept


SEAL_RECORDS = DEPTH_MAX // NOISE_MAX_PLAINTEXT + 1
"""The most full records sealed in one step: `DEPTH_MAX` bytes of payload with their headers are one step."""
SEALED_BYTES = SEAL_RECORDS * NOISE_MAX_SEALED + (SEAL_RECORDS + 1) * (NOISE_LENGTH_PREFIX + NOISE_TAG)
"""What they take with a short one before each, and behind them."""

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
        self._flowed = 0
        self._flowed_since = 0.0

    @property
    def records(self) -> int:
        """How many full records to seal in one step.

        A power of two and a header are a little more than whole records: from four on there is one more.
        """
        whole = self.size // NOISE_MAX_PLAINTEXT
        return min(whole + whole // 4, SEAL_RECORDS)

    def flowed(self, sent: int, now: float) -> bool:
        """Record that the socket took ``sent`` bytes by ``now`` and is not full; return whether `size` grew.

        A socket that is never full proves a rate, too: it takes no more than is on its way and `size`.
        """
        if now - self._flowed_since > DEPTH_SECONDS:
            self._flowed, self._flowed_since = 0, now
        self._flowed += sent
        if self._flowed < 4 * self.size or self.size >= DEPTH_MAX:
            return False
        self.size *= 2
        self._flowed, self._flowed_since = 0, now
        return True

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
