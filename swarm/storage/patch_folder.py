"""Where patches that are fetched lie until the update is done: bounded, and resumed after an interruption."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from xxhash import xxh3_128_hexdigest

from swarm.ids import ManifestId
from swarm.storage.disk_errors import refusals

FOLDER: Final = "patches"
FOLDER_MODE: Final = 0o700
LEFT_SECONDS: Final = 7 * 86400.0
"""What an interrupted update left is removed when nobody has touched it for so long."""

_SUFFIX = ".swarm-patch"


class PatchFolder:
    """The folder of one home, with a folder for each place that is updated. Methods block."""

    def __init__(self, home: Path) -> None:
        self._path = home / FOLDER

    @staticmethod
    def name_of(patch: ManifestId) -> str:
        """The name of a patch."""
        return f"{patch}{_SUFFIX}"

    def prepare(self, updated: Path) -> Path:
        """Make the folder for what is updated, and remove what was left long ago; raises DiskError."""
        own = self._of(updated)
        with refusals(own):
            own.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        old = time.time() - LEFT_SECONDS
        with suppress(OSError):
            for each in self._path.iterdir():
                if each != own and each.lstat().st_mtime < old:
                    shutil.rmtree(each, ignore_errors=True)
        return own

    def remove(self, updated: Path) -> None:
        """Remove the patches for what is up to date; a disk that refuses costs only their place."""
        shutil.rmtree(self._of(updated), ignore_errors=True)

    def _of(self, updated: Path) -> Path:
        # Two processes never update the same place, but they may need the same patch.
        return self._path / xxh3_128_hexdigest(os.fsencode(os.path.realpath(updated)))
