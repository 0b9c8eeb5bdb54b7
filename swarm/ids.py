"""Names of things: manifests and peers. Parsing only; nothing here knows a network or a file."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import NewType

DIGEST_BYTES = 32
# CIDv1 (0x01), codec dag-cbor (0x71), multihash BLAKE3 (0x1e) of 32 bytes (0x20).
_CID_PREFIX = bytes((0x01, 0x71, 0x1E, DIGEST_BYTES))
_MULTIBASE_BASE32 = "b"

TransferId = NewType("TransferId", int)
"""A node's number of one transfer; it means nothing to anybody else."""

SourceId = NewType("SourceId", str)
"""The name of something that pieces are fetched from: a peer, or a folder on this machine."""

PeerId = NewType("PeerId", SourceId)
"""A libp2p peer id in its base58 form (``12D3Koo…`` or ``Qm…``)."""


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
