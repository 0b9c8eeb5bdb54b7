"""The meeting points of a node: each is connected to once, whoever names it, until the node closes."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import trio

from swarm.discovery.meeting_point import MeetingPoint, visible_from
from swarm.endpoint import Endpoint, PeerAddress, Route
from swarm.errors import LinkClosed
from swarm.events import Event, ReachChecked, Warned
from swarm.ids import PeerId
from swarm.net.addresses import parse_peer_address
from swarm.net.circuits import Circuits
from swarm.net.dial_back import ask_dial_back
from swarm.net.host import Host
from swarm.net.streams import NegotiatedStream
from swarm.node.keep_running import keep_running
from swarm.reach.probe_messages import PROBE_PROTOCOL

FAREWELL_SECONDS = 0.3

MOST = 8
"""Meeting points of one node; more that links name are left out."""


class Meetings:
    """Makes a `MeetingPoint` of each address, and runs it in ``nursery``."""

    def __init__(
        self,
        host: Host,
        nursery: trio.Nursery,
        publish: Callable[[Event], None],
        rng: random.Random,
        *,
        relay_data: bool,
    ) -> None:
        self._host = host
        self._nursery = nursery
        self._publish = publish
        self._rng = rng
        self._relay_data = relay_data
        self._circuits: Circuits | None = None
        self._points: dict[PeerId, MeetingPoint] = {}

    def at(self, addresses: Iterable[str]) -> tuple[MeetingPoint, ...]:
        """The meeting points at these multiaddrs; raises UsageError for a malformed one."""
        found: dict[PeerId, MeetingPoint] = {}
        for where in map(parse_peer_address, addresses):
            point = self._points.get(where.peer)
            if point is None and len(self._points) < MOST and where.peer != self._host.peer_id:
                point = self._points[where.peer] = self._begin(where)
            if point is not None:
                found[where.peer] = point
        return tuple(found.values())

    async def aclose(self) -> None:
        """Let the meeting points know what was withdrawn; waits for none of them long."""
        with trio.move_on_after(FAREWELL_SECONDS):
            for point in self._points.values():
                await point.settled()

    def _begin(self, where: PeerAddress) -> MeetingPoint:
        if self._circuits is None:
            self._circuits = self._host.use_relays(carry_data=self._relay_data)
        link = _HostLink(self._host, self._circuits, where, self._publish)
        point = MeetingPoint(where, link, self._rng)
        self._nursery.start_soon(keep_running, point.run, f"the meeting point {where.endpoint}")
        return point


class _HostLink:
    """The way to one meeting point."""

    _sequences = itertools.count(time.time_ns())

    def __init__(
        self, host: Host, circuits: Circuits, at: PeerAddress, publish: Callable[[Event], None]
    ) -> None:
        self._host = host
        self._circuits = circuits
        self._at = at
        self._publish = publish

    @property
    def me(self) -> PeerId:
        return self._host.peer_id

    async def connect(self) -> Endpoint:
        await self._host.connect(self._at.peer, [self._at.endpoint], from_port=True)
        where = Endpoint.read(self._host.remote_address(self._at.peer))
        if where is None:
            raise LinkClosed("the connection was lost")
        return where

    async def open_stream(self, protocol: str) -> NegotiatedStream:
        return await self._host.open_stream(self._at.peer, protocol)

    async def reserve(self) -> float:
        return await self._circuits.reserve(self._at.peer)

    def seal(self, addresses: tuple[Route, ...]) -> bytes:
        return self._host.seal(addresses, next(self._sequences))

    async def probe(self, where: Endpoint) -> None:
        observed = await self._circuits.observed(self._at.peer)
        mine = [Endpoint.read(text.partition("/p2p/")[0]) for text in self._host.addresses]
        known = visible_from(where, [each for each in mine if each is not None])
        # Behind a translator: at the address that it shows, at the ports that may be forwarded.
        seen = [replace(observed, port=port) for port in self._host.ports] if observed is not None else []
        stream = await self._host.open_stream(self._at.peer, PROBE_PROTOCOL)
        verdict = await ask_dial_back(stream, self.me, tuple(dict.fromkeys((*known, *seen))))
        if verdict is not None:
            self._publish(ReachChecked(str(self._at.endpoint), verdict))

    def tell(self, message: str) -> None:
        self._publish(Warned(message))
