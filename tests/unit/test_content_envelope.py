from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from swarm.content.entry_tree import FILE
from swarm.content.envelope import ENVELOPE_VERSION, PLAIN_VERSION, Envelope
from swarm.content.format2 import Draft
from swarm.content.manifest import Manifest
from swarm.content.signature import DOMAIN, Signature, sign
from swarm.content.times import FileTimes
from swarm.errors import ManifestError
from swarm.ids import ManifestId
from tests.support.contents import file_manifest

SEED = bytes(range(32))
MANIFEST = file_manifest("thing", b"hello")
OTHER = file_manifest("other", b"hello")
SIGNATURE = sign(SEED, MANIFEST.encode())
PEER = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"


def test_an_unsigned_manifest_travels() -> None:
    envelope = Envelope(MANIFEST)
    assert envelope.signer is None
    assert Envelope.from_bytes(envelope.to_bytes()) == envelope
    assert cbor2.loads(envelope.to_bytes()) == {"v": PLAIN_VERSION, "manifest": MANIFEST.encode()}


def test_a_signed_manifest_travels() -> None:
    envelope = Envelope(MANIFEST, SIGNATURE)
    read = Envelope.from_bytes(envelope.to_bytes())
    assert read == envelope
    assert read.signer == SIGNATURE.peer_id
    assert read.manifest.id == MANIFEST.id
    assert cbor2.dumps(cbor2.loads(envelope.to_bytes()), canonical=True) == envelope.to_bytes()


@pytest.mark.parametrize("signature", [None, SIGNATURE])
@pytest.mark.parametrize("peers", [(), (PEER,), (PEER,) * 32])
@pytest.mark.parametrize("times", [None, FileTimes.of([1_700_000_000_123_456_789])])
def test_peers_and_times_travel_outside_of_what_is_signed(signature, peers, times) -> None:
    envelope = Envelope(MANIFEST, signature, peers, times)
    data = envelope.to_bytes()
    assert Envelope.from_bytes(data, MANIFEST.id) == envelope
    assert cbor2.dumps(cbor2.loads(data), canonical=True) == data
    assert cbor2.loads(data)["v"] == (ENVELOPE_VERSION if peers or times else PLAIN_VERSION)
    assert envelope.plain_bytes() == Envelope(MANIFEST, signature).to_bytes()


def test_times_that_are_not_sane_are_unknown() -> None:
    year_2200 = 7_258_118_400 * 10**9
    given = [-1, 0, 10**18, year_2200, year_2200 + 1, 1 << 70]
    assert list(map(FileTimes.of(given).of_file, range(6))) == [None, 0, 10**18, year_2200, None, None]
    assert FileTimes((-(1 << 63)).to_bytes(8, "big", signed=True)).of_file(0) is None
    assert len(FileTimes.of(range(1_000_000)).packed) == 8_000_000
    with pytest.raises(ManifestError):
        FileTimes.of(range(1_000_001))


def test_the_signature_is_ed25519_over_the_domain_and_the_manifest() -> None:
    key = Ed25519PublicKey.from_public_bytes(SIGNATURE.public)
    key.verify(SIGNATURE.signature, b"swarm-manifest-signature-v1\x00" + MANIFEST.encode())
    assert DOMAIN == b"swarm-manifest-signature-v1\x00"
    assert SIGNATURE.verify(MANIFEST.encode())
    assert not SIGNATURE.verify(OTHER.encode())


def test_a_signature_made_for_something_else_is_worthless() -> None:
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    for message in (MANIFEST.encode(), b"libp2p" + MANIFEST.encode(), MANIFEST.id.digest):
        signature = Signature(SIGNATURE.public, key.sign(message))
        with pytest.raises(ManifestError, match="signature"):
            Envelope(MANIFEST, signature)


@pytest.mark.parametrize("field", ["public", "signature"])
def test_every_flipped_bit_of_a_signature_is_refused(field: str) -> None:
    sound = {"public": SIGNATURE.public, "signature": SIGNATURE.signature}
    for at in range(len(sound[field])):
        for bit in range(8):
            changed = bytearray(sound[field])
            changed[at] ^= 1 << bit
            assert not Signature(**(sound | {field: bytes(changed)})).verify(MANIFEST.encode())


