"""The bounded registers of a meeting point: registrations, places and circuits."""

from __future__ import annotations

import gc
import tracemalloc

from swarm.ids import PeerId, SourceId
from swarm.reach import reach_limits as limits
from swarm.reach.registry import Registry
from swarm.reach.relay_messages import RelayStatus
from swarm.reach.rendezvous_messages import Register, RendezvousStatus
from swarm.reach.reservations import OpenCircuit, Reservations


def peer(number: int) -> PeerId:
    return PeerId(SourceId(f"peer-{number:08}"))


ME = peer(0)


def test_who_registers_is_found_until_the_time_is_over() -> None:
    registry = Registry()
    assert registry.register(peer(1), "net", Register("a", b"one", 100), 0.0) == (RendezvousStatus.OK, 100)
    assert registry.register(peer(2), "net", Register("a", b"two"), 1.0)[1] == limits.DEFAULT_TTL
    found = registry.discover("a", 0, 10, 50.0, besides=ME)
    assert [(each.record, each.ttl) for each in found.records] == [(b"one", 50), (b"two", 7151)]
    assert registry.discover("a", found.next_number, 10, 50.0, besides=ME).records == ()
    assert registry.discover("b", 0, 10, 50.0, besides=ME).records == ()
    assert [e.record for e in registry.discover("a", 0, 10, 50.0, besides=peer(1)).records] == [b"two"]
    assert [e.record for e in registry.discover("a", 0, 10, 100.0, besides=ME).records] == [b"two"]
    registry.unregister(peer(2), "a")
    assert len(registry) == 0
    assert registry.discover("a", 0, 10, 101.0, besides=ME).records == ()


def test_renewing_is_no_news_and_another_record_is() -> None:
    registry = Registry()
    registry.register(peer(1), "net", Register("a", b"one", 100), 0.0)
    number = registry.discover("a", 0, 10, 1.0, besides=ME).next_number
    registry.register(peer(1), "net", Register("a", b"one", 100), 50.0)
    assert registry.discover("a", number, 10, 60.0, besides=ME).records == ()
    assert registry.discover("a", 0, 10, 120.0, besides=ME).records != ()
    registry.register(peer(1), "net", Register("a", b"other", 100), 120.0)
    assert registry.discover("a", number, 10, 121.0, besides=ME).records[0].record == b"other"


def test_times_are_bounded() -> None:
    registry = Registry()
    for ttl in (1, limits.MAX_TTL + 1):
        status, _ = registry.register(peer(1), "net", Register("a", b"r", ttl), 0.0)
        assert status is RendezvousStatus.INVALID_TTL
    assert len(registry) == 0


def test_one_peer_and_one_network_cannot_fill_it() -> None:
    registry = Registry()
    for number in range(limits.MAX_REGISTRATIONS_PER_PEER + 5):
        status, _ = registry.register(peer(1), "net", Register(f"ns{number}", b"r"), 0.0)
    assert status is RendezvousStatus.UNAVAILABLE
    assert len(registry) == limits.MAX_REGISTRATIONS_PER_PEER
    for number in range(limits.MAX_REGISTRATIONS_PER_NETWORK - limits.MAX_REGISTRATIONS_PER_PEER + 5):
        registry.register(peer(2 + number), "net", Register("a", b"r"), 0.0)
    assert len(registry) == limits.MAX_REGISTRATIONS_PER_NETWORK
    assert registry.register(peer(5), "net", Register("a", b"r"), 0.0)[0] is RendezvousStatus.OK
    assert registry.register(peer(10**6), "other", Register("a", b"r"), 0.0)[0] is RendezvousStatus.OK
    registry.forget(peer(1))
    assert registry.register(peer(10**6 + 1), "net", Register("a", b"r"), 0.0)[0] is RendezvousStatus.OK


def test_a_hundred_thousand_namespaces_and_renewals_stay_small() -> None:
    gc.collect()
    tracemalloc.start()
    try:
        registry = Registry()
        for number in range(100_000):
            who, network = peer(number % 5000), f"net{number % 50}"
            # Each a record of its own, as long as any.
            record = number.to_bytes(4, "big") + bytes(limits.MAX_RECORD_BYTES - 4)
            registry.register(who, network, Register(f"{number:0250}", record), number / 1000)
        for number in range(100_000):
            registry.register(
                peer(number % 5000), "net", Register(f"{number:0250}", b"r"), 200.0 + number / 1e3
            )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(registry) <= limits.MAX_REGISTRATIONS
    assert peak < 20_000_000


def test_a_place_belongs_to_a_peer_and_circuits_need_one() -> None:
    places = Reservations(circuits=3)
    assert places.open_circuit(ME, peer(1), 0.0) is RelayStatus.NO_RESERVATION
    for _ in range(1000):
        assert places.reserve(peer(1), "net", 0.0)
    assert len(places) == 1
    assert places.open_circuit(peer(1), peer(1), 0.0) is RelayStatus.NO_RESERVATION
    circuits = [places.open_circuit(peer(7 + n), peer(1), 0.0) for n in range(4)]
    assert circuits[3] is RelayStatus.RESOURCE_LIMIT_EXCEEDED
    assert isinstance(circuits[0], OpenCircuit)
    places.close_circuit(circuits[0])
    places.close_circuit(circuits[0])
    assert places.circuits == 2
    assert isinstance(places.open_circuit(ME, peer(1), 0.0), OpenCircuit)
    assert not places.has(peer(1), limits.RESERVATION_SECONDS)
    assert places.open_circuit(ME, peer(1), limits.RESERVATION_SECONDS) is RelayStatus.NO_RESERVATION


def test_places_are_bounded_for_a_network_and_in_all() -> None:
    places = Reservations()
    given = [places.reserve(peer(n), "net", 0.0) for n in range(limits.MAX_RESERVATIONS_PER_NETWORK + 1)]
    assert given == [True] * limits.MAX_RESERVATIONS_PER_NETWORK + [False]
    for number in range(limits.MAX_RESERVATIONS):
        places.reserve(peer(1000 + number), f"net{number}", 0.0)
    assert len(places) == limits.MAX_RESERVATIONS
    places.release(peer(0))
    assert places.reserve(peer(10**6), "yet another", 0.0)
    assert places.reserve(peer(10**6 + 1), "one more", limits.RESERVATION_SECONDS)
    assert len(places) == 1
