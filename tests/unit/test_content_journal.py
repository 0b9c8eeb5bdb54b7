from __future__ import annotations

import struct

import pytest
import xxhash

from swarm.bits import PieceSet
from swarm.content import journal
from swarm.content.fingerprints import FINGERPRINT_BYTES, Fingerprints, fingerprint
from swarm.content.journal import HEADER_BYTES, MAX_BATCH, Header
from swarm.content.manifest import MAX_PIECES
from swarm.ids import ManifestId

HEADER = Header(ManifestId(bytes(range(32))), 1 << 40, 100_000)
START = journal.encode_header(HEADER)


def mark(piece: int) -> bytes:
    return fingerprint(b"%d" % piece)


def stored(*pieces: int, header: Header = HEADER) -> bytes:
    return journal.encode_stored(header, {piece: mark(piece) for piece in pieces})


def test_pieces_stored_are_replayed() -> None:
    data = START + stored(5, 3) + stored(99_999)
    replayed = journal.replay(data)
    assert replayed.header == HEADER
    assert dict(replayed.fingerprints) == {3: mark(3), 5: mark(5), 99_999: mark(99_999)}
    assert replayed.valid_length == len(data)
    stored_pieces = PieceSet(HEADER.piece_count)
    for piece in (3, 5, 99_999):
        stored_pieces.add(piece)
    assert replayed.fingerprints.stored() == stored_pieces


def test_the_last_word_on_a_piece_counts() -> None:
    again = journal.encode_stored(HEADER, {5: mark(0)})
    assert dict(journal.replay(START + stored(5) + again).fingerprints) == {5: mark(0)}


def test_a_header_alone_is_an_empty_journal() -> None:
    replayed = journal.replay(START)
    assert (replayed.header, len(replayed.fingerprints), replayed.valid_length) == (HEADER, 0, HEADER_BYTES)
    assert len(START) == HEADER_BYTES
    assert stored() == b""


def test_the_format_on_the_disk() -> None:
    fields = b"swarm-journal\0" + struct.pack(">H32sQI", 1, bytes(range(32)), 1 << 40, 100_000)
    check = xxhash.xxh3_128_digest(fields)
    assert fields + check == START
    record = b"S" + struct.pack(">II16s", 1, 7, mark(7))
    seed = int.from_bytes(check[:8], "big")
    assert stored(7) == record + xxhash.xxh3_128_digest(record, seed)


@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"\0" * 4096, b"\xff" * 4096, START[:-1], START[1:], b"S" * 100]
)
def test_without_a_sound_header_there_is_nothing(garbage: bytes) -> None:
    replayed = journal.replay(garbage)
    assert (replayed.header, len(replayed.fingerprints), replayed.valid_length) == (None, 0, 0)


def sealed(fields: bytes) -> bytes:
    return fields + xxhash.xxh3_128_digest(fields)


@pytest.mark.parametrize(
    ("magic", "version", "total", "pieces"),
    [
        (b"swarm-journal\0", 2, 1, 1),
        (b"swarm-journal\0", 0, 1, 1),
        (b"swarm-journey\0", 1, 1, 1),
        (b"swarm-journal\0", 1, 1, MAX_PIECES + 1),
        (b"swarm-journal\0", 1, (1 << 64) - 1, 1),
    ],
)
def test_a_header_of_another_format_is_not_believed(
    magic: bytes, version: int, total: int, pieces: int
) -> None:
    data = sealed(struct.pack(">14sH32sQI", magic, version, bytes(32), total, pieces))
    assert journal.replay(data).header is None


@pytest.mark.parametrize(
    "other",
    [
        Header(ManifestId(bytes(32)), HEADER.total_length, HEADER.piece_count),
        Header(HEADER.manifest, HEADER.total_length + 1, HEADER.piece_count),
        Header(HEADER.manifest, HEADER.total_length, HEADER.piece_count - 1),
    ],
)
def test_a_record_of_another_journal_does_not_count(other: Header) -> None:
    data = START + stored(1)
    replayed = journal.replay(data + stored(2, header=other) + stored(3))
    assert list(replayed.fingerprints) == [1]
    assert replayed.valid_length == len(data)


def checksummed(record: bytes) -> bytes:
    return record + xxhash.xxh3_128_digest(record, int.from_bytes(START[-16:-8], "big"))


@pytest.mark.parametrize(
    "record",
    [
        b"S" + struct.pack(">I", 0),
        b"X" + struct.pack(">II", 1, 1),
        b"S" + struct.pack(">II16s", 1, 100_000, bytes(16)),
        b"L" + struct.pack(">II", 1, 1),
        b"S" + struct.pack(">I", MAX_BATCH + 1) + bytes(20) * (MAX_BATCH + 1),
    ],
)
def test_a_record_that_was_never_written_stops_the_replay(record: bytes) -> None:
    data = START + stored(1)
    replayed = journal.replay(data + checksummed(record) + stored(3))
    assert list(replayed.fingerprints) == [1]
    assert replayed.valid_length == len(data)


def test_appending_goes_on_after_a_torn_record() -> None:
    torn = (START + stored(1) + stored(2))[:-1]
    replayed = journal.replay(torn)
    mended = torn[: replayed.valid_length] + stored(3)
    assert list(journal.replay(mended).fingerprints) == [1, 3]
    assert journal.replay(mended).valid_length == len(mended)


def test_a_long_batch_is_cut_into_records() -> None:
    pieces = range(2 * MAX_BATCH + 1)
    data = START + journal.encode_stored(HEADER, dict.fromkeys(pieces, bytes(16)))
    assert list(journal.replay(data).fingerprints) == list(pieces)
    torn = journal.replay(data[:-1])
    assert len(torn.fingerprints) == 2 * MAX_BATCH


def test_fingerprints_are_a_mapping_of_pieces() -> None:
    marks = Fingerprints(10)
    marks[3] = mark(3)
    marks[1] = mark(1)
    marks[3] = mark(4)
    assert dict(marks) == {1: mark(1), 3: mark(4)}
    assert (len(marks), list(marks), 3 in marks, 2 in marks, "3" in marks) == (2, [1, 3], True, False, False)
    del marks[3]
    assert marks.get(3) is None
    assert marks.pop(7, None) is None
    with pytest.raises(KeyError):
        marks[3]
    with pytest.raises(KeyError):
        marks[-1]
    with pytest.raises(KeyError):
        del marks[3]
    with pytest.raises(IndexError):
        marks[10] = mark(10)
    with pytest.raises(IndexError):
        marks[-1] = mark(10)
    with pytest.raises(ValueError):
        marks[1] = bytes(FINGERPRINT_BYTES - 1)
    assert marks.stored().count == 1


def test_a_fingerprint_is_the_canonical_xxh3_128() -> None:
    assert fingerprint(b"").hex() == "99aa06d3014798d86001c324468d497f"
    assert fingerprint(memoryview(b"abc")) == fingerprint(bytearray(b"abc")) == fingerprint(b"abc")
