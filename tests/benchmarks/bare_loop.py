"""The least that any Python peer does with these libraries: a loop without protocol, tasks or events.

    python -m tests.benchmarks.bare_loop receive FILE        prints its port, then takes one connection
    python -m tests.benchmarks.bare_loop send PORT FILE

The sender reads 512 KiB at a time and seals it in records of the Noise size; the receiver opens them, hashes
512 KiB with BLAKE3 and writes it. What a machine cannot do here it cannot do in a fetch. The receiver prints
`begin` when the sender has connected and `finished SECONDS` when everything is in the file.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.benchmarks.one_connection import accepted, run

KEY = bytes(32)
PIECE = 512 * 1024
WRITE = 128 * 1024
"""Larger writes are slower where fresh memory is dear."""
RECORD = 65_519
"""Plaintext of the longest Noise record; 16 more bytes are its tag."""
TAG = 16
RECEIVE_BYTES = 1 << 20

_NONCE = struct.Struct("<4xQ")
_LENGTH = struct.Struct("!H")


def send(port: int, path: Path) -> None:
    """Send the file to the receiver on ``port``, then wait to be killed: others read the processor time."""
    cipher, number = ChaCha20Poly1305(KEY), 0
    sealed = memoryview(bytearray((PIECE // RECORD + 1) * (_LENGTH.size + TAG) + PIECE))
    piece = memoryview(bytearray(PIECE))
    with socket.create_connection(("127.0.0.1", port)) as connection, path.open("rb", buffering=0) as file:
        while size := file.readinto(piece):
            used = 0
            for start in range(0, size, RECORD):
                plain = piece[start : min(start + RECORD, size)]
                _LENGTH.pack_into(sealed, used, len(plain) + TAG)
                used += _LENGTH.size
                cipher.encrypt_into(_NONCE.pack(number), plain, None, sealed[used : used + len(plain) + TAG])
                used += len(plain) + TAG
                number += 1
            connection.sendall(sealed[:used])
        connection.shutdown(socket.SHUT_WR)
        signal.pause()


class Receiver:
    """Opens records into pieces, hashes and writes those."""

    def __init__(self, path: Path) -> None:
        self._cipher = ChaCha20Poly1305(KEY)
        self._number = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT)
        self._piece = memoryview(bytearray(PIECE))
        self._record = memoryview(bytearray(RECORD))
        self._filled = 0
        self._offset = 0

    def take(self, data: memoryview) -> int:
        """Take the whole records at the beginning of ``data``; return how much that was."""
        start = 0
        while start + _LENGTH.size <= len(data):
            stop = start + _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
            if stop > len(data):
                break
            plain = self._record[: stop - start - _LENGTH.size - TAG]
            nonce = _NONCE.pack(self._number)
            self._cipher.decrypt_into(nonce, data[start + _LENGTH.size : stop], None, plain)
            self._number += 1
            self._fill(plain)
            start = stop
        return start

    def _fill(self, plain: memoryview) -> None:
        while plain:
            size = min(len(plain), PIECE - self._filled)
            self._piece[self._filled : self._filled + size] = plain[:size]
            self._filled += size
            plain = plain[size:]
            if self._filled == PIECE:
                self.flush()

    def flush(self) -> None:
        """Hash and write what there is of a piece."""
        piece, self._filled = self._piece[: self._filled], 0
        blake3(piece).digest()
        for start in range(0, len(piece), WRITE):
            self._offset += os.pwrite(self._file, piece[start : start + WRITE], self._offset)


def receive(path: Path) -> None:
    """Take one connection and write what it brings to ``path``."""
    receiver = Receiver(path)
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    kept = 0
    with accepted() as connection:
        while size := connection.recv_into(buffer[kept:]):
            kept += size
            used = receiver.take(buffer[:kept])
            kept -= used
            buffer[:kept] = bytes(buffer[used : used + kept])
        receiver.flush()


if __name__ == "__main__":
    run(__doc__, receive, send)
