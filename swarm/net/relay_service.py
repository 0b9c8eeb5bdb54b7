"""The relay of a meeting point (circuit relay v2): gives places, and joins two streams of two peers.

A place belongs to the peer that the connection authenticates. Circuits are apart: the end of one, or its
limit, touches no other. Source: the libp2p specification ``relay/circuit-v2.md``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import trio

from swarm.endpoint import Endpoint, PeerAddress
from swarm.errors import LinkClosed, RemoteError
from swarm.ids import PeerId
from swarm.net import pump
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host
from swarm.net.inbound import network_of
from swarm.net.streams import NegotiatedStream
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.protobuf import delimited
from swarm.reach.relay_messages import (
    CircuitLimit,
    HopKind,
    HopMessage,
    RelayStatus,
    ReservationGrant,
    StopKind,
    StopMessage,
)
from swarm.reach.relay_protocols import HOP_PROTOCOL, STOP_PROTOCOL
from swarm.reach.reservations import OpenCircuit, Reservations

logger = logging.getLogger(__name__)

STREAMS_PER_PEER = limits.MAX_CIRCUITS_PER_PEER + 4
"""Hop streams of one peer that are answered at once: its circuits, and a few that ask."""


def ip_of(remote_address: str) -> str:
    """The unit of limits that a peer of this multiaddr counts for."""
    endpoint = Endpoint.read(remote_address.partition("/p2p/")[0])
    return "" if endpoint is None else network_of(endpoint.host)


class RelayService:
    """Relays for everybody whom ``host`` is connected to, within ``limit`` for each circuit.

    ``places`` says between whom, by default to whoever has reserved a place.
    """

    def __init__(self, host: Host, limit: CircuitLimit, places: Reservations | None = None) -> None:
        self._host = host
        self._limit = limit
        self.reservations = Reservations() if places is None else places
        self._now: Callable[[], float] = trio.current_time
        host.serve(HOP_PROTOCOL, self.answer, most=STREAMS_PER_PEER)

    def keeps(self, peer: PeerId) -> bool:
        """Whether the peer's connection is needed: it has a place."""
        return self.reservations.has(peer, self._now())

    async def answer(self, stream: NegotiatedStream) -> None:
        """Answer one question of the hop protocol; with a circuit, return when that has ended."""
        message: HopMessage | None = None
        with trio.move_on_after(limits.HANDSHAKE_SECONDS):
            message = HopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
        if message is None:
            raise LinkClosed("nothing was asked in time")
        match message.kind:
            case HopKind.RESERVE:
                await self._reserve(stream)
            case HopKind.CONNECT if message.peer is not None and "/p2p-circuit" not in stream.remote_address:
                await self._connect(stream, message.peer)
            case _:
                await _answer(stream, RelayStatus.UNEXPECTED_MESSAGE)

    async def _reserve(self, stream: NegotiatedStream) -> None:
        peer, now = stream.peer, self._now()
        if "/p2p-circuit" in stream.remote_address:
            await _answer(stream, RelayStatus.PERMISSION_DENIED)
            return
        network = ip_of(stream.remote_address)
        if not self.reservations.reserve(peer, network, now):
            self._forget_the_gone()
            if not self.reservations.reserve(peer, network, now):
                await _answer(stream, RelayStatus.RESERVATION_REFUSED)
                return
        # A clock that is wrong here only makes clients come back sooner or later.
        expires = int(time.time()) + limits.RESERVATION_SECONDS
        answer = HopMessage(
            HopKind.STATUS,
            grant=ReservationGrant(expires, self._addresses()),
            limit=self._limit,
            status=RelayStatus.OK,
        )
        await write_message(stream, answer.encode())

    def _addresses(self) -> tuple[PeerAddress, ...]:
        found = (parse_peer_address(text) for text in self._host.addresses)
        return tuple(each for each in found if not each.endpoint.zone)[: limits.MAX_ADDRESSES]

    def _forget_the_gone(self) -> None:
        for peer in self.reservations.peers():
            if not self._host.connected(peer):
                self.reservations.release(peer)

    async def _connect(self, stream: NegotiatedStream, target: PeerId) -> None:
        if not self._host.connected(target):
            self.reservations.release(target)
        network = ip_of(stream.remote_address)
        circuit = self.reservations.open_circuit(stream.peer, target, network, self._now())
        if isinstance(circuit, RelayStatus):
            await _answer(stream, circuit)
            return
        try:
            await self._join(stream, circuit)
        finally:
            self.reservations.close_circuit(circuit)

    async def _join(self, stream: NegotiatedStream, circuit: OpenCircuit) -> None:
        far: NegotiatedStream | None = None
        try:
            with trio.move_on_after(limits.HANDSHAKE_SECONDS):
                message = StopMessage(StopKind.CONNECT, circuit.source, self._limit)
                first = delimited(message.encode())
                opened = await self._host.open_stream(circuit.target, STOP_PROTOCOL, first)
                try:
                    far = await _accepted(opened)
                finally:
                    if far is None:
                        await opened.reset()
        except (LinkClosed, RemoteError) as error:
            logger.debug("no circuit to %s: %s", circuit.target, error)
        if far is None:
            await _answer(stream, RelayStatus.CONNECTION_FAILED)
            return
        try:
            await _answer(stream, RelayStatus.OK, self._limit)
            with trio.move_on_after(self._limit.seconds or float("inf")) as scope:
                await _carry(stream, far, self._limit.size)
            if scope.cancelled_caught:
                await stream.reset()
                await far.reset()
        finally:
            await far.reset()


async def _accepted(opened: NegotiatedStream) -> NegotiatedStream:
    answer = StopMessage.decode(await read_message(opened, limits.MAX_MESSAGE_BYTES))
    if answer.kind is not StopKind.STATUS or answer.status != RelayStatus.OK:
        raise LinkClosed(f"the peer refuses the circuit (status {answer.status})")
    return opened


async def _carry(stream: NegotiatedStream, far: NegotiatedStream, size: int) -> None:
    try:
        await pump.between(stream, far, size)
    except* LinkClosed as group:
        logger.debug("a circuit has ended: %s", group.exceptions[0])
        await stream.reset()
        await far.reset()


async def _answer(stream: NegotiatedStream, status: RelayStatus, limit: CircuitLimit | None = None) -> None:
    await write_message(stream, HopMessage(HopKind.STATUS, limit=limit, status=status).encode())
