"""A patch: what makes the changed files of one manifest out of the files of another. Source: docs/patches.md.

A changed file is cut into segments of 4 MiB. Each is a copy of a span of an old file, or one zstd frame whose
prefix is such a span, or stored as it is. The index names the spans and the frames; it is checked against
both manifests before anything is read or made.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from operator import lt
from typing import NamedTuple

from swarm.bits import PieceSet
from swarm.content import cbor
from swarm.content.entry_tree import BIG_ENDIAN
from swarm.content.manifest import Manifest
from swarm.content.zstd_frames import read_frame, zstd_module
from swarm.errors import PatchError
from swarm.ids import DIGEST_BYTES
from swarm.lazy_dataclass import dataclass

SEGMENT_BYTES = 4 * 1024 * 1024
"""Bytes of the new file that one segment makes; the last one of a file may be shorter."""
MAX_SPAN_BYTES = 8 * 1024 * 1024
"""Bytes of the old file that one segment may refer to. Longer ones make patches larger and slower."""
MIN_PREFIX_BYTES = 8
"""A shorter prefix is refused by zstd."""
MAX_SEGMENTS = 256 * 1024
"""Segments of one patch: 1 TiB of changed files, or a quarter of a million small ones."""
MAX_INDEX_BYTES = 8 * 1024 * 1024
"""Bytes of the index; it takes 24 for a segment at most before it is compressed."""
MAGIC = b"swarm-patch\0\0\0\0\1"
HEAD_BYTES = len(MAGIC) + 4
"""What comes before the index: the magic number, and the bytes of the index as it is stored."""
WINDOW_BITS = 22
"""A frame needs no more than its segment; its prefix is reached beyond the window (RFC 8878, section 5)."""
NO_BASE = 0xFFFFFFFF
"""Stands for an old file where a new one has none."""

_INDEX_WINDOW_BITS = 20
_INDEX_LEVEL = 9
_TABLE_BITS = 19
_DISTANT_BITS = 18
_DISTANT_RATE = 6
_COLUMN_BYTES = {"I": 4, "Q": 8}
_NEW, _OLD, _BASES, _FILES, _SPANS, _FRAMES, _STARTS = map(
    cbor.text_key, ("new", "old", "bases", "files", "spans", "frames", "starts")
)
_FIELDS = 7


@dataclass(frozen=True, slots=True)
class PatchColumns:
    """What an index says: for each changed file its numbers, for each segment a span and a frame.

    ``files`` are indexes of new files, ascending; ``bases`` are those of the old files, or `NO_BASE`.
    ``starts`` and ``spans`` are the offset and the bytes of each segment's span in the old file, ``frames``
    the bytes of its frame.
    """

    files: array[int]
    bases: array[int]
    starts: array[int]
    spans: array[int]
    frames: array[int]

    @classmethod
    def empty(cls) -> PatchColumns:
        """Columns to append to."""
        return cls(array("I"), array("I"), array("Q"), array("I"), array("I"))


class Segment(NamedTuple):
    """One segment: what it makes, the span that it refers to, and where its frame is in the patch.

    ``base`` is the index of the old file, None if there is no span. Without a frame it is a copy of the span.
    A frame as long as the segment is no frame, but its bytes.
    """

    number: int
    file: int
    offset: int
    length: int
    base: int | None
    start: int
    span: int
    frame_offset: int
    frame: int


class PatchIndex:
    """A checked index; ``frames_at`` is the offset of the first frame in the patch, in bytes."""

    __slots__ = ("_columns", "_ends", "_first", "_new", "frames_at")

    def __init__(self, columns: PatchColumns, old: Manifest, new: Manifest, frames_at: int) -> None:
        self._columns = columns
        self._new = new
        self.frames_at = frames_at
        self._first = array("I", _first_segments(columns.files, new))
        self._check(old)
        self._ends = array("Q", accumulate(columns.frames, initial=frames_at))

    @property
    def segment_count(self) -> int:
        """The number of segments of all listed files."""
        return self._first[-1]

    @property
    def size(self) -> int:
        """Bytes of the whole patch."""
        return self._ends[-1]

    @property
    def files(self) -> Sequence[int]:
        """The indexes of the new files that are listed, ascending."""
        return self._columns.files

    @property
    def bases(self) -> set[int]:
        """The indexes of the old files that are needed."""
        return set(self._columns.bases) - {NO_BASE}

    def segment(self, number: int) -> Segment:
        """Return a segment; raises IndexError if there is no such number."""
        if not 0 <= number < self.segment_count:
            raise IndexError(f"segment {number} is not in 0..{self.segment_count - 1}")
        listed = bisect_right(self._first, number) - 1
        columns = self._columns
        file, base = columns.files[listed], columns.bases[listed]
        offset = (number - self._first[listed]) * SEGMENT_BYTES
        length = min(SEGMENT_BYTES, self._new.layout.file_length(file) - offset)
        span = columns.spans[number]
        return Segment(
            number,
            file,
            offset,
            length,
            base if span else None,
            columns.starts[number],
            span,
            self._ends[number],
            columns.frames[number],
        )

    def segments_of(self, piece: int) -> range:
        """Return the numbers of the segments that a piece of the new version lies in; none if not listed."""
        span = self._new.layout.span(piece)
        files = self._columns.files
        listed = bisect_left(files, span.file)
        if listed == len(files) or files[listed] != span.file:
            return range(0)
        first = self._first[listed] + span.offset // SEGMENT_BYTES
        return range(first, first + -(-span.length // SEGMENT_BYTES))

    def pieces(self, present: bytearray) -> PieceSet:
        """Return the pieces of the new version all of whose segments are ``present`` (a byte for each)."""
        layout = self._new.layout
        found = PieceSet(layout.piece_count)
        for listed, file in enumerate(self._columns.files):
            own = present[self._first[listed] : self._first[listed + 1]]
            pieces = layout.pieces_of(file)
            if all(own):
                found |= PieceSet.between(found.size, pieces.start, pieces.stop)
            elif any(own):
                for piece in pieces:
                    if all(present[number] for number in self.segments_of(piece)):
                        found.add(piece)
        return found

    def _check(self, old: Manifest) -> None:
        columns, lengths = self._columns, old.layout
        for listed, (first, end) in enumerate(pairwise(self._first)):
            base = columns.bases[listed]
            if base != NO_BASE and base >= len(old.files):
                raise PatchError(f"this patch names old file {base}, but there are {len(old.files)}")
            size = 0 if base == NO_BASE else lengths.file_length(base)
            left = self._new.layout.file_length(columns.files[listed])
            for number in range(first, end):
                length = min(SEGMENT_BYTES, left)
                left -= length
                start, span, frame = columns.starts[number], columns.spans[number], columns.frames[number]
                if span > MAX_SPAN_BYTES or start + span > size or (start and not span):
                    raise PatchError(f"segment {number} of this patch refers to bytes beyond the old file")
                if not _sound(length, span, frame):
                    raise PatchError(f"segment {number} of this patch cannot have {frame} bytes for {length}")


def _sound(length: int, span: int, frame: int) -> bool:
    """Whether a segment can be made of a span and a frame of so many bytes."""
    if not frame:
        return span == length
    if frame >= length:
        return frame == length and not span
    return not span or span >= MIN_PREFIX_BYTES


def packed_index_bytes(head: bytes) -> int:
    """Return how many bytes the stored index has that follows this head of `HEAD_BYTES`.

    Raises `PatchError` for anything else.
    """
    if not head.startswith(MAGIC[:-1]) or len(head) != HEAD_BYTES:
        raise PatchError("this is not a swarm patch")
    if head[len(MAGIC) - 1] != MAGIC[-1]:
        raise PatchError("this patch was made by a newer swarm: upgrade swarm")
    size = int.from_bytes(head[len(MAGIC) :], "big")
    if not 0 < size <= MAX_INDEX_BYTES:
        raise PatchError(f"the index of a patch cannot have {size} bytes")
    return size


def encode_index(columns: PatchColumns, old: Manifest, new: Manifest) -> bytes:
    """Return the head and the index of a patch, to be followed by its frames.

    Raises `PatchError` if the columns break a rule.
    """
    PatchIndex(columns, old, new, 0)
    encoded = cbor.encode(
        {
            "new": new.id.digest,
            "old": old.id.digest,
            "bases": _packed(columns.bases),
            "files": _packed(columns.files),
            "spans": _packed(columns.spans),
            "frames": _packed(columns.frames),
            "starts": _packed(columns.starts),
        }
    )
    if len(encoded) > MAX_INDEX_BYTES:
        raise PatchError(f"the index of a patch cannot have {len(encoded)} bytes")
    zstd = zstd_module()
    parameter = zstd.CompressionParameter
    options = {
        parameter.compression_level: _INDEX_LEVEL,
        parameter.window_log: _INDEX_WINDOW_BITS,
        parameter.checksum_flag: 1,
        parameter.content_size_flag: 0,
    }
    packed: bytes = zstd.compress(encoded, options=options)
    return MAGIC + struct.pack(">I", len(packed)) + packed


def read_index(packed: bytes, old: Manifest, new: Manifest, size: int) -> PatchIndex:
    """Read a stored index; ``size`` is the bytes of the whole patch.

    Raises `PatchError` for anything but a sound index of a patch from ``old`` to ``new``.
    """
    data = _unpack(packed)
    try:
        columns = _read_columns(data, old, new)
    except cbor.CborError as error:
        raise PatchError(f"this is not the index of a swarm patch: {error}") from error
    index = PatchIndex(columns, old, new, HEAD_BYTES + len(packed))
    if index.size != size:
        raise PatchError(f"this patch has {size} bytes, but its index says {index.size}")
    return index


class Prefix:
    """A span of an old file, made ready for any number of frames; it keeps a copy of ``data``."""

    __slots__ = ("_ready", "_zstd")

    def __init__(self, data: bytes | memoryview = b"") -> None:
        self._zstd = zstd_module()
        self._ready = self._zstd.ZstdDict(data, is_raw=True) if len(data) >= MIN_PREFIX_BYTES else None

    def squeeze(self, data: bytes | memoryview, level: int) -> bytes:
        """Return the zstd frame that makes ``data``, at most `SEGMENT_BYTES`, out of this."""
        zstd = self._zstd
        parameter = zstd.CompressionParameter
        # Tables larger than those of the level: an eighth less at two thirds of the speed.
        options = {
            parameter.compression_level: level,
            parameter.window_log: WINDOW_BITS,
            parameter.hash_log: _TABLE_BITS,
            parameter.chain_log: _TABLE_BITS,
        }
        known = None
        if self._ready is not None:
            known = self._ready.as_prefix
            # Long-distance matches find what has moved.
            options |= {
                parameter.enable_long_distance_matching: 1,
                parameter.ldm_hash_log: _DISTANT_BITS,
                parameter.ldm_hash_rate_log: _DISTANT_RATE,
            }
        made = zstd.ZstdCompressor(options=options, zstd_dict=known)
        frame: bytes = made.compress(data, mode=made.FLUSH_FRAME)
        return frame

    def expand(self, frame: bytes | memoryview, length: int) -> bytes:
        """Return the ``length`` bytes that a frame makes of this; never makes more than one byte beyond.

        Raises `PatchError` for anything but one frame of so many bytes. Whether they are the right ones, only
        their hash tells.
        """
        known = None if self._ready is None else self._ready.as_prefix
        wrong = (
            f"a frame of this patch does not make {length} bytes: it is damaged, or the old file is another"
        )
        try:
            data = read_frame(frame, length, window_bits=WINDOW_BITS, prefix=known)
        except ValueError as error:
            raise PatchError(wrong) from error
        if len(data) != length:
            raise PatchError(wrong)
        return data


def segments_in(length: int) -> int:
    """Return the number of segments of a file of ``length`` bytes."""
    return -(-length // SEGMENT_BYTES)


def _first_segments(files: Iterable[int], new: Manifest) -> Iterator[int]:
    """Yield the first segment of each file, then the number of all of them."""
    count = 0
    for file in files:
        yield count
        if file >= len(new.files) or not new.layout.file_length(file):
            raise PatchError(f"this patch names new file {file}, which is empty or not there")
        count += segments_in(new.layout.file_length(file))
        if count > MAX_SEGMENTS:
            raise PatchError(f"a patch can have at most {MAX_SEGMENTS} segments")
    yield count


def _unpack(packed: bytes) -> bytes:
    try:
        return read_frame(packed, MAX_INDEX_BYTES, window_bits=_INDEX_WINDOW_BITS)
    except ValueError as error:
        raise PatchError("the index of this patch is damaged or too long") from error


def _read_columns(data: bytes, old: Manifest, new: Manifest) -> PatchColumns:
    reader = cbor.Reader(data)
    reader.fields(_FIELDS)
    for key, manifest, what in ((_NEW, new, "to"), (_OLD, old, "from")):
        reader.key(key)
        if reader.data(DIGEST_BYTES) != manifest.id.digest:
            raise PatchError(f"this patch leads {what} another version")
    view = memoryview(data)
    bases = _column(reader, view, _BASES, "I")
    files = _column(reader, view, _FILES, "I")
    if len(bases) != len(files) or not all(map(lt, files, files[1:])):
        raise PatchError("the files of this patch are out of order")
    spans = _column(reader, view, _SPANS, "I")
    frames = _column(reader, view, _FRAMES, "I")
    starts = _column(reader, view, _STARTS, "Q")
    reader.end()
    *_, count = _first_segments(files, new)
    if not len(spans) == len(frames) == len(starts) == count:
        raise PatchError(f"this patch does not describe {count} segments")
    return PatchColumns(files, bases, starts, spans, frames)


def _column(reader: cbor.Reader, data: memoryview, key: bytes, kind: str) -> array[int]:
    reader.key(key)
    start, end = reader.part(MAX_SEGMENTS * _COLUMN_BYTES[kind])
    if (end - start) % _COLUMN_BYTES[kind]:
        raise PatchError("a column of this patch has a broken length")
    column: array[int] = array(kind)
    column.frombytes(data[start:end])
    if not BIG_ENDIAN:
        column.byteswap()
    return column


def _packed(column: array[int]) -> bytes:
    if BIG_ENDIAN:
        return column.tobytes()
    swapped = column[:]
    swapped.byteswap()
    return swapped.tobytes()
