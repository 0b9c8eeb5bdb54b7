"""A manifest with what belongs to it and is not part of its id, as stored in a ``.swarm`` file."""

from __future__ import annotations

import re
from collections.abc import Collection

from blake3 import blake3

from swarm.content import cbor
from swarm.content.link import MAX_ADDRESS_BYTES, MAX_LINK_PEERS
from swarm.content.manifest import MAX_MANIFEST_BYTES, Manifest
from swarm.content.signature import KEY_BYTES, SIGNATURE_BYTES, Signature
from swarm.content.times import MAX_TIMES_BYTES, FileTimes
from swarm.errors import ManifestError
from swarm.ids import ManifestId, PeerId
from swarm.lazy_dataclass import dataclass, replace
from swarm.lazy_pattern import lazy_pattern

PLAIN_VERSION = 1
"""The format of an envelope with neither peers nor times: every version of swarm reads it."""
ENVELOPE_VERSION = 2
"""The format of an envelope with peers or times."""
MAX_ENVELOPE_BYTES = MAX_MANIFEST_BYTES + MAX_TIMES_BYTES + MAX_LINK_PEERS * (MAX_ADDRESS_BYTES + 8) + 1024
"""Encoded bytes of an envelope."""

_MAX_FIELDS = 23
_VERSION, _PEERS, _TIMES, _MANIFEST, _SIGNATURE, _PUBLIC_KEY = map(
    cbor.text_key, ("v", "peers", "times", "manifest", "signature", "public_key")
)
_ADDRESS = lazy_pattern(f"/[!-~]{{1,{MAX_ADDRESS_BYTES - 1}}}", re.ASCII)


class ForgedEnvelope(ManifestError):
    """What came with a manifest is wrong or is not that manifest: the fault of who gave it."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A manifest, its optional signature, peers that have it, and the times of its files.

    Neither ``peers`` (multiaddrs with ``/p2p/<id>``) nor ``times`` are signed: they are hints. Raises
    ManifestError when the signature does not match, for a malformed address, and for too many of either.
    """

    manifest: Manifest
    signature: Signature | None = None
    peers: tuple[str, ...] = ()
    times: FileTimes | None = None

    def __post_init__(self) -> None:
        if self.signature and not self.signature.verify(self.manifest.encode()):
            raise ForgedEnvelope("the signature of this manifest is wrong: do not trust it, get it again")
        if len(self.peers) > MAX_LINK_PEERS or not all(map(_ADDRESS.fullmatch, self.peers)):
            raise ForgedEnvelope(f"a manifest file has at most {MAX_LINK_PEERS} peers, each a multiaddr")
        if self.times is not None and len(self.times) != len(self.manifest.files):
            raise ForgedEnvelope(f"{len(self.times)} times do not belong to {len(self.manifest.files)} files")

    @property
    def signer(self) -> PeerId | None:
        """The peer id of the signer, None when unsigned; a valid signer is not necessarily a trusted one."""
        return self.signature.peer_id if self.signature else None

    def require_signer(self, trusted: Collection[PeerId]) -> None:
        """Raise ManifestError unless one of ``trusted`` signed the manifest."""
        require_signer(self.signer, trusted)

    def with_peers(self, peers: Collection[str]) -> Envelope:
        """The same with the first of these peers, as many as there may be."""
        return replace(self, peers=tuple(peers)[:MAX_LINK_PEERS])

    def to_bytes(self) -> bytes:
        """Return the deterministic encoding."""
        extras: dict[str, cbor.Value] = {}
        if self.peers:
            extras["peers"] = list(self.peers)
        if self.times is not None:
            extras["times"] = self.times.packed
        if extras:
            extras["v"] = ENVELOPE_VERSION
        return self._encoded(extras)

    def plain_bytes(self) -> bytes:
        """Return the encoding without peers and times, which every version of swarm reads."""
        return self._encoded({})

    def _encoded(self, extras: dict[str, cbor.Value]) -> bytes:
        fields: dict[str, cbor.Value] = {"v": PLAIN_VERSION, "manifest": self.manifest.encode()}
        if self.signature:
            fields["signature"] = self.signature.signature
            fields["public_key"] = self.signature.public
        return cbor.encode(fields | extras)

    @staticmethod
    def begins(data: bytes) -> bool:
        """Whether bytes begin as those of an envelope do, of whatever version."""
        # The first byte is the head of the map.
        return data[1 : 1 + len(_VERSION)] == _VERSION

    @classmethod
    def from_bytes(cls, data: bytes, expected: ManifestId | None = None) -> Envelope:
        """Decode the output of `to_bytes`; raises ManifestError for any other bytes.

        With ``expected``, the manifest must have that id. This is checked before the manifest is parsed,
        so a peer can serve a hostile manifest only to someone who asked for exactly that one.
        """
        if len(data) > MAX_ENVELOPE_BYTES:
            raise ManifestError(
                f"a manifest file can have at most {MAX_ENVELOPE_BYTES} bytes, not {len(data)}"
            )
        data = bytes(data)
        try:
            found = _read(cbor.Reader(data))
        except cbor.CborError as error:
            if not cls.begins(data):
                raise ForgedEnvelope("this is not a .swarm file") from error
            raise ForgedEnvelope(f"this is not a swarm manifest file: {error}") from error
        if (
            expected is not None
            and blake3(memoryview(data)[found.start : found.end]).digest() != expected.digest
        ):
            raise ForgedEnvelope(f"the received manifest is not {expected}")
        return cls(
            Manifest.decode_part(data, found.start, found.end), found.signature, found.peers, found.times
        )


