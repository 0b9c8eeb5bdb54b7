"""Who is registered where at a meeting point: bounded, with times to live, for anybody who asks. Pure.

A peer has one record, whatever the number of its namespaces. ``now`` is monotonic seconds. What is new in a
namespace has a greater number than what was there, which is what a cookie remembers.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

from swarm.ids import PeerId
from swarm.reach import reach_limits as limits
from swarm.reach.rendezvous_messages import Register, RendezvousStatus


@dataclass(slots=True)
class _Member:
    """One peer: its sealed record, the network it comes from, and until when it is in which namespace."""

    record: bytes
    network: str
    until: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Discovered:
    """What is in a namespace: records, and the number to ask from the next time."""

    records: tuple[Register, ...]
    next_number: int


class Registry:
    """The registrations of all peers, at most `limits.MAX_REGISTRATIONS`, of one peer and network fewer."""

    def __init__(self) -> None:
        self._members: dict[PeerId, _Member] = {}
        self._namespaces: dict[str, dict[PeerId, int]] = {}
        self._networks: Counter[str] = Counter()
        self._expiries: list[tuple[float, str, PeerId]] = []
        self._count = 0
        self._number = 0

    def __len__(self) -> int:
        return self._count

    def register(
        self, peer: PeerId, network: str, message: Register, now: float
    ) -> tuple[RendezvousStatus, int]:
        """Note a peer; returns how that went, and the seconds that it is granted.

        ``message.record`` must be the peer's own; an empty one is right for a peer that has one here already.
        """
        self.expire(now)
        ttl = limits.DEFAULT_TTL if message.ttl is None else message.ttl
        if not limits.MIN_TTL <= ttl <= limits.MAX_TTL:
            return RendezvousStatus.INVALID_TTL, 0
        member = self._members.get(peer)
        new = member is None or message.namespace not in member.until
        if new and not self._takes(member, network):
            return RendezvousStatus.UNAVAILABLE, 0
        if member is None:
            member = self._members[peer] = _Member(message.record, network)
        changed = bool(message.record) and message.record != member.record
        member.record = message.record or member.record
        until = member.until[message.namespace] = now + ttl
        if new:
            self._count += 1
            self._networks[member.network] += 1
        if new or changed:
            self._number += 1
            self._namespaces.setdefault(message.namespace, {})[peer] = self._number
        if new or len(self._expiries) < 2 * limits.MAX_REGISTRATIONS:
            heapq.heappush(self._expiries, (until, message.namespace, peer))
        return RendezvousStatus.OK, ttl

    def unregister(self, peer: PeerId, namespace: str) -> None:
        """Forget a peer in a namespace."""
        member = self._members.get(peer)
        if member is None or member.until.pop(namespace, None) is None:
            return
        self._count -= 1
        self._networks[member.network] -= 1
        if not self._networks[member.network]:
            del self._networks[member.network]
        here = self._namespaces[namespace]
        del here[peer]
        if not here:
            del self._namespaces[namespace]
        if not member.until:
            del self._members[peer]

    def forget(self, peer: PeerId) -> None:
        """Forget a peer everywhere."""
        member = self._members.get(peer)
        for namespace in () if member is None else tuple(member.until):
            self.unregister(peer, namespace)

    def discover(self, namespace: str, after: int, most: int, now: float, *, besides: PeerId) -> Discovered:
        """The peers that came after number ``after``, the oldest first; without the one that asks."""
        self.expire(now)
        here = self._namespaces.get(namespace, {})
        newer = heapq.nsmallest(
            most, ((number, peer) for peer, number in here.items() if number > after and peer != besides)
        )
        records = []
        for _, peer in newer:
            member = self._members[peer]
            left = max(1, int(member.until[namespace] - now))
            records.append(Register(namespace, member.record, left))
        return Discovered(tuple(records), newer[-1][0] if newer else after)

    def expire(self, now: float) -> None:
        """Forget what is over."""
        while self._expiries and self._expiries[0][0] <= now:
            _, namespace, peer = heapq.heappop(self._expiries)
            member = self._members.get(peer)
            until = None if member is None else member.until.get(namespace)
            if until is None:
                continue
            if until <= now:
                self.unregister(peer, namespace)
            else:
                heapq.heappush(self._expiries, (until, namespace, peer))
        if len(self._expiries) > 2 * limits.MAX_REGISTRATIONS:
            self._expiries = [
                (until, namespace, peer)
                for peer, member in self._members.items()
                for namespace, until in member.until.items()
            ]
            heapq.heapify(self._expiries)

    def _takes(self, member: _Member | None, network: str) -> bool:
        if member is None and len(self._members) >= limits.MAX_RECORDS:
            return False
        if member is not None and len(member.until) >= limits.MAX_REGISTRATIONS_PER_PEER:
            return False
        here = self._networks[network if member is None else member.network]
        return self._count < limits.MAX_REGISTRATIONS and here < limits.MAX_REGISTRATIONS_PER_NETWORK
