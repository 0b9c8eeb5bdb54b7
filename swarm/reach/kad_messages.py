"""Messages of libp2p's Kademlia, as a client needs them. Pure; every reader is bounded.

Source: the libp2p specification "Kademlia DHT". The key under which a manifest's peers are found is the
multihash of a hash of its id: nodes that store it cannot fetch the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from blake3 import blake3

from swarm.endpoint import Endpoint
from swarm.ids import ManifestId, PeerId
from swarm.reach.multiaddrs import address_from_bytes, address_to_bytes, peer_from_bytes, peer_to_bytes
from swarm.reach.protobuf import Fields, decode, encode
from swarm.reach.reach_limits import MAX_ADDRESSES

KAD_PROTOCOL: Final = "/ipfs/kad/1.0.0"
MAX_KAD_BYTES: Final = 128 * 1024
MAX_KAD_PEERS: Final = 64
"""Peers that are read of one list of an answer."""
_MAX_ADDRESSES_READ: Final = 32
"""Addresses of one peer that are looked at: most that others publish are of transports that are not here."""

_ADD_PROVIDER, _GET_PROVIDERS, _FIND_NODE = 2, 3, 4
_TYPE, _KEY, _CLOSER, _PROVIDERS = 1, 2, 8, 9
_PEER_ID, _PEER_ADDRESSES, _CONNECTION = 1, 2, 3
_CONNECTED: Final = 1
_SHA256: Final = b"\x12\x20"
_CONTEXT: Final = "swarm 2026-11 the key of a manifest in a distributed hash table"


class KadPeer(NamedTuple):
    """A node of the table, or one that provides; only addresses that this program can dial."""

    peer: PeerId
    endpoints: tuple[Endpoint, ...]


class KadAnswer(NamedTuple):
    """Nodes nearer to the key, and who provides it."""

    closer: tuple[KadPeer, ...]
    providers: tuple[KadPeer, ...]


def key_of(manifest: ManifestId) -> bytes:
    """Where the peers of a manifest are found."""
    return _SHA256 + blake3(manifest.digest, derive_key_context=_CONTEXT).digest()


def find_node(key: bytes) -> bytes:
    """Ask for the nodes that are nearest to a key."""
    return encode([(_TYPE, _FIND_NODE), (_KEY, key)])


def get_providers(key: bytes) -> bytes:
    """Ask who provides a key, and for the nodes that are nearest to it."""
    return encode([(_TYPE, _GET_PROVIDERS), (_KEY, key)])


def add_provider(key: bytes, me: PeerId, endpoints: Sequence[Endpoint]) -> bytes:
    """Say that this node provides a key; there is no answer."""
    addresses = [(_PEER_ADDRESSES, address_to_bytes(each)) for each in endpoints[:MAX_ADDRESSES]]
    peer = encode([(_PEER_ID, peer_to_bytes(me)), *addresses, (_CONNECTION, _CONNECTED)])
    return encode([(_TYPE, _ADD_PROVIDER), (_KEY, key), (_PROVIDERS, peer)])


def decode_kad(data: bytes) -> KadAnswer:
    """Read an answer; raises RemoteError for what is malformed. Peers that cannot be dialled are left out."""
    fields = decode(data)
    return KadAnswer(_peers(fields.all_bytes(_CLOSER)), _peers(fields.all_bytes(_PROVIDERS)))


def _peers(encoded: Iterable[bytes]) -> tuple[KadPeer, ...]:
    found = []
    for data in tuple(encoded)[:MAX_KAD_PEERS]:
        peer = _peer(decode(data))
        if peer is not None:
            found.append(peer)
    return tuple(found)


def _peer(fields: Fields) -> KadPeer | None:
    try:
        peer = peer_from_bytes(fields.one_bytes(_PEER_ID) or b"")
    except ValueError:
        return None
    endpoints: dict[Endpoint, None] = {}
    for data in fields.all_bytes(_PEER_ADDRESSES)[:_MAX_ADDRESSES_READ]:
        route = address_from_bytes(data)
        if isinstance(route, Endpoint) and route.is_ip and len(endpoints) < MAX_ADDRESSES:
            endpoints.setdefault(route)
    return KadPeer(peer, tuple(endpoints))
