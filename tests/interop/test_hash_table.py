"""The client of the distributed hash table among nodes of go-libp2p: what one provides, the other finds."""

from __future__ import annotations

import signal
import time

import pytest

from swarm.ids import ManifestId
from swarm.reach.kad_messages import key_of
from tests.interop.conftest import INSTALLED, installed
from tests.support.interop_go import GoPeer
from tests.support.interop_kad import provide, providers, table
from tests.support.processes import Processes, Running

pytestmark = pytest.mark.interop
SIZE = 10
HERE = ("--listen", "/ip4/127.0.0.1/tcp/0")


def until_provided(node: GoPeer, key: bytes, peer: str) -> None:
    deadline = time.monotonic() + 30
    while peer not in providers(node, key):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def share(processes: Processes, node: GoPeer) -> tuple[Running, str]:
    path = processes.work("share") / "file.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    running = processes.swarm("share", path, "--json", *HERE, "--dht", node.address, name="share")
    return running, str(running.event("path_shared")["manifest"])


def test_what_one_provides_the_other_finds(processes: Processes) -> None:
    with table(processes, installed("go", INSTALLED / "go" / "p2pd"), SIZE) as nodes:
        shared, manifest = share(processes, nodes[0])
        me = str(shared.event("node_listening")["peer"])
        until_provided(nodes[-1], key_of(ManifestId.parse(manifest)), me)
        fetch = processes.swarm("fetch", manifest, "--json", *HERE, "--dht", nodes[4].address)
        found = fetch.event("peer_found", peer=me)
        # A table on this machine may name its addresses; one in the Internet could not.
        assert found["provenance"] == "near-dht"
        fetch.expect_exit(0)
        unknown = ManifestId(bytes(range(32)))
        provide(nodes[2], key_of(unknown))
        asking = processes.swarm("fetch", str(unknown), "--json", *HERE, "--dht", nodes[7].address)
        asking.event("peer_found", peer=nodes[2].address.rpartition("/")[2])
        asking.stop()


def test_silent_nodes_are_passed_over_and_a_later_run_begins_at_those_that_answered(
    processes: Processes,
) -> None:
    with table(processes, installed("go", INSTALLED / "go" / "p2pd"), SIZE) as nodes:
        shared, manifest = share(processes, nodes[0])
        me = str(shared.event("node_listening")["peer"])
        until_provided(nodes[-1], key_of(ManifestId.parse(manifest)), me)
        for node in nodes[1:4]:
            node.process.signal(signal.SIGSTOP)
        try:
            fetch = processes.swarm("fetch", manifest, *HERE, "--dht", nodes[0].address, name="fetch")
            fetch.expect_exit(0)
            nodes[0].process.kill()
            again = ("fetch", manifest, "-o", "again", *HERE, "--dht", nodes[0].address)
            processes.swarm(*again, name="fetch").expect_exit(0)
        finally:
            for node in nodes[1:4]:
                node.process.signal(signal.SIGCONT)
