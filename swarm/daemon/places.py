"""Where the daemon's files are in the user's folder, and how its socket is reached. Standard library only."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SOCKET: Final = "daemon.sock"
LOCK: Final = "daemon.lock"
TOKEN: Final = "api-token"  # noqa: S105 - the name of a file
MAX_SOCKET_BYTES: Final = 100
"""Of the path of a socket; the kernel takes 107."""


@contextmanager
def socket_address(home: Path) -> Iterator[str]:
    """The address of the daemon's socket for the block; a long path is shortened through a descriptor."""
    path = home / SOCKET
    if len(os.fsencode(path)) <= MAX_SOCKET_BYTES:
        yield str(path)
        return
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)


def listening_socket(home: Path) -> socket.socket:
    """A Unix socket that only this user can connect to; whoever calls holds the lock of the home.

    Raises OSError.
    """
    # What a killed daemon has left: its lock is free, so nobody listens there.
    (home / SOCKET).unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_address(home) as address:
            before = os.umask(0o177)
            try:
                made.bind(address)
            finally:
                os.umask(before)
        made.listen(64)
    except BaseException:
        made.close()
        raise
    return made
