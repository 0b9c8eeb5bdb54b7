"""A machine that goes to another network: what is left of its connections is found out soon, at both ends."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from libp2p.peer.id import ID

from swarm.endpoint import Endpoint
from swarm.net import liveness
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.muxed_connection import MuxedConnection
from tests.support.nodes import until
from tests.support.relayed import LOOPBACK


class Network:
    """Carries bytes to ``target`` until it is `lost`: then neither end hears of the other any more."""

    def __init__(self, target: Host) -> None:
        self._target = parse_peer_address(target.addresses[0]).endpoint
        self.lost = trio.Event()

    async def carry(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream(self._target.host, self._target.port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, near, far)
            nursery.start_soon(self._pass_on, far, near)

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(1 << 16):
                if self.lost.is_set():
                    await trio.sleep_forever()
                await sink.send_all(data)
        await trio.sleep_forever()


@asynccontextmanager
async def network_to(target: Host) -> AsyncIterator[tuple[Network, Endpoint]]:
    network = Network(target)
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, network.carry, 0, host="127.0.0.1"))
        yield network, Endpoint("ip4", "127.0.0.1", "tcp", listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


def connections(host: Host, peer: Host) -> list[MuxedConnection]:
    """The open ones to the peer."""
    found = host._network.get_connections(ID.from_base58(peer.peer_id))
    return [each.muxed_conn for each in found if not each.is_closed]


async def settled(host: Host, peer: Host) -> None:
    """Return once the connection is checked as seldom as one that is long in use."""
    await until(lambda: connections(host, peer)[0]._driver._liveness._checks > 1, "the second check")
    await trio.sleep(0.2)


async def test_who_comes_from_another_network_is_not_looked_for_in_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "PING_DEADLINE", 3.0)
    key = secrets.token_bytes(32)
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as target,
        network_to(target) as (network, way),
        open_host(key) as before,
        open_host(key) as after,
    ):
        target.retain(lambda _: True)
        await before.connect(target.peer_id, [way])
        await settled(target, before)
        network.lost.set()
        [lost] = connections(target, before)
        await after.connect(target.peer_id, [parse_peer_address(target.addresses[0]).endpoint])
        await until(lambda: lost not in connections(target, after), "the lost connection is closed", 20)
        assert await target.ping(after.peer_id) is not None


async def test_who_moves_finds_out_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "PING_DEADLINE", 3.0)
    async with (
        open_host(secrets.token_bytes(32), [LOOPBACK]) as target,
        open_host(secrets.token_bytes(32), [LOOPBACK]) as beside,
        network_to(target) as (network, way),
        open_host(secrets.token_bytes(32)) as mover,
    ):
        for other in (target, beside):
            other.retain(lambda _: True)
        await mover.connect(target.peer_id, [way])
        await mover.connect(beside.peer_id, [parse_peer_address(beside.addresses[0]).endpoint])
        await settled(mover, target)
        await settled(mover, beside)
        network.lost.set()
        mover.check_connections()
        await until(lambda: not mover.connected(target.peer_id), "the lost connection is closed", 20)
        assert mover.connected(beside.peer_id)
