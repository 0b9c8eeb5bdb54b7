"""Release records: a signed statement of a publisher that a manifest is release number N of a series.

A series is all releases of one key under one name. A record is the deterministic CBOR of its fields and the
Ed25519 signature over them, in a domain of its own. Specified in docs/updates.md.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from swarm.content import cbor
from swarm.content.paths import check_title
from swarm.content.signature import KEY_BYTES, SIGNATURE_BYTES, Signature, is_small_order, peer_id_of, sign
from swarm.errors import ManifestError, UsageError
from swarm.ids import DIGEST_BYTES, ManifestId, PeerId
from swarm.lazy_dataclass import dataclass
from swarm.origin_url import MAX_ORIGINS, OriginUrl

RECORD_VERSION: Final = 1
RELEASE_DOMAIN: Final = b"swarm-release-signature-v1\x00"
"""Prefix of the signed message."""
SERIES_DOMAIN: Final = b"swarm-series-v1\x00"
"""Prefix of what is hashed to the id of a series."""
MAX_RECORD_BYTES: Final = 64 * 1024
"""Encoded bytes of a record with its signature."""
MAX_PATCHES: Final = 256
MAX_SEQUENCE: Final = (1 << 63) - 1
MAX_SIZE: Final = (1 << 63) - 1
MAX_URL_BYTES: Final = 4096

_MAX_NAME_BYTES = 255
_FIELDS = 8
_VERSION, _KEY, _NAME, _SIZE, _ORIGINS, _PATCHES, _MANIFEST, _SEQUENCE = map(
    cbor.text_key, ("v", "key", "name", "size", "origins", "patches", "manifest", "sequence")
)
_RECORD, _SIGNATURE = map(cbor.text_key, ("record", "signature"))
_OFFER_FIELDS = 3


class ForgedRelease(ManifestError):
    """A release record is malformed, is not signed by the key of its series, or is of another series."""


class _NewerFormat(ManifestError):
    """A later version of swarm made this."""


@dataclass(frozen=True, slots=True)
class SeriesId:
    """The BLAKE3-256 of `SERIES_DOMAIN`, the publisher's key and the name: what peers ask for."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"the id of a series has {DIGEST_BYTES} bytes, not {len(self.digest)}")

    def __str__(self) -> str:
        return self.digest.hex()


@dataclass(frozen=True, slots=True)
class Series:
    """All releases of one Ed25519 key (32 bytes) under one name.

    Raises ManifestError for a name that a file cannot have, and for a key that proves nothing.
    """

    public: bytes
    name: str

    def __post_init__(self) -> None:
        if len(self.public) != KEY_BYTES or is_small_order(self.public):
            raise ManifestError("the key of a series is not a sound Ed25519 key")
        check_title(self.name)

    @property
    def id(self) -> SeriesId:
        """What peers ask for."""
        return SeriesId(blake3(SERIES_DOMAIN + self.public + self.name.encode("utf-8")).digest())

    @property
    def key(self) -> PeerId:
        """The key as a peer id."""
        return peer_id_of(self.public)

    def title_of(self, file: str | None) -> str:
        """The name of the released content: that of the series, with the suffix of a ``file``'s name.

        It is the same for all releases, so that each takes the place of the one before.
        """
        if file is None:
            return self.name
        stem, dot, suffix = file.rpartition(".")
        if not (stem and dot and suffix) or self.name.endswith(f".{suffix}"):
            return self.name
        return f"{self.name}.{suffix}"


PATCH_SUFFIX: Final = ".swarm-patch"
_ID_CHARS: Final = 16


def patch_name(old: ManifestId, new: ManifestId) -> str:
    """What a publisher calls the patch from one manifest to another, also on a web server."""
    return f"{patch_prefix(new)}{old.digest.hex()[:_ID_CHARS]}{PATCH_SUFFIX}"


def patch_prefix(new: ManifestId) -> str:
    """What the names of all patches to a manifest begin with."""
    return f"{new.digest.hex()[:_ID_CHARS]}-from-"


