"""The reader of patches, as a surface to fuzz: a whole patch, an index before compression, or one frame."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

from swarm.content import cbor
from swarm.content.patch import (
    HEAD_BYTES,
    MAX_SPAN_BYTES,
    NO_BASE,
    SEGMENT_BYTES,
    PatchColumns,
    PatchIndex,
    Prefix,
    encode_index,
    packed_index_bytes,
    read_index,
)
from swarm.content.zstd_frames import zstd_module
from swarm.errors import PatchError
from tests.support.contents import folder_manifest

PATCH_WINDOW = 1 << 20
"""Bytes that the decompressor of an index allocates at most; the frames here make less."""

_OLD_FILES = {"one": bytes(range(256)) * 40, "two": b"another" * 300}
_NEW_FILES = {"one": b"+" + bytes(range(256)) * 40, "two": b"another" * 200, "three": b"3" * 90}
_OLD = folder_manifest("it", _OLD_FILES)
_NEW = folder_manifest("it", _NEW_FILES)
_OLD_DATA = [_OLD_FILES["/".join(entry.path)] for entry in _OLD.files]
_WHOLE, _INDEX, _FRAME = range(3)


def run_patch(data: bytes) -> None:
    """The first byte says what the rest is. It is refused in one line, or all that follows is bounded."""
    if not data:
        return
    kind, rest = data[0] % 3, data[1:]
    try:
        if kind == _WHOLE:
            _run_whole(rest)
        elif kind == _INDEX:
            packed = zstd_module().compress(rest, 1)
            claimed = int.from_bytes(rest[-2:], "big")
            _check(read_index(packed, _OLD, _NEW, HEAD_BYTES + len(packed) + claimed))
        else:
            _run_frame(rest)
    except PatchError as error:
        if len(str(error).splitlines()) != 1 or len(str(error)) > 500:
            raise AssertionError(f"not one line: {error!r:.600}") from error


def _run_whole(data: bytes) -> None:
    stored = packed_index_bytes(data[:HEAD_BYTES])
    index = read_index(data[HEAD_BYTES : HEAD_BYTES + stored], _OLD, _NEW, len(data))
    _check(index)
    for number in range(index.segment_count):
        segment = index.segment(number)
        old = b"" if segment.base is None else _OLD_DATA[segment.base]
        span = old[segment.start : segment.start + segment.span]
        frame = data[segment.frame_offset : segment.frame_offset + segment.frame]
        if 0 < segment.frame < segment.length:
            made = Prefix(span).expand(frame, segment.length)
            if len(made) != segment.length:
                raise AssertionError(f"{len(made)} bytes of a segment of {segment.length}")


def _run_frame(data: bytes) -> None:
    length = int.from_bytes(data[:2], "big")
    made = Prefix(_OLD_DATA[0]).expand(data[2:], length)
    if len(made) != length:
        raise AssertionError(f"{len(made)} bytes instead of {length}")


def _check(index: PatchIndex) -> None:
    """Whatever was accepted lies within both versions."""
    end = index.frames_at
    for number in range(index.segment_count):
        segment = index.segment(number)
        size = 0 if segment.base is None else len(_OLD_DATA[segment.base])
        entry = _NEW.files[segment.file]
        sound = (
            0 < segment.length <= min(SEGMENT_BYTES, entry.length - segment.offset)
            and segment.span <= MAX_SPAN_BYTES
            and segment.start + segment.span <= size
            and segment.frame <= segment.length
            and segment.frame_offset == end
            and (segment.frame or segment.span == segment.length)
        )
        if not sound:
            raise AssertionError(f"a segment that cannot be: {segment}")
        end += segment.frame
    if end != index.size:
        raise AssertionError(f"frames end at {end} of {index.size}")
    index.pieces(bytearray(b"\1" * index.segment_count))


def patch_seeds() -> Iterator[bytes]:
    """Whole patches, their indexes, and frames."""
    columns = PatchColumns.empty()
    frames = []
    for number, base in ((0, 0), (1, NO_BASE), (2, 1)):
        new = _NEW_FILES["/".join(_NEW.files[number].path)]
        old = b"" if base == NO_BASE else _OLD_DATA[base]
        frame = b"" if new == old[: len(new)] else Prefix(old).squeeze(new, 3)
        columns.files.append(number)
        columns.bases.append(base)
        columns.starts.append(0)
        columns.spans.append(len(old) if frame else len(new))
        columns.frames.append(len(frame))
        frames.append(frame)
        yield bytes((_FRAME,)) + struct.pack(">H", len(new)) + frame
    head = encode_index(columns, _OLD, _NEW)
    yield bytes((_WHOLE,)) + head + b"".join(frames)
    index = zstd_module().decompress(head[HEAD_BYTES:])
    yield bytes((_INDEX,)) + index
    wide = PatchColumns(
        array("I", [1]), array("I", [NO_BASE]), array("Q", [0]), array("I", [0]), array("I", [90])
    )
    yield bytes((_WHOLE,)) + encode_index(wide, _OLD, _NEW) + b"3" * 90
    yield bytes((_INDEX,)) + cbor.encode({"new": _NEW.id.digest})
