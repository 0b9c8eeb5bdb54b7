"""Whom to dial next, where, and when: the addresses of one transfer's peers, and how dialling them went.

Peers that the user named come first and are tried again for ever. All others are strangers: where they come
from (their provenance), who told us and which host they are on each have a quota. What others tell of a peer
is tried only after what the user, the peer itself or whoever found it said (`swarm.strategy.hearsay`).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from swarm.config import DEFAULT_MAX_PEERS
from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass, field
from swarm.strategy.hearsay import Hearsay

NAMED: Final = "named"
"""The provenance of a peer that the user named."""

LAN: Final = "lan"
"""The provenance of a peer that was found in a network of this machine."""

EXCHANGE: Final = "exchange"
"""The provenance of a peer that another peer told us of."""

MEETING: Final = "meeting"
"""The provenance of a peer that a meeting point named."""

DHT: Final = "dht"
"""The provenance of a peer that a distributed hash table named."""

NEAR_DHT: Final = "near-dht"
"""The provenance of a peer that a table in a private network, or on this machine, named."""

PUBLIC: Final = frozenset({MEETING, DHT})
"""Provenances that anybody can write to: they name, and are told, public addresses only."""

ORDER: Final = (NAMED, LAN, EXCHANGE, MEETING, DHT)
"""Who is dialled first among peers that are equal otherwise; a program's own sources count as exchange."""

INBOUND: Final = "inbound"
"""The provenance of a peer that dialled us and that nobody had told us of."""

FIRST_DELAY = 0.25
"""Seconds before a peer that could not be reached is dialled again; doubled with each failure in a row."""

MOST_NAMED_DELAY = 8.0
"""The longest such delay of a named peer: the user is waiting for it."""

MOST_STRANGER_DELAY = 120.0
"""The longest such delay of a stranger: there are others to try."""

JITTER = 0.25
"""A delay is shortened by up to this share, so that peers that lost each other do not retry in step."""

LASTING_SECONDS = 5.0
"""A dialled session that ends sooner counts as a failure: a peer that hangs up is not dialled in a loop."""

STRANGER_FAILURES = 8
"""Failures in a row after which a stranger is forgotten."""

MAX_STRANGERS = 1024
"""Eight times the default number of sessions: enough to choose from, and about 1 MB."""

MAX_STRANGERS_PER_PROVENANCE = 512
"""Half of the book: no one way of finding peers can shut out the others."""

MAX_STRANGERS_PER_TELLER = 256
"""A quarter of the book: no one peer can fill it."""

MAX_STRANGERS_PER_HOST = 64
"""A sixteenth of the book: no one host can fill it."""

_PLACES: Final = {provenance: place for place, provenance in enumerate(ORDER)}

MAX_ADDRESSES = 8
"""Of one peer: each is dialled with a deadline of its own."""


class AddressSource(IntEnum):
    """Who said that a peer can be dialled at an address; the better source first."""

    NAMED = 0
    """The user."""
    ITSELF = 1
    """The peer, in its own session."""
    FOUND = 2
    """What found the peer and is no peer: a tracker, a meeting point, the network of this machine."""
    HEARSAY = 3
    """Other peers, and the nodes of hash tables."""


