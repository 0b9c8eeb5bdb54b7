"""Where a node can be reached: a host, a transport and a port, written as a multiaddr. Pure.

Every address in the program is one of these before it is dialled, listened on or judged, so another
transport is an entry in `TRANSPORTS` and a dialler for it. Source: the multiaddr specification.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from enum import IntEnum

from swarm.ids import PeerId, SourceId
from swarm.lazy_dataclass import dataclass
from swarm.lazy_pattern import lazy_pattern

IP_KINDS = ("ip4", "ip6")
NAME_KINDS = ("dns", "dns4", "dns6")

TRANSPORTS = ("tcp",)
"""The protocols that may follow the host; each is followed by its port."""

ZONE = "ip6zone"
"""Stands before a link-local IPv6 address and names the interface: ``/ip6zone/eth0/ip6/fe80::1/tcp/4001``."""

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_PARTS = 5
_ZONE = lazy_pattern(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)
_MAX_PORT = 65535
_PEER = lazy_pattern(r"[1-9A-HJ-NP-Za-km-z]{32,64}", re.ASCII)
_LABEL = lazy_pattern(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}", re.ASCII)
_MAX_NAME = 253


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``kind`` is one of `IP_KINDS` or `NAME_KINDS`; `parse` is the way to make one."""

    kind: str
    host: str
    transport: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``/ip4/192.0.2.1/tcp/4001`` and its like; raises ValueError with one line."""
        parts = text.split("/")
        if parts[1:2] == [ZONE] and len(parts) == _PARTS + 2:
            return cls._zoned(parts[2], cls.parse("/".join(["", *parts[3:]])))
        if len(parts) != _PARTS or parts[0]:
            raise ValueError("an address is /<kind>/<host>/<transport>/<port>")
        _, kind, host, transport, port = parts
        if transport not in TRANSPORTS:
            raise ValueError(f"the transport {transport!a} is not supported, only {', '.join(TRANSPORTS)}")
        if not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
            raise ValueError(f"{port!a} is not a port")
        return cls(kind, _host(kind, host), transport, int(port))

    @classmethod
    def read(cls, text: str) -> Endpoint | None:
        """As `parse`, but None for what this program cannot reach."""
        try:
            return cls.parse(text)
        except ValueError:
            return None

    @classmethod
    def _zoned(cls, zone: str, endpoint: Endpoint) -> Endpoint:
        if not _ZONE.fullmatch(zone):
            raise ValueError(f"{zone[:60]!a} is not the name of a network interface")
        if endpoint.kind != "ip6" or not endpoint.is_link_local:
            raise ValueError("only a link-local address, /ip6/fe80::…, has a zone")
        return cls(endpoint.kind, f"{endpoint.host}%{zone}", endpoint.transport, endpoint.port)

    def __str__(self) -> str:
        host, _, zone = self.host.partition("%")
        return f"{f'/{ZONE}/{zone}' if zone else ''}/{self.kind}/{host}/{self.transport}/{self.port}"

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address and not a name."""
        return self.kind in IP_KINDS

    @property
    def is_loopback(self) -> bool:
        """Whether it names this machine itself."""
        return self._ip.is_loopback if self.is_ip else self.host.lower() == "localhost"

    @property
    def is_link_local(self) -> bool:
        """Whether it is reached only from the network that it is in."""
        return self.is_ip and self._ip.is_link_local

    @property
    def is_public(self) -> bool:
        """Whether it is an address of the whole Internet; a name is none, since it may lead anywhere."""
        return self.is_ip and _is_public(self._ip)

    @property
    def zone(self) -> str:
        """The interface of this machine that leads to a link-local IPv6 address; empty for any other."""
        return self.host.partition("%")[2]

    @property
    def is_unspecified(self) -> bool:
        """Whether it stands for every address of a machine, and so can be listened on but not dialled."""
        return self.is_ip and self._ip.is_unspecified

    def at(self, host: Endpoint) -> Endpoint:
        """The same transport and port at another host."""
        return Endpoint(host.kind, host.host, self.transport, self.port)

    def same_host(self, other: Endpoint) -> bool:
        """Whether both name the same host."""
        return (self.kind, self.host) == (other.kind, other.host)

    def is_beside(self, other: Endpoint) -> bool:
        """Whether both are of one network, as far as addresses tell: a /24 of IPv4, a /64 of IPv6."""
        if self.kind != other.kind or not self.is_ip:
            return False
        ours, theirs = self._ip, other._ip
        host_bits = 8 if ours.version == 4 else 64
        return int(ours) >> host_bits == int(theirs) >> host_bits

    @property
    def _ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        return ipaddress.ip_address(self.host)


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A peer and one endpoint of it; prints as a multiaddr with ``/p2p/<id>``."""

    peer: PeerId
    endpoint: Endpoint

    def __str__(self) -> str:
        return f"{self.endpoint}/p2p/{self.peer}"


CIRCUIT = "p2p-circuit"
"""The last part of a way through a relay: ``/ip4/192.0.2.1/tcp/4001/p2p/<relay>/p2p-circuit``."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """A way to a peer through a relay that the peer is connected to."""

    relay: PeerAddress

    def __str__(self) -> str:
        return f"{self.relay}/{CIRCUIT}"


Route = Endpoint | Circuit
"""A way to a peer."""


def read_route(text: str) -> Route | None:
    """Read an endpoint or a circuit; None for what this program cannot reach."""
    relay, separator, rest = text.rpartition(f"/{CIRCUIT}")
    if not separator:
        return Endpoint.read(text)
    where, named, peer = relay.rpartition("/p2p/")
    endpoint = Endpoint.read(where)
    if rest or not named or endpoint is None or not _PEER.fullmatch(peer):
        return None
    return Circuit(PeerAddress(PeerId(SourceId(peer)), endpoint))


class Scope(IntEnum):
    """From how far an address can be reached, the nearest first."""

    MACHINE = 0
    LINK = 1
    PRIVATE = 2
    PUBLIC = 3

    @classmethod
    def of(cls, route: Route) -> Scope:
        """The scope of an endpoint, or of a circuit's relay. A name counts as public, but ``localhost``."""
        endpoint = route.relay.endpoint if isinstance(route, Circuit) else route
        if endpoint.is_loopback or endpoint.is_unspecified:
            return cls.MACHINE
        if not endpoint.is_ip:
            return cls.PUBLIC
        if endpoint.is_link_local:
            return cls.LINK
        return cls.PUBLIC if endpoint.is_public else cls.PRIVATE


