"""Fetches into real file systems with gaps; by a file layer with the same gaps where none can be mounted."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from swarm.storage.file_layer import POSIX, PosixLayer
from swarm.storage.home import load_or_create
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import TargetOptions, open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.odd_mounts import build, mounted
from tests.support.storage import PIECE, FaultyLayer, copy, make_tree, names, noise, read_tree

TREE = {"a": noise(9 * PIECE, 2), "b/c": noise(PIECE + 7, 3), "b/d": b"", "e": noise(90, 4)}
FOLDER = folder_manifest("x", TREE, executable=["e"])
SOURCE = MemoryStore(FOLDER, b"".join(TREE[name] for name in sorted(TREE)))
GAPS: dict[str, tuple[dict[str, str], PosixLayer]] = {
    "none": ({}, POSIX),
    "free space": ({"ODD_STATFS": "zero"}, POSIX),
    "hard links": ({"ODD_NOLINK": "1"}, POSIX),
    "permissions": ({"ODD_NOCHMOD": "1"}, FaultyLayer("set_mode", error=errno.EPERM)),
    "sync of folders": ({"ODD_NOFSYNCDIR": "1"}, FaultyLayer("sync", error=errno.EINVAL)),
    "any sync": (
        {"ODD_NOFSYNC": "1", "ODD_NOFSYNCDIR": "1"},
        FaultyLayer("sync", "sync_data", "sync_all", error=errno.EINVAL),
    ),
    "st_blocks": ({"ODD_BLOCKS0": "1"}, POSIX),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The file system with gaps, or None."""
    return build(tmp_path_factory.mktemp("odd"))


@pytest.fixture
def mounts() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("gap", GAPS)
async def test_a_fetch_ends_well_on_a_file_system_without(
    tmp_path: Path, program: Path | None, mounts: ExitStack, gap: str
) -> None:
    lacking, layer = GAPS[gap]
    place = tmp_path
    if program is not None:
        # The real thing; the layer stands in for it elsewhere.
        place, layer = mounts.enter_context(mounted(program, tmp_path, lacking)), POSIX
    out = place / "out"
    warnings: list[str] = []
    async with open_target(FOLDER, out, layer=layer) as target:
        await copy(SOURCE, target, [0, 3, 9])
    async with open_target(FOLDER, out, layer=layer, warn=warnings.append) as target:
        assert target.resumed_pieces == 3
        await copy(SOURCE, target)
        await target.finish()
    assert {name: data for name, (data, _) in read_tree(out / "x").items()} == TREE
    assert names(out) == {"x"}
    may_execute = stat.S_IMODE((out / "x" / "e").stat().st_mode) & 0o100
    assert bool(may_execute) != bool(warnings)
    (out / "x" / "a").write_bytes(TREE["a"][: 4 * PIECE])
    async with open_target(FOLDER, out, TargetOptions(overwrite=True), layer=layer) as target:
        assert len(list(target.stored.missing())) == 5
        await copy(SOURCE, target)
        await target.finish()
    assert (out / "x" / "a").read_bytes() == TREE["a"]
    assert names(out) == {"x"}
    # A home folder lies on such file systems, too.
    make_tree(place / "home", {})
    first = await load_or_create(place / "home" / "identity")
    assert (await load_or_create(place / "home" / "identity")).private == first.private


async def test_names_of_143_bytes(tmp_path: Path, program: Path | None, mounts: ExitStack) -> None:
    place = tmp_path
    if program is not None:
        place = mounts.enter_context(mounted(program, tmp_path, {"ODD_NAMEMAX": "143"}))
    name = "y" * 139 + ".mkv"
    data = noise(3 * PIECE)
    manifest = file_manifest(name, data)
    async with open_target(manifest, place / "out") as target:
        await copy(MemoryStore(manifest, data), target)
        await target.finish()
    assert names(place / "out") == {name}
