"""`swarm ping` and `swarm listen` with every other libp2p implementation."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.interop

COUNT = 5


def test_swarm_pings_the_other(processes, other):
    ping = processes.swarm("ping", other.address, "--count", str(COUNT), "--interval", "0.05")
    ping.expect_exit(0, within=60)
    answers = ping.lines(rf"^pinged {re.escape(other.address)} in [\d.]+(ns|µs|ms|s)$")
    assert len(answers) == COUNT
    assert ping.lines(rf"^sending {COUNT} ping messages to {re.escape(other.address)}$")


def test_the_other_pings_swarm(processes, other):
    node = processes.swarm("listen", "--listen", "/ip4/127.0.0.1/tcp/0", name="listener")
    trips = other.ping(node.address(), COUNT)
    assert len(trips) == COUNT
    assert all(0 <= trip < 5 for trip in trips)
    node.terminate()
    node.expect_exit(143, within=15)
