from __future__ import annotations

import copy
import pickle

import cbor2
import pytest
from blake3 import blake3

from swarm.content.manifest import (
    MAX_BYTES_1,
    MAX_FILES_1,
    MAX_PIECE_LENGTH,
    MAX_PIECES_1,
    MAX_TOTAL_LENGTH,
    MIN_PIECE_LENGTH,
    FileEntry,
    Manifest,
    choose_piece_length,
)
from swarm.errors import ManifestError
from swarm.ids import ManifestId
from tests.support.contents import entry_of, file_manifest, folder_manifest

PIECE = MIN_PIECE_LENGTH
LONG = bytes(PIECE) + b"x"


def test_a_single_file() -> None:
    manifest = file_manifest("thing", LONG)
    assert manifest.files[0].path == ("thing",)
    assert manifest.total_length == PIECE + 1
    assert manifest.piece_count == 2
    assert manifest.piece_hash(0) == blake3(bytes(PIECE)).digest()
    assert manifest.piece_hash(1) == blake3(b"x").digest()
    with pytest.raises(IndexError):
        manifest.piece_hash(2)
    assert Manifest.decode(manifest.encode()) == manifest


def test_a_folder() -> None:
    files = {"a/long": LONG, "a/empty": b"", "b": b"1", "a/Ünïcode name": b"2"}
    manifest = folder_manifest("things", files)
    assert [entry.path for entry in manifest.files] == [
        ("a", "empty"),
        ("a", "long"),
        ("a", "Ünïcode name"),
        ("b",),
    ]
    assert manifest.piece_count == 4
    assert manifest.layout.pieces_of(1) == range(2)
    assert manifest.piece_hash(3) == blake3(b"1").digest()
    decoded = Manifest.decode(manifest.encode())
    assert (decoded.name, decoded.folder, decoded.piece_length, decoded.files) == (
        "things",
        True,
        PIECE,
        manifest.files,
    )
    assert decoded.id == manifest.id


def test_an_empty_file_and_an_empty_folder_have_no_piece() -> None:
    for manifest in (file_manifest("thing", b""), folder_manifest("things", {})):
        assert manifest.piece_count == manifest.total_length == 0
        assert Manifest.decode(manifest.encode()) == manifest


def test_the_id_is_the_hash_of_the_bytes() -> None:
    manifest = file_manifest("thing", b"x")
    assert manifest.id == ManifestId(blake3(manifest.encode()).digest())
    assert manifest.id is manifest.id
    assert hash(manifest) == hash(Manifest.decode(manifest.encode()))


def test_the_executable_bit_is_part_of_the_content() -> None:
    plain, runs = (
        Manifest("x", False, PIECE, [entry_of(("x",), b"#!", executable=bit)]) for bit in (False, True)
    )
    assert plain != runs
    assert Manifest.decode(runs.encode()).files[0].executable is True


def test_the_encoding_is_dag_cbor() -> None:
    encoded = folder_manifest("things", {"a": LONG, "b/c": b""}).encode()
    assert cbor2.dumps(cbor2.loads(encoded), canonical=True) == encoded
    assert list(cbor2.loads(encoded)) == ["v", "name", "piece", "folder", "entries"]


def test_a_manifest_does_not_change() -> None:
    manifest = file_manifest("thing", b"x")
    with pytest.raises(AttributeError):
        manifest.name = "other"
    with pytest.raises(AttributeError):
        del manifest.files
    with pytest.raises(AttributeError):
        manifest.extra = 1  # type: ignore[attr-defined]
    assert manifest.name == "thing"


def test_a_manifest_equals_its_like_only() -> None:
    assert file_manifest("a", b"x") != file_manifest("b", b"x")
    assert file_manifest("a", b"x") != "a"
    assert "a" in repr(file_manifest("a", b"x"))


def test_copies_and_pickles_are_the_same_manifest() -> None:
    manifest = folder_manifest("things", {"a": LONG})
    assert copy.deepcopy(manifest) == manifest
    restored = pickle.loads(pickle.dumps(manifest))  # noqa: S301 - written in this line
    assert restored == manifest
    assert restored.id == manifest.id


def test_the_constructor_keeps_the_same_rules_as_the_decoder() -> None:
    sound = entry_of(("a",), b"x")
    for name, folder, piece, entries in (
        ("..", True, PIECE, [sound]),
        ("things", True, PIECE + 1, [sound]),
        ("things", True, PIECE // 2, [sound]),
        ("things", True, 2 * MAX_PIECE_LENGTH, [sound]),
        ("things", True, 0, [sound]),
        ("things", False, PIECE, [sound]),
        ("things", False, PIECE, []),
        ("things", True, PIECE, [sound, sound]),
        ("things", True, PIECE, [sound._replace(length=2 * PIECE)]),
        ("things", True, PIECE, [sound._replace(length=-1)]),
        ("things", True, PIECE, [sound._replace(blake3=bytes(32))]),
        ("things", True, PIECE, [sound._replace(path=("a", "..", "b"))]),
        ("things", True, PIECE, [sound._replace(path=("\ud800",))]),
        ("things", True, PIECE, [sound._replace(path=())]),
    ):
        with pytest.raises(ManifestError):
            Manifest(name, folder, piece, entries)


def test_every_beginning_of_a_manifest_ends_too_early() -> None:
    encoded = folder_manifest("things", {"a": LONG, "b/c": b""}).encode()
    for cut in range(len(encoded)):
        with pytest.raises(ManifestError, match="the bytes end too early"):
            Manifest.decode(encoded[:cut])


def test_what_is_too_large_for_format_1_takes_format_2() -> None:
    hashes, count = bytes(32), MAX_PIECES_1 - MAX_FILES_1
    entries = [FileEntry(("a",), count * PIECE, False, hashes, hashes * count)]
    entries += [
        FileEntry((f"b{index:05}" + "x" * 72,), 1, False, hashes, hashes) for index in range(MAX_FILES_1 - 1)
    ]
    made = Manifest("things", True, PIECE, entries)
    assert made.version == 2
    assert len(made.encode()) > MAX_BYTES_1 - 1_000_000
    assert made.piece_hash(count) == hashes


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (0, 16 * 1024),
        (1, 16 * 1024),
        (2_684_000, 16 * 1024),
        (2_685_000, 32 * 1024),
        (687_000_000, 256 * 1024),
        (688_000_000, 512 * 1024),
        (2_748_000_000, 512 * 1024),
        (10_990_000_000, 1024 * 1024),
        (43_980_000_000, 2 * 1024 * 1024),
        (175_900_000_000, 4 * 1024 * 1024),
        (MAX_TOTAL_LENGTH, MAX_PIECE_LENGTH),
    ],
)
def test_the_piece_length_grows_with_the_root_of_the_size(size: int, length: int) -> None:
    assert choose_piece_length(size) == length
    assert -(-size // length) <= MAX_PIECES_1
