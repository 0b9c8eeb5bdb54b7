"""Patches are made from two versions on the disk, and applied to one of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from swarm.content.manifest import Manifest
from swarm.content.patch import MAX_SPAN_BYTES, SEGMENT_BYTES
from swarm.errors import DiskError, PatchError
from swarm.storage.patch_maker import make_patch
from swarm.storage.patch_reader import PatchReader, apply_patch
from tests.support.contents import folder_manifest

MIB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def version(folder: Path, files: dict[str, bytes], piece_length: int = 1 * MIB) -> Manifest:
    """Write the files of a version; return its manifest."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder_manifest("it", files, piece_length=piece_length)


class Pair:
    """Two versions on the disk, and the patch between them."""

    def __init__(self, folder: Path, old: dict[str, bytes], new: dict[str, bytes], piece: int = MIB) -> None:
        self.folder = folder
        self.new_files = new
        self.old = version(folder / "old", old, piece)
        self.new = version(folder / "new", new, piece)
        self.patch = folder / "patch"
        self.done: list[tuple[int, int]] = []

    def make(self) -> int | None:
        return make_patch(
            self.old,
            self.folder / "old",
            self.new,
            self.folder / "new",
            self.patch,
            progress=lambda done, total: self.done.append((done, total)),
        )

    def apply(self) -> int:
        made = apply_patch(self.patch, self.old, self.folder / "old", self.new, self.folder / "out")
        for path in (self.folder / "out").rglob("*"):
            if path.is_file():
                name = str(path.relative_to(self.folder / "out"))
                assert path.read_bytes() == self.new_files[name], name
        return made


def test_content_that_has_moved_far_in_a_large_file_is_found(tmp_path: Path) -> None:
    parts = [noise(5 * MIB, seed) for seed in range(5)]
    moved = bytes(MAX_SPAN_BYTES + 12_345) + parts[3] + parts[4] + b"some" + parts[0] + parts[1] + parts[2]
    pair = Pair(tmp_path, {"pack": b"".join(parts)}, {"pack": moved})
    size = pair.make()
    # Only where two parts meet in a segment does the span hold one of them alone.
    assert size is not None
    assert size < 2 * SEGMENT_BYTES
    assert pair.apply() == len(moved)
    assert pair.done[-1] == (len(moved), len(moved))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["patch"]


def test_a_file_that_was_renamed_and_changed_is_recognised_by_its_content(tmp_path: Path) -> None:
    data = noise(300_000)
    old = {"engine/core.bin": data, "engine/other.bin": noise(300_000, 2), "kept": b"kept"}
    pair = Pair(tmp_path, old, {"lib/renamed-entirely": b"header" + data, "kept": b"kept"})
    size = pair.make()
    assert size is not None
    assert size < 2000
    assert pair.apply() == 300_006


def test_what_is_new_is_only_compressed_and_what_does_not_compress_is_stored(tmp_path: Path) -> None:
    new = {"changed": noise(50_000) + b"!", "text": b"a line of text\n" * 5000, "noise": noise(2000, 5)}
    pair = Pair(tmp_path, {"changed": noise(50_000)}, new)
    size = pair.make()
    assert size is not None
    assert 2000 < size < 3000
    assert pair.apply() == sum(map(len, new.values()))


def test_a_segment_of_which_no_piece_has_changed_costs_nothing(tmp_path: Path) -> None:
    data = bytearray(noise(9 * MIB))
    pair_old = {"image": bytes(data)}
    data[5 * MIB] ^= 1
    pair = Pair(tmp_path, pair_old, {"image": bytes(data)})
    size = pair.make()
    assert size is not None
    assert size < 20_000
    with PatchReader.open(pair.patch, pair.old, pair.new, [tmp_path / "old"]) as reader:
        assert reader.pieces.full
    assert pair.apply() == len(data)


@pytest.mark.parametrize("piece", [16 * 1024, 16 * MIB])
def test_pieces_of_any_length_are_made(tmp_path: Path, piece: int) -> None:
    data = noise(9 * MIB)
    pair = Pair(tmp_path, {"image": data}, {"image": data[:MIB] + b"new" + data[MIB:]}, piece)
    size = pair.make()
    assert size is not None
    assert size < 20_000
    assert pair.apply() == len(data) + 3