def public_only(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those multiaddrs whose first part is a public address; what follows ``/p2p/`` is not looked at."""
    found = []
    for text in addresses:
        endpoint = Endpoint.read(text.partition("/p2p/")[0])
        if endpoint is not None and endpoint.is_public:
            found.append(text)
    return tuple(found)


def by_peer(addresses: Iterable[PeerAddress]) -> dict[PeerId, list[Endpoint]]:
    """The endpoints of each peer, in their order, each once."""
    found: dict[PeerId, list[Endpoint]] = {}
    for each in dict.fromkeys(addresses):
        found.setdefault(each.peer, []).append(each.endpoint)
    return found


def _is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(ip, ipaddress.IPv6Address):
        # Translators lead these to an IPv4 address, which may be of a private network.
        if ip in _TRANSLATED:
            return _is_public(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if ip.sixtofour is not None:
            return _is_public(ip.sixtofour)
        if ip.ipv4_mapped is not None or ip.teredo is not None or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast


def _host(kind: str, host: str) -> str:
    if kind in IP_KINDS:
        try:
            ip = ipaddress.IPv4Address(host) if kind == "ip4" else ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{host[:60]!a} is not an {kind} address") from None
        if "%" in host:
            raise ValueError(f"write the zone as /{ZONE}/<interface>/ip6/fe80::…")
        return str(ip)
    if kind not in NAME_KINDS:
        raise ValueError(f"{kind[:60]!a} is not one of {', '.join((*IP_KINDS, *NAME_KINDS))}")
    labels = host.removesuffix(".").split(".")
    if len(host) > _MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{host[:60]!a} is not a host name")
    return host
