"""Who may be dialled, where, when, and who first. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from swarm.ids import PeerId

FIRST_DELAY = 0.25
"""Seconds before a peer that could not be reached is tried again; doubled with each failure."""
MAX_DELAY = 8.0
"""The longest such delay for a peer that the user named."""
MAX_STRANGER_DELAY = 120.0
"""The longest for a peer that others named."""
MAX_STRANGER_FAILURES = 8
"""Failures in a row after which a peer that others named is forgotten."""
JITTER = 0.25
MAX_PEERS = 1024
"""Peers in a book; strangers beyond it are not taken in."""
MAX_ADDRESSES = 16
"""Addresses of one peer; what the user named stays, of the others the latest."""
MAX_PEERS_PER_HOST = 64
"""Strangers at one host: who invents identities cannot fill the book from one machine."""
EXPLORATION_SHARE = 0.2
"""How often an untried peer is dialled before a proven one."""


class Standing(Enum):
    """What is going on with a peer."""

    IDLE = "idle"
    BUSY = "busy"
    """Being dialled or in a session."""
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial ``peer`` at these addresses (without ``/p2p``), for the reason ``why``."""

    peer: PeerId
    addresses: tuple[str, ...]
    why: str


@dataclass(slots=True)
class _Entry:
    named: bool
    addresses: dict[str, None] = field(default_factory=dict)
    standing: Standing = Standing.IDLE
    not_before: float = -math.inf
    failures: int = 0
    sessions: int = 0
    rtt: float | None = None


class PeerBook:
    """The peers of one transfer that can be dialled; ``now`` is monotonic seconds.

    A peer is BUSY from `next_dial` or `connected` until `failed` or `disconnected`; only IDLE ones are
    dialled, each after its back-off. Bans are for good.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._entries: dict[PeerId, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, peer: PeerId, addresses: Iterable[str], *, named: bool = False) -> None:
        """Note where a peer may be dialled; ``named`` says that the user said so."""
        entry = self._entries.get(peer)
        if entry is None:
            wanted = tuple(addresses)
            if not named and not self._room_for(wanted):
                return
            entry = self._entries[peer] = _Entry(named)
            addresses = wanted
        entry.named = entry.named or named
        for address in addresses:
            if address not in entry.addresses and len(entry.addresses) >= MAX_ADDRESSES:
                if entry.named:
                    return
                del entry.addresses[next(iter(entry.addresses))]
            entry.addresses.setdefault(address)

    def next_dial(self, now: float, *, strangers: bool = True) -> Dial | None:
        """Take the peer to be dialled now, if any; without ``strangers`` only one that the user named."""
        ready = [
            peer
            for peer, entry in self._entries.items()
            if entry.standing is Standing.IDLE
            and entry.not_before <= now
            and entry.addresses
            and (strangers or entry.named)
        ]
        if not ready:
            return None
        peer = self._choose(ready)
        entry = self._entries[peer]
        entry.standing = Standing.BUSY
        return Dial(peer, tuple(entry.addresses), _why(entry))

    def next_wakeup(self) -> float:
        """When a peer that waits may be dialled again; infinity if none waits."""
        return min(
            (
                entry.not_before
                for entry in self._entries.values()
                if entry.standing is Standing.IDLE and entry.not_before > -math.inf and entry.addresses
            ),
            default=math.inf,
        )

    def connected(self, peer: PeerId) -> None:
        """A session with the peer is being opened, by either side."""
        entry = self._entries.setdefault(peer, _Entry(named=False))
        if entry.standing is Standing.IDLE:
            entry.standing = Standing.BUSY

    def disconnected(self, peer: PeerId, now: float, *, useful: bool) -> float:
        """The last session with the peer ended; returns the seconds until it may be dialled.

        ``useful`` says that it had got past the greeting: then the failures before it are forgiven.
        """
        entry = self._entries[peer]
        if useful:
            entry.sessions += 1
            entry.failures = 0
        return self._back_off(peer, entry, now)

    def failed(self, peer: PeerId, now: float) -> float:
        """The peer could not be reached; returns the seconds until it may be dialled again."""
        return self._back_off(peer, self._entries[peer], now)

    def round_trip(self, peer: PeerId, seconds: float | None) -> None:
        """The latest round trip of a connected peer in seconds; None for a lost ping."""
        entry = self._entries.get(peer)
        if entry is not None and seconds is not None:
            entry.rtt = seconds

    def ban(self, peer: PeerId) -> None:
        """Never dial the peer again."""
        self._entries.setdefault(peer, _Entry(named=False)).standing = Standing.BANNED

    def _room_for(self, addresses: tuple[str, ...]) -> bool:
        if len(self._entries) >= MAX_PEERS or not addresses:
            return False
        host = _host(addresses[0])
        neighbours = sum(
            1
            for entry in self._entries.values()
            if not entry.named and any(_host(address) == host for address in entry.addresses)
        )
        return neighbours < MAX_PEERS_PER_HOST

    def _choose(self, ready: list[PeerId]) -> PeerId:
        named = [peer for peer in ready if self._entries[peer].named]
        candidates = named or ready
        untried = [peer for peer in candidates if not self._entries[peer].sessions]
        if untried and (len(untried) == len(candidates) or self._rng.random() < EXPLORATION_SHARE):
            return self._rng.choice(untried)
        return min(candidates, key=self._rank)

    def _rank(self, peer: PeerId) -> tuple[int, float, float]:
        entry = self._entries[peer]
        return (entry.failures, math.inf if entry.rtt is None else entry.rtt, self._rng.random())

    def _back_off(self, peer: PeerId, entry: _Entry, now: float) -> float:
        entry.failures += 1
        longest = MAX_DELAY if entry.named else MAX_STRANGER_DELAY
        delay = min(FIRST_DELAY * 2.0 ** (entry.failures - 1), longest / (1 + JITTER))
        delay *= self._rng.uniform(1 - JITTER, 1 + JITTER)
        entry.not_before = now + delay
        if entry.standing is not Standing.BANNED:
            entry.standing = Standing.IDLE
            if not entry.named and entry.failures > MAX_STRANGER_FAILURES:
                del self._entries[peer]
        return delay


def _why(entry: _Entry) -> str:
    source = "named by the user" if entry.named else "named by a peer"
    if entry.rtt is not None:
        return f"{source}; round trip {1000 * entry.rtt:.1f} ms, {entry.failures} failures in a row"
    return f"{source}; not tried yet" if not entry.sessions else source


def _host(address: str) -> str:
    return "/".join(address.split("/")[:3])
