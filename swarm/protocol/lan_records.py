"""What a node says of itself in its network, and what it reads there about others. Pure.

Source: libp2p's specification of discovery by multicast DNS. A node has one instance name, which is random
and says nothing. Its TXT record holds its multiaddrs, each with ``/p2p/<peer id>``. SRV and address records
come along for readers that look for them; this one takes the addresses from the TXT record alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from swarm.endpoint import Endpoint
from swarm.ids import PeerId, SourceId
from swarm.lazy_dataclass import dataclass
from swarm.lazy_pattern import lazy_pattern
from swarm.protocol.codec import is_peer_id
from swarm.protocol.dns_message import (
    AAAA,
    ANY,
    MAX_TEXT_BYTES,
    PTR,
    SRV,
    TXT,
    A,
    DnsMessage,
    Name,
    Question,
    Record,
    Service,
    encode_message,
    name_of,
)

OWN_SERVICE: Final = name_of("_swarm-p2p._udp.local")
"""Where the nodes of this program meet; other programs on libp2p are left alone."""
LIBP2P_SERVICE: Final = name_of("_p2p._udp.local")
"""Where all programs on libp2p meet. A node answers there, and looks there only to list who is near."""
SERVICES: Final = (OWN_SERVICE, LIBP2P_SERVICE)

TTL: Final = 120
"""Seconds that others may believe an answer."""
MAX_TTL: Final = 4500
"""The longest time that an answer of others is believed."""
MAX_ENDPOINTS: Final = 8
"""Addresses of a node in one answer, and those that are read of one."""
MAX_KNOWN: Final = 24
"""Instances that a query names as known already; more are answered again."""
MAX_PACKET_BYTES: Final = 1400
"""Bytes of a packet that every network carries in one."""
MAX_FOUND: Final = 32
"""Peers that are read of one packet."""

_LOCAL: Final = b"local"
_TEXT: Final = lazy_pattern(rb"dnsaddr\d{0,3}=(/[\x21-\x7e]+)/p2p/([1-9A-HJ-NP-Za-km-z]{1,128})")
_MARKS: Final = (OWN_SERVICE[0], LIBP2P_SERVICE[0])


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one packet says of one peer: where it is, for ``ttl`` seconds; 0 means that it has left.

    The endpoints are as the peer gave them, and may be anybody's. ``peer`` is None in a farewell that names
    no addresses.
    """

    instance: Name
    service: Name
    peer: PeerId | None
    endpoints: tuple[Endpoint, ...]
    ttl: int


def concerns_us(data: bytes) -> bool:
    """Whether a packet may have to do with the services above: most of what others multicast has not."""
    lowered = data.lower()
    return any(mark in lowered for mark in _MARKS)


def query(services: Iterable[Name], known: Sequence[tuple[Name, Name, int]] = ()) -> bytes:
    """Ask who offers one of the services.

    ``known`` are instances that need not answer: service, instance, and seconds that they are still believed.
    """
    # js-libp2p looks at the first question alone, and is not asked for our own service.
    ordered = sorted(services, key=lambda service: service != LIBP2P_SERVICE)
    questions = tuple(Question(service, PTR) for service in ordered)
    records = tuple(
        Record(service, PTR, instance, seconds) for service, instance, seconds in known[:MAX_KNOWN]
    )
    return encode_message(DnsMessage(response=False, questions=questions, records=records))