def test_a_signature_of_another_manifest_is_refused_when_read() -> None:
    fields = cbor2.loads(Envelope(MANIFEST, SIGNATURE).to_bytes()) | {"manifest": OTHER.encode()}
    with pytest.raises(ManifestError, match="signature of this manifest is wrong"):
        Envelope.from_bytes(cbor2.dumps(fields, canonical=True))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 3}, "newer swarm"),
        ({"v": 3, "x": [1.5]}, "newer swarm"),
        ({"v": 2}, "without anything that needs it"),
        ({"v": 2, "peers": []}, "without anything that needs it"),
        ({"v": 2, "peers": [PEER] * 33}, "at most 32"),
        ({"v": 2, "peers": ["/" + "x" * 512]}, "at most 512"),
        ({"v": 2, "peers": ["nowhere"]}, "each a multiaddr"),
        ({"v": 2, "peers": ["/ip4/192.0.2.1\x1b"]}, "each a multiaddr"),
        ({"v": 2, "peers": [7]}, "instead of text"),
        ({"v": 2, "times": bytes(7)}, "cannot have 7 bytes"),
        ({"v": 2, "times": bytes(16)}, "2 times do not belong to 1 files"),
        ({"v": 2, "times": bytes(8), "zzzzzz": 1}, "map of 6 fields"),
        ({"v": 1, "times": bytes(8)}, "map of 5 fields"),
        ({"v": 0}, "unknown format"),
        ({"v": "1"}, "instead of"),
        ({"v": ...}, "this is not a .swarm file"),
        ({"manifest": ...}, "map of 3 fields"),
        ({"signature": ...}, "map of 3 fields"),
        ({"public_key": ...}, "map of 3 fields"),
        ({"signature": ..., "public_key": ..., "manifest": "text"}, "instead of"),
        ({"signature": None, "public_key": None}, "instead of"),
        ({"signature": bytes(63)}, "64 bytes"),
        ({"signature": bytes(65)}, "at most 64"),
        ({"signature": b""}, "64 bytes"),
        ({"public_key": bytes(31)}, "key of 32"),
        ({"public_key": bytes(33)}, "at most 32"),
        ({"public_key": b"\xff" * 32}, "signature of this manifest is wrong"),
        ({"extra": 1}, "map of 5 fields"),
        ({"manifest": b""}, "not a swarm manifest"),
        ({"manifest": b"\xa0"}, "not a swarm manifest"),
    ],
)
def test_malformed_envelopes_are_refused(changes: dict[str, object], reason: str) -> None:
    fields = cbor2.loads(Envelope(MANIFEST, SIGNATURE).to_bytes()) | changes
    data = cbor2.dumps({key: value for key, value in fields.items() if value is not ...}, canonical=True)
    with pytest.raises(ManifestError, match=reason) as raised:
        Envelope.from_bytes(data)
    assert str(raised.value).isprintable()


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(ManifestError, match="1 bytes follow"):
        Envelope.from_bytes(Envelope(MANIFEST).to_bytes() + b"\0")


def test_the_expected_id_is_checked_before_anything_is_parsed() -> None:
    data = Envelope(MANIFEST, SIGNATURE).to_bytes()
    assert Envelope.from_bytes(data, MANIFEST.id).manifest == MANIFEST
    with pytest.raises(ManifestError, match=f"not {OTHER.id}"):
        Envelope.from_bytes(data, OTHER.id)
    garbage = cbor2.dumps({"v": 1, "manifest": b"\x9b" + b"\xff" * 8}, canonical=True)
    with pytest.raises(ManifestError, match="the received manifest is not"):
        Envelope.from_bytes(garbage, ManifestId(bytes(32)))


def test_the_signer_is_a_libp2p_peer_id() -> None:
    from libp2p.crypto.ed25519 import Ed25519PublicKey as Libp2pPublicKey
    from libp2p.peer.id import ID

    expected = ID.from_pubkey(Libp2pPublicKey.from_bytes(SIGNATURE.public)).to_base58()
    assert SIGNATURE.peer_id == expected
    assert expected.startswith("12D3Koo")


@pytest.mark.parametrize(
    ("public", "signature"), [(b"", bytes(64)), (bytes(32), b""), (bytes(33), bytes(64))]
)
def test_a_signature_has_one_size(public: bytes, signature: bytes) -> None:
    with pytest.raises(ManifestError):
        Signature(public, signature)


def test_a_key_has_one_size() -> None:
    with pytest.raises(ValueError):
        sign(bytes(31), b"")


def test_no_other_thread_waits_while_a_large_manifest_is_taken_out_of_its_envelope() -> None:
    taken: list[int] = []

    class Watched(bytes):
        """Notes how much is copied out of it at once."""

        __slots__ = ()

        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            if isinstance(key, slice):
                taken.append(len(found))
            return found

    draft = Draft()
    for number in range(80_000):
        draft.add(f"{number:05}", FILE, 1)
        draft.add_hashes(b"h" * 32, b"h" * 32)
    encoded = Manifest.of_draft("many", 1 << 20, draft).encode()
    assert len(encoded) > 3 << 20
    data = Envelope(Manifest.decode(encoded)).plain_bytes()
    start = data.index(encoded)
    manifest = Manifest.decode_part(Watched(data), start, start + len(encoded))
    assert manifest.encode() == encoded
    assert taken
    assert max(taken) <= 1 << 20
