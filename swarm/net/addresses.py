"""Multiaddrs that a user gives, and those that this machine can be reached at."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import ifaddr
from libp2p.peer.id import ID

from swarm.endpoint import IP_KINDS, ZONE, Endpoint, PeerAddress
from swarm.errors import UsageError
from swarm.ids import PeerId, SourceId

# A peer id is the SHA-256 multihash of a public key, or a short key itself (libp2p peer id spec).
_SHA256_HEAD = b"\x12\x20"
_SHA256_BYTES = 34
_IDENTITY_HEAD = b"\x00"
# Of these only the route is asked for; both are for documentation.
_FAR = {"ip4": (socket.AF_INET, "192.0.2.1"), "ip6": (socket.AF_INET6, "2001:db8::1")}
_TEMPORARY = 0x01 | 0x20
"""IFA_F_TEMPORARY and IFA_F_DEPRECATED of Linux."""
_EXAMPLE = "use a multiaddr such as /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…"


def parse_peer_address(text: str) -> PeerAddress:
    """Read ``/ip4/…/tcp/…/p2p/<id>``; ``/ipfs/<id>`` means the same.

    Both kinds of peer id (``12D3Koo…``, ``Qm…``) and the CIDv1 spelling are taken.
    Raises UsageError with one line that says what a peer address looks like.
    """
    head, separator, tail = text.strip().replace("/ipfs/", "/p2p/").rpartition("/p2p/")
    if not separator or not head:
        raise UsageError(f"{text!r} does not name a peer: {_EXAMPLE}")
    try:
        found = PeerAddress(_peer_id(tail), Endpoint.parse(head))
    except Exception as error:
        raise UsageError(f"{text!r} is not a peer address ({_brief(error)}): {_EXAMPLE}") from error
    where = found.endpoint
    if where.kind == "ip6" and where.is_link_local and not where.zone:
        raise UsageError(
            f"{text!r} is in a network of its own, but on which interface of this machine? "
            f"Write /{ZONE}/<interface>{where}/p2p/…"
        )
    return found


def parse_endpoint(text: str, purpose: str) -> Endpoint:
    """Read an address without a peer; raises UsageError that says what it was for (``to announce``)."""
    try:
        return Endpoint.parse(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not an address {purpose} ({error})") from error


def parse_listen_address(text: str) -> Endpoint:
    """Read an address to listen on, ``/ip4/<ip>/tcp/<port>`` or ``/ip6/…``; port 0 means any.

    Raises UsageError for anything else.
    """
    endpoint = parse_endpoint(text, "to listen on")
    if not endpoint.is_ip:
        raise UsageError(f"cannot listen on {text!r}: use /ip4/<ip>/tcp/<port> or /ip6/<ip>/tcp/<port>")
    if endpoint.kind == "ip6" and endpoint.is_link_local:
        raise UsageError(f"cannot listen on {text!r} alone: /ip6/::/tcp/{endpoint.port} includes it")
    return endpoint


def concrete(listening: Iterable[Endpoint]) -> list[Endpoint]:
    """Replace the unspecified address by the addresses of this machine's interfaces.

    Best first: those that most others can reach. Public ones come before those of a private network, then
    come those of a single link, and loopback last. Within each kind, that of the default route comes first.
    """
    found: dict[Endpoint, None] = {}
    for endpoint in listening:
        hosts = _interface_addresses(endpoint.kind) if endpoint.is_unspecified else [endpoint.host]
        for host in hosts:
            found.setdefault(Endpoint(endpoint.kind, host, endpoint.transport, endpoint.port))
    if not found:
        return []
    preferred = {route_source(kind) for kind in IP_KINDS}
    short_lived = _short_lived()
    return sorted(found, key=lambda each: _rank(each, preferred, short_lived))


def of_others(addresses: Sequence[str]) -> tuple[str, ...]:
    """Those of this node's addresses that other machines may reach; all of them if there is no such one."""
    return tuple(text for text in addresses if not _of_this_machine(text)) or tuple(addresses)


def _of_this_machine(text: str) -> bool:
    endpoint = Endpoint.read(text.partition("/p2p/")[0])
    return endpoint is not None and endpoint.is_loopback


def _interface_addresses(kind: str) -> list[str]:
    version = 4 if kind == "ip4" else 6
    result = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            ip = ipaddress.ip_address(text)
            # A link-local IPv6 address means nothing without the zone of the machine that uses it.
            if ip.version == version and not (version == 6 and ip.is_link_local):
                result.append(ip)
    return [str(ip) for ip in sorted(result, key=int)]


def _rank(
    endpoint: Endpoint, preferred: set[str | None], short_lived: set[str]
) -> tuple[int, bool, bool, str]:
    ip = ipaddress.ip_address(endpoint.host)
    kinds = (ip.is_global, not ip.is_private, not ip.is_link_local and not ip.is_loopback, ip.is_link_local)
    best = next((number for number, holds in enumerate(kinds) if holds), len(kinds))
    return best, endpoint.host in short_lived, endpoint.host not in preferred, endpoint.kind


def route_source(kind: str) -> str | None:
    """The address that packets to far away leave from; None without such a route. Nothing is sent."""
    family, far = _FAR[kind]
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((far, 9))
        return str(probe.getsockname()[0])
    return None


def _short_lived() -> set[str]:
    """The IPv6 addresses that the system replaces every day for privacy, where it says which those are."""
    found = set()
    with suppress(OSError, ValueError), Path("/proc/net/if_inet6").open(encoding="ascii") as file:
        for line in file:
            digits, _, _, _, flags, *_ = line.split()
            if int(flags, 16) & _TEMPORARY:
                found.add(str(ipaddress.IPv6Address(bytes.fromhex(digits))))
    return found


def _peer_id(text: str) -> PeerId:
    raw = ID.from_string(text).to_bytes()
    hashed = raw[:2] == _SHA256_HEAD and len(raw) == _SHA256_BYTES
    inlined = raw[:1] == _IDENTITY_HEAD and len(raw) > 2 and raw[1] == len(raw) - 2
    if not hashed and not inlined:
        raise ValueError("a peer id is the multihash of a public key")
    return PeerId(SourceId(ID(raw).to_base58()))


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
