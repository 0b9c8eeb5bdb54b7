"""Patches that updates fetch: each place that is updated has a folder, and none stays for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from swarm.errors import DiskError
from swarm.storage.patch_folder import LEFT_SECONDS, PatchFolder


def test_each_place_has_a_folder_which_goes_with_the_update(tmp_path: Path) -> None:
    folder = PatchFolder(tmp_path)
    ours, others = folder.prepare(tmp_path / "a"), folder.prepare(tmp_path / "b")
    assert ours != others
    assert folder.prepare(tmp_path / "." / "a") == ours, "so that an interrupted one goes on"
    (ours / "patch").write_text("x")
    folder.remove(tmp_path / "a")
    assert not ours.exists()
    assert others.is_dir()


def test_what_was_left_long_ago_is_removed(tmp_path: Path) -> None:
    folder = PatchFolder(tmp_path)
    old, young, ours = (folder.prepare(tmp_path / name) for name in "abc")
    (old / "patch").write_text("x")
    long_ago = time.time() - LEFT_SECONDS - 1
    for each in (old, ours):
        os.utime(each, (long_ago, long_ago))
    folder.prepare(tmp_path / "c")
    assert [each.exists() for each in (old, young, ours)] == [False, True, True]


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "patches").write_text("in the way")
    with pytest.raises(DiskError):
        PatchFolder(tmp_path).prepare(tmp_path / "a")
