"""How many sockets this process may have, so that files can always be opened."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from swarm.errors import UsageError
from swarm.net.limits import DESCRIPTORS_FOR_FILES, DESCRIPTORS_SPARE

LEAST_SOCKETS = 4
"""With fewer there is no swarm to speak of."""

_OPEN = Path("/proc/self/fd")


def sockets_allowed(listeners: int) -> int:
    """Return how many connections fit beside what is open, ``listeners`` sockets to come and the files.

    Raises UsageError where that is fewer than LEAST_SOCKETS.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = 2**31
    left = limit - _open_now(limit) - listeners - DESCRIPTORS_FOR_FILES - DESCRIPTORS_SPARE
    if left < LEAST_SOCKETS:
        raise UsageError(
            f"{limit} open files are too few, {DESCRIPTORS_FOR_FILES} are kept for files; raise `ulimit -n`"
        )
    return left


def _open_now(limit: int) -> int:
    if _OPEN.is_dir():
        # The listing itself has one open.
        return len(os.listdir(_OPEN)) - 1  # noqa: PTH208 - counting names, not walking paths
    found = 0
    for descriptor in range(min(limit, 4096)):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        found += 1
    return found
