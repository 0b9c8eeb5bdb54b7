"""What is made ready before it is needed: by a share that waits for peers, by a fetch that reached one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from swarm import lazy_dataclass
from swarm.events import Event
from swarm.transfer import readiness
from swarm.transfer import transfer as transfer_module
from swarm.transfer.progress import TransferRecord
from tests.support.nodes import loopback_node

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


async def test_a_fetch_gets_ready_once_its_first_peer_is_reached_and_before_it_has_greeted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "content.bin").write_bytes(bytes(range(256)) * 8192)
    told: list[str] = []
    publish = TransferRecord.publish

    async def made_ready() -> None:
        told.append("ready")
        with trio.CancelScope(shield=True):
            await readiness.be_ready_to_fetch()

    def published(record: TransferRecord, *events: Event) -> None:
        told.extend(type(event).__name__ for event in events)
        publish(record, *events)

    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b") as leecher,
    ):
        shared = await seeder.share(tmp_path / "content.bin")
        monkeypatch.setattr(transfer_module, "be_ready_to_fetch", made_ready)
        monkeypatch.setattr(TransferRecord, "publish", published)
        async with leecher.fetch(shared.link, into=tmp_path / "out") as transfer:
            await transfer.complete()
    assert told.index("PeerDialing") < told.index("ready") < told.index("PeerConnected")
    assert told.count("ready") == 1
    assert lazy_dataclass.incomplete(*readiness.FETCHING) == []
