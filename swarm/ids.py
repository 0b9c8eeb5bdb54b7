"""Names of things: manifests, sources, peers, transfers. Nothing here knows a network or a file."""

from __future__ import annotations

import base64
import binascii
from typing import NewType

from swarm.lazy_dataclass import dataclass

DIGEST_BYTES = 32
# CIDv1 (0x01), codec dag-cbor (0x71), multihash BLAKE3 (0x1e) of 32 bytes (0x20).
_CID_PREFIX = bytes((0x01, 0x71, 0x1E, DIGEST_BYTES))
_MULTIBASE_BASE32 = "b"

SourceId = NewType("SourceId", str)
"""A source of pieces: a peer, by its peer id, or another one, such as ``base:/data/old``."""

PeerId = NewType("PeerId", SourceId)
"""A libp2p peer id in its base58 form (``12D3Koo…`` or ``Qm…``)."""

TransferId = NewType("TransferId", int)
"""A node's number of one transfer: counted from 1, never used twice by one node."""


@dataclass(frozen=True, slots=True)
class ManifestId:
    """The BLAKE3-256 of a manifest's hashed bytes; prints as a CIDv1 in base32.

    Source: the multiformats CID specification, version 1; codec dag-cbor, hash blake3.
    """

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"a manifest id has {DIGEST_BYTES} bytes, not {len(self.digest)}")

    def __str__(self) -> str:
        text = base64.b32encode(_CID_PREFIX + self.digest).decode("ascii")
        return _MULTIBASE_BASE32 + text.rstrip("=").lower()

    @classmethod
    def parse(cls, text: str) -> ManifestId:
        """Read the one accepted spelling of an id: lower-case base32 CIDv1.

        Raises ValueError for any other text.
        """
        if not text.startswith(_MULTIBASE_BASE32) or text != text.lower():
            raise ValueError("a manifest id starts with 'b' and is lower case")
        body = text[1:].upper()
        try:
            raw = base64.b32decode(body + "=" * (-len(body) % 8))
        except (binascii.Error, ValueError) as error:
            raise ValueError("a manifest id is base32") from error
        if not raw.startswith(_CID_PREFIX):
            raise ValueError("a manifest id is a CIDv1 of dag-cbor with BLAKE3-256")
        parsed = cls(raw[len(_CID_PREFIX) :])
        if str(parsed) != text:
            raise ValueError("a manifest id has one spelling only")
        return parsed
