"""A file over plain TCP with nothing around it, `sendfile` to a receiver that writes: the floor of a fetch.

python -m tests.benchmarks.plain_copy receive PATH | send PORT PATH
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from tests.benchmarks.one_connection import accepted, run

RECEIVE_BYTES = 256 * 1024


def send(port: int, path: Path) -> None:
    """Send the file to the receiver on ``port``, then wait to be killed: others read the processor time."""
    with socket.create_connection(("127.0.0.1", port)) as connection, path.open("rb") as file:
        connection.sendfile(file)
        connection.shutdown(socket.SHUT_WR)
        signal.pause()


def receive(path: Path) -> None:
    """Take one connection and write what it brings to ``path``."""
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    with accepted() as connection:
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        while size := connection.recv_into(buffer):
            os.write(file, buffer[:size])


if __name__ == "__main__":
    run(__doc__, receive, send)
