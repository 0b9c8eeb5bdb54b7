"""The version of an installed distribution."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from swarm.installed import version_of


@pytest.mark.parametrize("name", ["libp2p", "swarm-peer", "trio", "pytest-trio"])
def test_it_is_what_the_standard_library_says(name: str) -> None:
    assert version_of(name) == metadata.version(name)


def test_nothing_is_said_of_what_is_not_installed() -> None:
    assert version_of("no-such-thing") is None


def test_the_first_on_the_path_is_the_one_that_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libp2p-9.9.9.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert version_of("libp2p") == "9.9.9"
