"""Whether a file system has room, asked before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.failures import refusals

BLOCK_BYTES = 512
"""Unit of ``st_blocks``, by POSIX."""


def check_space(folder: Path, needed: int, *, what: str) -> None:
    """Raise `DiskError` if fewer than ``needed`` bytes are free where ``folder`` is or will be."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    with refusals(place):
        about = os.statvfs(place)
    free = about.f_bavail * about.f_frsize
    if needed > free:
        raise DiskError(
            f"{printable(what)} needs {needed} bytes, but {printable(str(place))} has {free} free; "
            "free some space or choose another folder"
        )
