"""Five receivers with the old version on limited uplinks: the publisher sends little more than a patch."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.netns.network import Network, why_unavailable
from tests.support.processes import Processes, Running
from tests.support.requirements import require

BITS = 20_000_000
RECEIVERS = 5
OLD_BYTES = 12 << 20
NEW_BYTES = 16 << 20
"""What is new in the new version: a patch cannot be smaller."""
MOST_PATCHES = 1.15


@pytest.fixture(autouse=True, scope="module")
def namespaces() -> None:
    why = why_unavailable()
    require(not why, why)


def write_versions(folder: Path) -> tuple[Path, Path]:
    old = random.Random(1).randbytes(OLD_BYTES)
    new = old[: OLD_BYTES // 3] + random.Random(2).randbytes(NEW_BYTES) + old[OLD_BYTES // 3 :]
    versions = folder / "1", folder / "2"
    for version, content in zip(versions, (old, new), strict=True):
        version.mkdir(parents=True)
        (version / "data.bin").write_bytes(content)
    return versions


def start(processes: Processes, network: Network, host: int, *arguments: str | Path) -> Running:
    listen = f"/ip4/{network.address(host)}/tcp/4001"
    argv = [sys.executable, "-m", "swarm", *arguments, "--listen", listen, "--json"]
    return processes.command(network.inside(host, *argv), name=f"host{host}")


def sent(running: Running) -> int:
    """Payload bytes that a process has sent, in all its transfers."""
    return sum(event["size"] for event in running.events("bytes_sent"))


@pytest.mark.e2e
def test_the_publisher_sends_its_patch_hardly_more_than_once(tmp_path: Path) -> None:
    old, new = write_versions(tmp_path / "builds")
    hosts = range(1, RECEIVERS + 1)
    with Network(RECEIVERS + 1, bits=BITS) as network, Processes(tmp_path) as processes:
        publisher = start(processes, network, 0, "release", "game", old)
        series = publisher.event("release_published", within=60)["series"]
        # All of it is at hand: this is how they come to have the old version.
        for running in [
            start(processes, network, host, "fetch", series, "-o", "out", "--base", old) for host in hosts
        ]:
            running.expect_exit(0, within=120)
        publisher.terminate()
        publisher.expect_exit(143)
        publisher = start(processes, network, 0, "release", "game", new)
        published = publisher.event("release_published", within=60)
        patch = published["patch_size"]
        assert NEW_BYTES <= patch < 1.05 * NEW_BYTES
        before = network.sent(0)
        updating = [
            start(processes, network, host, "fetch", series, "-o", "out", "--update") for host in hosts
        ]
        for running in updating:
            running.expect_exit(0, within=180)
        wire = network.sent(0) - before
        publisher.terminate()
        publisher.expect_exit(143)
        for host, running in zip(hosts, updating, strict=True):
            update = running.event("transfer_complete")
            assert update["bytes_received"] <= 1.05 * patch
            assert update["bytes_patched"] >= NEW_BYTES
            content = processes.work(f"host{host}") / "out" / "game" / "data.bin"
            assert content.read_bytes() == (new / "data.bin").read_bytes()
    copies = sent(publisher) / patch
    print(f"the publisher sent {copies:.3f} patches of {patch} bytes, {wire / patch:.3f} on the wire")
    assert copies <= MOST_PATCHES
