"""Who vouches for a manifest: a detached Ed25519 signature (RFC 8032) by a libp2p identity."""

from __future__ import annotations

from dataclasses import dataclass

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swarm.errors import ManifestError
from swarm.ids import PeerId

DOMAIN = b"swarm-manifest-signature-v1\x00"
"""Signed before the manifest's bytes, so that a signature made for anything else is worthless here."""
KEY_BYTES = 32
SIGNATURE_BYTES = 64
# Identity multihash of 36 bytes, then the protobuf PublicKey: type Ed25519, 32 bytes of data.
# Source: the libp2p peer id specification.
_PEER_ID_PREFIX = bytes.fromhex("002408011220")


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 public key and its signature; raises ManifestError for wrong sizes."""

    public: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if len(self.public) != KEY_BYTES or len(self.signature) != SIGNATURE_BYTES:
            raise ManifestError(
                f"a manifest's signature has a key of {KEY_BYTES} and a signature of {SIGNATURE_BYTES} bytes"
            )

    def verify(self, manifest_bytes: bytes) -> bool:
        """Whether this key signed exactly these manifest bytes."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(self.signature, DOMAIN + manifest_bytes)
        except (InvalidSignature, ValueError):
            return False
        return True

    @property
    def peer_id(self) -> PeerId:
        """The libp2p peer id of the signing key."""
        return PeerId(base58.b58encode(_PEER_ID_PREFIX + self.public).decode("ascii"))


def sign(private: bytes, manifest_bytes: bytes) -> Signature:
    """Sign encoded manifest bytes with the 32-byte seed of an Ed25519 key.

    Raises ValueError when ``private`` has another size.
    """
    key = Ed25519PrivateKey.from_private_bytes(private)
    return Signature(key.public_key().public_bytes_raw(), key.sign(DOMAIN + manifest_bytes))
