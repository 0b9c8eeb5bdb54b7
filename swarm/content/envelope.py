"""A manifest with its optional signature, as stored in a ``.swarm`` file and as sent to peers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from blake3 import blake3

from swarm.content import cbor
from swarm.content.manifest import MAX_MANIFEST_BYTES, Manifest, read_version
from swarm.content.signature import KEY_BYTES, SIGNATURE_BYTES, Signature
from swarm.errors import ManifestError
from swarm.ids import ManifestId, PeerId

ENVELOPE_VERSION = 1
MAX_ENVELOPE_BYTES = MAX_MANIFEST_BYTES + 1024
"""Encoded bytes of an envelope."""

_FIELDS_UNSIGNED = 2
_FIELDS_SIGNED = 4
_MANIFEST, _SIGNATURE, _PUBLIC_KEY = map(cbor.text_key, ("manifest", "signature", "public_key"))


@dataclass(frozen=True, slots=True)
class Envelope:
    """A manifest and its optional signature; raises ManifestError when the signature does not match."""

    manifest: Manifest
    signature: Signature | None = None

    def __post_init__(self) -> None:
        if self.signature and not self.signature.verify(self.manifest.encode()):
            raise ManifestError("the signature of this manifest is wrong: do not trust it, get it again")

    @property
    def signer(self) -> PeerId | None:
        """The peer id of the signer, None when unsigned; a valid signer is not necessarily a trusted one."""
        return self.signature.peer_id if self.signature else None

    def require_signer(self, trusted: Collection[PeerId]) -> None:
        """Raise ManifestError unless one of ``trusted`` signed the manifest."""
        if self.signer is None:
            raise ManifestError("this manifest is not signed, so no signer that you trust vouches for it")
        if self.signer not in trusted:
            raise ManifestError(f"this manifest is signed by {self.signer}, which is not a signer you trust")

    def to_bytes(self) -> bytes:
        """Return the deterministic encoding."""
        fields: dict[str, cbor.Value] = {"v": ENVELOPE_VERSION, "manifest": self.manifest.encode()}
        if self.signature:
            fields["signature"] = self.signature.signature
            fields["public_key"] = self.signature.public
        return cbor.encode(fields)

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
            start, end, signature = _read(cbor.Reader(data))
        except cbor.CborError as error:
            raise ManifestError(f"this is not a swarm manifest file: {error}") from error
        if expected is not None and blake3(memoryview(data)[start:end]).digest() != expected.digest:
            raise ManifestError(f"the received manifest is not {expected}")
        return cls(Manifest.decode_part(data, start, end), signature)


def _read(reader: cbor.Reader) -> tuple[int, int, Signature | None]:
    """Return where the manifest starts and ends, and its signature."""
    fields = read_version(reader, ENVELOPE_VERSION, (_FIELDS_UNSIGNED, _FIELDS_SIGNED), "manifest file")
    reader.key(_MANIFEST)
    start, end = reader.part(MAX_MANIFEST_BYTES)
    signature = None
    if fields == _FIELDS_SIGNED:
        reader.key(_SIGNATURE)
        signed = reader.data(SIGNATURE_BYTES)
        reader.key(_PUBLIC_KEY)
        signature = Signature(reader.data(KEY_BYTES), signed)
    reader.end()
    return start, end, signature
