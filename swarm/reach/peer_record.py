"""Signed peer records: a peer's addresses under its own signature, so that nobody else can name them.

Source: libp2p's RFC 0002 (signed envelopes) and RFC 0003 (peer routing records). Keys are Ed25519 alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swarm.content.signature import is_small_order, peer_id_of
from swarm.endpoint import Route
from swarm.errors import RemoteError
from swarm.ids import PeerId
from swarm.reach.multiaddrs import address_to_bytes, peer_to_bytes
from swarm.reach.protobuf import decode, encode, encode_varint
from swarm.reach.reach_limits import MAX_ADDRESSES, MAX_RECORD_BYTES
from swarm.reach.relay_messages import read_addresses

_DOMAIN = b"libp2p-peer-record"
_PAYLOAD_TYPE = b"\x03\x01"
_ED25519 = 1


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where a peer says it can be dialled; a later record has a greater ``sequence``."""

    peer: PeerId
    sequence: int
    addresses: tuple[Route, ...]


def seal_record(private: bytes, addresses: Iterable[Route], sequence: int) -> bytes:
    """Encode and sign a record of the peer with this Ed25519 seed; at most `MAX_ADDRESSES` addresses."""
    key = Ed25519PrivateKey.from_private_bytes(private)
    public = key.public_key().public_bytes_raw()
    named = [encode([(1, address_to_bytes(each))]) for each in addresses][:MAX_ADDRESSES]
    payload = encode([(1, peer_to_bytes(peer_id_of(public))), (2, sequence), *((3, each) for each in named)])
    signature = key.sign(_signed(payload))
    return encode(
        [(1, encode([(1, _ED25519), (2, public)])), (2, _PAYLOAD_TYPE), (3, payload), (5, signature)]
    )


def open_record(sealed: bytes) -> PeerRecord:
    """Read and verify a record; raises RemoteError for what is malformed or not signed by its own peer."""
    if len(sealed) > MAX_RECORD_BYTES:
        raise RemoteError(f"a peer record of {len(sealed)} bytes exceeds the limit of {MAX_RECORD_BYTES}")
    envelope = decode(sealed)
    key = envelope.message(1)
    payload, signature = envelope.one_bytes(3), envelope.one_bytes(5)
    if key is None or payload is None or signature is None or envelope.one_bytes(2) != _PAYLOAD_TYPE:
        raise RemoteError("this is no signed peer record")
    public = key.one_bytes(2)
    if key.number(1, 0) != _ED25519 or public is None or len(public) != 32 or is_small_order(public):
        raise RemoteError("a peer record has a key that is not used here")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _signed(payload))
    except (InvalidSignature, ValueError):
        raise RemoteError("a peer record has a wrong signature") from None
    fields = decode(payload)
    peer = peer_id_of(public)
    if fields.one_bytes(1) != peer_to_bytes(peer):
        raise RemoteError("a peer record is of another peer than its key")
    named = [each.one_bytes(1) or b"" for each in fields.messages(3)]
    return PeerRecord(peer, fields.number(2, 0), read_addresses(named))


def _signed(payload: bytes) -> bytes:
    parts = (_DOMAIN, _PAYLOAD_TYPE, payload)
    return b"".join(encode_varint(len(part)) + part for part in parts)
