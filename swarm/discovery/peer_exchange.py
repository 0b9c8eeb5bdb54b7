"""Peer exchange: each peer is told which other peers we have sessions with, and tells us the same.

Source: BEP 11, with a shorter interval: only peers really connected, at most so many at once, coalesced.
What peers say about others proves nothing: it is filtered here, and the peer book bounds it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Protocol

import trio

from swarm.endpoint import CIRCUIT, ZONE, Circuit, Endpoint, PeerAddress
from swarm.ids import ManifestId, PeerId
from swarm.lazy_dataclass import dataclass, field
from swarm.ports import Announcement, FoundPeer
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import is_address, is_peer_id
from swarm.protocol.messages import ExchangedPeer, Hello, Peers
from swarm.strategy.peer_book import EXCHANGE

_ZONED = f"/{ZONE}/"

COALESCE_SECONDS = 0.1
"""A change waits so long for others to travel with it."""

FOUND_PEERS = 256
"""Peers heard of and not yet taken into the book; more are forgotten."""


@dataclass(slots=True)
class _Known:
    """One session: where its peer can be dialled, what it was told, when it may be told more."""

    addresses: tuple[str, ...]
    far_addresses: tuple[str, ...]
    """Those that are of use to a hearer that is not near."""
    near: bool
    told: dict[PeerId, tuple[str, ...]] = field(default_factory=dict)
    quiet_until: float = -math.inf


class Origin(Protocol):
    """How a session came about."""

    @property
    def address(self) -> str:
        """The multiaddr that was dialled, or where the peer came from."""

    @property
    def remote_address(self) -> str:
        """The multiaddr of the other end of the connection."""

    @property
    def inbound(self) -> bool:
        """Whether the peer opened the session."""


class PeerExchange:
    """The `PeerSource` of one transfer that is fed by its own sessions."""

    provenance = EXCHANGE

    def __init__(self, me: PeerId) -> None:
        self._me = me
        self.introductions = Introductions()
        """What to tell each peer."""
        self._send, self._receive = trio.open_memory_channel[FoundPeer](FOUND_PEERS)

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:  # noqa: ARG002 - see the port
        """Every peer that a session names, and every peer that says where it can be dialled."""
        async for found in self._receive:
            yield found

    def announce(self, announcement: Announcement) -> None:
        """Nothing to do: HELLO tells every peer this node's addresses, and HAVE what is here."""

    def withdraw(self, manifest: ManifestId) -> None:
        """Nothing to do: the peers see their sessions end."""

    def session_opened(self, peer: PeerId, hello: Hello, origin: Origin, now: float) -> None:
        """A peer has greeted."""
        near = is_loopback(origin.remote_address)
        addresses = dialable(hello.addresses, origin.address, inbound=origin.inbound)
        self.introductions.session_opened(peer, addresses, near=near, now=now)
        self._found(peer, visible(addresses, near=near), told_by=peer)

    def session_closed(self, peer: PeerId, now: float) -> None:
        """A session has ended."""
        self.introductions.session_closed(peer, now)

    def peers_received(self, peer: PeerId, address: str, peers: Peers) -> None:
        """A peer with the given remote address has sent PEERS."""
        near = is_loopback(address)
        through = introduction(peer, address)
        for added in peers.added:
            addresses = visible(added.addresses, near=near)[: limits.MAX_ADDRESSES_PER_PEER - len(through)]
            self._found(added.peer, (*addresses, *through) if addresses else (), told_by=peer)

    def close(self) -> None:
        """There will be no more peers."""
        self._send.close()

    def _found(self, peer: PeerId, addresses: tuple[str, ...], *, told_by: PeerId) -> None:
        if not addresses or peer == self._me:
            return
        try:
            self._send.send_nowait(FoundPeer(peer, addresses, told_by))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            return


