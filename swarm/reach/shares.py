"""Who may hold how many of something scarce, such as open streams: shares of networks and peers. Pure.

When all are held, a newcomer gets one of whoever holds most, if that is at least two more than the newcomer.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

from swarm.ids import PeerId

T = TypeVar("T")


class Refused(Exception):
    """There is nothing left for this one."""


class Shares(Generic[T]):
    """At most ``most`` things are held, and at most ``most_of_network`` by the peers of one network."""

    def __init__(self, most: int, most_of_network: int) -> None:
        self._most = most
        self._most_of_network = most_of_network
        self._held: dict[T, tuple[str, PeerId]] = {}
        self._networks: Counter[str] = Counter()
        self._peers: dict[str, Counter[PeerId]] = {}
        self._things: dict[tuple[str, PeerId], dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, thing: T, peer: PeerId, network: str) -> T | None:
        """Hold one more; returns what has to go for it, if anything. Raises `Refused`."""
        leaving: T | None = None
        if self._networks[network] >= self._most_of_network:
            leaving = self._newest_of_fullest(network, peer, network)
        elif len(self._held) >= self._most:
            fullest = max(self._networks, key=self._networks.__getitem__)
            leaving = self._newest_of_fullest(fullest, peer, network)
        if leaving is not None:
            self.leave(leaving)
        self._held[thing] = network, peer
        self._networks[network] += 1
        self._peers.setdefault(network, Counter())[peer] += 1
        self._things.setdefault((network, peer), {})[thing] = None
        return leaving

    def leave(self, thing: T) -> None:
        """It is not held any more; nothing if it was not."""
        place = self._held.pop(thing, None)
        if place is None:
            return
        network, peer = place
        self._networks[network] -= 1
        self._peers[network][peer] -= 1
        del self._things[place][thing]
        if not self._things[place]:
            del self._things[place], self._peers[network][peer]
        if not self._networks[network]:
            del self._networks[network], self._peers[network]

    def _newest_of_fullest(self, fullest: str, peer: PeerId, network: str) -> T:
        counts = self._peers[fullest]
        victim = max(counts, key=counts.__getitem__)
        if fullest == network:
            mine, theirs = counts[peer], counts[victim]
        else:
            mine, theirs = self._networks[network], self._networks[fullest]
        if theirs <= mine + 1:
            raise Refused
        return next(reversed(self._things[fullest, victim]))
