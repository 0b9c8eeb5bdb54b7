"""Who may be reached through a relay, and which circuits are open: places and their limits. Pure.

``now`` is monotonic seconds. A reservation belongs to the peer that the connection authenticates, whatever
a message says.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from swarm.ids import PeerId
from swarm.reach import reach_limits as limits
from swarm.reach.relay_messages import RelayStatus


@dataclass(slots=True)
class _ReservedPlace:
    network: str
    until: float


@dataclass(eq=False, slots=True)
class OpenCircuit:
    """One circuit from ``source`` to ``target``."""

    source: PeerId
    target: PeerId


class Reservations:
    """The places of a relay, at most `limits.MAX_RESERVATIONS`, and its circuits."""

    def __init__(self, *, circuits: int = limits.MAX_CIRCUITS) -> None:
        self._most_circuits = circuits
        self._places: dict[PeerId, _ReservedPlace] = {}
        self._networks: Counter[str] = Counter()
        self._circuits: set[OpenCircuit] = set()
        self._at: Counter[PeerId] = Counter()

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

    def open_circuit(self, source: PeerId, target: PeerId, now: float) -> OpenCircuit | RelayStatus:
        """Note a circuit that is about to be made, or say why there can be none."""
        if not self.has(target, now) or source == target:
            return RelayStatus.NO_RESERVATION
        most = limits.MAX_CIRCUITS_PER_PEER
        if len(self._circuits) >= self._most_circuits or max(self._at[source], self._at[target]) >= most:
            return RelayStatus.RESOURCE_LIMIT_EXCEEDED
        circuit = OpenCircuit(source, target)
        self._circuits.add(circuit)
        self._at.update((source, target))
        return circuit

    def close_circuit(self, circuit: OpenCircuit) -> None:
        """It has ended."""
        if circuit in self._circuits:
            self._circuits.remove(circuit)
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
