"""Folders and symbolic links arrive with the modification times that they have where they come from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import swarm
from swarm.node import node as node_module
from tests.support.nodes import loopback_node
from tests.support.storage import make_tree, noise

YEAR = 365 * 86400 * 10**9
FILES = {"a": noise(100, 1), "b/c": noise(20_000, 2), "b/d/e": noise(300, 3)}


def tree_times(root: Path) -> dict[str, int]:
    """The time of every folder and link below ``root``, and of that itself."""
    found = {".": root.stat().st_mtime_ns}
    for path in root.rglob("*"):
        if path.is_dir() or path.is_symlink():
            found[str(path.relative_to(root))] = path.lstat().st_mtime_ns
    return found


def make(root: Path, *, format_2: bool) -> dict[str, int]:
    make_tree(root, FILES)
    if format_2:
        (root / "empty").mkdir()
        (root / "b" / "link").symlink_to("c")
    for number, name in enumerate(sorted(tree_times(root), reverse=True)):
        time = (number + 30) * YEAR + 123_456_789
        os.utime(root / name, ns=(time, time), follow_symlinks=False)
    return tree_times(root)


@pytest.mark.parametrize("format_2", [False, True], ids=["format 1", "format 2"])
async def test_folders_and_links_get_their_times_from_whoever_is_complete(
    tmp_path: Path, format_2: bool
) -> None:
    wanted = make(tmp_path / "source" / "x", format_2=format_2)
    async with (
        loopback_node(tmp_path / "a") as first,
        loopback_node(tmp_path / "b") as second,
        loopback_node(tmp_path / "c") as third,
    ):
        shared = await first.share(tmp_path / "source" / "x")
        assert shared.manifest.version == (2 if format_2 else 1)
        seeding = swarm.TransferOptions(seed=True)
        async with second.fetch(shared.link, into=tmp_path / "two", options=seeding) as transfer:
            assert tree_times(await transfer.complete()) == wanted
            await shared.stop()
            async with third.fetch(transfer.link, into=tmp_path / "three") as passed_on:
                assert tree_times(await passed_on.complete()) == wanted
            await transfer.stop()


async def test_times_that_are_not_wanted_or_not_known_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make(tmp_path / "source" / "x", format_2=True)
    async with loopback_node(tmp_path / "b") as leecher:
        # An older version does not know the protocol.
        with monkeypatch.context() as older:
            older.setattr(node_module, "TIMES_PROTOCOL", "/swarm/another/1.0.0")
            async with loopback_node(tmp_path / "old") as node:
                link = (await node.share(tmp_path / "source" / "x")).link
                async with leecher.fetch(link, into=tmp_path / "from old") as transfer:
                    assert set(tree_times(await transfer.complete())) == set(wanted)
        async with loopback_node(tmp_path / "a") as node:
            link = (await node.share(tmp_path / "source" / "x")).link
            without = swarm.TransferOptions(times=False)
            async with leecher.fetch(link, into=tmp_path / "without", options=without) as transfer:
                assert not set(tree_times(await transfer.complete()).values()) & set(wanted.values())
