"""Which version of a distribution is installed."""

from __future__ import annotations

import sys
from contextlib import suppress
from os import scandir


def version_of(distribution: str) -> str | None:
    """The version of ``distribution`` (in lower case, with dashes) that is installed; None if it is not.

    What `importlib.metadata` says, without its parser of mail headers where a folder's name is enough.
    """
    start, end = f"{distribution.replace('-', '_')}-", ".dist-info"
    for folder in sys.path:
        with suppress(OSError), scandir(folder or ".") as entries:
            for entry in entries:
                if entry.name.startswith(start) and entry.name.endswith(end):
                    return entry.name[len(start) : -len(end)]
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
