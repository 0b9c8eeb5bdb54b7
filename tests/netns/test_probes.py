"""Probes of this program and of go-libp2p, behind translators. Go dials for fifteen seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import INSTALLED, ROOT, installed
from tests.netns.nats import CONE, PUBLIC, Nats
from tests.netns.test_punches import Field, namespaces
from tests.support.processes import Processes, Running

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

__all__ = ["namespaces"]


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    """Two homes behind cones."""
    with Nats(CONE, CONE) as nats, Processes(tmp_path) as processes:
        yield Field(nats, processes, tmp_path)


def ours(field: Field, host: str, *arguments: str) -> Running:
    program = [sys.executable, "-m", "tests.support.relayed_peer", *arguments]
    return field.processes.command(field.nats.inside(host, *program), env={"PYTHONPATH": str(ROOT)})


@pytest.mark.slow
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
            assert server == theirs or float(told.group(2)) < 5