@dataclass(frozen=True, slots=True)
class PatchOffer:
    """A patch that makes a release out of the older version ``old``: its manifest's id, and its bytes."""

    old: ManifestId
    patch: ManifestId
    size: int


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """Release number ``sequence`` of a series is ``manifest``, whose content has ``size`` bytes.

    ``patches`` are ascending by the id of the older version, one for each. ``origins`` are web servers that
    have the content; they are hints. Raises ManifestError for what breaks a limit.
    """

    series: Series
    sequence: int
    manifest: ManifestId
    size: int
    patches: tuple[PatchOffer, ...] = ()
    origins: tuple[OriginUrl, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.sequence <= MAX_SEQUENCE:
            raise ManifestError(f"the number of a release is at least 1, not {self.sequence}")
        if not 0 <= self.size <= MAX_SIZE or any(not 0 <= each.size <= MAX_SIZE for each in self.patches):
            raise ManifestError("a release record has an impossible size")
        if len(self.patches) > MAX_PATCHES or len(self.origins) > MAX_ORIGINS:
            raise ManifestError(
                f"a release record can have at most {MAX_PATCHES} patches and {MAX_ORIGINS} origins"
            )
        olds = [each.old.digest for each in self.patches]
        if olds != sorted(set(olds)):
            raise ManifestError("the patches of a release record are duplicate or out of order")
        if any(each.has_secrets for each in self.origins):
            raise ManifestError("an origin in a release record is public: it has no user, password or query")

    def patch_from(self, old: ManifestId) -> PatchOffer | None:
        """The patch for who has ``old``."""
        return next((each for each in self.patches if each.old == old), None)

    def encode(self) -> bytes:
        """Return the deterministic encoding, which is what is signed."""
        return cbor.encode(
            {
                "v": RECORD_VERSION,
                "key": self.series.public,
                "name": self.series.name,
                "size": self.size,
                "origins": [origin.revealed() for origin in self.origins],
                "patches": [[each.old.digest, each.patch.digest, each.size] for each in self.patches],
                "manifest": self.manifest.digest,
                "sequence": self.sequence,
            }
        )


@dataclass(frozen=True, slots=True)
class SignedRelease:
    """A record whose signature is that of its series' key; made by `sign_release` and `from_bytes`."""

    record: ReleaseRecord
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the deterministic encoding; raises ManifestError if it is longer than a record may be."""
        data = cbor.encode({"record": self.record.encode(), "signature": self.signature})
        if len(data) > MAX_RECORD_BYTES:
            raise ManifestError(
                f"a release record can have at most {MAX_RECORD_BYTES} bytes, not {len(data)}: "
                "name fewer origins"
            )
        return data

    @classmethod
    def from_bytes(cls, data: bytes, expected: Series | None = None) -> SignedRelease:
        """Decode the output of `to_bytes` and check the signature.

        With ``expected`` it must be of that series, and nothing is parsed that its key has not signed. Raises
        `ForgedRelease`, and ManifestError for what the key has signed and this version cannot use.
        """
        body, signature = _parts_of(data)
        if expected is not None:
            _check(expected.public, body, signature)
        try:
            record = _read_record(body)
        except (cbor.CborError, UsageError, ValueError, ManifestError) as error:
            if isinstance(error, _NewerFormat) or expected is not None:
                raise ManifestError(f"the release record of the publisher cannot be used: {error}") from error
            raise ForgedRelease(f"this is not a release record: {error}") from error
        if expected is None:
            _check(record.series.public, body, signature)
        elif record.series != expected:
            raise ForgedRelease("the release record is of another series")
        return cls(record, signature)


def _parts_of(data: bytes) -> tuple[bytes, bytes]:
    """The signed bytes, and the signature."""
    if len(data) > MAX_RECORD_BYTES:
        raise ForgedRelease(f"a release record can have at most {MAX_RECORD_BYTES} bytes")
    try:
        reader = cbor.Reader(bytes(data))
        reader.fields(2)
        reader.key(_RECORD)
        body = reader.data(MAX_RECORD_BYTES)
        reader.key(_SIGNATURE)
        signature = reader.data(SIGNATURE_BYTES)
        reader.end()
    except cbor.CborError as error:
        raise ForgedRelease(f"this is not a release record: {error}") from error
    if len(signature) != SIGNATURE_BYTES:
        raise ForgedRelease(f"a signature has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    return body, signature


def _check(public: bytes, body: bytes, signature: bytes) -> None:
    if not Signature(public, signature).verify(body, RELEASE_DOMAIN):
        raise ForgedRelease("the signature of the release record is wrong")


def sign_release(private: bytes, record: ReleaseRecord) -> SignedRelease:
    """Sign with the 32-byte seed of the series' key; raises ValueError for another key's."""
    made = sign(private, record.encode(), RELEASE_DOMAIN)
    if made.public != record.series.public:
        raise ValueError("this key is not that of the series")
    return SignedRelease(record, made.signature)


def series_of(private: bytes, name: str) -> Series:
    """The series of a key, given its 32-byte seed; raises ManifestError for a name that it cannot have."""
    return Series(sign(private, b"", RELEASE_DOMAIN).public, name)


def _read_record(body: bytes) -> ReleaseRecord:
    reader = cbor.Reader(body)
    reader.fields(_FIELDS)
    reader.key(_VERSION)
    version = reader.unsigned()
    if version > RECORD_VERSION:
        raise _NewerFormat(f"a newer swarm made it (format {version}): upgrade swarm")
    if version < RECORD_VERSION:
        raise cbor.CborError(f"the format {version} is unknown")
    reader.key(_KEY)
    public = reader.data(KEY_BYTES)
    reader.key(_NAME)
    series = Series(public, reader.text(_MAX_NAME_BYTES))
    reader.key(_SIZE)
    size = reader.unsigned()
    reader.key(_ORIGINS)
    origins = tuple(_read_origin(reader) for _ in range(reader.array(MAX_ORIGINS)))
    reader.key(_PATCHES)
    patches = tuple(_read_offer(reader) for _ in range(reader.array(MAX_PATCHES)))
    reader.key(_MANIFEST)
    manifest = ManifestId(reader.data(DIGEST_BYTES))
    reader.key(_SEQUENCE)
    sequence = reader.unsigned()
    reader.end()
    record = ReleaseRecord(series, sequence, manifest, size, patches, origins)
    if record.encode() != body:
        raise cbor.CborError("it is not in its one encoding")
    return record


def _read_origin(reader: cbor.Reader) -> OriginUrl:
    return OriginUrl(reader.text(MAX_URL_BYTES))


def _read_offer(reader: cbor.Reader) -> PatchOffer:
    if reader.array(_OFFER_FIELDS) != _OFFER_FIELDS:
        raise cbor.CborError("a patch has three fields")
    old, patch = ManifestId(reader.data(DIGEST_BYTES)), ManifestId(reader.data(DIGEST_BYTES))
    return PatchOffer(old, patch, reader.unsigned())
