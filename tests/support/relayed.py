"""Hosts that meet through a relay, for tests: punching switched off where a circuit itself is looked at."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from swarm.endpoint import Circuit
from swarm.net.addresses import parse_peer_address
from swarm.net.circuits import Circuits
from swarm.net.hole_punch import HolePunch
from swarm.net.host import Host, open_host
from swarm.net.ping_protocol import PING_PROTOCOL, Prober, Responder
from swarm.net.streams import NegotiatedStream

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
ECHO = "/swarm-test/relayed-echo/1.0.0"
CHUNK = 1 << 18


def no_punching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attempt at a direct connection fail at once, as behind symmetric translators."""

    async def nothing(*_arguments: Any, **_named: Any) -> None:
        await trio.sleep(0.01)

    monkeypatch.setattr(HolePunch, "_dial", nothing)


async def echo(stream: NegotiatedStream) -> None:
    """Send back what comes."""
    while data := await stream.read_some(CHUNK):
        await stream.write(data)
    await stream.finish()


@asynccontextmanager
async def relayed_host(*, carry_data: bool = True) -> AsyncIterator[tuple[Host, Circuits]]:
    """A host that opens and takes circuits, and echoes."""
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host:
        circuits = host.use_relays(carry_data=carry_data)
        host.serve(PING_PROTOCOL, Responder(), anywhere=True)
        host.serve(ECHO, echo)
        yield host, circuits


def circuit_by(relay: str) -> Circuit:
    """The way through a relay of this multiaddr."""
    return Circuit(parse_peer_address(relay))


async def take_place(host: Host, circuits: Circuits, relay: str) -> None:
    """Connect to a relay and reserve."""
    where = parse_peer_address(relay)
    await host.connect(where.peer, [where.endpoint], from_port=True)
    await circuits.reserve(where.peer)


async def ping_over(host: Host, other: Host) -> float | None:
    """One ping over the open connection."""
    prober = Prober(lambda: host.open_stream(other.peer_id, PING_PROTOCOL))
    try:
        return await prober.probe()
    finally:
        await prober.aclose()


async def move(stream: NegotiatedStream, size: int) -> float:
    """Send ``size`` bytes to an echo while they come back; returns the seconds that it took."""
    began = trio.current_time()
    received = 0

    async def send() -> None:
        block = bytes(CHUNK)
        for start in range(0, size, CHUNK):
            await stream.write(memoryview(block)[: size - start])
        await stream.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while data := await stream.read_some(CHUNK):
            received += len(data)
    assert received == size
    return trio.current_time() - began


def addresses_of(hosts: Sequence[Host]) -> list[str]:
    """The first address of each."""
    return [host.addresses[0] for host in hosts]
