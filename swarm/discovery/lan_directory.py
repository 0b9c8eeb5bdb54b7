"""Who is near: the peers that were seen in the networks of this machine, for as long as they said."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from swarm.endpoint import Endpoint
from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass
from swarm.protocol.dns_message import Name
from swarm.protocol.lan_records import TTL

MAX_SEEN: Final = 512
"""Entries of all networks; a further one displaces the one that would end first."""
MAX_SEEN_PER_SOURCE: Final = 32
"""Entries of one address: no machine can fill the directory."""
FAREWELL_SECONDS: Final = 1.0
"""A peer that leaves stays for so long, as multicast DNS wants it: its last packets may come in any order."""


@dataclass(frozen=True, slots=True)
class NearPeer:
    """A peer that was seen near, and where it can be dialled."""

    peer: PeerId
    endpoints: tuple[Endpoint, ...]


@dataclass(slots=True)
class _Seen:
    peer: PeerId
    endpoints: tuple[Endpoint, ...]
    source: str
    until: float


class LanDirectory:
    """Keeps what was seen, by the network in which it was; ``now`` is monotonic seconds.

    A ``place`` is an interface and a kind of address: what leaves one place may still be in another.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[object, Name, Name], _Seen] = {}
        self._per_source: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._seen)

    def saw(
        self, key: tuple[object, Name, Name], near: NearPeer, source: str, ttl: float, now: float
    ) -> bool:
        """Note a peer; says whether that changes what is known. ``key`` is place, service and instance."""
        self.expire(now)
        before = self._seen.get(key)
        if before is not None:
            if before.peer == near.peer and before.endpoints == near.endpoints:
                before.until = max(before.until, now + ttl)
                return False
            self._forget(key)
        if self._per_source[source] >= MAX_SEEN_PER_SOURCE:
            return False
        if len(self._seen) >= MAX_SEEN:
            self._forget(min(self._seen, key=lambda each: self._seen[each].until))
        self._seen[key] = _Seen(near.peer, near.endpoints, source, now + ttl)
        self._per_source[source] += 1
        return True

    def left(self, key: tuple[object, Name, Name], source: str, now: float) -> None:
        """A peer said from ``source`` that it leaves; only the one that it was seen at may say that."""
        seen = self._seen.get(key)
        if seen is not None and seen.source == source:
            seen.until = min(seen.until, now + FAREWELL_SECONDS)

    def lost(self, place: object) -> None:
        """The interface is gone, and with it who was there."""
        for key in [key for key in self._seen if key[0] == place]:
            self._forget(key)

    def expire(self, now: float) -> None:
        """Forget whom nobody has heard of for as long as it said."""
        for key in [key for key, seen in self._seen.items() if seen.until <= now]:
            self._forget(key)

    def near(self, service: Name, now: float) -> tuple[NearPeer, ...]:
        """The peers of one service, each once with all its addresses."""
        found: dict[PeerId, dict[Endpoint, None]] = {}
        for (_, of, _), seen in self._seen.items():
            if of == service and seen.until > now:
                found.setdefault(seen.peer, {}).update(dict.fromkeys(seen.endpoints))
        return tuple(NearPeer(peer, tuple(endpoints)) for peer, endpoints in found.items())

    def known(self, place: object, now: float) -> list[tuple[Name, Name, int]]:
        """Who need not answer a query there: service, instance, and the seconds that it is still believed.

        Those that end within half of the usual time are to say that they are still there.
        """
        return [
            (service, instance, math.ceil(seen.until - now))
            for (where, service, instance), seen in self._seen.items()
            if where == place and seen.until - now > TTL / 2
        ]

    def _forget(self, key: tuple[object, Name, Name]) -> None:
        seen = self._seen.pop(key)
        self._per_source[seen.source] -= 1
        if not self._per_source[seen.source]:
            del self._per_source[seen.source]
