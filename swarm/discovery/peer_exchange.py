"""Peer exchange: telling each peer with whom else a session is open. Pure.

Source: BEP 11, with a shorter interval: only peers really connected, at most so many at once, coalesced.
What is heard from others proves nothing; it is filtered here and tried by whoever dials.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field

from swarm.ids import PeerId
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import is_address, is_peer_id
from swarm.protocol.messages import ExchangedPeer, Peers

COALESCE_SECONDS = 0.1
"""A change waits so long for others to travel with it."""


@dataclass(slots=True)
class _Known:
    """One session: where its peer can be dialled, what it was told, when it may be told more."""

    addresses: tuple[str, ...]
    near: bool
    told: dict[PeerId, tuple[str, ...]] = field(default_factory=dict)
    quiet_until: float = -math.inf


class PeerExchange:
    """Who is connected, and what each of them has been told about the others."""

    def __init__(self) -> None:
        self._known: dict[PeerId, _Known] = {}
        self._due: dict[PeerId, float] = {}

    def joined(self, peer: PeerId, addresses: tuple[str, ...], *, near: bool, now: float) -> None:
        """A session is open; ``near`` says that the peer is on this machine (reached over loopback)."""
        tellable = tuple(address for address in addresses if is_address(address)) if is_peer_id(peer) else ()
        self._known[peer] = _Known(tellable, near)
        self._due[peer] = now
        self._changed(now)

    def left(self, peer: PeerId, now: float) -> None:
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
            if (
                other != peer
                and other not in told
                and (addresses := visible(known.addresses, near=hearer.near))
            ):
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
    """The addresses worth telling to, or hearing from, a peer that is ``near`` or not."""
    return tuple(address for address in addresses if near or not is_loopback(address))


def dialable(announced: tuple[str, ...], address: str, *, inbound: bool) -> tuple[str, ...]:
    """Where others may reach a peer: its own announcement, and what this side has seen of it.

    ``address`` is the remote end of the connection. If this side dialled it, it works. If the peer came
    from there, its port is of no use, but its host with an announced port may work where the
    announced host (behind a translator, in a container) does not.
    """
    found = {} if inbound or not address else {address: None}
    found.update(dict.fromkeys(entry for entry in announced if not _unspecified(entry)))
    host = _host_part(address)
    if inbound and host and not any(_host_part(entry) == host for entry in found):
        ports = [entry.split("/")[4] for entry in announced if _host_part(entry)]
        found.update({f"{host}/tcp/{port}": None for port in ports[:1]})
    return tuple(found)[: limits.MAX_ADDRESSES_PER_PEER]


def is_loopback(address: str) -> bool:
    """Whether the multiaddr names this machine itself."""
    parts = address.split("/")
    if len(parts) < 3 or parts[1] not in {"ip4", "ip6"}:
        return len(parts) >= 3 and parts[2] == "localhost"
    try:
        return ipaddress.ip_address(parts[2]).is_loopback
    except ValueError:
        return False


def _host_part(address: str) -> str:
    """``/ip4/<ip>`` of an ``/ip4/<ip>/tcp/<port>``, else an empty string."""
    parts = address.split("/")
    return f"/{parts[1]}/{parts[2]}" if len(parts) == 5 and parts[3] == "tcp" else ""


def _unspecified(address: str) -> bool:
    return _host_part(address) in {"/ip4/0.0.0.0", "/ip6/::"}
