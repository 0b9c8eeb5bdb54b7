"""The journal of a partial download: which pieces are on the disk, with their fingerprints.

A header binds the journal to one manifest. Records follow, each a batch of pieces under one checksum. A
record counts as a whole or not at all, and the first invalid one ends the journal, because data after a torn
write cannot be trusted. Only this machine writes the journal, so XXH3-128 is enough.

All integers are big-endian::

    header  magic "swarm-journal\\0", u16 version, 32 bytes manifest id, u64 total length in bytes,
            u32 piece count, XXH3-128 of all of this
    record  "S", u32 count, count times (u32 piece, XXH3-128 of the piece's bytes), checksum

A record's checksum is the XXH3-128 of the rest of the record, seeded with the first eight bytes of the
header's checksum, so a record of another journal is never valid.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

import xxhash

from swarm.content.fingerprints import FINGERPRINT_BYTES, Fingerprints
from swarm.content.manifest import MAX_PIECES, MAX_TOTAL_LENGTH
from swarm.ids import ManifestId
from swarm.lazy_dataclass import dataclass

JOURNAL_VERSION = 1
MAX_BATCH = 32_768
"""Pieces in one record; a longer batch is split."""

_MAGIC = b"swarm-journal\x00"
_HEADER = struct.Struct(">14sH32sQI")
_RECORD = struct.Struct(">cI")
_ENTRY = struct.Struct(f">I{FINGERPRINT_BYTES}s")
_STORED = b"S"
_CHECKSUM_BYTES = 16
_SEED_BYTES = 8
HEADER_BYTES = _HEADER.size + _CHECKSUM_BYTES


@dataclass(frozen=True, slots=True)
class Header:
    """The content that a journal belongs to; ``total_length`` is in bytes."""

    manifest: ManifestId
    total_length: int
    piece_count: int


class Replay(NamedTuple):
    """The content of a journal.

    ``header`` is None if there is no valid one. ``fingerprints`` are those of the claimed pieces.
    ``valid_length`` is how many bytes are valid; cut the file there before appending.
    """

    header: Header | None
    fingerprints: Fingerprints
    valid_length: int


def encode_header(header: Header) -> bytes:
    """Encode the first `HEADER_BYTES` of a journal."""
    fields = _HEADER.pack(
        _MAGIC, JOURNAL_VERSION, header.manifest.digest, header.total_length, header.piece_count
    )
    return fields + xxhash.xxh3_128_digest(fields)


def encode_stored(header: Header, fingerprints: Mapping[int, bytes]) -> bytes:
    """Encode records that these pieces are on the disk, with their fingerprints; empty for no pieces."""
    seed = _seed(encode_header(header))
    records = bytearray()
    remaining = iter(fingerprints.items())
    while batch := list(islice(remaining, MAX_BATCH)):
        entries = b"".join([_ENTRY.pack(piece, digest) for piece, digest in batch])
        record = _RECORD.pack(_STORED, len(batch)) + entries
        records += record + xxhash.xxh3_128_digest(record, seed)
    return bytes(records)


def replay(data: bytes, expected: Header | None = None) -> Replay:
    """Decode a journal, or what a crash left of one; never raises.

    If the header differs from ``expected``, only the header is returned. So the memory used depends on
    the caller's manifest, not on the file.
    """
    header = _decode_header(data)
    if header is None:
        return Replay(None, Fingerprints(0), 0)
    if expected is not None and header != expected:
        return Replay(header, Fingerprints(0), HEADER_BYTES)
    fingerprints = Fingerprints(header.piece_count)
    seed = _seed(data[:HEADER_BYTES])
    view = memoryview(data)
    at = HEADER_BYTES
    while end := _record_end(view, at, seed, header.piece_count):
        for piece, digest in _ENTRY.iter_unpack(view[at + _RECORD.size : end - _CHECKSUM_BYTES]):
            fingerprints[piece] = digest
        at = end
    return Replay(header, fingerprints, at)


def _seed(encoded_header: bytes) -> int:
    start = _HEADER.size
    return int.from_bytes(encoded_header[start : start + _SEED_BYTES], "big")


def _decode_header(data: bytes) -> Header | None:
    fields = data[: _HEADER.size]
    if len(data) < HEADER_BYTES or data[_HEADER.size : HEADER_BYTES] != xxhash.xxh3_128_digest(fields):
        return None
    magic, version, digest, total_length, piece_count = _HEADER.unpack(fields)
    if magic != _MAGIC or version != JOURNAL_VERSION:
        return None
    if piece_count > MAX_PIECES or total_length > MAX_TOTAL_LENGTH:
        return None
    return Header(ManifestId(digest), total_length, piece_count)


def _record_end(view: memoryview, at: int, seed: int, piece_count: int) -> int:
    """Return the end of the valid record at ``at``, 0 if there is none."""
    if at + _RECORD.size > len(view):
        return 0
    kind, count = _RECORD.unpack_from(view, at)
    if kind != _STORED or not 0 < count <= MAX_BATCH:
        return 0
    checked: int = at + _RECORD.size + count * _ENTRY.size
    end = checked + _CHECKSUM_BYTES
    if end > len(view) or view[checked:end] != xxhash.xxh3_128_digest(view[at:checked], seed):
        return 0
    entries = _ENTRY.iter_unpack(view[at + _RECORD.size : checked])
    return end if max(map(itemgetter(0), entries)) < piece_count else 0
