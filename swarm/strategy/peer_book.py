"""Whom to dial next, where, and when: the addresses of one transfer's peers and what came of dialling them.

Peers that the user named come first and are tried again for ever, with a back-off of at most 8 s. What
others say about peers is hearsay: it is bounded by who said it and by host, and it never displaces what
the user or the peer itself said.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from swarm.config import DEFAULT_MAX_PEERS
from swarm.ids import PeerId

MAX_ADDRESSES = 8
"""Of one peer: each is dialled with a deadline of its own."""


class AddressSource(IntEnum):
    """Who said that a peer can be dialled at an address; the better source first."""

    NAMED = 0
    """The user."""
    ITSELF = 1
    """The peer, in its own session."""
    HEARSAY = 2
    """Another peer."""


@dataclass(slots=True)
class BookEntry:
    """``told_by`` and ``host`` are what a stranger counts for; a ``busy`` peer is dialled or in a session."""

    told_by: PeerId | None
    host: str
    named: bool = False
    addresses: dict[str, AddressSource] = field(default_factory=dict)
    busy: bool = False
    not_before: float = -math.inf
    dialled_at: float = -math.inf
    failures: int = 0
    sessions: int = 0
    reliability: float = 1.0
    rtt: float | None = None

    def ordered(self) -> tuple[str, ...]:
        """The addresses, those of the best source first."""
        return tuple(sorted(self.addresses, key=self.addresses.__getitem__))

    def learn(self, address: str, source: AddressSource) -> None:
        """Note an address; a full entry gives up its oldest one of the worst source, if that is no better."""
        known = self.addresses.get(address)
        if known is not None:
            self.addresses[address] = min(known, source)
            return
        if len(self.addresses) >= MAX_ADDRESSES:
            worst = max(self.addresses, key=self.addresses.__getitem__)
            if self.addresses[worst] < source or source == AddressSource.NAMED == self.addresses[worst]:
                return
            del self.addresses[worst]
        self.addresses[address] = source

    def why(self) -> str:
        """What speaks for dialling it, in one line."""
        source = "named by the user" if self.named else "named by a peer"
        if not self.sessions and not self.failures:
            return f"{source}, not tried yet"
        trip = "rtt unknown" if self.rtt is None else f"rtt {self.rtt * 1e3:.1f} ms"
        return f"{source}, {trip}, {self.sessions} sessions, {self.failures} failures in a row"


def host_of(address: str) -> str:
    """``/ip4/<host>`` of a multiaddr."""
    return "/".join(address.split("/")[:3])


FIRST_DELAY = 0.25
"""Seconds before a peer that could not be reached is dialled again; doubled with each failure in a row."""

MOST_NAMED_DELAY = 8.0
MOST_STRANGER_DELAY = 120.0
JITTER = 0.25
"""A delay is shortened by up to this share, so that peers that lost each other do not meet in step."""

LASTING_SECONDS = 5.0
"""A dialled session that ends sooner counts as a failure: whoever hangs up is not dialled in a loop."""

STRANGER_FAILURES = 8
"""Failures in a row after which a peer that the user did not name is forgotten."""

MAX_STRANGERS = 1024
MAX_STRANGERS_PER_HOST = 64
MAX_STRANGERS_PER_SOURCE = 256
"""One peer may fill a quarter of the book, by one host a sixteenth of it may be filled."""

MAX_BANNED = 4096
EXPLORATION_SHARE = 0.2
"""How often a peer without a session so far is dialled before the best known one."""

UNKNOWN_RTT = 0.1
_GAIN = 1 / 4


class Dial(NamedTuple):
    """Dial ``peer`` at ``addresses`` (multiaddrs without ``/p2p``, the best first); ``why`` is one line."""

    peer: PeerId
    addresses: tuple[str, ...]
    why: str


class PeerBook:
    """The peers of one transfer; ``now`` is monotonic seconds, round trips are seconds.

    A peer is busy from `next_dial` or `connected` until `failed` or `disconnected`, and only dialled while
    it is not. Of ``max_peers`` places one is kept for each named peer that is not busy, for at most half
    of the places together: strangers are dialled only for the others.
    """

    def __init__(self, rng: random.Random, *, max_peers: int = DEFAULT_MAX_PEERS) -> None:
        self._rng = rng
        self._max_peers = max_peers
        self._entries: dict[PeerId, BookEntry] = {}
        self._banned: dict[PeerId, None] = {}
        self._strangers = 0
        self._hosts: Counter[str] = Counter()
        self._sources: Counter[PeerId | None] = Counter()
        self._dial_strangers = True
        self._some_failed = False

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self, peer: PeerId, addresses: Iterable[str], *, named: bool = False, source: PeerId | None = None
    ) -> None:
        """Note where a peer may be dialled, as the user (``named``) or the peer ``source`` says."""
        given = tuple(addresses)
        entry = self._entries.get(peer)
        if entry is None:
            if peer in self._banned or not given or not (named or self._takes(given[0], source)):
                return
            entry = self._insert(peer, source, host_of(given[0]), named=named)
        if named and not entry.named:
            self._count(entry, -1)
            entry.named = True
        kind = (
            AddressSource.NAMED
            if named
            else AddressSource.ITSELF
            if source == peer
            else AddressSource.HEARSAY
        )
        for address in given:
            entry.learn(address, kind)

    def next_dial(self, now: float, *, strangers: bool = True) -> Dial | None:
        """Take the peer to be dialled now, if any; without ``strangers`` only one that the user named."""
        self._dial_strangers = strangers
        ready = [peer for peer, entry in self._dialable() if entry.not_before <= now]
        if not ready:
            return None
        peer = self._best(ready)
        entry = self._entries[peer]
        entry.busy = True
        entry.dialled_at = now
        return Dial(peer, entry.ordered(), entry.why())

    def next_wakeup(self) -> float:
        """When a peer may be dialled that the last `next_dial` found too early; infinity if none waits."""
        return min((entry.not_before for _, entry in self._dialable()), default=math.inf)

    def connected(self, peer: PeerId, address: str | None = None) -> None:
        """A session with the peer is being opened, by either side; ``address``: dialling that worked."""
        if peer in self._banned:
            return
        entry = self._entries.get(peer) or self._insert(peer, None, "", named=False)
        entry.busy = True
        if address in entry.addresses:
            entry.addresses = {address: entry.addresses[address], **entry.addresses}

    def disconnected(self, peer: PeerId, now: float, *, useful: bool) -> float:
        """The last session with the peer ended; returns the seconds until it may be dialled again.

        ``useful`` says that it got past the greeting. If it also lasted `LASTING_SECONDS`, the failures
        before it are forgiven.
        """
        entry = self._entries.get(peer)
        if entry is None:
            return math.inf
        entry.busy = False
        if not entry.addresses:
            self._forget(peer)
            return math.inf
        entry.sessions += useful
        if not useful or now - entry.dialled_at < LASTING_SECONDS:
            return self._back_off(peer, entry, now)
        entry.failures = 0
        entry.reliability += (1.0 - entry.reliability) * _GAIN
        return self._wait(entry, now)

    def failed(self, peer: PeerId, now: float) -> float:
        """The peer could not be reached; returns the seconds until it may be dialled again.

        Infinity for a peer that is not in the book (any more).
        """
        entry = self._entries.get(peer)
        if entry is None:
            return math.inf
        entry.busy = False
        return self._back_off(peer, entry, now)

    def round_trip(self, peer: PeerId, seconds: float | None) -> None:
        """A ping of the peer was answered after ``seconds``, or lost (None)."""
        entry = self._entries.get(peer)
        if entry is not None and seconds is not None:
            entry.rtt = seconds

    def ban(self, peer: PeerId) -> None:
        """Never dial the peer again, and take in nothing about it."""
        self._forget(peer)
        self._banned[peer] = None
        if len(self._banned) > MAX_BANNED:
            del self._banned[next(iter(self._banned))]

    # --- Who may be dialled ---------------------------------------------------------------------

    def _dialable(self) -> list[tuple[PeerId, BookEntry]]:
        busy = sum(entry.busy for entry in self._entries.values())
        absent = sum(entry.named and not entry.busy for entry in self._entries.values())
        named = busy < self._max_peers
        strangers = self._dial_strangers and busy < self._max_peers - min(absent, self._max_peers // 2)
        return [
            (peer, entry)
            for peer, entry in self._entries.items()
            if not entry.busy and entry.addresses and (named if entry.named else strangers)
        ]

    def _best(self, ready: list[PeerId]) -> PeerId:
        candidates = [peer for peer in ready if self._entries[peer].named] or ready
        fresh = [peer for peer in candidates if not self._entries[peer].sessions]
        if fresh and (len(fresh) == len(candidates) or self._rng.random() < EXPLORATION_SHARE):
            fewest = min(self._entries[peer].failures for peer in fresh)
            return self._rng.choice([peer for peer in fresh if self._entries[peer].failures == fewest])
        return min(candidates, key=self._expected)

    def _expected(self, peer: PeerId) -> float:
        entry = self._entries[peer]
        return (UNKNOWN_RTT if entry.rtt is None else entry.rtt) / entry.reliability

    def _back_off(self, peer: PeerId, entry: BookEntry, now: float) -> float:
        entry.failures += 1
        entry.reliability *= 1.0 - _GAIN
        self._some_failed = True
        if not entry.named and entry.failures >= STRANGER_FAILURES:
            self._forget(peer)
            return math.inf
        return self._wait(entry, now)

    def _wait(self, entry: BookEntry, now: float) -> float:
        longest = MOST_NAMED_DELAY if entry.named else MOST_STRANGER_DELAY
        delay = min(FIRST_DELAY * 2.0 ** min(max(entry.failures - 1, 0), 16), longest)
        delay *= 1.0 - JITTER * self._rng.random()
        entry.not_before = now + delay
        return delay

    # --- Room -----------------------------------------------------------------------------------

    def _takes(self, address: str, source: PeerId | None) -> bool:
        if self._hosts[host_of(address)] >= MAX_STRANGERS_PER_HOST:
            return False
        if source is not None and self._sources[source] >= MAX_STRANGERS_PER_SOURCE:
            return False
        return self._strangers < MAX_STRANGERS or self._evict()

    def _evict(self) -> bool:
        """Give up the stranger that failed most; one that never failed keeps its place."""
        if not self._some_failed:
            return False
        worst = max(
            (peer for peer, entry in self._entries.items() if not entry.named and not entry.busy),
            key=lambda peer: self._entries[peer].failures,
            default=None,
        )
        if worst is None or not self._entries[worst].failures:
            self._some_failed = False
            return False
        self._forget(worst)
        return True

    def _insert(self, peer: PeerId, source: PeerId | None, host: str, *, named: bool) -> BookEntry:
        entry = self._entries[peer] = BookEntry(source, host, named)
        if not named:
            self._count(entry, 1)
        return entry

    def _forget(self, peer: PeerId) -> None:
        entry = self._entries.pop(peer, None)
        if entry is not None and not entry.named:
            self._count(entry, -1)

    def _count(self, entry: BookEntry, change: int) -> None:
        self._strangers += change
        self._hosts[entry.host] += change
        if not self._hosts[entry.host]:
            del self._hosts[entry.host]
        self._sources[entry.told_by] += change
        if not self._sources[entry.told_by]:
            del self._sources[entry.told_by]
