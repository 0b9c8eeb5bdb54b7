"""Two muxed connections over a real TCP socket, each ours or stock py-libp2p's."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.transport import Transport
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID, Yamux

from swarm.mux.mux_limits import MuxLimits
from swarm.mux.stream import WindowBudget
from swarm.net.libp2p.muxer import YamuxNegotiator
from swarm.net.libp2p.noise_session import AesNoiseSecurity, NoiseSecurity, NoiseSession
from swarm.net.muxed_connection import MuxedConnection


class Identity:
    """A key pair and the transport and muxer of one kind that go with it."""

    def __init__(
        self, kind: str, limits: MuxLimits | None = None, budget: WindowBudget | None = None
    ) -> None:
        self.keys = create_new_key_pair()
        self.peer_id = ID.from_pubkey(self.keys.public_key)
        transport = {"ours": NoiseSecurity, "aes": AesNoiseSecurity, "stock": Transport}[kind]
        self.security = transport(self.keys, noise_privkey=create_x25519().private_key)
        if kind != "stock":
            self.muxer: Any = YamuxNegotiator(10, limits or MuxLimits(), budget or WindowBudget())
        else:
            self.muxer = MuxerMultistream({PROTOCOL_ID: Yamux}, 10)


def socket_pair(buffer: int | None = None) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return the dialling and the listening end of one TCP connection on loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    if buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    with listener:
        dialler = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    for end in (dialler, accepted):
        end.setblocking(False)
        if buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return tuple(trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (dialler, accepted))  # type: ignore[return-value]


async def secure_pair(
    dialler: Identity, listener: Identity, streams: tuple[trio.SocketStream, trio.SocketStream] | None = None
) -> tuple[Any, Any]:
    """Return the two secured ends of one connection."""
    ends = streams or socket_pair()
    secured: dict[int, Any] = {}

    async def listen() -> None:
        secured[1] = await listener.security.secure_inbound(RawConnection(TrioTCPStream(ends[1]), False))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        raw = RawConnection(TrioTCPStream(ends[0]), True)
        secured[0] = await dialler.security.secure_outbound(raw, listener.peer_id)
    return secured[0], secured[1]


@asynccontextmanager
async def muxed_pair(
    dialler: str = "ours",
    listener: str = "ours",
    *,
    limits: MuxLimits | None = None,
    budget: WindowBudget | None = None,
    dialler_budget: WindowBudget | None = None,
    buffer: int | None = None,
) -> AsyncIterator[tuple[Any, Any]]:
    """Run a dialling and a listening muxed connection with each other; both are closed at the end.

    ``limits`` and ``budget`` are the listener's; ``buffer`` is the size of the kernel's buffers.
    """
    one, two = Identity(dialler, None, dialler_budget), Identity(listener, limits, budget)
    secured = await secure_pair(one, two, socket_pair(buffer))
    made: dict[int, Any] = {}

    async def upgrade(index: int, identity: Identity, other: Identity) -> None:
        made[index] = await identity.muxer.new_conn(secured[index], other.peer_id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upgrade, 0, one, two)
        nursery.start_soon(upgrade, 1, two, one)
    async with trio.open_nursery() as nursery:
        for connection in made.values():
            nursery.start_soon(connection.start)
        for connection in made.values():
            await connection.event_started.wait()
        yield made[0], made[1]
        for connection in made.values():
            nursery.start_soon(connection.close)
        with trio.move_on_after(3) as scope:
            while not all(connection.is_closed for connection in made.values()):
                await trio.sleep(0.01)
        assert not scope.cancelled_caught
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def hostile_peer(
    *,
    limits: MuxLimits | None = None,
    budget: WindowBudget | None = None,
    streams: tuple[trio.SocketStream, trio.SocketStream] | None = None,
) -> AsyncIterator[tuple[NoiseSession, MuxedConnection]]:
    """Run one of our connections against a session that a test writes and reads by hand.

    The session is the dialler's, past the negotiation of the muxer. ``streams`` are the two ends of the
    TCP connection below, for a test that writes past the session's encryption.
    """
    attacker, victim = Identity("ours"), Identity("ours", limits, budget)
    secured = await secure_pair(attacker, victim, streams)
    made: list[MuxedConnection] = []

    async def upgrade() -> None:
        made.append(await victim.muxer.new_conn(secured[1], attacker.peer_id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upgrade)
        await attacker.muxer.negotiate(secured[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made[0].start)
        await made[0].event_started.wait()
        try:
            yield secured[0], made[0]
        finally:
            with trio.CancelScope(shield=True):
                await secured[0].close()
                await made[0].close()
            nursery.cancel_scope.cancel()


async def read_exactly(stream: Any, size: int) -> bytes:
    """Read exactly ``size`` bytes from a muxed stream."""
    data = bytearray()
    while len(data) < size:
        data += await stream.read(size - len(data))
    return bytes(data)


async def read_to_end(stream: Any) -> bytes:
    """Read until the other end has finished."""
    from libp2p.stream_muxer.exceptions import MuxedStreamEOF

    data = bytearray()
    while True:
        try:
            data += await stream.read(1024 * 1024)
        except MuxedStreamEOF:
            return bytes(data)
