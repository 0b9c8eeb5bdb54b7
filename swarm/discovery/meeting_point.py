"""A meeting point as a source of peers: this node registers what it shares there, and asks who else does.

The protocol is libp2p's rendezvous. The namespace is a hash of the manifest's id. Addresses are told, and
believed, only if they are of the network that the meeting point itself is reached in, or of a wider one.
"""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import trio

from swarm.endpoint import Circuit, Endpoint, PeerAddress, Route, Scope, read_route
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.limits import TokenBucket
from swarm.ports import Announcement, ByteStream, FoundPeer
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.peer_record import open_record
from swarm.reach.rendezvous_messages import (
    RENDEZVOUS_PROTOCOL,
    Discover,
    DiscoverResponse,
    Register,
    RegisterResponse,
    RendezvousStatus,
    Unregister,
    decode_rendezvous,
    encode_rendezvous,
    namespace_of,
)
from swarm.strategy.peer_book import MEETING

logger = logging.getLogger(__name__)

NEAR_MEETING = "near-meeting"
"""The provenance of a peer that a meeting point in a private network, or on this machine, named."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
REGISTERED_PAUSE = 5.0
"""The longest pause after which a node is back at a server that registered it, and the least time there after
which the pauses begin anew. Nobody finds a node meanwhile: its registrations ended with its stream."""
ANSWER_SECONDS = 10.0
QUICK_SECONDS = 1.0
UNHURRIED_SECONDS = 10.0
"""Pause between two questions to a server that does not wait for peers to come."""


class MeetingLink(Protocol):
    """What this module needs of the node: one meeting point and the way to it."""

    @property
    def me(self) -> PeerId:
        """This node."""

    async def connect(self) -> Endpoint:
        """Connect, or use the open connection; returns where the meeting point is. Raises NoPeerReachable."""

    async def open_stream(self, protocol: str) -> ByteStream:
        """Open a stream to it; raises LinkClosed."""

    async def reserve(self) -> float:
        """Ask to be reached through it; for how many seconds. Raises LinkClosed, RemoteError."""

    def seal(self, addresses: tuple[Route, ...]) -> bytes:
        """A signed record of this node with these addresses."""

    async def probe(self, where: Endpoint) -> None:
        """Find out whether this node can be reached from there, and say so. Raises LinkClosed."""

    def tell(self, message: str) -> None:
        """Say something to the user."""


@dataclass(slots=True)
class _Registration:
    """One manifest that is announced.

    ``told`` is the record that the server was told with it on this stream, None before; ``due`` is when it is
    to be told again, even if that is still the same.
    """

    told: bytes | None = None
    due: float = -math.inf


class _Sealed:
    """The record that the server was told last: a share of hundreds of files registers with one.

    Addresses that come back get a new record, and so are told with each share again: a server with one record
    for each peer has said others meanwhile, also of shares that were not registered with those.
    """

    def __init__(self, link: MeetingLink) -> None:
        self._link = link
        self._addresses: tuple[Route, ...] | None = None
        self._record = b""

    def record(self, addresses: tuple[Route, ...]) -> bytes:
        """A record with these addresses, to be told now."""
        if addresses != self._addresses:
            self._addresses, self._record = addresses, self._link.seal(addresses)
        return self._record

    def is_news(self, addresses: tuple[Route, ...], told: bytes | None) -> bool:
        """Whether the addresses are to be told where the server was told the record ``told``."""
        return addresses != self._addresses or told != self._record


class MeetingPoint:
    """One meeting point; `run` keeps this node registered there."""

    def __init__(self, at: PeerAddress, link: MeetingLink, rng: random.Random) -> None:
        self.at = at
        self._link = link
        self._rng = rng
        public = Scope.of(at.endpoint) is Scope.PUBLIC
        self.provenance = MEETING if public else NEAR_MEETING
        self._own: tuple[str, ...] = ()
        """This node's addresses, which are the same for all manifests."""
        self._registrations: dict[ManifestId, _Registration] = {}
        self._gone: deque[ManifestId] = deque()
        self._changed = trio.Event()
        # The server's own count goes on when the stream ends: so does this one.
        self._budget = TokenBucket(limits.REGISTERS_RATE, limits.REGISTERS_BURST, trio.current_time())
        self._found = TokenBucket(limits.FOUND_RATE, limits.FOUND_BURST, trio.current_time())
        self._where: Endpoint | None = None
        self._connected = trio.Event()
        self._was_told = False
        self._was_registered = False
        self._told = trio.lowlevel.ParkingLot()

    # --- The source ---------------------------------------------------------------------------------

    def announce(self, announcement: Announcement) -> None:
        """The manifest is registered from now on, all with the addresses that the server may see.

        The server is told again only if those have changed.
        """
        self._own = announcement.addresses
        self._registrations.setdefault(announcement.manifest, _Registration())
        self._changed.set()

    def withdraw(self, manifest: ManifestId) -> None:
        """The manifest is registered no more."""
        if self._registrations.pop(manifest, None) is not None:
            self._gone.append(manifest)
            self._changed.set()

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        """Who is registered, and who comes."""
        namespace, cookie, pause = namespace_of(manifest), b"", FIRST_PAUSE
        while True:
            await self._connected.wait()
            stream = None
            try:
                stream = await self._link.open_stream(RENDEZVOUS_PROTOCOL)
                while True:
                    began = trio.current_time()
                    answer = await _ask(stream, Discover(namespace, cookie=cookie, wait=limits.MAX_WAIT))
                    cookie, pause = answer.cookie, FIRST_PAUSE
                    if answer.records:
                        self._found.take(1, trio.current_time())
                        await trio.sleep(self._found.delay(0, trio.current_time()))
                    for record in answer.records:
                        if (found := self._read(record)) is not None:
                            yield found
                    if not answer.records and trio.current_time() - began < QUICK_SECONDS:
                        await trio.sleep(UNHURRIED_SECONDS)
            except (LinkClosed, RemoteError) as error:
                logger.debug("the meeting point %s does not say who is there: %s", self.at, error)
            finally:
                if stream is not None:
                    await stream.reset()
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _read(self, registered: Register) -> FoundPeer | None:
        try:
            record = open_record(registered.record)
        except RemoteError as error:
            logger.debug("a record from %s is left out: %s", self.at, error)
            return None
        if record.peer == self._link.me or self._where is None:
            return None
        direct = [each for each in record.addresses if isinstance(each, Endpoint)]
        circuit = Circuit(PeerAddress(self.at.peer, self._where))
        return FoundPeer(record.peer, (*map(str, visible_from(self._where, direct)), str(circuit)))

    async def settled(self) -> None:
        """Return once the server knows what was withdrawn; at once while there is no connection."""
        while self._gone and self._connected.is_set():
            await self._told.park()

    # --- Being there --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected, reserved and registered until cancelled."""
        pause = FIRST_PAUSE
        while True:
            began = trio.current_time()
            try:
                self._where = await self._link.connect()
                self._connected.set()
                await self._stay()
            except* (LinkClosed, RemoteError, NoPeerReachable) as group:
                self._note(group.exceptions[0])
            if self._connected.is_set():
                # Who waits for one that is not set waits for the next connection.
                self._connected = trio.Event()
            self._told.unpark_all()
            if trio.current_time() - began > REGISTERED_PAUSE:
                pause = FIRST_PAUSE
            elif self._was_registered:
                pause = min(pause, REGISTERED_PAUSE)
            await trio.sleep(pause * (1 - self._rng.random() / 4))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _note(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        logger.debug("the meeting point %s: %s", self.at, error)
        if not self._was_told:
            self._was_told = True
            self._link.tell(f"the meeting point {self.at.endpoint} cannot be used for now: {error}")

    async def _stay(self) -> None:
        self._was_registered = False
        stream = await self._link.open_stream(RENDEZVOUS_PROTOCOL)
        asked: deque[ManifestId] = deque()
        for registration in self._registrations.values():
            registration.told = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_place)
                nursery.start_soon(self._probe)
                nursery.start_soon(self._hear, stream, asked)
                await self._keep_registered(stream, asked)
        finally:
            await stream.reset()

    async def _keep_place(self) -> None:
        """Be reachable through the meeting point's relay. Without a place there, peers are still found."""
        while True:
            try:
                seconds = await self._link.reserve()
            except RemoteError as error:
                self._note(error)
                seconds = LONGEST_PAUSE
            except LinkClosed as error:
                # It may be a server that is no relay. If the connection is gone, `_hear` notices.
                logger.debug("the meeting point %s gives no place at a relay: %s", self.at, error)
                seconds = LONGEST_PAUSE
            await trio.sleep(seconds * limits.RESERVATION_RENEWED)

    async def _probe(self) -> None:
        try:
            if self._where is not None:
                await self._link.probe(self._where)
        except LinkClosed as error:
            # It may be a server that does not dial back.
            logger.debug("the meeting point %s does not dial back: %s", self.at, error)

    async def _keep_registered(self, stream: ByteStream, asked: deque[ManifestId]) -> None:
        sealed = _Sealed(self._link)
        while True:
            self._changed = trio.Event()
            next_at = await self._tell_news(stream, asked, sealed)
            with trio.move_on_at(next_at):
                await self._changed.wait()

    async def _tell_news(self, stream: ByteStream, asked: deque[ManifestId], sealed: _Sealed) -> float:
        """Tell the server what it does not know, as much as it takes now; returns when to go on."""
        while self._gone:
            if not self._budget.spend(now := trio.current_time()):
                return self._affordable_at(now)
            namespace = namespace_of(self._gone.popleft())
            await write_message(stream, encode_rendezvous(Unregister(namespace)))
        self._told.unpark_all()
        own = self._visible_addresses()
        # What was told longest ago goes first: changes that come fast leave no manifest behind.
        for manifest, registration in sorted(self._registrations.items(), key=lambda each: each[1].due):
            now = trio.current_time()
            if not sealed.is_news(own, registration.told) and now < registration.due:
                continue
            if not self._budget.spend(now):
                return self._affordable_at(now)
            record = sealed.record(own)
            registration.told, registration.due = record, now + limits.REFRESH_SECONDS
            message = Register(namespace_of(manifest), record, limits.REGISTERED_SECONDS, present=True)
            asked.append(manifest)
            await write_message(stream, encode_rendezvous(message))
        return min((each.due for each in self._registrations.values()), default=math.inf)

    def _affordable_at(self, now: float) -> float:
        """When the server takes what is sent in a second: each time, all registrations are looked through."""
        return now + self._budget.delay(limits.REGISTERS_RATE, now)

    def _visible_addresses(self) -> tuple[Route, ...]:
        routes = [read_route(text.partition("/p2p/")[0]) for text in self._own]
        direct = [each for each in routes if isinstance(each, Endpoint)]
        return () if self._where is None else visible_from(self._where, direct)

    async def _hear(self, stream: ByteStream, asked: deque[ManifestId]) -> None:
        """Read the answers, in the order of the registrations; LinkClosed once the connection is gone."""
        while True:
            answer = decode_rendezvous(await read_message(stream, limits.MAX_REQUEST_BYTES))
            if not isinstance(answer, RegisterResponse) or not asked:
                raise RemoteError("it answers what was not asked")
            asked.popleft()
            if answer.status != RendezvousStatus.OK:
                raise RemoteError(f"it does not register this node ({answer.text or answer.status})")
            self._was_registered = True


async def _ask(stream: ByteStream, question: Discover) -> DiscoverResponse:
    with trio.move_on_after(question.wait + ANSWER_SECONDS):
        await write_message(stream, encode_rendezvous(question))
        answer = decode_rendezvous(await read_message(stream, limits.MAX_RENDEZVOUS_BYTES))
        if not isinstance(answer, DiscoverResponse) or answer.status != RendezvousStatus.OK:
            raise RemoteError("it does not say who is there")
        return answer
    raise LinkClosed("it does not answer")


def visible_from(where: Endpoint, addresses: list[Endpoint]) -> tuple[Endpoint, ...]:
    """The addresses of at least the scope in which ``where`` is; no names, which may lead anywhere."""
    least = Scope.of(where)
    found = [each for each in addresses if each.is_ip and not each.zone and Scope.of(each) >= least]
    return tuple(found)[: limits.MAX_ADDRESSES]
