"""Patches that are of no use: the update is complete all the same, with one line, and nobody is to blame."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import swarm
from swarm.storage import patch_maker
from tests.support.nodes import loopback_node, observe, until

MAKE = patch_maker.make_patch
SIZE = 3_000_000

Damage = Callable[[Path, Path], None]
"""Changes the patch at the first path; the second is a folder to work in."""


def no_patch_at_all(patch: Path, _folder: Path) -> None:
    patch.write_bytes(random.Random(3).randbytes(patch.stat().st_size))


def flipped_byte_at_the_end(patch: Path, _folder: Path) -> None:
    data = bytearray(patch.read_bytes())
    data[-5] ^= 1
    patch.write_bytes(data)


def cut_short(patch: Path, _folder: Path) -> None:
    patch.write_bytes(patch.read_bytes()[:-100])


def huge_claims(patch: Path, _folder: Path) -> None:
    """The length of the index, and all that could be one in it."""
    data = bytearray(patch.read_bytes())
    data[16:40] = b"\xff" * 24
    patch.write_bytes(data)


@pytest.mark.parametrize("damage", [no_patch_at_all, flipped_byte_at_the_end, cut_short, huge_claims])
async def test_a_damaged_patch_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    big = random.Random(7).randbytes(SIZE)
    added = random.Random(8).randbytes(5_000)
    for version, content in (("1", big), ("2", big[:100_000] + added + big[100_000:])):
        (tmp_path / version).mkdir()
        (tmp_path / version / "big").write_bytes(content)

    def make(*arguments: object, **named: object) -> int | None:
        target = arguments[4]
        assert isinstance(target, Path)
        MAKE(*arguments, **named)  # type: ignore[arg-type]
        damage(target, tmp_path)
        return target.stat().st_size

    monkeypatch.setattr(patch_maker, "make_patch", make)
    async with (
        loopback_node(tmp_path / "publisher") as publisher,
        loopback_node(tmp_path / "receiver") as receiver,
        trio.open_nursery() as nursery,
    ):
        observed = await observe(receiver, nursery)
        first = await publisher.release("game", tmp_path / "1")
        async with receiver.fetch(first.link, into=tmp_path / "out") as transfer:
            await transfer.complete()
        await first.stop()
        second = await publisher.release("game", tmp_path / "2")
        assert second.patches
        options = swarm.TransferOptions(update=True)
        async with receiver.fetch(second.link, into=tmp_path / "out", options=options) as transfer:
            with trio.fail_after(60):
                await transfer.complete()
        await until(lambda: len(observed.of(swarm.TransferComplete)) == 2, "both are complete")
        assert observed.of(swarm.UpdatePlanned)[-1].way == "patch"
        (warning,) = observed.of(swarm.Warned)
        assert "patch" in warning.message
        assert not receiver.is_banned(publisher.peer_id)
        assert observed.of(swarm.SourceBanned) == []
        nursery.cancel_scope.cancel()
    assert (tmp_path / "out" / "game" / "big").read_bytes() == (tmp_path / "2" / "big").read_bytes()
