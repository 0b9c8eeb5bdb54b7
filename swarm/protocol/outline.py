"""The outline of a manifest: its size and the hash of each part, with which parts come from several peers.

An id is the hash of the whole, so it cannot tell which part is wrong; the outline that a peer gives can. A
part that does not match the outline of its sender is the sender's fault. An outline whose parts do not make
up the id is the fault of everybody who gave it. Source: docs/protocol.md.
"""

from __future__ import annotations

import struct
from typing import Final

from blake3 import blake3

from swarm.content import cbor
from swarm.content.manifest import MAX_MANIFEST_BYTES
from swarm.content.signature import Signature
from swarm.content.times import MAX_TIMES_BYTES
from swarm.errors import ManifestError, RemoteError
from swarm.ids import DIGEST_BYTES, ManifestId
from swarm.lazy_dataclass import dataclass

PART_BYTES: Final = 1 << 20
"""Bytes of every part but the last."""
MAX_OUTLINE_BYTES: Final = -(-MAX_MANIFEST_BYTES // PART_BYTES) * DIGEST_BYTES + 1024
PART_REQUEST_BYTES: Final = 4

_REQUEST = struct.Struct(">I")
_SIGNED = frozenset(("signature", "public_key"))
_REQUIRED = frozenset(("size", "parts", "times"))


@dataclass(frozen=True, slots=True)
class Outline:
    """What a peer says of a manifest of ``size`` bytes; ``hashes`` are the BLAKE3 of its parts, concatenated.

    ``times`` is the number of bytes of its file times, 0 for none. The parts of the times are numbered after
    those of the manifest.
    """

    size: int
    hashes: bytes
    times: int = 0
    signature: Signature | None = None

    @classmethod
    def of(cls, encoded: bytes, times: bytes = b"", signature: Signature | None = None) -> Outline:
        """Make the outline of an encoded manifest; about a millisecond for each MiB."""
        view = memoryview(encoded)
        starts = range(0, len(view), PART_BYTES)
        hashes = b"".join(blake3(view[start : start + PART_BYTES]).digest() for start in starts)
        return cls(len(encoded), hashes, len(times), signature)

    @property
    def parts(self) -> int:
        """The number of parts of the manifest."""
        return len(self.hashes) // DIGEST_BYTES

    @property
    def time_parts(self) -> range:
        """The numbers of the parts of the times."""
        return range(self.parts, self.parts - (-self.times // PART_BYTES))

    def span(self, part: int) -> tuple[int, int]:
        """Return where a part starts and ends in the manifest, or in its times."""
        start, size = part * PART_BYTES, self.size
        if part >= self.parts:
            start, size = (part - self.parts) * PART_BYTES, self.times
        return start, min(start + PART_BYTES, size)

    def matches(self, part: int, data: bytes) -> bool:
        """Whether the bytes of a part of the manifest are those that the outline promises."""
        start = part * DIGEST_BYTES
        return blake3(data).digest() == self.hashes[start : start + DIGEST_BYTES]


def encode_outline(outline: Outline) -> bytes:
    """Encode the body of an outline."""
    fields: dict[str, cbor.Value] = {"size": outline.size, "parts": outline.hashes, "times": outline.times}
    if outline.signature is not None:
        fields["signature"] = outline.signature.signature
        fields["public_key"] = outline.signature.public
    return cbor.encode(fields)


def decode_outline(body: bytes, manifest: ManifestId) -> Outline:
    """Decode the body of an outline of that manifest; raises RemoteError if it cannot be one."""
    try:
        value = cbor.decode(body, max_bytes=MAX_OUTLINE_BYTES)
        if not isinstance(value, dict) or value.keys() - _SIGNED != _REQUIRED:
            raise ValueError("expected a map of size, parts and times")  # noqa: TRY301
        size, hashes = _unsigned(value["size"], MAX_MANIFEST_BYTES), _bytes(value["parts"])
        if not size or len(hashes) != -(-size // PART_BYTES) * DIGEST_BYTES:
            raise ValueError("the number of parts does not follow from the size")  # noqa: TRY301
        if len(hashes) == DIGEST_BYTES and hashes != manifest.digest:
            raise ValueError("its only part is not the manifest")  # noqa: TRY301
        signature = None
        if value.keys() & _SIGNED:
            signature = Signature(_bytes(value.get("public_key")), _bytes(value.get("signature")))
        return Outline(size, hashes, _unsigned(value["times"], MAX_TIMES_BYTES), signature)
    except (ValueError, ManifestError) as error:
        raise RemoteError(f"malformed outline of a manifest: {error}") from error


def encode_part_request(part: int) -> bytes:
    """Encode the request for one part."""
    return _REQUEST.pack(part)


def decode_part_request(data: bytes, outline: Outline) -> int:
    """Decode the request for one part; raises RemoteError if there is no such part."""
    part: int = _REQUEST.unpack(data)[0]
    if part >= outline.time_parts.stop:
        raise RemoteError(f"a part {part} of a manifest does not exist")
    return part


def _unsigned(value: cbor.Value, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise ValueError(f"expected a number of at most {limit}")
    return value


def _bytes(value: cbor.Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("expected bytes")  # noqa: TRY004 - malformed input, not a caller's error
    return value
