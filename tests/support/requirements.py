"""What a test needs of the machine. Where nothing may be missing, a test fails instead of being skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).with_name("install_packages.sh")
INSTALL_SECONDS = 300
MAY_INSTALL = pytest.mark.timeout(INSTALL_SECONDS + 120)
"""For tests that need a program: perhaps it is installed first, after what another worker installs."""
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where programs of the system are, which an ordinary user's PATH leaves out."""


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


def require_program(program: str, *packages: str) -> str:
    """Return the path of ``program``.

    Where it is missing, Debian's ``packages`` (by default one of its name) are installed under CI, and the
    test is skipped otherwise.
    """
    wanted = packages or (program,)
    found = _path_of(program)
    if found is None and must_not_skip():
        subprocess.run([INSTALL, *wanted], check=True, timeout=INSTALL_SECONDS)
        found = _path_of(program)
    require(found, f"`{program}` (Debian: apt-get install {' '.join(wanted)})")
    return str(found)


def _path_of(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=SYSTEM_PATH)
