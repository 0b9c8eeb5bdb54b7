"""Punches and probes between this program, js-libp2p and go-libp2p, behind translators: both roles."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import INSTALLED, NODE_PACKAGES, ROOT, installed
from tests.netns.nats import CONE, PUBLIC, ROUTERS, Nats
from tests.netns.test_punches import Field, namespaces
from tests.support.processes import Processes, Running

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

__all__ = ["namespaces"]


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    """Two homes behind cones."""
    with Nats(CONE, CONE) as nats, Processes(tmp_path) as processes:
        yield Field(nats, processes, tmp_path)


@pytest.fixture
def js_program(tmp_path: Path) -> list[str | Path]:
    modules = INSTALLED / "js" / "node_modules"
    node = installed("js", modules / NODE_PACKAGES.get(platform.machine(), "node") / "bin" / "node")
    (tmp_path / "node_modules").symlink_to(modules)
    return [node, shutil.copy(ROOT / "tests" / "support" / "interop_relay.mjs", tmp_path)]


def ours(field: Field, host: str, *arguments: str) -> Running:
    program = [sys.executable, "-m", "tests.support.relayed_peer", *arguments]
    return field.processes.command(field.nats.inside(host, *program), env={"PYTHONPATH": str(ROOT)})


def test_js_leads_and_we_follow(field: Field, js_program: list[str | Path]) -> None:
    _, meeting = field.meet()
    home = field.nats.inside("a", *js_program, "behind", meeting, "/ip4/0.0.0.0/tcp/4002")
    behind = field.processes.command(home)
    peer = behind.line(r"^ADDR \S+/p2p-circuit/p2p/(\S+)$").group(1)
    dialler = ours(field, "b", "dial", meeting, peer)
    assert dialler.line(r"^REACHED (\S+)$").group(1).startswith(f"/ip4/{ROUTERS['a']}/tcp/")


def test_we_lead_and_js_follows(field: Field, js_program: list[str | Path]) -> None:
    _, meeting = field.meet()
    serving = ours(field, "a", "serve", meeting)
    peer = serving.line(r"^PEER (\S+)$").group(1)
    target = f"{meeting}/p2p-circuit/p2p/{peer}"
    dialler = field.processes.command(field.nats.inside("b", *js_program, "dial", target))
    direct = dialler.line(rf"^OPEN (/ip4/{re.escape(ROUTERS['a'])}/tcp/\S+)$").group(1)
    assert "p2p-circuit" not in direct


def test_our_probe_and_that_of_go_come_to_the_same_verdict(field: Field) -> None:
    program = installed("go", INSTALLED / "go" / "p2pd")
    control = field.folder / "control"
    options = ["-bootstrapPeers=", "-relay=0", "-autonat=1", "-forceReachabilityPublic"]
    go = field.processes.command(
        field.nats.inside(
            "public", program, "-listen", f"/unix{control}", "-hostAddrs", "/ip4/0.0.0.0/tcp/4009", *options
        )
    )
    peer = go.line(r"Peer ID: (\S+)").group(1)
    theirs = f"/ip4/{PUBLIC}/tcp/4009/p2p/{peer}"
    _, meeting = field.meet()
    for host, verdict in (("a", "False"), ("rb", "True")):
        # The router itself is a public host once it lets that port in.
        for number, server in enumerate((theirs, meeting)):
            port = str(4100 + number)
            if host == "rb":
                rule = ("insert", "rule", "ip", "filt", "incoming", "tcp", "dport", port, "accept")
                field.processes.command(field.nats.inside(host, "nft", *rule)).expect_exit(0)
            told = ours(field, host, "probe", server, port).line(r"^VERDICT (\S+) after (\S+) s$")
            assert (host, server, told.group(1)) == (host, server, verdict)
            assert float(told.group(2)) < 5
