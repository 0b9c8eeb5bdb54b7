"""Answers of the advertise and manifest protocols. Source: docs/protocol.md.

Each answer is a big-endian ``u32`` length followed by that many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from swarm.content import cbor
from swarm.content.manifest import MAX_PIECE_LENGTH, MAX_PIECES, MAX_TOTAL_LENGTH, MIN_PIECE_LENGTH
from swarm.content.paths import check_name
from swarm.errors import LocalProtocolError, ManifestError, RemoteError
from swarm.ids import DIGEST_BYTES, ManifestId
from swarm.lazy_dataclass import dataclass
from swarm.protocol import protocol_limits as limits

LENGTH_BYTES: Final = 4
"""Bytes of the length field before an answer."""

_LENGTH = struct.Struct(">I")
_KEYS = {"id", "name", "size", "pieces", "piece_length", "have"}


@dataclass(frozen=True, slots=True)
class Advert:
    """One manifest that a peer offers; ``have`` is how many of its pieces the peer has, ``size`` in bytes."""

    manifest: ManifestId
    name: str
    size: int
    pieces: int
    piece_length: int
    have: int


def encode_length(size: int) -> bytes:
    """Encode the length field of an answer of ``size`` bytes."""
    return _LENGTH.pack(size)


def decode_length(head: bytes, limit: int) -> int:
    """Decode the length field; raises RemoteError for a length over ``limit`` bytes."""
    size: int = _LENGTH.unpack(head)[0]
    if size > limit:
        raise RemoteError(f"an answer of {size} bytes exceeds the limit of {limit}")
    return size


def encode_adverts(adverts: Sequence[Advert]) -> bytes:
    """Encode the body of an advertisement; raises LocalProtocolError when it breaks a limit."""
    try:
        _check(adverts)
        return cbor.encode([_fields(advert) for advert in adverts])
    except (ValueError, ManifestError) as error:
        raise LocalProtocolError(f"cannot advertise: {error}") from error


def decode_adverts(body: bytes) -> tuple[Advert, ...]:
    """Decode the body of an advertisement; raises RemoteError if it is malformed or breaks a limit."""
    try:
        value = cbor.decode(body, max_bytes=limits.MAX_ADVERTS_BYTES)
        if not isinstance(value, list):
            raise ValueError("expected a list")  # noqa: TRY004, TRY301 - malformed input, not a caller's error
        adverts = tuple(_advert(entry) for entry in value)
        _check(adverts)
    except (ValueError, ManifestError) as error:
        raise RemoteError(f"malformed advertisement: {error}") from error
    return adverts


def _fields(advert: Advert) -> dict[str, cbor.Value]:
    return {
        "id": advert.manifest.digest,
        "name": advert.name,
        "size": advert.size,
        "pieces": advert.pieces,
        "piece_length": advert.piece_length,
        "have": advert.have,
    }


def _advert(value: cbor.Value) -> Advert:
    if not isinstance(value, dict) or value.keys() != _KEYS:
        raise ValueError(f"expected a map of {', '.join(sorted(_KEYS))}")
    digest, name = value["id"], value["name"]
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES or not isinstance(name, str):
        raise ValueError(f"'id' must be {DIGEST_BYTES} bytes and 'name' must be text")
    return Advert(
        ManifestId(digest),
        name,
        _unsigned(value["size"]),
        _unsigned(value["pieces"]),
        _unsigned(value["piece_length"]),
        _unsigned(value["have"]),
    )


def _unsigned(value: cbor.Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("sizes and counts must be unsigned integers")
    return value


def _check(adverts: Sequence[Advert]) -> None:
    if len(adverts) > limits.MAX_ADVERTS:
        raise ValueError(f"at most {limits.MAX_ADVERTS} manifests can be advertised at once")
    if len({advert.manifest for advert in adverts}) != len(adverts):
        raise ValueError("a manifest is advertised twice")
    for advert in adverts:
        check_name(advert.name)
        if not 0 <= advert.have <= advert.pieces <= MAX_PIECES or advert.size > MAX_TOTAL_LENGTH:
            raise ValueError("the counts of an advert contradict each other")
        if not MIN_PIECE_LENGTH <= advert.piece_length <= MAX_PIECE_LENGTH:
            raise ValueError(f"a piece length of {advert.piece_length} bytes is not allowed")
