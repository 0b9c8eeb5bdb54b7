"""The version of this program."""

from __future__ import annotations

from swarm.installed import version_of

DISTRIBUTION = "swarm-peer"
UNINSTALLED = "0+checkout"


def version() -> str:
    """Return the installed version; `UNINSTALLED` when run from a checkout that is not installed."""
    return version_of(DISTRIBUTION) or UNINSTALLED
