"""What a node says of itself in its network, and what it reads there about others."""

from __future__ import annotations

import pytest

from swarm.endpoint import Endpoint
from swarm.ids import PeerId, SourceId
from swarm.protocol.dns_message import (
    PTR,
    SRV,
    TXT,
    A,
    DnsMessage,
    Record,
    Service,
    decode_message,
    encode_message,
)
from swarm.protocol.lan_records import (
    LIBP2P_SERVICE,
    MAX_ENDPOINTS,
    MAX_PACKET_BYTES,
    OWN_SERVICE,
    SERVICES,
    TTL,
    Sighting,
    announcement,
    announcements,
    asked_for,
    concerns_us,
    query,
    sightings,
)

ANN = PeerId(SourceId("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"))
BEN = PeerId(SourceId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"))
LABEL = "0123456789abcdef"
HERE = (Endpoint.parse("/ip4/192.168.1.2/tcp/4001"), Endpoint.parse("/ip6/fe80::2/tcp/4001"))


def of(*texts: str, ttl: int = TTL) -> list[Sighting]:
    """What is read of a TXT record with these strings."""
    instance = (b"x", *LIBP2P_SERVICE)
    records = (
        Record(LIBP2P_SERVICE, PTR, instance, ttl),
        Record(instance, TXT, tuple(text.encode() for text in texts), ttl),
    )
    return sightings(decode_message(encode_message(DnsMessage(response=True, records=records))), SERVICES)


def test_what_is_announced_is_seen_under_each_service() -> None:
    data = announcement(LABEL, ANN, HERE, SERVICES)
    assert concerns_us(data)
    assert sightings(decode_message(data), SERVICES) == [
        Sighting((LABEL.encode(), *service), service, ANN, HERE, TTL) for service in SERVICES
    ]
    (only,) = sightings(decode_message(data), [OWN_SERVICE])
    assert only.service == OWN_SERVICE


def test_each_answer_has_what_other_readers_look_for() -> None:
    message = decode_message(announcement(LABEL, ANN, HERE, [LIBP2P_SERVICE]))
    kinds = [record.kind for record in message.records]
    assert kinds[:3] == [PTR, TXT, SRV]
    assert Record((LABEL.encode(), b"local"), A, bytes((192, 168, 1, 2)), TTL, flush=True) in message.records
    assert [each.value for each in message.records if each.kind == SRV] == [
        Service(4001, (LABEL.encode(), b"local"))
    ]


def test_the_name_of_an_interface_stays_on_this_machine() -> None:
    zoned = Endpoint.parse("/ip6zone/eth0/ip6/fe80::2/tcp/4001")
    data = announcement(LABEL, ANN, [zoned], SERVICES)
    assert b"eth0" not in data
    assert sightings(decode_message(data), [OWN_SERVICE])[0].endpoints == (HERE[1],)


def test_the_most_that_is_announced_fits_into_a_packet() -> None:
    many = [
        Endpoint("ip6", f"fd00:1234:5678:9abc:def0:1234:5678:9{number:03x}", "tcp", 65535)
        for number in range(99)
    ]
    packets = announcements("f" * 32, ANN, many, SERVICES)
    assert [len(packet) <= MAX_PACKET_BYTES for packet in packets] == [True, True]
    for packet, service in zip(packets, SERVICES, strict=True):
        (seen,) = sightings(decode_message(packet), SERVICES)
        assert (seen.service, seen.endpoints) == (service, tuple(many[:MAX_ENDPOINTS]))
    assert len(announcements(LABEL, ANN, HERE, SERVICES)) == 1


def test_a_farewell_names_the_instance() -> None:
    (seen,) = sightings(decode_message(announcement(LABEL, ANN, HERE, [OWN_SERVICE], 0)), SERVICES)
    assert (seen.instance[0], seen.ttl) == (LABEL.encode(), 0)


def test_only_what_can_be_dialled_is_read() -> None:
    (seen,) = of(
        f"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/{ANN}",
        f"dnsaddr2=/ip4/10.0.0.2/tcp/2/p2p/{ANN}",
        f"dnsaddr=/ip4/10.0.0.3/udp/3/quic-v1/p2p/{ANN}",
        f"dnsaddr=/ip4/10.0.0.4/tcp/4/ws/p2p/{ANN}",
        f"dnsaddr=/ip4/10.0.0.5/tcp/5/p2p/{BEN}/p2p-circuit/p2p/{ANN}",
        f"dnsaddr=/ip4/10.0.0.6/tcp/6/p2p/{BEN}",
        "dnsaddr=/ip4/10.0.0.7/tcp/7/p2p/nobody",
        f"other=/ip4/10.0.0.8/tcp/8/p2p/{ANN}",
        "dnsaddr",
    )
    assert seen.peer == ANN
    assert list(map(str, seen.endpoints)) == ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/2"]


def test_an_address_may_have_a_record_of_its_own() -> None:
    instance = (b"x", *LIBP2P_SERVICE)
    texts = [f"dnsaddr=/ip4/10.0.0.{number}/tcp/1/p2p/{ANN}".encode() for number in (1, 2)]
    records = [Record(instance, TXT, (text,), TTL) for text in texts]
    message = DnsMessage(response=True, records=(Record(LIBP2P_SERVICE, PTR, instance, TTL), *records))
    (seen,) = sightings(decode_message(encode_message(message)), SERVICES)
    assert list(map(str, seen.endpoints)) == ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"]


@pytest.mark.parametrize("texts", [(), ("",), ("dnsaddr=",), (f"dnsaddr=/p2p/{ANN}",)])
def test_who_names_no_peer_is_not_seen(texts: tuple[str, ...]) -> None:
    assert of(*texts) == []


def test_a_query_is_answered_unless_its_asker_knows() -> None:
    asked = decode_message(query([OWN_SERVICE]))
    assert asked_for(asked, LABEL, SERVICES) == (OWN_SERVICE,)
    mine = (LABEL.encode(), *OWN_SERVICE)
    for seconds, wanted in ((TTL, ()), (TTL // 2, ()), (TTL // 2 - 1, (OWN_SERVICE,))):
        knowing = decode_message(query([OWN_SERVICE], [(OWN_SERVICE, mine, seconds)]))
        assert asked_for(knowing, LABEL, SERVICES) == wanted
    other = decode_message(query([OWN_SERVICE], [(OWN_SERVICE, (b"x", *OWN_SERVICE), TTL)]))
    assert asked_for(other, LABEL, SERVICES) == (OWN_SERVICE,)
    assert asked_for(decode_message(announcement(LABEL, ANN, HERE, SERVICES)), LABEL, SERVICES) == ()
    assert asked_for(decode_message(query([(b"_http", b"_tcp", b"local")])), LABEL, SERVICES) == ()
    assert not concerns_us(query([(b"_http", b"_tcp", b"local")]))
