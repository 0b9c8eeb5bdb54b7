"""Signatures of manifests and release records: detached Ed25519 (RFC 8032) by a libp2p identity."""

from __future__ import annotations

import re

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swarm.errors import ManifestError
from swarm.ids import PeerId, SourceId
from swarm.lazy_dataclass import dataclass
from swarm.lazy_pattern import lazy_pattern

DOMAIN = b"swarm-manifest-signature-v1\x00"
"""Prefix of the signed message, so that a signature made for another purpose is not valid here."""
KEY_BYTES = 32
SIGNATURE_BYTES = 64
# Identity multihash of 36 bytes, then the protobuf PublicKey: type Ed25519, 32 bytes of data.
# Source: the libp2p peer id specification.
_PEER_ID_PREFIX = bytes.fromhex("002408011220")
_SIGN_BIT = 0x80
# Every encoding of a point of order 1, 2, 4 or 8, without the sign bit. With such a key, one signature is
# valid for any message. Source: libsodium, ge25519_has_small_order.
_SMALL_ORDER = frozenset(
    map(
        bytes.fromhex,
        (
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ),
    )
)
_SLICE_BYTES = 1 << 20
_HEX_KEY = lazy_pattern(r"[0-9a-fA-F]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 public key and its signature; raises ManifestError for wrong sizes."""

    public: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if len(self.public) != KEY_BYTES or len(self.signature) != SIGNATURE_BYTES:
            raise ManifestError(
                f"a signature must have a key of {KEY_BYTES} bytes and {SIGNATURE_BYTES} bytes of signature"
            )

    def verify(self, manifest_bytes: bytes, domain: bytes = DOMAIN) -> bool:
        """Whether this key signed exactly these manifest bytes; False for a key of small order.

        ``domain`` is that of what was signed, if it is no manifest.
        """
        if is_small_order(self.public):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(
                self.signature, _message(manifest_bytes, domain)
            )
        except (InvalidSignature, ValueError):
            return False
        return True

    @property
    def peer_id(self) -> PeerId:
        """The libp2p peer id of the signing key."""
        return peer_id_of(self.public)


def is_small_order(public: bytes) -> bool:
    """Whether a 32-byte Ed25519 key is a point of small order, whose signatures prove nothing."""
    return public[:-1] + bytes([public[-1] & ~_SIGN_BIT]) in _SMALL_ORDER


def peer_id_of(public: bytes) -> PeerId:
    """Return the libp2p peer id of a 32-byte Ed25519 public key."""
    return PeerId(SourceId(base58.b58encode(_PEER_ID_PREFIX + public).decode("ascii")))


def public_of(signer: PeerId) -> bytes:
    """Return the 32-byte Ed25519 public key in a peer id; ValueError for an id that does not contain one."""
    raw = base58.b58decode(signer)
    public = raw[len(_PEER_ID_PREFIX) :]
    if not raw.startswith(_PEER_ID_PREFIX) or len(public) != KEY_BYTES:
        raise ValueError("not the peer id of an Ed25519 key")
    return public


def parse_signer(text: str) -> PeerId:
    """Parse a signer: the peer id of an Ed25519 key, or its 32 bytes in hexadecimal.

    Raises ValueError for anything else, including a peer id (``Qm…``) that does not contain its key and
    a key of small order.
    """
    public = bytes.fromhex(text) if _HEX_KEY.fullmatch(text) else public_of(PeerId(SourceId(text)))
    if is_small_order(public):
        raise ValueError("a key of small order, for which anyone can sign")
    return peer_id_of(public)


def sign(private: bytes, manifest_bytes: bytes, domain: bytes = DOMAIN) -> Signature:
    """Sign encoded manifest bytes, or those of another ``domain``, with the 32-byte seed of an Ed25519 key.

    Raises ValueError for a seed of another size.
    """
    key = Ed25519PrivateKey.from_private_bytes(private)
    return Signature(key.public_key().public_bytes_raw(), key.sign(_message(manifest_bytes, domain)))


def _message(manifest_bytes: bytes, domain: bytes) -> bytearray:
    """What is signed. Copied in slices: one copy of a large manifest would hold up every other thread."""
    message = bytearray(len(domain) + len(manifest_bytes))
    message[: len(domain)] = domain
    view = memoryview(manifest_bytes)
    for start in range(0, len(view), _SLICE_BYTES):
        part = view[start : start + _SLICE_BYTES]
        message[len(domain) + start : len(domain) + start + len(part)] = part
    return message
