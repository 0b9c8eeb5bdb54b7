"""A share that waits for peers has made what its first session uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SHARE = """
import subprocess, sys
import trio
from swarm.net.libp2p import partial_import
with partial_import.importing():
    from swarm.node import open_node
from swarm import lazy_dataclass
from swarm.config import NodeOptions
from swarm.transfer import readiness

made = []
finish = lazy_dataclass._Lazy._finish
def finished(self):
    made.append(self.made.__qualname__)
    finish(self)
lazy_dataclass._Lazy._finish = finished

async def main(folder):
    options = NodeOptions(home=folder / "home", listen=("/ip4/127.0.0.1/tcp/0",))
    async with open_node(options) as node:
        await node.share(folder / "content.bin")
        with trio.move_on_after(10):
            while lazy_dataclass.incomplete(*readiness.SERVING):
                await trio.sleep(0.01)
        print("left:", *lazy_dataclass.incomplete(*readiness.SERVING))
        link = node.transfers[0].link
        made.clear()
        fetch = [sys.executable, "-m", "swarm", "fetch", link, "--output", folder / "out"]
        await trio.run_process(fetch, stdout=sys.stderr)
        print("made for a peer:", *made)

import pathlib
trio.run(main, pathlib.Path(sys.argv[1]))
"""


def test_no_class_of_the_serving_path_is_incomplete_when_a_share_waits(tmp_path: Path) -> None:
    (tmp_path / "content.bin").write_bytes(bytes(range(256)) * 8192)
    done = subprocess.run(
        [sys.executable, "-c", SHARE, tmp_path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["left:", "made for a peer:"]
    assert (tmp_path / "out" / "content.bin").stat().st_size == 256 * 8192
