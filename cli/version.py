"""The version of this program."""

from __future__ import annotations

DISTRIBUTION = "swarm-peer"
UNINSTALLED = "0+checkout"


def version() -> str:
    """Return the installed version; `UNINSTALLED` when run from a checkout that is not installed."""
    from importlib import metadata

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return UNINSTALLED
