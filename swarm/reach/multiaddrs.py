"""Multiaddrs and peer ids in their binary forms, as far as this program can use them.

Source: the multiaddr specification and its table of protocol codes. An address with a part that is not in
this table cannot be dialled here and reads as None.
"""

from __future__ import annotations

import ipaddress

import base58

from swarm.endpoint import CIRCUIT, Circuit, Endpoint, PeerAddress, Route, read_route
from swarm.errors import RemoteError
from swarm.ids import PeerId, SourceId
from swarm.reach.protobuf import decode_varint, encode_varint
from swarm.reach.reach_limits import MAX_ADDRESS_BYTES

_IP4, _TCP, _IP6, _IP6ZONE, _DNS, _DNS4, _DNS6 = 4, 6, 41, 42, 53, 54, 55
_P2P, _CIRCUIT = 421, 290
_NAMES = {_DNS: "dns", _DNS4: "dns4", _DNS6: "dns6"}
_CODES = {name: code for code, name in _NAMES.items()}
_MAX_PARTS = 8
_MAX_PEER_BYTES = 64
MIN_PEER_BYTES = 34


def peer_to_bytes(peer: PeerId) -> bytes:
    """The multihash behind a peer id."""
    return base58.b58decode(peer)


def peer_from_bytes(data: bytes) -> PeerId:
    """The peer id of a multihash; raises ValueError for what cannot be one."""
    if not MIN_PEER_BYTES <= len(data) <= _MAX_PEER_BYTES:
        raise ValueError(f"a peer id has {MIN_PEER_BYTES} to {_MAX_PEER_BYTES} bytes, not {len(data)}")
    if data[:2] == b"\x12\x20":
        if len(data) != MIN_PEER_BYTES:
            raise ValueError("a peer id has a hash of another size")
    elif data[0] != 0 or data[1] != len(data) - 2:
        raise ValueError("a peer id is the multihash of a public key")
    return PeerId(SourceId(base58.b58encode(data).decode("ascii")))


def address_to_bytes(route: Route) -> bytes:
    """Encode an endpoint, or a circuit with the address of its relay."""
    if isinstance(route, Endpoint):
        return _endpoint_to_bytes(route)
    return peer_address_to_bytes(route.relay) + encode_varint(_CIRCUIT)


def peer_address_to_bytes(address: PeerAddress) -> bytes:
    """Encode an endpoint and the peer there."""
    peer = peer_to_bytes(address.peer)
    return _endpoint_to_bytes(address.endpoint) + encode_varint(_P2P) + encode_varint(len(peer)) + peer


def peer_address_from_bytes(data: bytes) -> PeerAddress | None:
    """Decode an endpoint and the peer there; None as in `address_from_bytes`."""
    route = address_from_bytes(data + encode_varint(_CIRCUIT))
    return route.relay if isinstance(route, Circuit) else None


def _endpoint_to_bytes(endpoint: Endpoint) -> bytes:
    port = encode_varint(_TCP) + endpoint.port.to_bytes(2, "big")
    if endpoint.kind in _CODES:
        name = endpoint.host.encode("ascii")
        return encode_varint(_CODES[endpoint.kind]) + encode_varint(len(name)) + name + port
    host, _, zone = endpoint.host.partition("%")
    packed = ipaddress.ip_address(host).packed
    named = encode_varint(_IP6ZONE) + encode_varint(len(zone)) + zone.encode("ascii") if zone else b""
    return named + encode_varint(_IP4 if endpoint.kind == "ip4" else _IP6) + packed + port


def address_from_bytes(data: bytes) -> Route | None:
    """Decode an address; a last ``/p2p/<id>`` that follows it is left out.

    None for what is malformed or cannot be used here, as for most that others publish: other transports.
    """
    if len(data) > MAX_ADDRESS_BYTES:
        return None
    try:
        text = _to_text(data)
    except ValueError:
        return None
    return read_route(text)


def _to_text(data: bytes) -> str:
    parts: list[str] = []
    at = 0
    while at < len(data):
        if len(parts) >= _MAX_PARTS:
            raise ValueError("an address has too many parts")
        code, at = _varint(data, at)
        if code == _CIRCUIT:
            parts.append(CIRCUIT)
            continue
        size = {_IP4: 4, _IP6: 16, _TCP: 2}.get(code, -1)
        if size < 0:
            if code not in {_IP6ZONE, _P2P, *_NAMES}:
                raise ValueError(f"an address has a part of code {code}")
            size, at = _varint(data, at)
        value = data[at : at + size]
        if len(value) != size:
            raise ValueError("an address is cut off")
        at += size
        parts.append(_part(code, value))
    if parts and parts[-1].startswith("p2p/"):
        parts.pop()
    return "/" + "/".join(parts)


def _part(code: int, value: bytes) -> str:
    if code == _IP4:
        return f"ip4/{ipaddress.IPv4Address(value)}"
    if code == _IP6:
        return f"ip6/{ipaddress.IPv6Address(value)}"
    if code == _TCP:
        return f"tcp/{int.from_bytes(value, 'big')}"
    if code == _P2P:
        return f"p2p/{peer_from_bytes(value)}"
    text = value.decode("ascii")
    if not text.isprintable() or "/" in text:
        raise ValueError("a name in an address has a character that no name has")
    return f"{_NAMES.get(code, 'ip6zone')}/{text}"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    try:
        return decode_varint(data, at)
    except RemoteError as error:
        raise ValueError(str(error)) from None