class Introductions:
    """Who is connected, and what each of them has been told about the others."""

    def __init__(self) -> None:
        self._known: dict[PeerId, _Known] = {}
        self._due: dict[PeerId, float] = {}

    def session_opened(self, peer: PeerId, addresses: tuple[str, ...], *, near: bool, now: float) -> None:
        """A session is open; ``near`` says that the peer is on this machine (reached over loopback)."""
        tellable = tuple(address for address in addresses if is_address(address)) if is_peer_id(peer) else ()
        self._known[peer] = _Known(visible(tellable, near=True), visible(tellable, near=False), near)
        self._due[peer] = now
        self._changed(now)

    def session_closed(self, peer: PeerId, now: float) -> None:
        """The session ended."""
        if self._known.pop(peer, None) is not None:
            self._due.pop(peer, None)
            self._changed(now)

    def next_due(self) -> float:
        """When `due` next has something to do; infinity if only a change can bring that about."""
        return min(self._due.values(), default=math.inf)

    def due(self, now: float) -> list[tuple[PeerId, Peers]]:
        """Take the messages to be sent now."""
        messages = []
        for peer in [peer for peer, at in self._due.items() if at <= now]:
            del self._due[peer]
            if message := self._message(peer):
                self._known[peer].quiet_until = now + limits.PEERS_INTERVAL
                messages.append((peer, message))
                if self._message(peer, keep=True):
                    self._due[peer] = now + limits.PEERS_INTERVAL
        return messages

    def _changed(self, now: float) -> None:
        for peer, known in self._known.items():
            at = max(now + COALESCE_SECONDS, known.quiet_until)
            self._due[peer] = min(self._due.get(peer, math.inf), at)

    def _message(self, peer: PeerId, *, keep: bool = False) -> Peers | None:
        """What the peer has not been told, as far as one message holds it; ``keep`` only looks."""
        hearer = self._known[peer]
        told = hearer.told
        added: list[ExchangedPeer] = []
        for other, known in self._known.items():
            if len(added) == limits.MAX_PEERS_ADDED:
                break
            addresses = known.addresses if hearer.near else known.far_addresses
            # One may have come back elsewhere before the others were told that it was gone.
            if other != peer and addresses and told.get(other) != addresses:
                added.append(ExchangedPeer(other, addresses))
        dropped = [other for other in told if other not in self._known][: limits.MAX_PEERS_DROPPED]
        if not added and not dropped:
            return None
        if not keep:
            told.update((entry.peer, entry.addresses) for entry in added)
            for other in dropped:
                del told[other]
        return Peers(tuple(added), tuple(dropped))


def visible(addresses: tuple[str, ...], *, near: bool) -> tuple[str, ...]:
    """The addresses worth telling to, or hearing from, a peer that is ``near`` (on this machine) or not.

    A zone is the name of an interface of one machine. A relay is dialled to get through it: peers name none.
    """
    return tuple(
        address
        for address in addresses
        if not address.startswith(_ZONED) and CIRCUIT not in address and (near or not is_loopback(address))
    )


def introduction(teller: PeerId, address: str) -> tuple[str, ...]:
    """The way by a punch to peers that ``teller`` has sessions with, if its multiaddr is a public one.

    Only a node that sees both from outside can tell them where they are seen. It is this node's connection
    to the teller that is used: no peer can name another relay.
    """
    endpoint = Endpoint.read(address)
    if endpoint is None or not endpoint.is_public:
        return ()
    return (str(Circuit(PeerAddress(teller, endpoint))),)


def dialable(announced: tuple[str, ...], address: str, *, inbound: bool) -> tuple[str, ...]:
    """Where others may reach a peer: its own announcement, and what this side has seen of it.

    ``address`` is the remote end of the connection. If this side dialled it, it works. If the peer came
    from there, its port is of no use, but its host with an announced port may work where the
    announced host (behind a translator, in a container) does not.
    """
    seen = Endpoint.read(address)
    found = {address: None} if address and not inbound else {}
    endpoints = [(text, Endpoint.read(text)) for text in announced]
    found.update(
        {text: None for text, endpoint in endpoints if endpoint is None or not endpoint.is_unspecified}
    )
    if inbound and seen is not None:
        known = [endpoint for text in found if (endpoint := Endpoint.read(text)) is not None]
        ported = next((endpoint for _, endpoint in endpoints if endpoint is not None), None)
        if ported is not None and not any(seen.same_host(endpoint) for endpoint in known):
            found[str(ported.at(seen))] = None
    return tuple(found)[: limits.MAX_ADDRESSES_PER_PEER]


def is_loopback(address: str) -> bool:
    """Whether the multiaddr names this machine itself."""
    endpoint = Endpoint.read(address)
    return endpoint is not None and endpoint.is_loopback
