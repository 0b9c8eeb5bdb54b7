"""What discovery in a network costs, and how soon it works: four hosts on a bridge. Root only.

python -m tests.netns.bench_lan [IDLE_SECONDS]    (60)

Prints how long after its start each of three `swarm fetch ID` found the fourth host and had the manifest,
what an idle share costs (processor, packets), and the longest step of the discovery on its event loop.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from swarm.discovery.lan import LanPeers
from swarm.endpoint import Endpoint
from swarm.ids import ManifestId, PeerId, SourceId
from swarm.ports import Announcement
from swarm.protocol.lan_records import SERVICES
from tests.netns.network import Network
from tests.netns.test_lan import Lan, multicast
from tests.support.processes import Processes

STEP_SECONDS = 5.0
TICK = 1 / os.sysconf("SC_CLK_TCK")


class Steps(trio.abc.Instrument):
    """Notes the longest step of any task."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._began:
            self.longest = max(self.longest, time.perf_counter() - self._began)


async def look_around() -> None:
    """Announce and look for others for a while, alone on the loop."""
    steps = Steps()
    me = PeerId(SourceId("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"))
    lan = LanPeers(me, [Endpoint.parse("/ip4/0.0.0.0/tcp/4001"), Endpoint.parse("/ip6/::/tcp/4001")])
    met = 0
    trio.lowlevel.add_instrument(steps)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lan.run)
        lan.announce(Announcement(ManifestId(bytes(32)), (), complete=False))
        with trio.move_on_after(STEP_SECONDS):
            async for _ in lan.near(*SERVICES):
                met += 1
        nursery.cancel_scope.cancel()
    print(f"longest step of the discovery: {steps.longest * 1e3:.2f} ms ({met} peers met)", flush=True)


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def main(idle: float) -> None:
    with Network(4, bits=1_000_000_000) as network, Processes(Path(tempfile.mkdtemp())) as processes:
        lan = Lan(network, processes)
        share, manifest = lan.share(0)
        fetches = {host: lan.swarm(host, "fetch", manifest, "--json") for host in (1, 2, 3)}
        for host, fetch in fetches.items():
            found, ready = fetch.event("peer_found")["t"], fetch.event("manifest_ready")["t"]
            fetch.expect_exit(0)
            print(f"host {host}: found the peer {found:.2f} s after its start, the manifest {ready:.2f} s")
        subprocess.run(network.inside(1, sys.executable, "-m", "tests.netns.bench_lan", "steps"), check=True)
        with lan.captured(0) as packets:
            before = processor_seconds(share.pid)
            time.sleep(idle)
            used = processor_seconds(share.pid) - before
        print(f"an idle share in {idle:.0f} s: {used * 1e3:.0f} ms of the processor, all else included")
        print(f"packets of multicast DNS over IPv4 that its network saw meanwhile: {len(multicast(packets))}")


if __name__ == "__main__":
    if sys.argv[1:] == ["steps"]:
        trio.run(look_around)
    else:
        main(float(sys.argv[1]) if sys.argv[1:] else 60.0)
