"""Behind a router: its port leads to a share, by each protocol, and is taken back at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarm.node.node import SILENT_ROUTERS
from tests.netns.nats import ROUTERS, Nats
from tests.netns.network import why_unavailable
from tests.support.processes import Processes, Running
from tests.support.requirements import MAY_INSTALL, require, require_program

pytestmark = [pytest.mark.e2e, MAY_INSTALL]
TOOLS = {"nft": "nftables", "ethtool": "ethtool", "miniupnpd": "miniupnpd"}
WAN = ROUTERS["a"]
CHAINS = """
table inet f2 {
 chain forward { type filter hook forward priority -5; policy accept; jump miniupnpd; }
 chain miniupnpd { }
}
table inet nat2 {
 chain prerouting { type nat hook prerouting priority -100; policy accept; iifname "wan0" jump given; }
 chain postrouting { type nat hook postrouting priority 90; policy accept; oifname "wan0" jump givenback; }
 chain given { }
 chain givenback { }
}
"""
DEAF = (
    "table inet deaf { chain in { type filter hook input priority -10; udp dport 5351 @th,64,8 %d drop; }; }"
)
"""The first byte of a request is the version of the protocol: a router that knows one of them only."""
PROTOCOLS = {"UPnP": (False, True, None), "NAT-PMP": (True, False, 2), "PCP": (True, False, 0)}
LEASE = 12
TAKEN_BACK = 4
"""Seconds that a busy router may take for it; after half of a lease, or more, it would forget by itself."""
PATIENT = "from swarm.node import node; node.MAPPING_SECONDS = 30.0\nfrom cli import main; main()"
"""The program with links that wait longer for a router: a busy machine has no answer in half a second."""


@pytest.fixture(autouse=True, scope="module")
def tools() -> None:
    why = why_unavailable()
    require(not why, why)
    for tool, package in TOOLS.items():
        require_program(tool, package)


class Home:
    """Home a, its router, and home b far away."""

    def __init__(self, nats: Nats, processes: Processes, folder: Path) -> None:
        self.nats = nats
        self.processes = processes
        self.folder = folder
        self.content = folder / "content.bin"
        self.content.write_bytes(os.urandom(1 << 20))

    def begin_router(self, protocol: str) -> Running:
        pmp, upnp, deaf = PROTOCOLS[protocol]
        self._nft(CHAINS + (DEAF % deaf if deaf is not None else ""))
        route = ["ip", "route", "replace", "239.0.0.0/8", "dev", "lan0"]
        subprocess.run(self.nats.inside("ra", *route), check=True)
        self._conf = self.folder / "miniupnpd.conf"
        yes = {True: "yes", False: "no"}
        self._conf.write_text(f"""
ext_ifname=wan0
listening_ip=lan0
enable_natpmp={yes[pmp]}
enable_upnp={yes[upnp]}
secure_mode=yes
min_lifetime=6
max_lifetime={LEASE}
uuid=00000000-0000-0000-0000-000000000001
upnp_table_name=f2
upnp_nat_table_name=nat2
upnp_forward_chain=miniupnpd
upnp_nat_chain=given
upnp_nat_postrouting_chain=givenback
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
""")
        return self.restart_router()

    def restart_router(self) -> Running:
        daemon = require_program("miniupnpd")
        pid = self.folder / f"miniupnpd{time.monotonic_ns()}.pid"
        command = self.nats.inside("ra", daemon, "-d", "-f", self._conf, "-P", pid)
        running = self.processes.command(command, name="router", cwd=self.folder)
        running.line("Listening for NAT-PMP/PCP|HTTP listening on port", stderr=True)
        return running

    def mapped(self) -> list[str]:
        """The rules of the router that lead to home a."""
        listed = subprocess.run(
            self.nats.inside("ra", "nft", "list", "chain", "inet", "nat2", "given"),
            capture_output=True,
            text=True,
            check=True,
        )
        return re.findall(r"dnat ip to (192\.168\.1\.10:\d+)", listed.stdout)

    def forget(self) -> None:
        """The router loses what it has given, as if it had lost its power."""
        self._nft("flush chain inet nat2 given; flush chain inet f2 miniupnpd;")

    def swarm(
        self, host: str, *arguments: str | Path, name: str, patient: bool = False, **env: str
    ) -> Running:
        program = ("-c", PATIENT) if patient else ("-m", "swarm")
        command = self.nats.inside(host, sys.executable, *program, *arguments)
        environment = {"SWARM_NO_MAP_PORT": "0", "SWARM_HOME": str(self.processes.home(name)), **env}
        return self.processes.command(command, name=name, env=environment)

    def until_mapped(self, count: int, within: float = 30) -> None:
        """Look at the router's rules until so many lead to home a."""
        deadline = time.monotonic() + within
        while len(self.mapped()) != count:
            assert time.monotonic() < deadline, self.mapped()
            time.sleep(0.2)

    def _nft(self, rules: str) -> None:
        subprocess.run(self.nats.inside("ra", "nft", "-f", "-"), input=rules, text=True, check=True)


