"""Multiaddrs that a user gives, and those that this machine can be reached at."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import ifaddr
from libp2p.peer.id import ID

from swarm.endpoint import Endpoint, PeerAddress
from swarm.errors import UsageError
from swarm.ids import PeerId, SourceId

# A peer id is the SHA-256 multihash of a public key, or a short key itself (libp2p peer id spec).
_SHA256_HEAD = b"\x12\x20"
_SHA256_BYTES = 34
_IDENTITY_HEAD = b"\x00"
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
        return PeerAddress(_peer_id(tail), Endpoint.parse(head))
    except Exception as error:
        raise UsageError(f"{text!r} is not a peer address ({_brief(error)}): {_EXAMPLE}") from error


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
    return endpoint


def concrete(listening: Iterable[Endpoint]) -> list[Endpoint]:
    """Replace the unspecified address by the addresses of this machine's interfaces.

    Loopback comes last, so that the first address is the one that others can use.
    """
    found: dict[Endpoint, None] = {}
    for endpoint in listening:
        hosts = _interface_addresses(endpoint.kind) if endpoint.is_unspecified else [endpoint.host]
        for host in hosts:
            found.setdefault(Endpoint(endpoint.kind, host, endpoint.transport, endpoint.port))
    return list(found)


def _interface_addresses(kind: str) -> list[str]:
    version = 4 if kind == "ip4" else 6
    result = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            ip = ipaddress.ip_address(text)
            # A link-local address means nothing without the zone of the machine that uses it.
            if ip.version == version and not ip.is_link_local:
                result.append(ip)
    result.sort(key=lambda ip: (ip.is_loopback, int(ip)))
    return [str(ip) for ip in result]


def _peer_id(text: str) -> PeerId:
    raw = ID.from_string(text).to_bytes()
    hashed = raw[:2] == _SHA256_HEAD and len(raw) == _SHA256_BYTES
    inlined = raw[:1] == _IDENTITY_HEAD and len(raw) > 2 and raw[1] == len(raw) - 2
    if not hashed and not inlined:
        raise ValueError("a peer id is the multihash of a public key")
    return PeerId(SourceId(ID(raw).to_base58()))


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
