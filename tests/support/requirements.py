"""What a test needs of the machine. Where nothing may be missing, a test fails instead of being skipped."""

from __future__ import annotations

import os

import pytest


def must_not_skip() -> bool:
    """Whether a missing requirement is an error: in continuous integration (``CI=true``)."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def require(condition: object, reason: str, *, always: bool = False) -> None:
    """Skip the test with ``reason`` unless ``condition`` is true; fail it under CI, or with ``always``."""
    if condition:
        return
    if always or must_not_skip():
        pytest.fail(f"missing for this test: {reason}", pytrace=False)
    pytest.skip(reason)
