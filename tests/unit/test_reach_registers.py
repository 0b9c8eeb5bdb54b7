"""The bounded registers of a meeting point: registrations, places and circuits."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable

import pytest

from swarm.ids import PeerId, SourceId
from swarm.reach import reach_limits as limits
from swarm.reach.registry import Registry
from swarm.reach.relay_messages import RelayStatus
from swarm.reach.rendezvous_messages import Register, RendezvousStatus
from swarm.reach.reservations import OpenCircuit, Reservations, SessionPlaces


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


def test_another_record_is_news_in_each_namespace_where_it_is_registered_next() -> None:
    registry = Registry()
    names = ("a", "b", "c")
    numbers = dict.fromkeys(names, 0)

    def news(record: bytes, *of: str) -> dict[str, bytes]:
        """What is new to who looks in all of them, after a registration in some."""
        for name in of:
            registry.register(peer(1), "net", Register(name, record, 100), 0.0)
        heard = {}
        for name in names:
            found = registry.discover(name, numbers[name], 10, 1.0, besides=ME)
            numbers[name] = found.next_number
            if found.records:
                heard[name] = found.records[0].record
        return heard

    assert news(b"one", *names) == dict.fromkeys(names, b"one")
    assert news(b"other", "a", "b") == dict.fromkeys("ab", b"other")
    assert news(b"other", "a", "b") == news(b"", "a", "b") == {}
    assert news(b"other", "c") == {"c": b"other"}


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
        for number in range(20_000):
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
    assert places.open_circuit(ME, peer(1), "net", 0.0) is RelayStatus.NO_RESERVATION
    for _ in range(1000):
        assert places.reserve(peer(1), "net", 0.0)
    assert len(places) == 1
    assert places.open_circuit(peer(1), peer(1), "net", 0.0) is RelayStatus.NO_RESERVATION
    circuits = [places.open_circuit(peer(7 + n), peer(1), "net", 0.0) for n in range(4)]
    assert circuits[3] is RelayStatus.RESOURCE_LIMIT_EXCEEDED
    assert isinstance(circuits[0], OpenCircuit)
    places.close_circuit(circuits[0])
    places.close_circuit(circuits[0])
    assert places.circuits == 2
    assert isinstance(places.open_circuit(ME, peer(1), "net", 0.0), OpenCircuit)
    assert not places.has(peer(1), limits.RESERVATION_SECONDS)
    assert places.open_circuit(ME, peer(1), "net", limits.RESERVATION_SECONDS) is RelayStatus.NO_RESERVATION


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (Reservations, limits.MAX_CIRCUITS_PER_NETWORK),
        (lambda: SessionPlaces(lambda _one, _other: True), limits.COORDINATED_PER_NETWORK),
    ],
)
def test_nobody_takes_all_circuits_with_many_identities(make: Callable[[], Reservations], most: int) -> None:
    places = make()
    for number in range(1, 100):
        places.reserve(peer(number), f"net{number}", 0.0)
    opened = [places.open_circuit(peer(100 + n), peer(1 + n % 98), "net", 0.0) for n in range(most + 1)]
    assert opened.pop() is RelayStatus.RESOURCE_LIMIT_EXCEEDED
    first = opened[0]
    assert all(isinstance(each, OpenCircuit) for each in opened)
    assert isinstance(places.open_circuit(peer(300), peer(99), "another", 0.0), OpenCircuit)
    assert isinstance(first, OpenCircuit)
    places.close_circuit(first)
    places.close_circuit(first)
    assert isinstance(places.open_circuit(peer(301), peer(99), "net", 0.0), OpenCircuit)
    assert isinstance(places.open_circuit(peer(302), peer(99), "net", 0.0), RelayStatus)


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


def here(name: str) -> Register:
    """A registration that ends with its stream, and so needs an open connection."""
    return Register(name, b"r", limits.REGISTERED_SECONDS, present=True)


def test_a_newcomer_from_the_address_of_a_flood_gets_a_place_and_keeps_it() -> None:
    registry = Registry()

    def flood(identities: range, *, present: bool) -> None:
        for number in identities:
            for name in range(21):
                registry.register(
                    peer(number), "net", Register(f"{number}/{name}", b"r", limits.MAX_TTL, present), 0.0
                )

    flood(range(100, 200), present=False)
    assert len(registry) == limits.MAX_REGISTRATIONS_PER_NETWORK
    assert registry.register(peer(1), "net", here("a"), 0.0)[0] is RendezvousStatus.OK
    assert registry.register(peer(2), "net", Register("a", b"r"), 0.0)[0] is RendezvousStatus.OK
    # More of the same, gone at once or with the connections that one address can have.
    flood(range(200, 400), present=False)
    flood(range(2000, 2000 + 512), present=True)
    assert len(registry) == limits.MAX_REGISTRATIONS_PER_NETWORK
    assert len(registry.discover("a", 0, 10, 1.0, besides=ME).records) == 1
    for name in "bc":
        assert registry.register(peer(1), "net", here(name), 1.0)[0] is RendezvousStatus.OK
    assert registry.register(peer(3), "net", here("a"), 1.0)[0] is RendezvousStatus.OK
    assert len(registry.discover("a", 0, 10, 1.0, besides=ME).records) == 2
    # What needs no connection displaces nobody who has one.
    assert registry.register(peer(4), "net", Register("a", b"r"), 1.0)[0] is RendezvousStatus.UNAVAILABLE


def test_a_full_register_takes_from_the_network_that_has_most() -> None:
    registry = Registry()
    for network in range(6):
        for number in range(4):
            for name in range(limits.MAX_REGISTRATIONS_PER_PEER):
                who = peer(1000 * network + number)
                registry.register(who, f"net{network}", Register(f"{name}", b"r"), 0.0)
    assert len(registry) == limits.MAX_REGISTRATIONS
    for number in range(100):
        status, _ = registry.register(peer(9000 + number), "other", Register("b", b"r"), 0.0)
        assert status is RendezvousStatus.OK
    assert len(registry) == limits.MAX_REGISTRATIONS
    assert len(registry.discover("b", 0, 200, 0.0, besides=ME).records) == 100
    # Nor does one who has as much as others push them out, who would push him out again.
    again = registry.register(peer(0), "net0", Register("more", b"r"), 0.0)
    assert again[0] is RendezvousStatus.UNAVAILABLE
    assert len(registry.discover("b", 0, 200, 0.0, besides=ME).records) == 100


def test_records_without_a_connection_make_way() -> None:
    registry = Registry()
    for number in range(limits.MAX_RECORDS):
        registry.register(peer(number), f"net{number}", Register("a", b"r", limits.MAX_TTL), 0.0)
    newcomer = peer(10**6)
    assert registry.register(newcomer, "other", Register("b", b"r"), 0.0)[0] is RendezvousStatus.UNAVAILABLE
    assert registry.register(newcomer, "other", here("b"), 0.0)[0] is RendezvousStatus.OK
    assert len(registry) == limits.MAX_RECORDS
    # Once all have connections, nobody is pushed out.
    for number in range(limits.MAX_RECORDS):
        registry.register(peer(number), f"net{number}", here("a"), 0.0)
    held = len(registry)
    assert registry.register(peer(10**6 + 1), "third", here("b"), 0.0)[0] is RendezvousStatus.UNAVAILABLE
    assert len(registry) == held


def test_the_counts_are_those_of_what_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("MAX_REGISTRATIONS", 30),
        ("MAX_REGISTRATIONS_PER_NETWORK", 12),
        ("MAX_REGISTRATIONS_PER_PEER", 5),
        ("MAX_RECORDS", 12),
    ):
        monkeypatch.setattr(limits, name, value)
    rng = random.Random(7)
    registry = Registry()
    taken = 0
    for moment in range(5_000):
        number = rng.randrange(30)
        namespace = f"ns{rng.randrange(9)}"
        match rng.randrange(8):
            case 0:
                registry.unregister(peer(number), namespace)
            case 1:
                registry.forget(peer(number))
            case _:
                message = Register(namespace, b"r", rng.randrange(60, 200), rng.random() < 0.4)
                network = f"net{number % 5}"
                taken += registry.register(peer(number), network, message, float(moment))[0] == 0
        members = registry._members
        totals = Counter(each.network for each in members.values() for _ in each.until)
        absent = Counter(
            each.network for each in members.values() for name in each.until if name not in each.present
        )
        assert len(registry) == totals.total() <= 30
        assert len(members) <= 12
        assert max(totals.values(), default=0) <= 12
        assert max((len(each.until) for each in members.values()), default=0) <= 5
        assert registry._totals == totals
        assert registry._absent == absent
        leavers = [name for name, each in members.items() if not each.present]
        assert registry._leavers == Counter(members[name].network for name in leavers)
        found = sum(
            len(registry.discover(f"ns{n}", 0, 99, float(moment), besides=ME).records) for n in range(9)
        )
        assert found == len(registry) - (len(members[ME].until) if ME in members else 0)
    assert taken > 2000


def test_of_one_network_the_fullest_peer_loses_its_newest_and_what_is_present_stays() -> None:
    registry = Registry()
    for name in "abc":
        registry.register(peer(1), "net", Register(name, b"small"), 0.0)
    for number in range(2, 6):
        for name in range(limits.MAX_REGISTRATIONS_PER_PEER - 1):
            registry.register(peer(number), "net", Register(f"{name}", b"r"), 0.0)
        registry.register(peer(number), "net", here("here"), 0.0)
    assert len(registry) == limits.MAX_REGISTRATIONS_PER_NETWORK
    # The last of them was let in at the cost of the others: what needs no connection has gone.
    there = len(registry.discover("here", 0, 10, 0.0, besides=ME).records)
    assert there == 4
    for number in range(50):
        assert registry.register(peer(100 + number), "net", here("new"), 0.0)[0] is RendezvousStatus.OK
    assert len(registry.discover("here", 0, 10, 0.0, besides=ME).records) == there
    for name in "abc":
        assert [each.record for each in registry.discover(name, 0, 9, 0.0, besides=ME).records] == [b"small"]
    # The newest of the full ones went, not their first.
    assert len(registry.discover("0", 0, 10, 0.0, besides=ME).records) == 4
