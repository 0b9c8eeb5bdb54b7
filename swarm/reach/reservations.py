"""Who may be reached through a relay, and which circuits are open: places and their limits. Pure.

``now`` is monotonic seconds. A reservation belongs to the peer that the connection authenticates, whatever
a message says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from swarm.ids import PeerId
from swarm.limits import TokenBucket
from swarm.reach import reach_limits as limits
from swarm.reach.relay_messages import RelayStatus


@dataclass(slots=True)
class _ReservedPlace:
    network: str
    until: float


@dataclass(eq=False, slots=True)
class OpenCircuit:
    """One circuit from ``source``, which comes from ``network``, to ``target``."""

    source: PeerId
    target: PeerId
    network: str


class Reservations:
    """The places of a relay, at most `limits.MAX_RESERVATIONS`, and its circuits.

    Those that one network opens are few of all: identities cost nothing.
    """

    def __init__(
        self,
        *,
        circuits: int | None = None,
        per_peer: int | None = None,
        per_network: int | None = None,
    ) -> None:
        self._most_circuits = limits.MAX_CIRCUITS if circuits is None else circuits
        self._most_per_peer = limits.MAX_CIRCUITS_PER_PEER if per_peer is None else per_peer
        self._most_per_network = limits.MAX_CIRCUITS_PER_NETWORK if per_network is None else per_network
        self._places: dict[PeerId, _ReservedPlace] = {}
        self._networks: Counter[str] = Counter()
        self._circuits: set[OpenCircuit] = set()
        self._at: Counter[PeerId] = Counter()
        self._opened_from: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def circuits(self) -> int:
        """How many are open."""
        return len(self._circuits)

    def reserve(self, peer: PeerId, network: str, now: float) -> bool:
        """Give or renew a place; says whether there was one."""
        self._expire(now)
        place = self._places.get(peer)
        if place is None:
            if (
                len(self._places) >= limits.MAX_RESERVATIONS
                or self._networks[network] >= limits.MAX_RESERVATIONS_PER_NETWORK
            ):
                return False
            place = self._places[peer] = _ReservedPlace(network, 0.0)
            self._networks[network] += 1
        place.until = now + limits.RESERVATION_SECONDS
        return True

    def peers(self) -> tuple[PeerId, ...]:
        """Who has a place."""
        return tuple(self._places)

    def has(self, peer: PeerId, now: float) -> bool:
        """Whether the peer has a place."""
        place = self._places.get(peer)
        return place is not None and place.until > now

    def release(self, peer: PeerId) -> None:
        """The peer is gone, and its place with it."""
        place = self._places.pop(peer, None)
        if place is not None:
            self._networks[place.network] -= 1
            if not self._networks[place.network]:
                del self._networks[place.network]

    def open_circuit(
        self, source: PeerId, target: PeerId, network: str, now: float
    ) -> OpenCircuit | RelayStatus:
        """Note a circuit that a peer of ``network`` is about to open, or say why there can be none."""
        if not self.has(target, now) or source == target:
            return RelayStatus.NO_RESERVATION
        return self._begin(source, target, network)

    def _begin(self, source: PeerId, target: PeerId, network: str) -> OpenCircuit | RelayStatus:
        if (
            len(self._circuits) >= self._most_circuits
            or self._opened_from[network] >= self._most_per_network
            or max(self._at[source], self._at[target]) >= self._most_per_peer
        ):
            return RelayStatus.RESOURCE_LIMIT_EXCEEDED
        circuit = OpenCircuit(source, target, network)
        self._opened_from[network] += 1
        self._circuits.add(circuit)
        self._at.update((source, target))
        return circuit

    def close_circuit(self, circuit: OpenCircuit) -> None:
        """It has ended."""
        if circuit in self._circuits:
            self._circuits.remove(circuit)
            self._opened_from -= Counter((circuit.network,))
            for peer in (circuit.source, circuit.target):
                self._at[peer] -= 1
                if not self._at[peer]:
                    del self._at[peer]

    def in_circuit(self, peer: PeerId) -> bool:
        """Whether a circuit begins or ends at the peer."""
        return peer in self._at

    def _expire(self, now: float) -> None:
        for peer in [peer for peer, place in self._places.items() if place.until <= now]:
            self.release(peer)


class SessionPlaces(Reservations):
    """The circuits of a node that gives no places: between two peers that are ``together`` in one swarm.

    Few and seldom for each peer, since whoever is in a session costs this node enough already.
    """

    def __init__(self, together: Callable[[PeerId, PeerId], bool]) -> None:
        super().__init__(
            circuits=limits.COORDINATED_CIRCUITS,
            per_peer=limits.COORDINATED_PER_PEER,
            per_network=limits.COORDINATED_PER_NETWORK,
        )
        self._together = together
        self._rates = PeerRates()

    def reserve(self, peer: PeerId, network: str, now: float) -> bool:  # noqa: ARG002 - as above
        """Nobody has a place for longer than his sessions."""
        return False

    def open_circuit(
        self, source: PeerId, target: PeerId, network: str, now: float
    ) -> OpenCircuit | RelayStatus:
        """As above, for two peers with sessions for the same manifest."""
        if source == target or not self._together(source, target):
            return RelayStatus.NO_RESERVATION
        if not self._rates.spend(source, now):
            return RelayStatus.RESOURCE_LIMIT_EXCEEDED
        return self._begin(source, target, network)


class PeerRates:
    """How often each peer may do something: ask for a coordinated circuit, or bring one, unless said."""

    def __init__(
        self, rate: float = limits.COORDINATED_RATE, burst: float = limits.COORDINATED_BURST
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[PeerId, TokenBucket] = {}

    def spend(self, peer: PeerId, now: float) -> bool:
        """Note one; says whether the peer was within its rate."""
        bucket = self._buckets.pop(peer, None)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, now)
        self._buckets[peer] = bucket
        if len(self._buckets) > limits.MAX_RESERVATIONS:
            del self._buckets[next(iter(self._buckets))]
        return bucket.spend(now)
