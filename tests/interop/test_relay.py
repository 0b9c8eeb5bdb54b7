"""Circuits and punches with the relays and peers of go-libp2p and js-libp2p, both ways round."""

from __future__ import annotations

import platform
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from swarm.ids import PeerId, SourceId
from swarm.net.addresses import parse_peer_address
from swarm.net.host import open_host
from swarm.net.relay_service import RelayService
from swarm.reach import reach_limits
from swarm.reach.relay_messages import CircuitLimit
from tests.interop.conftest import INSTALLED, NODE_PACKAGES, ROOT, installed
from tests.support.interop_go import GoPeer, go_peer
from tests.support.processes import Processes, Running
from tests.support.relayed import (
    ECHO,
    LOOPBACK,
    circuit_by,
    move,
    no_punching,
    ping_over,
    relayed_host,
    take_place,
)

pytestmark = pytest.mark.interop

MIB = 1 << 20
GO_RELAY = ("-relay=1", "-relayService=1", "-forceReachabilityPublic")
GO_CIRCUIT_BYTES = 128 * 1024
"""What p2pd's relay lets a circuit carry, whatever its options say."""


@pytest.fixture
def go_relay(processes: Processes) -> Iterator[GoPeer]:
    """A running go-libp2p that relays."""
    with go_peer(processes, installed("go", INSTALLED / "go" / "p2pd"), GO_RELAY) as peer:
        yield peer


async def test_through_a_relay_of_go(go_relay: GoPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    no_punching(monkeypatch)
    monkeypatch.setattr(reach_limits, "LEAST_FOR_DATA", GO_CIRCUIT_BYTES)
    address = go_relay.address
    async with relayed_host() as (target, circuits), relayed_host() as (source, _):
        await take_place(target, circuits, address)
        assert await source.connect(target.peer_id, [circuit_by(address)]) == f"{address}/p2p-circuit"
        assert await ping_over(source, target) is not None
        stream = await source.open_stream(target.peer_id, ECHO)
        await move(stream, GO_CIRCUIT_BYTES // 2)


async def test_a_relay_of_go_leads_to_a_direct_connection(go_relay: GoPeer) -> None:
    address = go_relay.address
    async with relayed_host(carry_data=False) as (target, circuits), relayed_host() as (source, _):
        await take_place(target, circuits, address)
        # Go says where it sees this node, by identify.
        observed = await circuits.observed(circuit_by(address).relay.peer)
        assert str(observed) in target.addresses[0]
        answered = await source.connect(target.peer_id, [circuit_by(address)])
        assert answered.startswith("/ip4/127.0.0.1/tcp/")
        assert "p2p-circuit" not in answered


async def test_our_relay_for_go(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    no_punching(monkeypatch)
    program = installed("go", INSTALLED / "go" / "p2pd")
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as relay:
        service = RelayService(relay, CircuitLimit())
        address = relay.addresses[0]
        private = (
            "-relay=1",
            "-dhtClient=1",
            "-autoRelay=1",
            "-relayDiscovery=0",
            f"-trustedRelays={address}",
            "-forceReachabilityPrivate",
        )
        with (
            go_peer(processes, program, private) as behind,
            go_peer(processes, program, ("-relay=1",)) as other,
        ):
            peer = parse_peer_address(behind.address).peer
            # It asks for a place by itself.
            with trio.fail_after(40):
                while not service.keeps(peer):
                    await trio.sleep(0.1)
            through = f"{address}/p2p-circuit/p2p/{peer}"
            # Go to go, through ours.
            trips = await trio.to_thread.run_sync(other.ping, through, 3)
            assert len(trips) == 3
            # Ours to go, through ours.
            async with relayed_host() as (source, circuits):
                where = parse_peer_address(address)
                await source.connect(where.peer, [where.endpoint], from_port=True)
                connection, _ = await circuits._open_circuit(peer, circuit_by(address))
                assert connection.muxed_conn is not None


@pytest.fixture
def js_program(tmp_path: Path) -> list[str | Path]:
    """How js-libp2p is run."""
    modules = INSTALLED / "js" / "node_modules"
    node = installed("js", modules / NODE_PACKAGES.get(platform.machine(), "node") / "bin" / "node")
    (tmp_path / "node_modules").symlink_to(modules)
    script = shutil.copy(ROOT / "tests" / "support" / "interop_relay.mjs", tmp_path)
    return [node, script]


async def until_line(process: Running, pattern: str) -> str:
    """What the first group of the first line that matches is."""
    return str(await trio.to_thread.run_sync(lambda: process.line(pattern, 100).group(1)))


async def test_through_a_relay_of_js(
    processes: Processes, js_program: list[str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_punching(monkeypatch)
    relay = processes.command([*js_program, "server", "/ip4/127.0.0.1/tcp/0"])
    address = await until_line(relay, r"^ADDR (\S+)$")
    async with relayed_host() as (target, circuits), relayed_host() as (source, _):
        await take_place(target, circuits, address)
        assert await source.connect(target.peer_id, [circuit_by(address)]) == f"{address}/p2p-circuit"
        stream = await source.open_stream(target.peer_id, ECHO)
        await move(stream, 32 * MIB + 5)


async def test_our_relay_for_js(
    processes: Processes, js_program: list[str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_punching(monkeypatch)
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as relay:
        RelayService(relay, CircuitLimit(3600, 1 << 30))
        address = relay.addresses[0]
        behind = processes.command([*js_program, "behind", address])
        through = await until_line(behind, r"^ADDR (\S+/p2p-circuit/\S+)$")
        dialler = processes.command([*js_program, "dial", through])
        assert float(await until_line(dialler, r"^PING (\S+)$")) >= 0
        # And our own host to js, over our own relay.
        peer = PeerId(SourceId(through.rpartition("/")[2]))
        async with relayed_host() as (source, _):
            where = parse_peer_address(address)
            await source.connect(where.peer, [where.endpoint], from_port=True)
            connection, _ = await source._circuits._open_circuit(peer, circuit_by(address))
            assert not connection.is_closed
