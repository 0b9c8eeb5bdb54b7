"""What `bare_loop` and `plain_copy` share: one connection, what others read of it, and the command line."""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def accepted() -> Iterator[socket.socket]:
    """One connection to a port of its own. Prints `listening PORT`, `begin`, and at the end of the block
    `finished SECONDS`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"listening {server.getsockname()[1]}", flush=True)
        connection, _ = server.accept()
    print("begin", flush=True)
    started = time.perf_counter()
    with connection:
        yield connection
    print(f"finished {time.perf_counter() - started:.6f}", flush=True)


def run(about: str | None, receive: Callable[[Path], None], send: Callable[[int, Path], None]) -> None:
    """``receive PATH`` or ``send PORT PATH``, as the command line says."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=("receive", "send"))
    parser.add_argument("arguments", nargs="+")
    given = parser.parse_args()
    if given.mode == "receive":
        receive(Path(given.arguments[0]))
    else:
        send(int(given.arguments[0]), Path(given.arguments[1]))
