"""A file over plain TCP with nothing around it, `sendfile` to a receiver that writes: the floor of a fetch.

python -m tests.benchmarks.plain_copy receive PATH | send PORT PATH
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import time
from pathlib import Path

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
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"listening {server.getsockname()[1]}", flush=True)
        connection, _ = server.accept()
    print("begin", flush=True)
    started = time.perf_counter()
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    with connection:
        while size := connection.recv_into(buffer):
            os.write(file, buffer[:size])
    print(f"finished {time.perf_counter() - started:.6f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=("receive", "send"))
    parser.add_argument("arguments", nargs="+")
    given = parser.parse_args()
    if given.mode == "receive":
        receive(Path(given.arguments[0]))
    else:
        send(int(given.arguments[0]), Path(given.arguments[1]))
