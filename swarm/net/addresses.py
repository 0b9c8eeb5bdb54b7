"""Multiaddrs of peers: what a user or a peer may give us, and what we may give to others."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

import ifaddr
import multiaddr
import multiaddr.exceptions
from libp2p.peer.id import ID

from swarm.errors import UsageError
from swarm.ids import PeerId, SourceId

# A peer id is the SHA-256 multihash of a public key, or a short key itself (libp2p peer id spec).
_SHA256_HEAD = b"\x12\x20"
_SHA256_BYTES = 34
_IDENTITY_HEAD = b"\x00"
_DIALABLE_HOSTS = frozenset({"ip4", "ip6", "dns", "dns4", "dns6"})


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A peer and one address of it; ``address`` has no ``/p2p`` part."""

    peer: PeerId
    address: str

    def __str__(self) -> str:
        return f"{self.address}/p2p/{self.peer}"


def by_peer(addresses: Iterable[PeerAddress]) -> dict[PeerId, list[str]]:
    """The addresses of each peer, in their order."""
    found: dict[PeerId, list[str]] = {}
    for each in dict.fromkeys(addresses):
        found.setdefault(each.peer, []).append(each.address)
    return found


def parse_peer_address(text: str) -> PeerAddress:
    """Read ``/ip4/…/tcp/…/p2p/<id>``; ``/ipfs/<id>`` means the same.

    Both kinds of peer id (``12D3Koo…``, ``Qm…``) and the CIDv1 spelling are taken.
    Raises UsageError with one line that says what a peer address looks like.
    """
    example = "use a multiaddr such as /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…"
    head, separator, tail = text.strip().replace("/ipfs/", "/p2p/").rpartition("/p2p/")
    if not separator or not head:
        raise UsageError(f"{text!r} does not name a peer: {example}")
    try:
        peer = _peer_id(tail)
        address = multiaddr.Multiaddr(head)
        names = [protocol.name for protocol in address.protocols()]
    except Exception as error:
        raise UsageError(f"{text!r} is not a peer address ({_brief(error)}): {example}") from error
    if not names or names[0] not in _DIALABLE_HOSTS or names[1:] != ["tcp"]:
        raise UsageError(f"{text!r} is not a TCP address: {example}")
    return PeerAddress(PeerId(SourceId(peer)), str(address))


def _peer_id(text: str) -> str:
    raw = ID.from_string(text).to_bytes()
    hashed = raw[:2] == _SHA256_HEAD and len(raw) == _SHA256_BYTES
    inlined = raw[:1] == _IDENTITY_HEAD and len(raw) > 2 and raw[1] == len(raw) - 2
    if not hashed and not inlined:
        raise ValueError("a peer id is the multihash of a public key")
    return ID(raw).to_base58()


def parse_listen_address(text: str) -> multiaddr.Multiaddr:
    """Read an address to listen on, ``/ip4/<ip>/tcp/<port>`` or ``/ip6/…``; port 0 means any.

    Raises UsageError for anything else.
    """
    try:
        address = multiaddr.Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
    except Exception as error:
        raise UsageError(f"{text!r} is not a multiaddr to listen on ({_brief(error)})") from error
    if names not in (["ip4", "tcp"], ["ip6", "tcp"]):
        raise UsageError(f"cannot listen on {text!r}: use /ip4/<ip>/tcp/<port> or /ip6/<ip>/tcp/<port>")
    return address


def host_and_port(address: multiaddr.Multiaddr) -> tuple[str, int]:
    """The IP and the TCP port of a listen address."""
    kind = next(iter(address.protocols())).name
    return str(address.value_for_protocol(kind)), int(address.value_for_protocol("tcp") or 0)


def concrete(listening: list[multiaddr.Multiaddr]) -> list[str]:
    """Replace the unspecified address by the addresses of this machine's interfaces.

    Loopback comes last, so that the first address is the one that others can use.
    """
    found: dict[str, None] = {}
    for address in listening:
        host, port = host_and_port(address)
        ip = ipaddress.ip_address(host)
        hosts = _interface_addresses(ip.version) if ip.is_unspecified else [host]
        for each in hosts:
            found.setdefault(f"/ip{ip.version}/{each}/tcp/{port}")
    return list(found)


def _interface_addresses(version: int) -> list[str]:
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


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
