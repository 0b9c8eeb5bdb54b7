"""The connection of a peer that the user has not allowed is displaced first and does not stay."""

from __future__ import annotations

import pytest
import trio

from swarm.errors import NoPeerReachable
from swarm.ids import PeerId
from swarm.net import network_limits as limits
from swarm.net.addresses import parse_peer_address
from swarm.net.host import open_host
from swarm.net.inbound import InboundConnection, InboundConnections, PeerStanding

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
OLD = limits.GRACE_SECONDS + 1.0


def full(standing: dict[str, PeerStanding], capacity: int) -> tuple[InboundConnections, list[str]]:
    """One connection of each peer, and the names of the peers whose connection was closed."""
    closed: list[str] = []
    connections = InboundConnections(capacity)
    connections.standing = lambda peer: standing.get(peer, PeerStanding.STRANGER)
    for number, name in enumerate(standing):
        connection = InboundConnection(
            PeerId(name), f"192.0.2.{number}", 0.0, lambda name=name: closed.append(name)
        )
        assert connections.admit(connection, 0, 0.0)
    return connections, closed


def test_the_unwanted_go_first_even_for_a_stranger() -> None:
    standing = {
        "stranger": PeerStanding.STRANGER,
        "unwanted": PeerStanding.UNWANTED,
        "named": PeerStanding.NAMED,
    }
    connections, closed = full(standing, 3)
    assert connections.admit(InboundConnection(PeerId("new"), "192.0.2.9", OLD, lambda: None), 0, OLD)
    assert closed == ["unwanted"]


def test_no_stranger_takes_the_place_of_the_named() -> None:
    connections, closed = full({"a": PeerStanding.NAMED, "b": PeerStanding.NAMED}, 2)
    assert not connections.admit(InboundConnection(PeerId("new"), "192.0.2.9", OLD, lambda: None), 0, OLD)
    assert closed == []


async def test_the_connection_of_an_unwanted_peer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNWANTED_SECONDS", 0.3)
    async with open_host(bytes(32), [LOOPBACK]) as server, open_host(bytes([1]) * 32) as client:
        server.judge_by(lambda _: PeerStanding.UNWANTED)
        endpoint = parse_peer_address(server.addresses[0]).endpoint
        await client.connect(server.peer_id, [endpoint])
        with trio.fail_after(5):
            while client.connected(server.peer_id):
                await trio.sleep(0.05)
        server.judge_by(lambda _: PeerStanding.STRANGER)
        try:
            await client.connect(server.peer_id, [endpoint])
        except NoPeerReachable:
            pytest.fail("a wanted peer is let in")
        await trio.sleep(0.6)
        assert client.connected(server.peer_id)
