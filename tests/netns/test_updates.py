"""Receivers with the old version on limited uplinks pass the patch on: the publisher sends few.

How much exactly is measured by bench_release.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netns.bench_release import measure
from tests.netns.network import why_unavailable
from tests.support.requirements import require

NEW_BYTES = 8 << 20


@pytest.fixture(autouse=True, scope="module")
def namespaces() -> None:
    why = why_unavailable()
    require(not why, why)


@pytest.mark.e2e
def test_receivers_pass_the_patch_on(tmp_path: Path) -> None:
    update = measure(tmp_path, receivers=5, bits=20_000_000, new_bytes=NEW_BYTES)
    assert NEW_BYTES <= update.patch < 1.05 * NEW_BYTES
    # Five patches are what it would take without each other's help.
    assert 1.0 <= update.copies <= 2.0
    assert max(update.received) <= 1.05 * update.patch
    assert min(update.patched) >= NEW_BYTES
