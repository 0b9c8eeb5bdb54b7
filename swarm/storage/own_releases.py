"""What a publisher keeps of one series: its newest record, the manifests of earlier releases, the patches.

In ``releases/own/<id of the series>`` of the home. Nothing in it is needed but the newest record: without it
the next release would get a number that receivers refuse.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.content.release import Series, SignedRelease, patch_name, patch_prefix
from swarm.errors import DiskError, Locked, ManifestError
from swarm.ids import ManifestId
from swarm.lazy_dataclass import dataclass
from swarm.storage.disk_errors import optional, refusals
from swarm.storage.home_folder import swarm_home
from swarm.storage.release_files import FOLDER, check_succession, read_release, write_release
from swarm.storage.whole_files import one_process, write_whole

OWN: Final = "own"
MAX_HISTORY_BYTES: Final = 1 << 20
NO_PATCH_SUFFIX: Final = ".no-patch"
"""Marks two versions between which a patch would not be smaller than the pieces that changed."""
FOLDER_MODE: Final = 0o700

_NEWEST = "newest.release"
_HISTORY = "history.json"
_PATCHES = "patches"
_PUBLISHING = "publishing"


@dataclass(frozen=True, slots=True)
class EarlierRelease:
    """A release of this publisher, and where its content stood."""

    sequence: int
    manifest: Manifest
    path: Path


class OwnReleases:
    """One series of this publisher. Methods block, and raise DiskError when the disk refuses."""

    def __init__(self, home: Path, series: Series) -> None:
        self._series = series
        self.folder = home / FOLDER / OWN / str(series.id)

    @property
    def record_path(self) -> Path:
        """The file of the newest record."""
        return self.folder / _NEWEST

    def newest(self) -> SignedRelease | None:
        """The record that was signed last; raises DiskError for one that cannot be read."""
        path = self.record_path
        found = read_release(path, self._series.id)
        if found is None and path.exists():
            raise DiskError(
                f"{path}: this record of the last release cannot be read; restore it, or remove it if no "
                "release was ever published under this name"
            )
        return found

    def earlier(self) -> list[EarlierRelease]:
        """The releases before, the latest first, as far as their manifests can be read."""
        found = []
        for sequence, manifest, path in self._history():
            with suppress(OSError, ManifestError):
                envelope = Envelope.from_bytes((self.folder / f"{manifest}.swarm").read_bytes())
                found.append(EarlierRelease(sequence, envelope.manifest, path))
        return found

    def patch_path(self, old: ManifestId, new: ManifestId) -> Path:
        """Where the patch between two manifests lies, or will."""
        return self.patch_folder / patch_name(old, new)

    @property
    def patch_folder(self) -> Path:
        """The folder of the patches to the newest release, and of their manifests."""
        return self.folder / _PATCHES

    def keep_manifest(self, patch: Path, envelope: Envelope) -> None:
        """Keep the manifest of a patch beside it, for web servers."""
        with refusals(patch):
            write_whole(patch.with_name(f"{patch.name}.swarm"), envelope.to_bytes())

    def has_no_patch(self, old: ManifestId, new: ManifestId) -> bool:
        """Whether it is known that a patch between the two is not worth while."""
        return self._no_patch_path(old, new).exists()

    def note_no_patch(self, old: ManifestId, new: ManifestId) -> None:
        """Remember that a patch between the two is not worth while."""
        with refusals(self.folder):
            self._no_patch_path(old, new).touch()

    def _no_patch_path(self, old: ManifestId, new: ManifestId) -> Path:
        return self.patch_path(old, new).with_suffix(NO_PATCH_SUFFIX)

    def prepare(self) -> int:
        """Make the folders, and return a descriptor whose lock says that this process publishes the series.

        Raises Locked if another one does.
        """
        with refusals(self.folder):
            (self.folder / _PATCHES).mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            fd = self._open(_PUBLISHING)
        try:
            with refusals(self.folder), optional():
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except DiskError as error:
            os.close(fd)
            if isinstance(error.__cause__, BlockingIOError):
                name = self._series.name
                raise Locked(
                    f"another process publishes {name} at this moment: end it, then release the next version"
                ) from None
            raise
        return fd

    def _open(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def keep(self, release: SignedRelease, envelope: Envelope, path: Path, most: int) -> None:
        """Keep a record before anybody is told of it, and note where its content stands.

        Of earlier releases ``most`` are remembered. Raises OlderRelease, TwoReleases when another process has
        released meanwhile.
        """
        record = release.record
        with refusals(self.folder), one_process(self.folder / "lock"):
            check_succession(self.newest(), release)
            write_whole(self.folder / f"{record.manifest}.swarm", envelope.to_bytes())
            write_release(self.record_path, release)
            before = [each for each in self._history() if each[1] != record.manifest]
            history = [(record.sequence, record.manifest, path.resolve()), *before][: most + 1]
            rows = [{"sequence": n, "manifest": str(each), "path": str(at)} for n, each, at in history]
            write_whole(self.folder / _HISTORY, json.dumps(rows).encode("utf-8", "surrogateescape"))
            self._tidy({each for _, each, _ in history}, record.manifest)

    def _tidy(self, kept: Collection[ManifestId], newest: ManifestId) -> None:
        """Remove manifests that are not needed any more, and patches to older versions."""
        names = {f"{each}.swarm" for each in kept}
        for path in self.folder.glob("*.swarm"):
            if path.name not in names:
                path.unlink(missing_ok=True)
        begin = patch_prefix(newest)
        for path in (self.folder / _PATCHES).iterdir():
            if not path.name.startswith(begin):
                path.unlink(missing_ok=True)

    def _history(self) -> list[tuple[int, ManifestId, Path]]:
        try:
            with (self.folder / _HISTORY).open("rb") as file:
                rows = json.loads(file.read(MAX_HISTORY_BYTES).decode("utf-8", "surrogateescape"))
            return [
                (int(row["sequence"]), ManifestId.parse(row["manifest"]), Path(row["path"])) for row in rows
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def identity_of(name: str) -> Path:
    """A path that stands for the series ``name`` of this user: its node keeps one identity and port."""
    return swarm_home() / FOLDER / OWN / name
