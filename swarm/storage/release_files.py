"""The newest release record of each series that this user has seen, in the home: what is older is refused.

One file for each series, written whole or not at all. A record that is damaged counts as none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from swarm.content.release import MAX_RECORD_BYTES, Series, SeriesId, SignedRelease
from swarm.errors import ManifestError
from swarm.storage.disk_errors import refusals
from swarm.storage.whole_files import one_process, write_whole

FOLDER: Final = "releases"
MAX_KEPT_RELEASES: Final = 1024
"""Series in one home; of more, those that were heard of longest ago are forgotten."""
FOLDER_MODE: Final = 0o700

_SUFFIX = ".release"
_LOCK = "lock"


class TwoReleases(ManifestError):
    """The publisher has signed two different releases of the same number."""

    def __init__(self, series: Series, sequence: int) -> None:
        super().__init__(
            f"the publisher of {series.name} has signed two different releases with number {sequence}: "
            "refused; ask the publisher for a new release"
        )


class OlderRelease(ManifestError):
    """A newer release of the series has been seen here."""

    def __init__(self, series: Series, sequence: int, known: int) -> None:
        super().__init__(
            f"release {sequence} of {series.name} is older than release {known}, which was seen here before: "
            "refused"
        )


def check_succession(before: SignedRelease | None, release: SignedRelease) -> None:
    """Raise OlderRelease, TwoReleases unless ``release`` may follow on, or is the same as, ``before``."""
    if before is None:
        return
    known, new = before.record, release.record
    if new.sequence < known.sequence:
        raise OlderRelease(new.series, new.sequence, known.sequence)
    if new.sequence == known.sequence and new != known:
        raise TwoReleases(new.series, new.sequence)


class ReleaseFiles:
    """The records of one home. Methods block."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def find(self, series: SeriesId) -> SignedRelease | None:
        """Return the newest record that was kept, or None."""
        return read_release(self._folder / f"{series}{_SUFFIX}", series)

    def keep(self, release: SignedRelease) -> None:
        """Keep a record in place of an older one.

        Raises OlderRelease, TwoReleases when what is kept forbids it, DiskError when the disk refuses.
        """
        series = release.record.series.id
        path = self._folder / f"{series}{_SUFFIX}"
        with refusals(self._folder):
            self._folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        # No other process decides meanwhile what is newest.
        with refusals(self._folder), one_process(self._folder / _LOCK):
            before = read_release(path, series)
            check_succession(before, release)
            if before == release:
                return
            write_release(path, release)
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        found = [each for each in self._folder.iterdir() if each.suffix == _SUFFIX]
        if len(found) > MAX_KEPT_RELEASES:
            found.sort(key=lambda path: -path.stat().st_mtime)
            for path in found[MAX_KEPT_RELEASES:]:
                path.unlink(missing_ok=True)


def read_release(path: Path, series: SeriesId) -> SignedRelease | None:
    """Return the record in a file, None if there is none of this series."""
    try:
        with path.open("rb") as file:
            release = SignedRelease.from_bytes(file.read(MAX_RECORD_BYTES + 1))
    except (OSError, ManifestError):
        return None
    return release if release.record.series.id == series else None


def write_release(path: Path, release: SignedRelease) -> None:
    """Write a record whole or not at all, and have it on the disk; raises OSError."""
    write_whole(path, release.to_bytes())
