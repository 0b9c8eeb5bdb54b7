"""A receiver that starts before its sender, and peers that have all and send nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import swarm
from swarm.ports import RequestDesk
from tests.support.nodes import loopback_node, observe, until
from tests.support.processes import Processes
from tests.support.sharing import MIB, fetch, random_file, sha256, share


@pytest.mark.e2e
def test_a_receiver_with_nothing_but_a_link_waits_for_its_sender(
    processes: Processes, tmp_path: Path
) -> None:
    source = random_file(tmp_path / "image.bin", MIB)
    seeder = share(processes, source, name="seeder")
    port = seeder.address.split("/")[4]
    seeder.process.terminate()
    seeder.process.wait()

    leecher = fetch(processes, seeder.link, tmp_path / "out", "--patience", "60")
    awaited = leecher.event("peers_awaited")
    assert "Connection refused" in awaited["reason"]
    assert 30 < awaited["seconds"] <= 60
    processes.swarm("share", str(source), "--listen", f"/ip4/127.0.0.1/tcp/{port}", name="seeder").address()
    leecher.expect_exit(0, within=30)
    assert len(leecher.events("peers_awaited")) == 1
    assert sha256(tmp_path / "out" / "image.bin") == sha256(source)


@pytest.mark.e2e
def test_who_is_turned_away_learns_what_to_ask_for(processes: Processes, tmp_path: Path) -> None:
    seeder = share(processes, random_file(tmp_path / "data", 1000), "--allow", "12D3Koo" + "W" * 45)
    for what in (seeder.manifest, seeder.link):
        turned_away = processes.swarm(
            "fetch", str(what), seeder.address, "--output", str(tmp_path / "no"), "--patience", "4", name="me"
        )
        turned_away.expect_exit(5)
        own = processes.swarm("id", name="me")
        own.expect_exit(0)
        me = own.lines()[0]
        waiting, told = turned_away.errors().splitlines()[0], turned_away.errors().splitlines()[-1]
        assert waiting.startswith("waiting up to ")
        assert f"--allow {me}" in waiting
        assert f"--allow {me}" in told


async def test_a_manifest_that_its_peer_does_not_have_yet_is_waited_for(tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", MIB)
    async with loopback_node(tmp_path / "early") as early:
        link = (await early.share(source)).link
    async with (
        loopback_node(tmp_path / "a") as sender,
        loopback_node(tmp_path / "b") as receiver,
        trio.open_nursery() as nursery,
    ):
        observed = await observe(receiver, nursery)
        wanted = swarm.ManifestId.parse(link.removeprefix("swarm:").partition("?")[0])
        options = swarm.TransferOptions(peers=sender.addresses, patience=30)
        async with receiver.fetch(wanted, into=tmp_path / "out", options=options) as transfer:
            await until(lambda: observed.of(swarm.PeersAwaited), "told what is waited for")
            await sender.share(source)
            with trio.fail_after(20):
                await transfer.complete()
        assert len(observed.of(swarm.PeersAwaited)) == 1
        await receiver.aclose()
        await sender.aclose()


class Mute:
    """A source that claims to have every piece and supplies none."""

    id = swarm.SourceId("mute")
    description = "a source that supplies nothing"

    async def deliver(self, desk: RequestDesk) -> None:
        desk.offer(swarm.PieceSet.all(desk.manifest.piece_count))
        while True:
            await desk.next_request()


async def test_who_claims_to_have_the_pieces_and_sends_none_is_not_waited_for_longer(tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", MIB)
    async with loopback_node(tmp_path / "a") as sender, loopback_node(tmp_path / "b") as receiver:
        envelope = (await sender.share(source)).envelope
        options = swarm.TransferOptions(patience=1.0, seed=True)
        transfer = receiver.fetch(envelope, into=tmp_path / "out", options=options)
        transfer.add_piece_source(Mute())
        with trio.fail_after(10), pytest.raises(swarm.Incomplete, match="sent a piece for 1 s"):
            await transfer.complete()


async def test_of_several_reasons_the_most_telling_is_told(tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", MIB)
    async with loopback_node(tmp_path / "a") as sender, loopback_node(tmp_path / "b") as receiver:
        envelope = (await sender.share(source)).envelope
        here = sender.addresses[0].partition("/p2p/")[0]
        other = "12D3KooWD3bfmNbuuuVCYwkjnFt3ukm3qaB3hDED3peHHXawvRAi"
        third = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
        # The wrong peer is found first, then a port on which nobody listens, then a peer where nobody is.
        peers = (
            f"{here}/p2p/{other}",
            f"/ip4/127.0.0.1/tcp/9/p2p/{other}",
            f"/ip4/127.0.0.1/tcp/9/p2p/{third}",
        )
        options = swarm.TransferOptions(peers=peers, patience=2.0)
        for what in (envelope, envelope.manifest.id):
            failed = receiver.fetch(what, into=tmp_path / "out", options=options)
            with pytest.raises(swarm.NoPeerReachable, match=f"{here}: another peer answers there"):
                await failed.complete()
