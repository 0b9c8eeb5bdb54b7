"""docs/Containerfile: what it copies is there, and what it removes from the image is never loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "Containerfile").read_text("utf-8")
CODE = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

class Removed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in REMOVED:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)
        return None

sys.meta_path.insert(0, Removed)
from swarm.net.libp2p import partial_import
with partial_import.importing():
    import swarm.node
import cli, swarm
for package in (swarm, cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
# Deferred until a peer has such a key.
from libp2p.crypto.rsa import RSAPublicKey
from libp2p.crypto.secp256k1 import create_new_key_pair
create_new_key_pair()
"""
KEPT_NAMES = {"docs", "newsfragments", "pip", "setuptools"}
"""What is removed and is no module that could be missed."""


def removed() -> set[str]:
    """The packages that the first ``rm -rf`` after the installation names."""
    found = re.search(r"site-packages \\\n && rm -rf ([^\\]+)\\", TEXT)
    assert found
    return set(found[1].split()) - KEPT_NAMES


def test_what_the_image_leaves_out_is_not_missed() -> None:
    names = removed()
    assert "grpc" in names
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("REMOVED", repr(names), 1)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_is_copied_is_there_and_the_user_is_not_root() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
    users = re.findall(r"^USER (\d+):(\d+)$", TEXT, re.MULTILINE)
    assert users
    assert all(int(user) >= 10_000 for user, _ in users)
