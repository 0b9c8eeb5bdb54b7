"""Many transfers that begin and end on one node: real nodes, real sockets on loopback, real files."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import trio

import swarm
from tests.support.nodes import NOBODY, loopback_node, observe, settled_census, until, until_census
from tests.support.sharing import MIB, random_file, sha256, tree

PIECE = 64 * 1024


async def test_a_failed_fetch_is_retried_on_the_same_node(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    into = tmp_path / "received"
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(content)
        nobody = swarm.TransferOptions(peers=(NOBODY,), patience=0.5)
        failed = leecher.fetch(shared.envelope, into=into, options=nobody)
        with pytest.raises(swarm.NoPeerReachable):
            await failed.complete()
        async with leecher.fetch(shared.link, into=into) as transfer:
            path = await transfer.complete()
        assert path == into / "content"
        assert sha256(path) == sha256(content)
        assert leecher.transfers == ()


async def test_a_cancelled_fetch_ends_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", 8 * MIB)
    into = tmp_path / "received"
    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b") as leecher,
        trio.open_nursery() as nursery,
    ):
        shared = await seeder.share(content, piece_length=PIECE)
        observed = await observe(leecher, nursery)
        # Once, so that what a node keeps for good is there.
        async with leecher.fetch(shared.link, into=tmp_path / "once") as transfer:
            await transfer.complete()
        before = await settled_census()
        slowly = swarm.TransferOptions(download_limit=MIB)
        with trio.CancelScope() as scope:
            async with leecher.fetch(shared.link, into=into, options=slowly) as transfer:
                async for progress in transfer.progress():
                    if progress.done >= MIB // 2:
                        cancelled_at = trio.current_time()
                        scope.cancel()
        # The rest of the fetch would have taken more than seven seconds.
        assert trio.current_time() - cancelled_at < 5
        stored = len(observed.of(swarm.PieceStored)) - content.stat().st_size // PIECE
        assert MIB // 2 <= stored * PIECE < content.stat().st_size
        on_disk = tree(into)
        await until_census(before)
        await trio.sleep(1)
        assert len(observed.of(swarm.PieceStored)) - content.stat().st_size // PIECE == stored
        assert tree(into) == on_disk
        assert leecher.transfers == ()
        # The lock is free, and what was stored is kept.
        async with leecher.fetch(shared.link, into=into) as transfer:
            path = await transfer.complete()
        assert sha256(path) == sha256(content)
        (resumed,) = observed.of(swarm.TransferResumed)
        assert resumed.size >= MIB // 2
        await until_census(before)
        await leecher.aclose()


async def test_stopped_content_is_shared_again_on_the_same_node(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        first = await seeder.share(content)
        await first.stop()
        await first.stop()
        assert seeder.transfers == ()
        refused = leecher.fetch(first.envelope, into=tmp_path / "no", options=_from(seeder, patience=0.5))
        with pytest.raises(swarm.SwarmError):
            await refused.complete()
        second = await seeder.share(content)
        assert second.id == first.id
        assert second.number != first.number
        async with leecher.fetch(second.link, into=tmp_path / "received") as transfer:
            assert sha256(await transfer.complete()) == sha256(content)


async def test_fetched_again_into_a_second_folder(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(content)
        for folder in ("one", "two"):
            async with leecher.fetch(shared.link, into=tmp_path / folder) as transfer:
                path = await transfer.complete()
            assert path == tmp_path / folder / "content"
            assert sha256(path) == sha256(content)


@pytest.mark.parametrize("same_folder", [True, False], ids=["same-folder", "other-folder"])
async def test_the_same_content_twice_at_once_is_one_usage_error(tmp_path: Path, same_folder: bool) -> None:
    content = random_file(tmp_path / "content", 2 * MIB)
    folders = (tmp_path / "one", tmp_path / ("one" if same_folder else "two"))
    outcomes: list[Path | swarm.SwarmError] = []
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(content)

        async def fetch(into: Path) -> None:
            async with leecher.fetch(shared.link, into=into) as transfer:
                try:
                    outcomes.append(await transfer.complete())
                except swarm.SwarmError as error:
                    outcomes.append(error)

        async with trio.open_nursery() as nursery:
            for folder in folders:
                nursery.start_soon(fetch, folder)
    errors = [outcome for outcome in outcomes if isinstance(outcome, swarm.SwarmError)]
    (error,) = errors
    assert isinstance(error, swarm.UsageError)
    assert "already" in str(error)
    (path,) = (outcome for outcome in outcomes if isinstance(outcome, Path))
    assert sha256(path) == sha256(content)


async def test_what_is_shared_here_is_not_fetched_here(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as node:
        shared = await node.share(content)
        again = node.fetch(shared.envelope, into=tmp_path / "received", options=_from_nobody())
        with pytest.raises(swarm.UsageError, match="already"):
            await again.complete()
        with pytest.raises(swarm.UsageError, match="already"):
            await node.share(content)
        assert node.transfers == (shared,)


async def test_ten_transfers_side_by_side_each_with_its_own_exact_progress(tmp_path: Path) -> None:
    sizes = [(number + 1) * 300_000 + number for number in range(10)]
    contents = [random_file(tmp_path / f"content{n}", size, n) for n, size in enumerate(sizes)]
    seen: dict[int, list[swarm.Progress]] = {}
    told: dict[int, list[swarm.Event]] = {}
    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b") as leecher,
        trio.open_nursery() as nursery,
    ):
        observed = await observe(leecher, nursery)
        shared = [await seeder.share(content, piece_length=PIECE) for content in contents]
        fetches = [
            leecher.fetch(one.link, into=tmp_path / "received", options=swarm.TransferOptions(seed=True))
            for one in shared
        ]

        async def watch_progress(number: int) -> None:
            seen[number] = [progress async for progress in fetches[number].progress()]

        async def watch_events(number: int) -> None:
            told[number] = [event async for event in fetches[number].events()]

        async with trio.open_nursery() as watchers:
            for number in range(10):
                watchers.start_soon(watch_progress, number)
                nursery.start_soon(watch_events, number)
        for fetch, content in zip(fetches, contents, strict=True):
            assert sha256(await fetch.complete()) == sha256(content)
        assert leecher.transfers == tuple(fetches)
        finals = [fetch.now() for fetch in fetches]
        await leecher.aclose()
    tally = swarm.NodeTally(0.0)
    for event in observed.events:
        tally.add(event, 0.0)
    snapshot = tally.snapshot(0.0)
    by_number = {each.transfer: each for each in snapshot.transfers}
    assert len(by_number) == 10
    for number, (fetch, size, final) in enumerate(zip(fetches, sizes, finals, strict=True)):
        assert (final.done, final.total, final.complete) == (size, size, True)
        last = seen[number][-1]
        assert (last.done, last.total) == (size, size)
        for earlier, later in itertools.pairwise(seen[number]):
            assert earlier.done <= later.done <= size
            # Before the manifest is known there is no total.
            assert later.total == size or (later.total == 0 and later.done == 0)
        assert {event.transfer for event in told[number]} == {fetch.number}
        assert isinstance(told[number][-1], swarm.TransferEnded)
        ours = [event for event in told[number] if isinstance(event, swarm.PieceStored)]
        assert sum(event.size for event in ours) == size
        counted = by_number[fetch.number]
        assert (counted.size, counted.have_size, counted.complete) == (size, size, True)
        assert (counted.received, counted.wasted) == (final.received, final.wasted)
        assert final.received == size + final.wasted
        assert counted.name == f"content{number}"
    assert snapshot.received == sum(final.received for final in finals)


async def test_pause_and_resume(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", 4 * MIB)
    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b") as leecher,
        trio.open_nursery() as nursery,
    ):
        observed = await observe(leecher, nursery)
        shared = await seeder.share(content, piece_length=PIECE)
        slowly = swarm.TransferOptions(download_limit=2 * MIB)
        async with leecher.fetch(shared.link, into=tmp_path / "received", options=slowly) as transfer:
            await until(lambda: transfer.now().done >= MIB // 2, "half a MiB is stored")
            await transfer.pause()
            paused = transfer.now()
            assert paused.paused
            assert paused.peers == 0
            assert 0 < paused.done < content.stat().st_size
            await trio.sleep(1)
            assert transfer.now().received == paused.received
            assert shared.peers() == ()
            await transfer.resume()
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)
        await leecher.aclose()
    assert len(observed.of(swarm.TransferPaused)) == len(observed.of(swarm.TransferContinued)) == 1


async def test_a_paused_share_is_fetched_from_once_it_resumes(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(content)
        await shared.pause()
        async with leecher.fetch(shared.link, into=tmp_path / "received") as transfer:
            await trio.sleep(1)
            assert transfer.now().received == 0
            await shared.resume()
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)


async def test_a_fetch_that_is_paused_at_once_begins_when_it_resumes(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(content)
        async with leecher.fetch(shared.link, into=tmp_path / "received") as transfer:
            await transfer.pause()
            await transfer.opened()
            await trio.sleep(0.5)
            assert transfer.now().received == 0
            await transfer.resume()
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)


async def test_keep_seeding_outlives_the_block(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b") as second,
        loopback_node(tmp_path / "c") as third,
    ):
        shared = await seeder.share(content)
        async with second.fetch(shared.link, into=tmp_path / "second") as transfer:
            await transfer.complete()
            transfer.keep_seeding()
        assert second.transfers == (transfer,)
        await shared.stop()
        async with third.fetch(transfer.link, into=tmp_path / "third") as another:
            assert sha256(await another.complete()) == sha256(content)
        await transfer.stop()
        assert second.transfers == ()


async def test_a_late_subscriber_is_told_what_lasts(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as node:
        shared = await node.share(content)
        await trio.sleep(0.1)
        of_node, of_transfer = node.events(), shared.events()
        await node.aclose()
        first = [event async for event in of_node][:3]
        assert [type(event) for event in first] == [
            swarm.NodeListening,
            swarm.TransferStarted,
            swarm.ManifestReady,
        ]
        assert first[2].manifest == shared.id
        told = [type(event) async for event in of_transfer]
        assert told[:2] == [swarm.TransferStarted, swarm.ManifestReady]
        assert told[-1] is swarm.TransferEnded


async def test_an_announced_address_comes_first(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", 1000)
    announced = "/ip4/203.0.113.7/tcp/4001"
    async with loopback_node(tmp_path / "a", announce=(announced,)) as node:
        shared = await node.share(content)
        full = f"{announced}/p2p/{node.peer_id}"
        assert node.addresses[0] == full
        assert len(node.addresses) > 1
        # Loopback is of no use to others, now that there is another address.
        assert swarm.SwarmLink.parse(shared.link).peers == (full,)


async def test_a_sharer_that_dials_serves_a_receiver_that_names_nobody(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", MIB)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as receiver:
        draft = await seeder.share(content)
        envelope = draft.envelope
        await draft.stop()
        waiting = swarm.TransferOptions(seed=True)
        async with receiver.fetch(envelope, into=tmp_path / "received", options=waiting) as transfer:
            await transfer.opened()
            await seeder.share(content, options=swarm.TransferOptions(peers=receiver.addresses))
            with trio.fail_after(20):
                assert sha256(await transfer.complete()) == sha256(content)
            (peer,) = transfer.peers()
            assert peer.peer == seeder.peer_id
            assert peer.inbound
            await transfer.stop()


def _from(node: swarm.Node, **fields: float) -> swarm.TransferOptions:
    return swarm.TransferOptions(peers=node.addresses, **fields)


def _from_nobody() -> swarm.TransferOptions:
    return swarm.TransferOptions(peers=(NOBODY,), patience=0.5)
