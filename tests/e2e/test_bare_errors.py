"""Errors of an operation arrive as they are, in no group, and are caught by ``except swarm.X``."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import swarm
from tests.support.nodes import NOBODY, loopback_node, node_options, until
from tests.support.sharing import MIB, random_file

PIECE = 64 * 1024


async def test_nobody_reachable(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as sharer, loopback_node(tmp_path / "b") as node:
        envelope = (await sharer.share(content)).envelope
        options = swarm.TransferOptions(peers=(NOBODY,), patience=0.5)
        for what in (envelope, envelope.manifest.id):
            caught = None
            async with node.fetch(what, into=tmp_path / "received", options=options) as transfer:
                try:
                    await transfer.complete()
                except swarm.NoPeerReachable as error:
                    caught = error
            assert caught is not None
            assert NOBODY.partition("/p2p/")[0] in str(caught)
        caught = None
        try:
            await node.list(NOBODY)
        except swarm.NoPeerReachable as error:
            caught = error
        assert caught is not None
        caught = None
        try:
            async for _ in node.ping(NOBODY):
                pass
        except swarm.NoPeerReachable as error:
            caught = error
        assert caught is not None


async def test_incomplete_when_the_seeder_goes_away(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", 4 * MIB)
    async with (
        loopback_node(tmp_path / "a", upload_limit=MIB) as seeder,
        loopback_node(tmp_path / "b") as leecher,
    ):
        shared = await seeder.share(content, piece_length=PIECE)
        caught = None
        options = swarm.TransferOptions(patience=1)
        async with leecher.fetch(shared.link, into=tmp_path / "received", options=options) as transfer:
            await until(lambda: transfer.now().done, "some is stored")
            await shared.stop()
            try:
                with trio.fail_after(15):
                    await transfer.complete()
            except swarm.Incomplete as error:
                caught = error
        assert caught is not None


async def test_incomplete_when_it_is_stopped(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", 4 * MIB)
    async with (
        loopback_node(tmp_path / "a", upload_limit=MIB) as seeder,
        loopback_node(tmp_path / "b") as leecher,
    ):
        shared = await seeder.share(content)
        transfer = leecher.fetch(shared.link, into=tmp_path / "received")
        await transfer.opened()
        await transfer.stop()
        with pytest.raises(swarm.Incomplete, match="stopped"):
            await transfer.complete()
        await transfer.closed()


async def test_locked_by_another_node(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", 4 * MIB)
    into = tmp_path / "received"
    async with (
        loopback_node(tmp_path / "a", upload_limit=MIB) as seeder,
        loopback_node(tmp_path / "b") as one,
        loopback_node(tmp_path / "c") as other,
    ):
        shared = await seeder.share(content)
        async with one.fetch(shared.link, into=into) as first:
            await first.opened()
            caught = None
            async with other.fetch(shared.link, into=into) as second:
                try:
                    await second.complete()
                except swarm.Locked as error:
                    caught = error
            assert caught is not None


async def test_disk_error(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    into = tmp_path / "received"
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(content)
        into.mkdir()
        (into / "content").write_bytes(b"something else is in the way")
        caught = None
        async with leecher.fetch(shared.link, into=into) as transfer:
            try:
                await transfer.complete()
            except swarm.DiskError as error:
                caught = error
        assert caught is not None
        caught = None
        try:
            await seeder.share(tmp_path / "missing")
        except swarm.SwarmError as error:
            caught = error
        assert isinstance(caught, swarm.UsageError | swarm.DiskError)


async def test_disk_error_of_the_home(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    caught = None
    try:
        async with swarm.open_node(node_options(tmp_path)):
            raise AssertionError("not to be reached")
    except swarm.DiskError as error:
        caught = error
    assert caught is not None


@pytest.mark.parametrize("field", ["listen", "announce"])
async def test_usage_error_of_an_address(tmp_path: Path, field: str) -> None:
    caught = None
    try:
        async with swarm.open_node(node_options(tmp_path, **{field: ("nowhere",)})):
            raise AssertionError("not to be reached")
    except swarm.UsageError as error:
        caught = error
    assert caught is not None


async def test_usage_error_of_a_taken_port(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as node:
        taken = node.addresses[0].partition("/p2p/")[0]
        with pytest.raises(swarm.UsageError):
            async with swarm.open_node(node_options(tmp_path / "b", listen=(taken,))):
                raise AssertionError("not to be reached")


async def test_usage_and_manifest_errors_come_at_once(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as node:
        malformed = swarm.TransferOptions(peers=("nowhere",))
        with pytest.raises(swarm.UsageError):
            node.fetch("swarm:x", into=tmp_path, options=malformed)
        with pytest.raises(swarm.UsageError):
            node.fetch(
                tmp_path / "x.swarm", into=tmp_path, options=swarm.TransferOptions(trusted=("nobody",))
            )
        with pytest.raises(swarm.ManifestError):
            node.fetch("swarm:x", into=tmp_path)
        with pytest.raises(swarm.UsageError):
            await node.share(tmp_path, options=malformed)
        assert node.transfers == ()


async def test_manifest_error_of_a_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.swarm"
    broken.write_bytes(b"no manifest")
    async with loopback_node(tmp_path / "a") as node:
        caught = None
        async with node.fetch(broken, into=tmp_path / "received") as transfer:
            try:
                await transfer.complete()
            except swarm.ManifestError as error:
                caught = error
        assert caught is not None
    with pytest.raises(swarm.ManifestError):
        await swarm.inspect(broken)


async def test_a_signer_that_is_not_trusted(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(content)
        options = swarm.TransferOptions(trusted=(leecher.peer_id,))
        async with leecher.fetch(shared.link, into=tmp_path / "received", options=options) as transfer:
            with pytest.raises(swarm.ManifestError):
                await transfer.complete()


@pytest.mark.parametrize(
    "error",
    [
        swarm.NoPeerReachable("x"),
        swarm.Incomplete("x"),
        swarm.Locked("x"),
        swarm.DiskError("x"),
        swarm.UsageError("x"),
        swarm.ManifestError("x"),
        ValueError("the program's own"),
        ExceptionGroup("the program's own group", [ValueError("x")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_blocks_raise_passes_unchanged(tmp_path: Path, error: Exception) -> None:
    """Around ``async with swarm.open_node()`` and ``async with node.fetch()``, with transfers under way."""
    content = random_file(tmp_path / "content", 4 * MIB)
    caught = None
    async with loopback_node(tmp_path / "a", upload_limit=MIB) as seeder:
        shared = await seeder.share(content)
        try:
            async with (
                loopback_node(tmp_path / "b") as node,
                node.fetch(shared.link, into=tmp_path / "received") as transfer,
            ):
                await transfer.opened()
                raise error  # noqa: TRY301 - as a program would
        except Exception as raised:
            caught = raised
        assert caught is error
        assert node.transfers == ()


async def test_an_uncaught_error_of_complete_leaves_both_blocks_bare(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as sharer:
        envelope = (await sharer.share(content)).envelope
    options = swarm.TransferOptions(peers=(NOBODY,), patience=0.5)
    caught = None
    try:
        async with (
            swarm.open_node(node_options(tmp_path / "b")) as node,
            node.fetch(envelope, into=tmp_path / "received", options=options) as transfer,
        ):
            await transfer.complete()
    except swarm.NoPeerReachable as error:
        caught = error
    assert caught is not None


async def test_a_failed_transfer_says_why_in_its_last_event(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as node:
        transfer = node.fetch(tmp_path / "missing.swarm", into=tmp_path / "received")
        told = [event async for event in transfer.events()]
        assert isinstance(told[-1], swarm.TransferEnded)
        assert told[-1].error is not None
        assert "missing.swarm" in told[-1].error
        with pytest.raises(swarm.UsageError):
            await transfer.complete()
        with pytest.raises(swarm.UsageError):
            await transfer.closed()
        await transfer.ended()