def test_a_patch_that_is_not_worth_it_is_not_made(tmp_path: Path) -> None:
    pair = Pair(tmp_path, {"a": noise(100_000)}, {"a": noise(100_000, 2)})
    assert pair.make() is None
    # The frame would be smaller than what it makes, but the index is not.
    tiny = Pair(tmp_path / "tiny", {"a": bytes(8)}, {"a": b"\0"})
    assert tiny.make() is None
    assert not tiny.patch.exists()
    same = Pair(tmp_path / "same", {"a": b"same", "b": b"gone"}, {"moved/a": b"same"})
    assert same.make() is None
    assert not pair.patch.exists()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_patch_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    data = noise(9 * MIB)
    pair = Pair(tmp_path, {"a": data}, {"a": b"+" + data})
    made = make_patch(
        pair.old, tmp_path / "old", pair.new, tmp_path / "new", pair.patch, cancelled=lambda: True
    )
    assert made is None
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_version_that_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    data = noise(100_000)
    pair = Pair(tmp_path, {"a": data}, {"a": data + b"!"})
    (tmp_path / "new" / "a").unlink()
    with pytest.raises(DiskError, match="new/a: there is no such file"):
        pair.make()
    version(tmp_path / "new", {"a": data + b"!"})
    (tmp_path / "old" / "a").unlink()
    # Nothing to compare with: what is left is to compress it, which is not worth it here.
    assert pair.make() is None
    with pytest.raises(DiskError, match="nowhere"):
        make_patch(pair.old, tmp_path / "old", pair.new, tmp_path / "new", tmp_path / "nowhere" / "patch")


def test_an_edited_old_file_spoils_its_segment_and_no_other(tmp_path: Path) -> None:
    data = noise(9 * MIB)
    pair = Pair(tmp_path, {"a": data, "b": data[:5000]}, {"a": b"+" + data, "b": data[:4000]})
    assert pair.make()
    with (tmp_path / "old" / "a").open("r+b") as file:
        file.seek(6 * MIB)
        file.write(b"edited by the user")
    with PatchReader.open(pair.patch, pair.old, pair.new, [tmp_path / "old"]) as reader:
        made = [piece for piece in range(pair.new.piece_count) if reader.read(piece) is not None]
    assert set(range(pair.new.piece_count)) - set(made) == {6}
    (tmp_path / "old" / "a").write_bytes(b"shorter")
    with PatchReader.open(pair.patch, pair.old, pair.new, [tmp_path / "old"]) as reader:
        assert list(reader.pieces) == [pair.new.piece_count - 1]
    with pytest.raises(PatchError, match="does not make the whole of a"):
        pair.apply()


def test_a_file_that_is_no_patch_is_refused_in_one_line(tmp_path: Path) -> None:
    pair = Pair(tmp_path, {"a": noise(50_000)}, {"a": noise(50_000) + b"!"})
    assert pair.make()
    whole = pair.patch.read_bytes()
    for data, says in (
        (b"", "not a swarm patch"),
        (whole[:30], "damaged"),
        (whole[:-1], "but its index says"),
        (whole + b"\0", "but its index says"),
    ):
        pair.patch.write_bytes(data)
        with pytest.raises(PatchError, match=says):
            pair.apply()
    pair.patch.write_bytes(whole)
    with pytest.raises(PatchError, match="another version"):
        PatchReader.open(pair.patch, pair.new, pair.old, [tmp_path / "old"])
    pair.patch.unlink()
    with pytest.raises(DiskError, match="there is no such file"):
        pair.apply()


def test_every_flipped_byte_is_refused_or_makes_less(tmp_path: Path) -> None:
    data = noise(3000)
    pair = Pair(tmp_path, {"a": data, "b": data[::-1]}, {"a": data + b"!", "b": b"?" + data[::-1]}, 16 * 1024)
    assert pair.make()
    whole = pair.patch.read_bytes()
    refused = less = 0
    for at in range(len(whole)):
        pair.patch.write_bytes(whole[:at] + bytes((whole[at] ^ 0x10,)) + whole[at + 1 :])
        try:
            reader = PatchReader.open(pair.patch, pair.old, pair.new, [tmp_path / "old"])
        except PatchError as error:
            refused += len(str(error).splitlines()) == 1
            continue
        with reader:
            made = {piece: bytes(data) for piece in (0, 1) if (data := reader.read(piece)) is not None}
        assert made.items() <= {0: pair.new_files["a"], 1: pair.new_files["b"]}.items()
        less += len(made) < 2
    assert refused > 100
    assert less > 20