@dataclass(slots=True)
class BookEntry:
    """One peer. ``provenance``, ``told_by`` and ``host`` are the quotas it counts for; a ``busy`` peer is
    being dialled or in a session; ``failures`` are those in a row; one that is ``away`` could not be reached
    the last time. ``addresses`` are all hearsay, or none is: then that is in ``hearsay``.
    That has the ways through tellers in either case."""

    provenance: str
    told_by: PeerId | None
    host: str
    addresses: dict[str, AddressSource] = field(default_factory=dict)
    hearsay: Hearsay = field(default_factory=lambda: Hearsay(2 * MAX_ADDRESSES))
    busy: bool = False
    away: bool = False
    not_before: float = -math.inf
    dialled_at: float = -math.inf
    failures: int = 0
    sessions: int = 0
    round_trip: float | None = None

    @property
    def named(self) -> bool:
        """Whether the user named the peer."""
        return self.provenance == NAMED

    @property
    def has_own(self) -> bool:
        """Whether more is known than hearsay."""
        return AddressSource.HEARSAY not in self.addresses.values() and bool(self.addresses)

    def dial(self, now: float) -> tuple[str, ...]:
        """Begin to dial: the addresses, those of the best source first, and hearsay if those have failed."""
        self.busy = True
        self.dialled_at = now
        best = sorted(self.addresses, key=self.addresses.__getitem__)
        told = self.hearsay.take() if self.away else ()
        return tuple(dict.fromkeys((*best, *self.hearsay.ways, *told)))

    def learn(self, address: str, source: AddressSource, teller: PeerId | None = None) -> None:
        """Note an address. A full entry gives up the oldest one of the worst source, if that is no better."""
        if source == AddressSource.HEARSAY:
            if self.has_own:
                if address not in self.addresses:
                    self.hearsay.hear(address, teller)
                return
            # What others tell later pushes out no way through a teller.
            self.hearsay.hear_way(address, teller)
        elif not self.has_own:
            self._put_hearsay_aside()
        if source != AddressSource.HEARSAY:
            self.hearsay.confirmed(address)
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

    def _put_hearsay_aside(self) -> None:
        """From now on there are better addresses."""
        told, self.addresses = self.addresses, {}
        for each in told:
            if each not in self.hearsay.ways:
                self.hearsay.hear(each, self.told_by)

    def why(self) -> str:
        """Why it is dialled, in one line."""
        found = "named by the user" if self.named else f"found by {self.provenance}"
        if not self.sessions and not self.failures:
            return f"{found}, not tried yet"
        trip = "rtt unknown" if self.round_trip is None else f"rtt {self.round_trip * 1e3:.1f} ms"
        return f"{found}, {trip}, {self.sessions} sessions, {self.failures} failures in a row"


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
        self._strangers = 0
        self._quotas: Counter[tuple[str, str | None]] = Counter()
        self._dial_strangers = True
        self._some_failed = False

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, peer: object) -> bool:
        return peer in self._entries

    @property
    def named(self) -> frozenset[PeerId]:
        """The peers that the user named."""
        return frozenset(peer for peer, entry in self._entries.items() if entry.named)

    def is_named(self, peer: PeerId) -> bool:
        """Whether the user named the peer."""
        entry = self._entries.get(peer)
        return entry is not None and entry.named

    def add(
        self,
        peer: PeerId,
        addresses: Iterable[str],
        *,
        provenance: str = EXCHANGE,
        told_by: PeerId | None = None,
    ) -> None:
        """Note where a peer can be dialled. ``provenance`` says how that was found out, ``told_by`` which
        peer said so, if one did. One without addresses and one beyond a quota is ignored."""
        given = tuple(addresses)
        named = provenance == NAMED
        entry = self._entries.get(peer)
        if entry is None:
            if not given:
                return
            entry = BookEntry(provenance, told_by, _host_of(given[0]))
            if not (named or self._takes(entry)):
                return
            self._insert(peer, entry)
        elif named and not entry.named:
            self._count(entry, -1)
            entry.provenance = NAMED
        source = _source_of(peer, provenance, told_by)
        for address in given:
            entry.learn(address, source, told_by)

    def next_dial(self, now: float, *, strangers: bool = True) -> Dial | None:
        """Take the peer to be dialled now, if any; without ``strangers`` only one that the user named."""
        self._dial_strangers = strangers
        ready = [(peer, entry) for peer, entry in self._dialable() if entry.not_before <= now]
        if not ready:
            return None
        peer, entry = min(ready, key=self._place)
        return Dial(peer, entry.dial(now), entry.why())

    def next_wakeup(self) -> float:
        """When a peer may be dialled that the last `next_dial` found too early; infinity if none waits."""
        return min((entry.not_before for _, entry in self._dialable()), default=math.inf)

    def connected(self, peer: PeerId, address: str | None = None) -> None:
        """A session with the peer is being opened, by either side; ``address`` is where dialling worked."""
        entry = self._entries.get(peer) or self._insert(peer, BookEntry(INBOUND, None, ""))
        entry.busy = True
        entry.away = False
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
            self.forget(peer)
            return math.inf
        entry.sessions += useful
        if not useful or now - entry.dialled_at < LASTING_SECONDS:
            return self._back_off(peer, entry, now)
        entry.failures = 0
        entry.hearsay.begin_anew()
        return self._wait(entry, now)

    def failed(self, peer: PeerId, now: float) -> float:
        """The peer could not be reached; returns the seconds until it may be dialled again.

        Infinity for a peer that is not in the book (any more).
        """
        entry = self._entries.get(peer)
        if entry is None:
            return math.inf
        entry.busy = False
        entry.away = True
        return self._back_off(peer, entry, now)

    def round_trip(self, peer: PeerId, seconds: float | None) -> None:
        """A ping of the peer was answered after ``seconds``, or lost (None)."""
        entry = self._entries.get(peer)
        if entry is not None and seconds is not None:
            entry.round_trip = seconds

    def forget(self, peer: PeerId) -> None:
        """Keep nothing about the peer, named or not: the node banned it, or it leads nowhere."""
        entry = self._entries.pop(peer, None)
        if entry is not None and not entry.named:
            self._count(entry, -1)

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

    def _place(self, ready: tuple[PeerId, BookEntry]) -> tuple[bool, int, float, int, float]:
        """Named peers first, then who failed least, then the nearest; those never met last, in `ORDER`."""
        _, entry = ready
        trip = math.inf if entry.round_trip is None else entry.round_trip
        return (
            not entry.named,
            entry.failures,
            trip,
            _PLACES.get(entry.provenance, _PLACES[EXCHANGE]),
            self._rng.random(),
        )

    def _back_off(self, peer: PeerId, entry: BookEntry, now: float) -> float:
        entry.failures += 1
        self._some_failed = True
        if not entry.named and entry.failures >= STRANGER_FAILURES:
            self.forget(peer)
            return math.inf
        return self._wait(entry, now)

    def _wait(self, entry: BookEntry, now: float) -> float:
        longest = MOST_NAMED_DELAY if entry.named else MOST_STRANGER_DELAY
        delay = min(FIRST_DELAY * 2.0 ** min(max(entry.failures - 1, 0), 16), longest)
        delay *= 1.0 - JITTER * self._rng.random()
        entry.not_before = now + delay
        return delay

    # --- Quotas ---------------------------------------------------------------------------------

    def _takes(self, entry: BookEntry) -> bool:
        for quota, most in (
            (("provenance", entry.provenance), MAX_STRANGERS_PER_PROVENANCE),
            (("host", entry.host), MAX_STRANGERS_PER_HOST),
            (("told by", entry.told_by), MAX_STRANGERS_PER_TELLER),
        ):
            if quota[1] is not None and self._quotas[quota] >= most:
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
        self.forget(worst)
        return True

    def _insert(self, peer: PeerId, entry: BookEntry) -> BookEntry:
        self._entries[peer] = entry
        if not entry.named:
            self._count(entry, 1)
        return entry

    def _count(self, entry: BookEntry, change: int) -> None:
        self._strangers += change
        for quota in (("provenance", entry.provenance), ("host", entry.host), ("told by", entry.told_by)):
            self._quotas[quota] += change
            if not self._quotas[quota]:
                del self._quotas[quota]


def _source_of(peer: PeerId, provenance: str, told_by: PeerId | None) -> AddressSource:
    """How good the word of a source of peers is."""
    if provenance == NAMED:
        return AddressSource.NAMED
    if told_by is None and provenance not in {DHT, NEAR_DHT}:
        return AddressSource.FOUND
    return AddressSource.ITSELF if told_by == peer else AddressSource.HEARSAY


def _host_of(address: str) -> str:
    """``/ip4/<host>`` of a multiaddr."""
    return "/".join(address.split("/")[:3])
