"""Who is registered where at a meeting point: bounded, with times to live, for anybody who asks. Pure.

A peer has one record, whatever the number of its namespaces. ``now`` is monotonic seconds. What is new in a
namespace has a greater number than what was there, which is what a cookie remembers.

When all places are taken, of everybody or of one network, a newcomer gets one of somebody who has more: so
nobody can fill the register, however many identities he makes up. Registrations that end with their stream
are *present*: they need an open connection, of which one address has few. The others go first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

from blake3 import blake3

from swarm.ids import PeerId
from swarm.reach import reach_limits as limits
from swarm.reach.rendezvous_messages import Register, RendezvousStatus

KEY_BYTES = 16


@dataclass(slots=True)
class _Member:
    """One peer: its sealed record, the network it comes from, and until when it is in which namespace.

    ``present`` are those that end with a stream; ``counted`` is how many the network's totals hold.
    ``renewed`` is a number: where the peer has a lesser one, its record is news.
    """

    record: bytes
    network: str
    renewed: int = 0
    until: dict[bytes, float] = field(default_factory=dict)
    present: set[bytes] = field(default_factory=set)
    counted: int = 0


@dataclass(slots=True)
class _PeersOfNetwork:
    """The peers of one network, with how many registrations need no connection, and those with no other."""

    members: dict[PeerId, _Member] = field(default_factory=dict)
    absent: dict[PeerId, int] = field(default_factory=dict)
    leavers: dict[PeerId, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Discovered:
    """What is in a namespace: records, and the number to ask from the next time."""

    records: tuple[Register, ...]
    next_number: int


class Registry:
    """The registrations of all peers, at most `limits.MAX_REGISTRATIONS`, of one peer and network fewer."""

    def __init__(self) -> None:
        self._members: dict[PeerId, _Member] = {}
        self._namespaces: dict[bytes, dict[PeerId, int]] = {}
        self._networks: dict[str, _PeersOfNetwork] = {}
        self._totals: Counter[str] = Counter()
        self._absent: Counter[str] = Counter()
        self._leavers: Counter[str] = Counter()
        """Of each network: registrations, those that are not present, and peers with none that is."""
        self._expiries: list[tuple[float, bytes, PeerId]] = []
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
        known = member is not None
        if member is None:
            member = _Member(message.record, network)
        key = _key(message.namespace)
        new = key not in member.until
        if new and not self._takes(member, present=message.present, known=known):
            return RendezvousStatus.UNAVAILABLE, 0
        self._members[peer] = member
        if message.record and message.record != member.record:
            member.record, member.renewed = message.record, self._number + 1
        until = member.until[key] = now + ttl
        (member.present.add if message.present else member.present.discard)(key)
        self._tally(peer, member)
        self._count += new
        here = self._namespaces.setdefault(key, {})
        if new or here[peer] < member.renewed:
            self._number += 1
            here[peer] = self._number
        if new or len(self._expiries) < 2 * limits.MAX_REGISTRATIONS:
            heapq.heappush(self._expiries, (until, key, peer))
        return RendezvousStatus.OK, ttl

    def record_of(self, peer: PeerId) -> bytes | None:
        """The peer's record; None if it is not registered."""
        member = self._members.get(peer)
        return None if member is None else member.record

    def unregister(self, peer: PeerId, namespace: str) -> None:
        """Forget a peer in a namespace."""
        self._leave(peer, _key(namespace))

    def _leave(self, peer: PeerId, key: bytes) -> None:
        member = self._members.get(peer)
        if member is None or member.until.pop(key, None) is None:
            return
        member.present.discard(key)
        self._count -= 1
        self._tally(peer, member)
        here = self._namespaces[key]
        del here[peer]
        if not here:
            del self._namespaces[key]
        if not member.until:
            del self._members[peer]

    def forget(self, peer: PeerId) -> None:
        """Forget a peer everywhere."""
        member = self._members.get(peer)
        for key in () if member is None else tuple(member.until):
            self._leave(peer, key)

    def discover(self, namespace: str, after: int, most: int, now: float, *, besides: PeerId) -> Discovered:
        """The peers that came after number ``after``, the oldest first; without the one that asks."""
        self.expire(now)
        key = _key(namespace)
        here = self._namespaces.get(key, {})
        newer = heapq.nsmallest(
            most, ((number, peer) for peer, number in here.items() if number > after and peer != besides)
        )
        records = []
        for _, peer in newer:
            member = self._members[peer]
            left = max(1, int(member.until[key] - now))
            records.append(Register(namespace, member.record, left))
        return Discovered(tuple(records), newer[-1][0] if newer else after)

    def expire(self, now: float) -> None:
        """Forget what is over."""
        while self._expiries and self._expiries[0][0] <= now:
            _, key, peer = heapq.heappop(self._expiries)
            member = self._members.get(peer)
            until = None if member is None else member.until.get(key)
            if until is None:
                continue
            if until <= now:
                self._leave(peer, key)
            else:
                heapq.heappush(self._expiries, (until, key, peer))
        if len(self._expiries) > 2 * limits.MAX_REGISTRATIONS:
            self._expiries = [
                (until, key, peer)
                for peer, member in self._members.items()
                for key, until in member.until.items()
            ]
            heapq.heapify(self._expiries)

    # --- When it is full ----------------------------------------------------------------------------

    def _tally(self, peer: PeerId, member: _Member) -> None:
        """Count what has become of a peer's registrations."""
        name = member.network
        network = self._networks.setdefault(name, _PeersOfNetwork())
        had, has = member.counted, len(member.until)
        self._totals[name] += has - had
        member.counted = has
        absent, leaves = has - len(member.present), bool(has and not member.present)
        self._absent[name] += absent - network.absent.get(peer, 0)
        self._leavers[name] += leaves - (peer in network.leavers)
        network.members[peer] = member
        network.absent[peer] = absent
        if not absent:
            del network.absent[peer]
        if leaves:
            network.leavers.setdefault(peer)
        else:
            network.leavers.pop(peer, None)
        if not has:
            del network.members[peer]
        for counter in (self._totals, self._absent, self._leavers):
            if not counter[name]:
                del counter[name]
        if not network.members:
            del self._networks[name]

    def _takes(self, member: _Member, *, present: bool, known: bool) -> bool:
        """Whether there is a place for one more registration of the member; makes room for it if need be."""
        if len(member.until) >= limits.MAX_REGISTRATIONS_PER_PEER:
            return False
        if not known and len(self._members) >= limits.MAX_RECORDS and not self._dismiss_peer(member, present):
            return False
        if self._totals[member.network] >= limits.MAX_REGISTRATIONS_PER_NETWORK:
            return self._dismiss(member, present, member.network)
        if self._count >= limits.MAX_REGISTRATIONS:
            return self._dismiss(member, present, None)
        return True

    def _dismiss(self, member: _Member, present: bool, network: str | None) -> bool:
        """Take a place for the member from who has most, of all or of one network.

        That is the newest registration of the fullest peer of the fullest network.
        """
        # What needs a connection is never displaced by what needs none, nor before that.
        absent = self._absent[network] if network else self._absent.total()
        if not absent:
            if not present:
                return False
            name = network or max(self._totals, key=self._totals.__getitem__)
            peers = self._networks[name].members
            peer = max(peers, key=lambda each: len(peers[each].until))
            fair = _is_fair(
                (self._totals[name], len(peers[peer].until)),
                (self._totals[member.network], len(member.until)),
                near=name == member.network,
            )
        else:
            name = network or max(self._absent, key=self._absent.__getitem__)
            counts = self._networks[name].absent
            peer = max(counts, key=counts.__getitem__)
            fair = present or _is_fair(
                (self._absent[name], counts[peer]),
                (self._absent[member.network], len(member.until) - len(member.present)),
                near=name == member.network,
            )
        if fair:
            victim = self._members[peer]
            newest = (each for each in reversed(victim.until) if not absent or each not in victim.present)
            self._leave(peer, next(newest))
        return fair

    def _dismiss_peer(self, member: _Member, present: bool) -> bool:
        """Forget one of the peers without a connection, the newest of the network that has most of them."""
        if not self._leavers:
            return False
        name = max(self._leavers, key=self._leavers.__getitem__)
        if not present and self._leavers[name] <= self._leavers[member.network] + 1:
            return False
        self.forget(next(reversed(self._networks[name].leavers)))
        return True


def _key(namespace: str) -> bytes:
    """What stands for a namespace here: names of strangers are long, and nobody asks for them again."""
    return blake3(namespace.encode()).digest(KEY_BYTES)


def _is_fair(theirs: tuple[int, int], mine: tuple[int, int], *, near: bool) -> bool:
    """Whether one place goes over, by the places of the network and the peer: two more make it fair.

    With one more, it could be taken back at once, and so without end.
    """
    return theirs[near] > mine[near] + 1
