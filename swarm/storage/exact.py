"""Reading and writing at a position until all of it is done."""

from __future__ import annotations

import errno
import os

from swarm.storage.layer import FileLayer

WRITE_BYTES = 128 * 1024
"""The most that is written in one call. Linux takes memory for the page cache in blocks as large as the call,
and the larger they are, the likelier a virtual machine's host has taken them back: docs/performance.md."""


def read_at(layer: FileLayer, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
    """Fill ``buffer`` from the file at ``offset``; returns fewer bytes only where the file ends.

    With ``cached``, raises BlockingIOError as soon as a byte would have to come from the disk.
    """
    done = 0
    while done < len(buffer):
        got = layer.read_into(fd, buffer[done:], offset + done, cached=cached)
        if got == 0:
            break
        done += got
    return done


def write_at(layer: FileLayer, fd: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; OSError if the system takes only a part of it."""
    while data:
        taken = layer.write(fd, data[:WRITE_BYTES], offset)
        if taken == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data, offset = data[taken:], offset + taken
