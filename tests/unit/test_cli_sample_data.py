"""sample_data/ is what its generator makes, on this machine too."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.make_sample_data import files

FOLDER = Path(__file__).parents[2] / "sample_data"


def test_the_committed_samples_are_what_the_generator_makes() -> None:
    made = {name: (content, executable) for name, content, executable in files()}
    found = {
        path.relative_to(FOLDER).as_posix(): (path.read_bytes(), os.access(path, os.X_OK))
        for path in FOLDER.rglob("*")
        if path.is_file()
    }
    assert sorted(found) == sorted(made)
    wrong = [name for name in made if found[name] != made[name]]
    assert wrong == []
    assert 2_000_000 < sum(len(content) for content, _ in found.values()) < 6_000_000
