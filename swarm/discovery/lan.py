"""Finds peers in the networks that this machine is in, and is found there: multicast DNS, as libp2p has it.

A node that shares or fetches announces its peer id and its addresses, and answers who asks; never what it
shares or fetches. A node that looks for peers asks a few times, less and less often. Who is found is asked
over the encrypted link. What goes into which network, and is believed from there: `discovery.lan_scope`.
docs/reach.md has the reasons.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import random
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from swarm.discovery.interfaces import InterfaceNews, interfaces
from swarm.discovery.lan_directory import LanDirectory, NearPeer
from swarm.discovery.lan_scope import believed, told_on
from swarm.discovery.multicast import GROUPS, MulticastSocket
from swarm.endpoint import Endpoint
from swarm.ids import ManifestId, PeerId
from swarm.ports import Announcement, FoundPeer
from swarm.protocol.dns_message import MalformedDns, Name, decode_message
from swarm.protocol.lan_records import (
    OWN_SERVICE,
    SERVICES,
    Sighting,
    announcements,
    asked_for,
    concerns_us,
    query,
    sightings,
)
from swarm.strategy.peer_book import LAN

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 1.0
"""Seconds between the first two queries, and the first two announcements."""
LONGEST_PAUSE: Final = 60.0
"""The longest time between two queries, which is half of what an answer is believed for."""
ANSWER_DELAY: Final = (0.005, 0.05)
"""Seconds before an answer, at random: several nodes that are asked at once do not all answer at once."""
ANSWER_PAUSE: Final = 0.25
"""The least time between two answers in one network: who asks without end does not make it crowded."""


class _Place:
    """One socket, and the answer that is about to be sent on it."""

    def __init__(self, socket: MulticastSocket) -> None:
        self.socket = socket
        self.key = socket.interface.index, socket.kind
        self.scope = trio.CancelScope()
        self.wanted: set[Name] = set()
        self.answered_at = -math.inf


class LanPeers:
    """The `PeerSource` of a node's own networks; works while `run` runs.

    ``listening`` is where the node ``me`` listens. Nothing is sent before somebody looks for peers, or a
    transfer is announced.
    """

    provenance = LAN

    def __init__(self, me: PeerId, listening: Sequence[Endpoint]) -> None:
        self._me = me
        self._listening = tuple(listening)
        self._label = secrets.token_hex(16)
        self._rng = random.Random()
        self._directory = LanDirectory()
        self._places: dict[tuple[int, str], _Place] = {}
        self._nursery: trio.Nursery | None = None
        self._announced: dict[ManifestId, bool] = {}
        self._searches: dict[object, tuple[ManifestId | None, tuple[Name, ...]]] = {}
        self._news = trio.Event()
        self._search_began = trio.Event()

    # --- The port -----------------------------------------------------------------------------------

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        """Everybody of this program who is near; whether they have the manifest they say when asked."""
        async for near in self.near(OWN_SERVICE, manifest=manifest):
            yield FoundPeer(near.peer, tuple(map(str, near.endpoints)))

    def announce(self, announcement: Announcement) -> None:
        """From now on this node says that it is here; not for what."""
        begins = not self._announced
        self._announced[announcement.manifest] = announcement.complete
        if begins and self._nursery is not None:
            self._say()
            self._nursery.start_soon(self._say_again)

    def withdraw(self, manifest: ManifestId) -> None:
        """With the last transfer the node takes its leave."""
        if self._announced.pop(manifest, None) is not None and not self._announced:
            self._say(ttl=0)

    async def near(self, *services: Name, manifest: ManifestId | None = None) -> AsyncIterator[NearPeer]:
        """Who is there, and who comes; a peer with other addresses than before comes again.

        Looks for them actively, but not for a manifest that is here.
        """
        told: dict[PeerId, tuple[Endpoint, ...]] = {}
        with self._searching(services, manifest):
            while True:
                news = self._news
                for service in services:
                    for near in self._directory.near(service, trio.current_time()):
                        if near.endpoints and told.get(near.peer) != near.endpoints:
                            told[near.peer] = near.endpoints
                            yield near
                await news.wait()

    # --- Its life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Talk to all networks until cancelled, then take leave."""
        try:
            with InterfaceNews() as news:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    if self._searched:
                        # What was sought before a failure is sought on.
                        self._search_began.set()
                    self._look_at_interfaces(nursery)
                    nursery.start_soon(self._search_on)
                    if self._announced:
                        nursery.start_soon(self._say_again)
                    while True:
                        await news.wait()
                        self._look_at_interfaces(nursery)
        finally:
            self._nursery = None
            if self._announced:
                self._say(ttl=0)
            for place in self._places.values():
                place.socket.close()
            self._places.clear()

    def _look_at_interfaces(self, nursery: trio.Nursery) -> None:
        """Open sockets on what is new, close those on what is gone or has other addresses."""
        there = {interface.index: interface for interface in interfaces()}
        for key, place in list(self._places.items()):
            if there.get(key[0]) != place.socket.interface:
                place.scope.cancel()
                place.socket.close()
                self._directory.lost(key)
                del self._places[key]
        for interface in there.values():
            for kind in GROUPS:
                key = interface.index, kind
                if key in self._places or not interface.multicasts(kind):
                    continue
                try:
                    place = _Place(MulticastSocket(interface, kind))
                except OSError as error:
                    logger.debug("no multicast on %s: %s", interface.name, error)
                    continue
                self._places[key] = place
                nursery.start_soon(self._listen, place)
                self._greet(place)

    def _greet(self, place: _Place) -> None:
        """Begin at once on an interface that is new."""
        if services := self._searched:
            place.socket.send(query(services))
        if self._announced:
            self._tell(place, SERVICES)

    async def _listen(self, place: _Place) -> None:
        with place.scope:
            while True:
                for data, source in await place.socket.received():
                    if concerns_us(data):
                        self._take(place, data, source)

    # --- Others -------------------------------------------------------------------------------------

    def _take(self, place: _Place, data: bytes, source: str) -> None:
        try:
            message = decode_message(data)
        except MalformedDns as error:
            logger.debug("from %s: %s", source, error)
            return
        if self._announced and (wanted := asked_for(message, self._label, SERVICES)):
            self._answer(place, wanted)
        if sum(self._saw(place, each, source) for each in sightings(message, SERVICES)):
            self._news.set()
            self._news = trio.Event()

    def _saw(self, place: _Place, sighting: Sighting, source: str) -> bool:
        """Take note of what a packet says of one peer; says whether that is new."""
        interface = place.socket.interface
        key = place.key, sighting.service, sighting.instance
        now = trio.current_time()
        if not sighting.ttl:
            self._directory.left(key, source, now)
            return False
        if sighting.peer in {None, self._me} or not _is_near(place, source):
            return False
        endpoints = believed(interface, sighting.endpoints, source)
        if sighting.peer is None or not endpoints:
            return False
        return self._directory.saw(key, NearPeer(sighting.peer, endpoints), source, sighting.ttl, now)

    # --- Looking for others -------------------------------------------------------------------------

    @contextmanager
    def _searching(self, services: tuple[Name, ...], manifest: ManifestId | None) -> Iterator[None]:
        token = object()
        self._searches[token] = manifest, services
        if self._searched:
            self._search_began.set()
        try:
            yield
        finally:
            del self._searches[token]

    @property
    def _searched(self) -> tuple[Name, ...]:
        """The services that somebody wants the peers of, for something that is not complete."""
        found: dict[Name, None] = {}
        for manifest, services in self._searches.values():
            if manifest is None or not self._announced.get(manifest, False):
                found.update(dict.fromkeys(services))
        return tuple(found)

    async def _search_on(self) -> None:
        """Ask, at first often, while somebody looks for peers."""
        while True:
            await self._search_began.wait()
            self._search_began = trio.Event()
            pause = FIRST_PAUSE
            while services := self._searched:
                for place in self._places.values():
                    known = self._directory.known(place.key, trio.current_time())
                    place.socket.send(query(services, [each for each in known if each[0] in services]))
                # Another search begins anew: it wants its peers at once.
                with trio.move_on_after(pause) as waiting:
                    await self._search_began.wait()
                if not waiting.cancelled_caught:
                    self._search_began = trio.Event()
                    pause = FIRST_PAUSE
                else:
                    pause = min(2 * pause, LONGEST_PAUSE)

    # --- Being found --------------------------------------------------------------------------------

    async def _say_again(self) -> None:
        """The first announcement may be lost, as any packet."""
        await trio.sleep(FIRST_PAUSE)
        if self._announced:
            self._say()

    def _say(self, **ttl: int) -> None:
        for place in self._places.values():
            self._tell(place, SERVICES, **ttl)

    def _tell(self, place: _Place, services: Sequence[Name], **ttl: int) -> None:
        if told := told_on(place.socket.interface, self._listening):
            for packet in announcements(self._label, self._me, told, services, **ttl):
                place.socket.send(packet)

    def _answer(self, place: _Place, services: Sequence[Name]) -> None:
        """Answer in a moment, once for all who ask until then."""
        due = not place.wanted
        place.wanted.update(services)
        if due and self._nursery is not None:
            self._nursery.start_soon(self._answer_later, place)

    async def _answer_later(self, place: _Place) -> None:
        earliest = place.answered_at + ANSWER_PAUSE
        await trio.sleep_until(max(trio.current_time() + self._rng.uniform(*ANSWER_DELAY), earliest))
        place.answered_at = trio.current_time()
        wanted, place.wanted = place.wanted, set()
        if self._announced and self._places.get(place.key) is place:
            self._tell(place, [each for each in SERVICES if each in wanted])


def _is_near(place: _Place, source: str) -> bool:
    """Whether a packet comes from the network that it arrived in: one from afar is nobody's business here."""
    return place.socket.interface.reaches(ipaddress.ip_address(source))
