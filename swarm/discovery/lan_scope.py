"""Which addresses belong to which network of this machine: what is told there, what is believed from there.

An announcement reaches one network, so it names only the addresses that this machine has in it. An answer
comes from anybody in that network, so only addresses of that network are taken from it: nobody there can make
this node dial a machine elsewhere, or one of its own services.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from swarm.endpoint import Endpoint
from swarm.lazy_dataclass import dataclass, replace

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_KINDS: Final = {4: "ip4", 6: "ip6"}


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of this machine, with its addresses and the networks that they are in."""

    index: int
    name: str
    addresses: tuple[IpInterface, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether it leads to this machine itself."""
        return any(each.ip.is_loopback for each in self.addresses)

    def has(self, ip: Ip) -> bool:
        """Whether the address is this machine's, on this interface."""
        return any(each.ip == ip for each in self.addresses)

    def reaches(self, ip: Ip) -> bool:
        """Whether the address is in a network that the interface is in."""
        if ip.is_multicast or ip.is_unspecified:
            return False
        if ip.is_link_local:
            return not self.is_loopback
        return any(each.version == ip.version and ip in each.network for each in self.addresses)

    def multicasts(self, kind: str) -> bool:
        """Whether ``ip4`` or ``ip6`` is to be spoken there; on the loopback the first is enough."""
        return any(_KINDS[each.version] == kind for each in self.addresses) and (
            kind == "ip4" or not self.is_loopback
        )


def told_on(interface: Interface, listening: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Where others in this network reach a node that listens at ``listening``; link-local addresses last."""
    found: dict[Endpoint, None] = {}
    for endpoint in listening:
        for each in interface.addresses:
            if _KINDS[each.version] == endpoint.kind:
                own = replace(endpoint, host=str(each.ip))
                if endpoint.is_unspecified or own.same_host(endpoint):
                    found.setdefault(own)
    return tuple(sorted(found, key=lambda each: each.is_link_local))


def believed(interface: Interface, endpoints: Sequence[Endpoint], source: str) -> tuple[Endpoint, ...]:
    """Those of the endpoints that a packet from ``source``, received on the interface, may name.

    A peer that says that it listens at every address of its own (0.0.0.0) means the one that it speaks from.
    A link-local IPv6 address gets the interface as its zone.
    """
    ip = ipaddress.ip_address(source)
    found: dict[Endpoint, None] = {}
    for endpoint in endpoints:
        if endpoint.is_unspecified and endpoint.kind == _KINDS[ip.version]:
            endpoint = replace(endpoint, host=str(ip))  # noqa: PLW2901 - the same, spelt out
        if not endpoint.is_ip or endpoint.zone or not endpoint.port:
            continue
        named = ipaddress.ip_address(endpoint.host)
        if named != ip and not interface.reaches(named):
            continue
        if named.is_loopback and not interface.has(ip):
            continue
        zoned = endpoint.kind == "ip6" and endpoint.is_link_local
        found.setdefault(replace(endpoint, host=f"{named}%{interface.name}") if zoned else endpoint)
    return tuple(found)
