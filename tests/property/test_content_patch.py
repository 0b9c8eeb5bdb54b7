"""Patches: any two versions, cut and moved as one likes, come out of each other; any damage is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.content.landmarks import nearest_span
from swarm.content.manifest import Manifest
from swarm.content.patch import SEGMENT_BYTES
from swarm.errors import PatchError
from swarm.storage.patch_maker import MARGIN_BYTES, SPAN_BYTES, make_patch
from swarm.storage.patch_reader import PatchReader, apply_patch
from tests.support.contents import folder_manifest

NAMES = st.sampled_from(["one", "two-1.0.1", "two-1.0.2", "deep/three", "deep/four"])
PARTS = st.lists(
    st.one_of(
        st.binary(max_size=64),
        st.integers(0, 255).map(lambda seed: bytes((seed * at * at) % 251 for at in range(5000))),
    ),
    max_size=8,
).map(b"".join)
TREES = st.dictionaries(NAMES, PARTS, min_size=1, max_size=4)


def write_tree(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def patched(
    old: Mapping[str, bytes], new: Mapping[str, bytes], folder: Path
) -> tuple[Manifest, Manifest, int]:
    """Write both versions and the patch below ``folder``; return its size, 0 if it was not worth it."""
    write_tree(folder / "old", old)
    write_tree(folder / "new", new)
    before, after = folder_manifest("it", old), folder_manifest("it", new)
    size = make_patch(before, folder / "old", after, folder / "new", folder / "patch")
    return before, after, size or 0


@settings(max_examples=60, deadline=None)
@given(TREES, TREES)
def test_what_a_patch_makes_is_the_new_version(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before, after, size = patched(old, new, folder)
        assert (folder / "patch").exists() == bool(size)
        if not size:
            return
        assert size == (folder / "patch").stat().st_size < sum(map(len, new.values()))
        made = apply_patch(folder / "patch", before, folder / "old", after, folder / "out")
        changed = {path: data for path, data in new.items() if data and data not in old.values()}
        assert made == sum(map(len, changed.values()))
        for path, data in changed.items():
            assert (folder / "out" / path).read_bytes() == data


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_patch_is_refused_or_makes_nothing_wrong(data: st.DataObject) -> None:
    old = {"one": bytes(range(256)) * 200, "two": b"another" * 3000}
    new = {"one": b"+" + bytes(range(256)) * 200, "two": b"another" * 2000 + b"!", "three": b"3" * 900}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before, after, size = patched(old, new, folder)
        patch = folder / "patch"
        damaged = bytearray(patch.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
        patch.write_bytes(damaged[: data.draw(st.sampled_from([size, size, size // 2]))])
        try:
            reader = PatchReader.open(patch, before, after, [folder / "old"])
        except PatchError:
            return
        try:
            for piece in list(reader.pieces):
                made = reader.read(piece)
                span = after.layout.span(piece)
                whole = new["/".join(after.path(span.file))]
                assert made is None or bytes(made) == whole[span.offset : span.offset + span.length]
        finally:
            reader.close()


@given(
    st.lists(st.integers(-(1 << 24), 1 << 34), min_size=1, max_size=20),
    st.integers(1, SEGMENT_BYTES),
    st.integers(0, 1 << 33),
)
def test_a_span_lies_within_the_old_file_and_its_limit(shifts: list[int], length: int, size: int) -> None:
    start, span = nearest_span(shifts, length, size, SPAN_BYTES, MARGIN_BYTES)
    assert start >= 0
    assert span >= min(length, size)
    assert start + span <= size
    assert span <= SPAN_BYTES
    covered = [shift for shift in shifts if start <= shift and shift + length <= start + span]
    if all(0 <= shift <= size - length for shift in shifts):
        assert covered