@contextmanager
def home(folder: Path) -> Iterator[Home]:
    with Nats() as nats, Processes(folder) as processes:
        yield Home(nats, processes, folder)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_a_port_of_the_router_leads_to_a_share(tmp_path: Path, protocol: str) -> None:
    with home(tmp_path) as here:
        router = here.begin_router(protocol)
        share = here.swarm("a", "share", here.content, "--json", name="share", patient=True)
        told = share.event("port_mapped")
        assert told["protocol"] == protocol
        assert told["public"]
        assert told["address"].startswith(f"/ip4/{WAN}/tcp/")
        link = share.event("path_shared")["link"]
        assert told["address"] in link
        assert here.mapped()
        fetch = here.swarm("b", "fetch", link, "-o", tmp_path / "far", name="fetch")
        fetch.expect_exit(0)
        assert (tmp_path / "far" / here.content.name).read_bytes() == here.content.read_bytes()
        # The router says that it was restarted, or half of the lease is over: the node has its port again.
        router.stop()
        here.forget()
        assert here.mapped() == []
        here.restart_router()
        here.until_mapped(1)
        share.signal(signal.SIGTERM)
        share.expect_exit(143, within=10)
        here.until_mapped(0, within=TAKEN_BACK)


def test_one_line_says_so(tmp_path: Path) -> None:
    with home(tmp_path) as here:
        here.begin_router("PCP")
        share = here.swarm("a", "share", here.content, name="share", patient=True)
        share.line(
            rf"^reachable at /ip4/{WAN}/tcp/\d+, a port of the router \(PCP, renewed every 6s\)", stderr=True
        )
        assert share.line(rf"^swarm:\S*/ip4/{WAN}/tcp/")
        share.stop()


def test_without_a_router_that_answers_nothing_waits(tmp_path: Path) -> None:
    with home(tmp_path) as here:
        share = here.swarm("a", "share", here.content, "--json", name="share")
        began = share.event("node_listening")["t"]
        shared = share.event("path_shared")
        assert WAN not in shared["link"]
        # The link waits for a router at most half a second, and is not there to be measured exactly.
        assert shared["t"] - began < 5
        silent = here.processes.home("share") / SILENT_ROUTERS
        deadline = time.monotonic() + 30
        while not silent.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        share.terminate()
        share.expect_exit(143, within=10)
        assert share.events("port_mapped") == []
        # It is asked again all the same, and is silent no more.
        here.begin_router("PCP")
        again = here.swarm("a", "share", here.content, "--json", name="share")
        again.event("port_mapped")
        assert silent.read_text() == ""


def test_a_fetch_asks_for_a_port_only_if_it_seeds(tmp_path: Path) -> None:
    with home(tmp_path) as here:
        here.begin_router("PCP")
        share = here.swarm("public", "share", here.content, "--json", "--no-map-port", name="share")
        link = share.event("path_shared")["link"]
        only = here.swarm("a", "fetch", link, "-o", tmp_path / "only", "--json", name="only")
        only.expect_exit(0)
        assert only.events("port_mapped") == []
        seeding = here.swarm(
            "a", "fetch", link, "-o", tmp_path / "seeded", "--seed", "--json", name="seeding", patient=True
        )
        mapped = seeding.event("port_mapped")["address"]
        assert mapped in seeding.event("fetched_seeded")["link"]
        seeding.terminate()
        seeding.expect_exit(143, within=10)
        here.until_mapped(0, within=TAKEN_BACK)