def require_signer(signer: PeerId | None, trusted: Collection[PeerId]) -> None:
    """Raise ManifestError unless the signer is one of ``trusted``."""
    if signer is None:
        raise ManifestError("this manifest is not signed, so no signer that you trust vouches for it")
    if signer not in trusted:
        raise ManifestError(f"this manifest is signed by {signer}, which is not a signer you trust")


@dataclass(frozen=True, slots=True)
class _Parts:
    """Where the manifest starts and ends in an envelope, and what else is there."""

    start: int
    end: int
    signature: Signature | None
    peers: tuple[str, ...]
    times: FileTimes | None


def _read(reader: cbor.Reader) -> _Parts:
    fields = reader.map(_MAX_FIELDS)
    reader.key(_VERSION)
    version = reader.unsigned()
    if version > ENVELOPE_VERSION:
        raise ManifestError(
            "this manifest file was made by a newer swarm: upgrade swarm "
            f"(its format is {version}, this version reads {ENVELOPE_VERSION})"
        )
    if version < PLAIN_VERSION:
        raise ManifestError(f"this manifest file has the unknown format {version}")
    left = fields - 1
    peers: tuple[str, ...] = ()
    times = None
    if version > PLAIN_VERSION:
        if reader.has_key(_PEERS):
            peers = tuple(reader.text(MAX_ADDRESS_BYTES) for _ in range(reader.array(MAX_LINK_PEERS)))
            left -= 1
        if reader.has_key(_TIMES):
            times = FileTimes(reader.data(MAX_TIMES_BYTES))
            left -= 1
        if not peers and times is None:
            raise cbor.CborError(f"format {ENVELOPE_VERSION} without anything that needs it")
    # The manifest, and either no signature or both of its fields.
    if left not in (1, 3):
        raise cbor.CborError(f"a map of {fields} fields")
    reader.key(_MANIFEST)
    start, end = reader.part(MAX_MANIFEST_BYTES)
    signature = None
    if left > 1:
        reader.key(_SIGNATURE)
        signed = reader.data(SIGNATURE_BYTES)
        reader.key(_PUBLIC_KEY)
        signature = Signature(reader.data(KEY_BYTES), signed)
    reader.end()
    return _Parts(start, end, signature, peers, times)