def announcement(
    label: str, peer: PeerId, endpoints: Sequence[Endpoint], services: Iterable[Name], ttl: int = TTL
) -> bytes:
    """Say where the peer is, in one packet; a ``ttl`` of 0 says that it is about to leave.

    ``label`` is the first part of the instance's name. Only IP addresses can be told.
    """
    told = [each for each in endpoints if each.is_ip and not each.is_unspecified][:MAX_ENDPOINTS]
    host: Name = (label.encode(), _LOCAL)
    texts = tuple(
        text for each in told if len(text := f"dnsaddr={_plain(each)}/p2p/{peer}".encode()) <= MAX_TEXT_BYTES
    )
    records: list[Record] = []
    for service in services:
        instance = (label.encode(), *service)
        records.append(Record(service, PTR, instance, ttl))
        records.append(Record(instance, TXT, texts, ttl, flush=True))
        if told:
            records.append(Record(instance, SRV, Service(told[0].port, host), ttl, flush=True))
    for address in dict.fromkeys(each.host.partition("%")[0] for each in told):
        packed = ipaddress.ip_address(address).packed
        records.append(Record(host, A if len(packed) == 4 else AAAA, packed, ttl, flush=True))
    return encode_message(DnsMessage(response=True, records=tuple(records)))


def announcements(
    label: str, peer: PeerId, endpoints: Sequence[Endpoint], services: Sequence[Name], ttl: int = TTL
) -> list[bytes]:
    """As `announcement`; where one packet would be too long for the network, one for each service."""
    together = announcement(label, peer, endpoints, services, ttl)
    if len(together) <= MAX_PACKET_BYTES or len(services) < 2:
        return [together]
    return [announcement(label, peer, endpoints, [service], ttl) for service in services]


def asked_for(message: DnsMessage, label: str, services: Collection[Name]) -> tuple[Name, ...]:
    """Those of the services that a query wants an answer for, and whose asker does not know us yet."""
    if message.response:
        return ()
    wanted = []
    for service in services:
        instance = (label.encode(), *service)
        names = {
            question.name: question.kind
            for question in message.questions
            if question.kind in {PTR, TXT, SRV, ANY} and question.name in {service, instance}
        }
        known = any(
            record.kind == PTR and record.value == instance and record.ttl >= TTL // 2
            for record in message.records
        )
        if instance in names or (service in names and not known):
            wanted.append(service)
    return tuple(wanted)


def sightings(message: DnsMessage, services: Collection[Name]) -> list[Sighting]:
    """What a response says of peers that offer one of the services; at most `MAX_FOUND`."""
    if not message.response:
        return []
    # A peer may have a record for each address, and strings of one record.
    texts: dict[Name, list[object]] = {}
    for record in message.records:
        if record.kind == TXT and isinstance(record.value, tuple):
            texts.setdefault(record.name, []).extend(record.value)
    found: list[Sighting] = []
    for record in message.records:
        if record.kind != PTR or record.name not in services or len(found) == MAX_FOUND:
            continue
        instance = record.value
        if not isinstance(instance, tuple) or isinstance(instance, Service):
            continue
        peer, endpoints = _whereabouts(texts.get(instance, ()))
        ttl = min(record.ttl, MAX_TTL)
        if peer is not None or not ttl:
            found.append(Sighting(instance, record.name, peer, endpoints, ttl))
    return found


def _whereabouts(texts: Iterable[object]) -> tuple[PeerId | None, tuple[Endpoint, ...]]:
    """The peer that the strings of TXT records name, and its addresses that this program could dial.

    Strings that name two peers are about the first.
    """
    peer: PeerId | None = None
    endpoints: dict[Endpoint, None] = {}
    for text in texts:
        match = _TEXT.fullmatch(text) if isinstance(text, bytes) else None
        if match is None or not is_peer_id(named := match[2].decode()):
            continue
        peer = peer or PeerId(SourceId(named))
        endpoint = Endpoint.read(match[1].decode())
        if endpoint is not None and peer == named and len(endpoints) < MAX_ENDPOINTS:
            endpoints.setdefault(endpoint)
    return peer, tuple(endpoints)


def _plain(endpoint: Endpoint) -> str:
    """The multiaddr without the zone, which is this machine's own name for an interface."""
    return f"/{endpoint.kind}/{endpoint.host.partition('%')[0]}/{endpoint.transport}/{endpoint.port}"
