from __future__ import annotations

import cbor2
from blake3 import blake3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swarm.content.envelope import Envelope
from swarm.content.manifest import MIN_PIECE_LENGTH, FileEntry, Manifest
from swarm.content.paths import check_name
from swarm.content.signature import sign
from swarm.errors import ManifestError
from tests.support.contents import folder_manifest

PIECE = MIN_PIECE_LENGTH
SMALL = folder_manifest("things", {"a/é": b"x" * (PIECE + 1), "a/b": b"", "c": b"1"})
ENCODED = SMALL.encode()
SIGNED = Envelope(SMALL, sign(bytes(range(32)), ENCODED)).to_bytes()
UNSIGNED = Envelope(SMALL).to_bytes()

names = st.text(st.sampled_from("abAB.-é日🙂 "), min_size=1, max_size=4)


@st.composite
def entries(draw: st.DrawFn) -> list[FileEntry]:
    paths = draw(st.sets(st.lists(names, min_size=1, max_size=3).map(tuple), max_size=6))
    made = []
    for path in sorted(paths):
        length = draw(st.sampled_from((0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE)))
        count = -(-length // PIECE)
        pieces = draw(st.binary(min_size=32, max_size=32)) * count
        whole = (blake3(b"").digest(), pieces, bytes(32))[min(count, 2)]
        made.append(FileEntry(path, length, draw(st.booleans()), whole, pieces))
    return made


@settings(deadline=None, max_examples=100)
@given(names, entries())
def test_round_trip(name: str, files: list[FileEntry]) -> None:
    try:
        manifest = Manifest(name, True, PIECE, files)
    except ManifestError:
        assume(False)
    decoded = Manifest.decode(manifest.encode())
    assert decoded == manifest
    assert (decoded.name, decoded.folder, decoded.piece_length) == (name, True, PIECE)
    assert list(decoded.files) == files
    assert decoded.encode() == manifest.encode()
    assert cbor2.dumps(cbor2.loads(manifest.encode()), canonical=True) == manifest.encode()
    hashes = b"".join(manifest.piece_hash(piece) for piece in range(manifest.piece_count))
    assert hashes == b"".join(entry.pieces for entry in files)


@settings(deadline=None, max_examples=100)
@given(entries(), st.randoms())
def test_one_order_only(files: list[FileEntry], random: object) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assume(shuffled != files)
    try:
        Manifest("things", True, PIECE, shuffled)
    except ManifestError:
        return
    raise AssertionError("an order other than the canonical one was taken")


def outcome(data: bytes) -> str:
    """Read ``data`` as a manifest that is not `SMALL`."""
    try:
        manifest = Manifest.decode(data)
    except ManifestError:
        return "refused"
    assert manifest.id != SMALL.id
    assert manifest.encode() == data
    check_name(manifest.name)
    return "another"


def test_every_single_byte_of_a_manifest_counts() -> None:
    outcomes = set()
    for at in range(len(ENCODED)):
        for flip in (*(1 << bit for bit in range(8)), 0xFF, 0x7F):
            outcomes.add(outcome(ENCODED[:at] + bytes((ENCODED[at] ^ flip,)) + ENCODED[at + 1 :]))
        outcomes.add(outcome(ENCODED[:at]))
        outcomes.add(outcome(ENCODED[:at] + ENCODED[at + 1 :]))
        outcomes.add(outcome(ENCODED[:at] + b"\x00" + ENCODED[at:]))
    assert outcomes == {"refused", "another"}


def test_every_single_byte_of_a_signed_envelope_is_signed() -> None:
    for at in range(len(SIGNED)):
        for flip in (1, 0x10, 0x80, 0xFF):
            changed = SIGNED[:at] + bytes((SIGNED[at] ^ flip,)) + SIGNED[at + 1 :]
            assert refused(changed), at
        assert refused(SIGNED[:at])
        assert refused(SIGNED[:at] + SIGNED[at + 1 :])


def test_an_unsigned_envelope_never_yields_the_same_manifest_from_other_bytes() -> None:
    for at in range(len(UNSIGNED)):
        for flip in (1, 0x10, 0x80, 0xFF):
            changed = UNSIGNED[:at] + bytes((UNSIGNED[at] ^ flip,)) + UNSIGNED[at + 1 :]
            assert refused(changed) or Envelope.from_bytes(changed).manifest.id != SMALL.id
        assert refused(UNSIGNED[:at])


def refused(data: bytes) -> bool:
    try:
        Envelope.from_bytes(data)
    except ManifestError:
        return True
    return False


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_change_is_refused_or_another_manifest(data: st.DataObject) -> None:
    changed = bytearray(ENCODED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assume(bytes(changed) != ENCODED)
    outcome(bytes(changed))


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=60))
def test_garbage_is_refused(data: bytes) -> None:
    assert refused(data)
    assert outcome(data) == "refused"
