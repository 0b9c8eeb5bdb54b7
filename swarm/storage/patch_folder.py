"""Where patches that are fetched lie until the update is done: bounded, and resumed after an interruption."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from swarm.ids import ManifestId
from swarm.storage.disk_errors import refusals

FOLDER: Final = "patches"
FOLDER_MODE: Final = 0o700
LEFT_SECONDS: Final = 7 * 86400.0
"""What an interrupted update left is removed when nobody has touched it for so long."""

_SUFFIX = ".swarm-patch"


class PatchFolder:
    """The folder of one home. Methods block."""

    def __init__(self, home: Path) -> None:
        self.path = home / FOLDER

    @staticmethod
    def name_of(patch: ManifestId) -> str:
        """The name of a patch in this folder."""
        return f"{patch}{_SUFFIX}"

    def prepare(self) -> None:
        """Make the folder, and remove what was left there long ago; raises DiskError."""
        with refusals(self.path):
            self.path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        old = time.time() - LEFT_SECONDS
        with suppress(OSError):
            for each in self.path.iterdir():
                if each.lstat().st_mtime < old:
                    shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)

    def remove(self, patch: ManifestId) -> None:
        """Remove a patch that is not needed any more; a disk that refuses costs only its place."""
        with suppress(OSError):
            (self.path / self.name_of(patch)).unlink(missing_ok=True)
