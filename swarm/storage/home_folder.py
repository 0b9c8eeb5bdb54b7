"""Where a user's state is. By itself, because a command that only asks a daemon needs nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from swarm.errors import UsageError

HOME_VARIABLE = "SWARM_HOME"


def swarm_home() -> Path:
    """Return ``$SWARM_HOME`` if set, otherwise the platform's folder for user data.

    Raises `UsageError` if there is neither: the user has no home folder, as in a container.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    try:
        if chosen:
            return Path(chosen).expanduser()
        return Path(platformdirs.user_data_dir("swarm", appauthor=False))
    except RuntimeError as error:
        raise UsageError(
            f"this user has no home folder: set {HOME_VARIABLE} to a folder for keys and ports"
        ) from error
