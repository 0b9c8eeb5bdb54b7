"""What the API says of a transfer at moments that pass quickly: a real node, and a registry that waits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from swarm.daemon.change_log import ChangeLog
from swarm.daemon.keeper import TransferKeeper
from swarm.daemon.transfer_registry import FILE, TransferRegistry
from swarm.daemon.transfer_view import summary
from swarm.daemon.wishes import Wishes
from tests.support.nodes import loopback_node

pytestmark = pytest.mark.e2e


class WaitingRegistry(TransferRegistry):
    """Changes nothing before ``allowed`` is set, as a disk that is busy."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.allowed, self.asked = trio.Event(), trio.Event()

    async def change(
        self, transfer: str, columns: Mapping[str, object], envelope: bytes | None = None
    ) -> None:
        self.asked.set()
        await self.allowed.wait()
        await super().change(transfer, columns, envelope)


async def test_a_share_has_its_link_before_the_registry_has_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"swarm" * 1000)
    async with loopback_node(tmp_path) as node, trio.open_nursery() as nursery:
        registry = WaitingRegistry(tmp_path / FILE)
        try:
            keeper = TransferKeeper(node, registry, ChangeLog("run"), nursery, lambda _line: None)
            entry, new = await keeper.share(str(tmp_path / "data.bin"), Wishes())
            assert new
            with trio.fail_after(20):
                await registry.asked.wait()
                while summary(entry, keeper, trio.current_time())["state"] != "seeding":
                    await keeper.changed()
            assert not entry.kept.manifest
            shown = summary(entry, keeper, trio.current_time())
            assert shown["manifest"] == str(entry.transfer.id)
            assert shown["link"] == entry.transfer.link
            registry.allowed.set()
            with trio.fail_after(20):
                while not entry.kept.manifest:
                    await keeper.changed()
            assert summary(entry, keeper, trio.current_time())["manifest"] == shown["manifest"]
        finally:
            nursery.cancel_scope.cancel()
            registry.close()
