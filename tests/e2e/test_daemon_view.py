"""What the API says of a transfer at moments that pass quickly: a real node, and a registry that waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarm.daemon.change_log import ChangeLog
from swarm.daemon.keeper import TransferKeeper
from swarm.daemon.transfer_registry import FILE, TransferRegistry
from swarm.daemon.transfer_view import summary
from swarm.daemon.wishes import Wishes
from swarm.node import Node
from tests.support.daemons import command, start_daemon
from tests.support.nodes import loopback_node
from tests.support.processes import Processes
from tests.support.sharing import MIB, random_file, share

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


@asynccontextmanager
async def waiting_keeper(node: Node, folder: Path) -> AsyncIterator[tuple[TransferKeeper, WaitingRegistry]]:
    async with trio.open_nursery() as nursery:
        registry = WaitingRegistry(folder / FILE)
        try:
            yield TransferKeeper(node, registry, ChangeLog("run"), nursery, lambda _line: None), registry
        finally:
            nursery.cancel_scope.cancel()
            registry.close()


async def test_a_share_has_its_link_before_the_registry_has_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"swarm" * 1000)
    async with loopback_node(tmp_path) as node, waiting_keeper(node, tmp_path) as (keeper, registry):
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
        assert keeper.find(shown["manifest"]) is entry
        registry.allowed.set()
        with trio.fail_after(20):
            while not entry.kept.manifest:
                await keeper.changed()
        assert summary(entry, keeper, trio.current_time())["manifest"] == shown["manifest"]


@pytest.mark.parametrize("size", [5000, 0])
async def test_a_fetch_is_complete_once_the_registry_has_its_manifest_and_says_so(
    tmp_path: Path, size: int
) -> None:
    """Whoever hears that it is complete may kill the daemon, and the seeder: the next start needs neither."""
    (tmp_path / "data.bin").write_bytes(b"s" * size)
    async with (
        loopback_node(tmp_path / "seeder") as seeder,
        loopback_node(tmp_path / "node") as node,
        waiting_keeper(node, tmp_path) as (keeper, registry),
    ):
        completed: list[int] = []
        keeper.completed = lambda entry: completed.append(entry.kept.size)
        shared = await seeder.share(tmp_path / "data.bin")
        entry, _ = await keeper.fetch(shared.link, str(tmp_path / "into"), Wishes())
        with trio.fail_after(20):
            await registry.asked.wait()
            await entry.transfer.complete()
            while not entry.tally.snapshot(trio.current_time()).complete:
                await keeper.changed()
        shown = summary(entry, keeper, trio.current_time())
        assert (shown["state"], shown["complete"]) == ("fetching", False)
        registry.allowed.set()
        with trio.fail_after(20):
            while not summary(entry, keeper, trio.current_time())["complete"]:
                await keeper.changed()
            assert summary(entry, keeper, trio.current_time())["state"] == "seeding"
            assert await registry.envelope(entry.kept.id) == shared.envelope.to_bytes()
            (kept,) = await registry.all()
        assert (kept.complete, kept.size, kept.manifest) == (True, size, str(shared.id))
        # The command on completion is told the size, too.
        assert completed == [size]


def test_the_status_says_why_a_transfer_has_no_peer_until_there_is_one(
    processes: Processes, tmp_path: Path
) -> None:
    source = random_file(tmp_path / "image.bin", MIB)
    seeder = share(processes, source, name="seeder")
    port = seeder.address.split("/")[4]
    seeder.process.terminate()
    seeder.process.wait()
    daemon = start_daemon(processes)
    command(processes, "add", seeder.link)
    waits = daemon.until("image.bin", lambda each: each["note"] is not None)
    assert "Connection refused" in waits["note"]
    assert waits["state"] == "opening"
    assert waits["note"] == command(processes, "status").lines()[-1].strip()
    assert command(processes, "status", "--json").event("transfer_listed")["note"] == waits["note"]
    command(processes, "pause", "image.bin")
    assert daemon.until("image.bin", lambda each: each["state"] == "paused")["note"] is None
    command(processes, "resume", "image.bin")

    processes.swarm("share", str(source), "--listen", f"/ip4/127.0.0.1/tcp/{port}", name="seeder").address()
    done = daemon.until("image.bin", lambda each: each["complete"])
    assert done["note"] is None
    assert not any("refused" in line for line in command(processes, "status").lines())
