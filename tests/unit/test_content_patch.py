"""The index of a patch: whatever it says that cannot be is refused in one line, and little memory."""

from __future__ import annotations

import struct
import tracemalloc
from array import array

import pytest

from swarm.content import cbor
from swarm.content.patch import (
    HEAD_BYTES,
    MAGIC,
    MAX_INDEX_BYTES,
    MAX_SEGMENTS,
    NO_BASE,
    SEGMENT_BYTES,
    PatchColumns,
    Prefix,
    encode_index,
    packed_index_bytes,
    read_index,
)
from swarm.content.zstd_frames import zstd_module
from swarm.errors import PatchError
from tests.support.contents import folder_manifest

zstd = zstd_module()

OLD = folder_manifest("it", {"a": bytes(1000), "b": b"b" * 50_000})
NEW = folder_manifest("it", {"a": b"1" * 1000, "b": b"B" * 50_000, "c": b"c" * 99, "empty": b""})


def columns(**changes: list[int]) -> PatchColumns:
    """Sound columns, with changes: a frame over a span, a copy that is not true, and what is stored."""
    values = {
        "files": [0, 1, 2],
        "bases": [1, 1, NO_BASE],
        "starts": [7, 0, 0],
        "spans": [900, 50_000, 0],
        "frames": [10, 0, 99],
    } | changes
    return PatchColumns(*(array("Q" if name == "starts" else "I", values[name]) for name in values))


def index_of(given: PatchColumns, **changes: cbor.Value) -> bytes:
    """The stored index that says so, sound or not."""
    fields: dict[str, cbor.Value] = {"new": NEW.id.digest, "old": OLD.id.digest}
    for name in ("bases", "files", "spans", "frames", "starts"):
        column = getattr(given, name)
        fields[name] = struct.pack(f">{len(column)}{column.typecode}", *column)
    return zstd.compress(cbor.encode(fields | changes))


def read(packed: bytes, frames: int = 109) -> None:
    read_index(packed, OLD, NEW, HEAD_BYTES + len(packed) + frames)


def test_an_index_says_what_was_encoded() -> None:
    encoded = encode_index(columns(), OLD, NEW)
    size = packed_index_bytes(encoded[:HEAD_BYTES])
    assert HEAD_BYTES + size == len(encoded)
    index = read_index(encoded[HEAD_BYTES:], OLD, NEW, len(encoded) + 109)
    first, second, third = map(index.segment, range(3))
    assert (first.file, first.base, first.start, first.span, first.frame) == (0, 1, 7, 900, 10)
    assert (second.length, second.frame) == (50_000, 0)
    assert (third.base, third.frame_offset, third.frame) == (None, len(encoded) + 10, 99)
    assert index.bases == {1}
    assert index.pieces(bytearray([1, 1, 1])).count == NEW.piece_count
    assert list(index.pieces(bytearray([1, 0, 1]))) == [0, NEW.piece_count - 1]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"files": [0, 1, 3]}, "empty"),
        ({"files": [0, 1, 4]}, "not there"),
        ({"files": [0, 2, 1]}, "out of order"),
        ({"files": [0, 0, 1]}, "out of order"),
        ({"files": [0, 1]}, "out of order"),
        ({"bases": [2, 1, NO_BASE]}, "old file 2"),
        ({"bases": [NO_BASE, 1, NO_BASE]}, "beyond the old file"),
        ({"starts": [49_101, 0, 0]}, "beyond the old file"),
        ({"starts": [2**64 - 1, 0, 0]}, "beyond the old file"),
        ({"starts": [7, 0, 1]}, "beyond the old file"),
        ({"starts": [7, 0]}, "3 segments"),
        ({"spans": [2**32 - 1, 50_000, 0]}, "beyond the old file"),
        ({"spans": [7, 50_000, 0]}, "cannot have 10 bytes"),
        ({"spans": [900, 49_999, 0]}, "cannot have 0 bytes"),
        ({"spans": [900, 50_000, 0, 0]}, "3 segments"),
        ({"frames": [1001, 0, 99]}, "cannot have 1001 bytes"),
        ({"frames": [1000, 0, 99]}, "cannot have 1000 bytes"),
        ({"frames": [10, 0, 0]}, "cannot have 0 bytes"),
        ({"frames": [11, 0, 99]}, "but its index says"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, list[int]], says: str) -> None:
    with pytest.raises(PatchError, match=says):
        read(index_of(columns(**changes)))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("new", OLD.id.digest, "leads to another version"),
        ("old", NEW.id.digest, "leads from another version"),
        ("old", b"", "leads from another version"),
        ("bases", bytes(11), "broken length"),
        ("starts", 5, "an unsigned integer instead of bytes"),
        ("more", b"", "a map of 8 fields"),
    ],
)
def test_another_form_is_refused(field: str, value: cbor.Value, says: str) -> None:
    with pytest.raises(PatchError, match=says):
        read(index_of(columns(), **{field: value}))


def test_a_promise_of_more_than_there_can_be_costs_no_memory() -> None:
    many = folder_manifest("many", {})
    small_window = {zstd.CompressionParameter.window_log: 20}
    packed = zstd.compress(bytes(MAX_INDEX_BYTES + 1), options=small_window)
    with pytest.raises(PatchError, match="too long"):
        read_index(packed, OLD, many, 10**18)
    column = bytes(4 * MAX_SEGMENTS)
    fields: dict[str, cbor.Value] = {"bases": column, "files": column, "spans": column}
    tracemalloc.start()
    try:
        with pytest.raises(PatchError):
            read(index_of(columns(), **fields))
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_INDEX_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"", "not a swarm patch"),
        (MAGIC, "not a swarm patch"),
        (b"swarm-hashed\0\0\0\1" + bytes(4), "not a swarm patch"),
        (MAGIC[:-1] + b"\2" + bytes(4), "newer swarm"),
        (MAGIC + bytes(4), "cannot have 0 bytes"),
        (MAGIC + b"\xff" * 4, "cannot have 4294967295 bytes"),
    ],
)
def test_another_head_is_refused(head: bytes, says: str) -> None:
    with pytest.raises(PatchError, match=says):
        packed_index_bytes(head)


def test_a_frame_makes_no_more_than_it_may() -> None:
    prefix = Prefix(bytes(range(256)) * 40)
    data = bytes(range(256)) * 30
    frame = prefix.squeeze(data, 3)
    assert len(frame) < 100
    assert prefix.expand(frame, len(data)) == data
    for length in (len(data) - 1, len(data) + 1, 0):
        with pytest.raises(PatchError, match="does not make"):
            prefix.expand(frame, length)
    with pytest.raises(PatchError, match="does not make"):
        prefix.expand(frame + frame, len(data))
    bomb = zstd.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(PatchError):
            prefix.expand(bomb, SEGMENT_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 4 * SEGMENT_BYTES
    finally:
        tracemalloc.stop()
