"""The newest record of each series is kept in the home, and nothing older takes its place."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.content.release import ReleaseRecord, SignedRelease, series_of, sign_release
from swarm.errors import DiskError
from swarm.ids import ManifestId
from swarm.storage import release_files
from swarm.storage.release_files import OlderRelease, ReleaseFiles, TwoReleases

KEY = bytes(range(32))
FIRST = ReleaseRecord(series_of(KEY, "game"), 1, ManifestId(b"1" * 32), 10)


def release(sequence: int, manifest: bytes = b"x", name: str = "game") -> SignedRelease:
    record = replace(
        FIRST, series=series_of(KEY, name), sequence=sequence, manifest=ManifestId(manifest * 32)
    )
    return sign_release(KEY, record)


def test_the_newest_is_kept(tmp_path: Path) -> None:
    files = ReleaseFiles(tmp_path)
    assert files.find(FIRST.series.id) is None
    for sequence in (1, 2, 7):
        files.keep(release(sequence))
        assert ReleaseFiles(tmp_path).find(FIRST.series.id) == release(sequence)


def test_an_older_one_is_refused(tmp_path: Path) -> None:
    files = ReleaseFiles(tmp_path)
    files.keep(release(2))
    with pytest.raises(OlderRelease, match="release 1 of game is older than release 2"):
        files.keep(release(1))
    assert files.find(FIRST.series.id) == release(2)


def test_two_of_one_number_are_refused(tmp_path: Path) -> None:
    files = ReleaseFiles(tmp_path)
    files.keep(release(2, b"a"))
    files.keep(release(2, b"a"))
    with pytest.raises(TwoReleases, match="signed two different releases with number 2"):
        files.keep(release(2, b"b"))
    files.keep(release(3, b"b"))


def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path: Path) -> None:
    files = ReleaseFiles(tmp_path)
    files.keep(release(2))
    path = tmp_path / "releases" / f"{FIRST.series.id}.release"
    for damage in (b"", b"x" * 70_000, release(9, name="other").to_bytes(), path.read_bytes()[:-1]):
        path.write_bytes(damage)
        assert files.find(FIRST.series.id) is None
    files.keep(release(2))
    assert files.find(FIRST.series.id) == release(2)


def test_their_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_files, "MAX_KEPT_RELEASES", 3)
    files = ReleaseFiles(tmp_path)
    for number in range(5):
        files.keep(release(1, name=f"game{number}"))
        path = tmp_path / "releases" / f"{series_of(KEY, f'game{number}').id}.release"
        os.utime(path, (number, number))
    kept = [number for number in range(5) if files.find(series_of(KEY, f"game{number}").id)]
    assert kept == [2, 3, 4]


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "releases").write_text("in the way")
    with pytest.raises(DiskError):
        ReleaseFiles(tmp_path).keep(release(1))
