"""What belongs to the node is the node's: rate limits of all its transfers together, and bans."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import swarm
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.ping_protocol import PING_PROTOCOL, Responder
from swarm.protocol.messages import Goodbye, HaveAll, Hello, Request, Unchoke
from swarm.strategy.upload import upload_queue
from swarm.transfer import buffers
from swarm.transfer.connector import EXCHANGE_PROTOCOL
from swarm.transfer.pacing import BURST_SECONDS
from tests.support.hostile_seeder import Content
from tests.support.nodes import LISTEN, loopback_node, node_options, observe, until
from tests.support.raw_peer import RawPeer
from tests.support.sharing import MIB, random_file, sha256

PIECE = 64 * 1024
LIMIT = 2 * MIB
SPAN = 4.0
"""Seconds over which bytes are counted, after the first."""
LATE = 0.05
"""Seconds by which a task may wake up late; if it is later, the machine had no time for this process."""


class Span:
    """The seconds of a block, and those of them in which this process, with both nodes, did not run."""

    def __init__(self) -> None:
        self.seconds = self.stalled = 0.0
        self._burst = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Wait a second, and watch what follows."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await trio.sleep(1)
            self._burst, self.stalled = BURST_SECONDS if self.stalled else 0.0, 0.0
            began = trio.current_time()
            yield
            self.seconds = trio.current_time() - began
            nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        while True:
            due = trio.current_time() + 0.01
            await trio.sleep_until(due)
            late = trio.current_time() - due
            self.stalled += late if late > LATE else 0.0

    def is_rate(self, moved: int, limit: int, *, rel: float) -> bool:
        """Whether so many bytes are the limit's: no more, and less only for the time without a processor.

        Who was late before the block catches up in it.
        """
        most = limit * (self.seconds * (1 + rel) + self._burst)
        return limit * (self.seconds - self.stalled) * (1 - rel) <= moved <= most


@pytest.mark.parametrize("own", [None, MIB // 4], ids=["node's", "node's-and-own"])
async def test_the_upload_limit_is_of_all_transfers_together(tmp_path: Path, own: int | None) -> None:
    """Two of three transfers have no limit of their own: the node's is used up whatever the third's is."""
    contents = [random_file(tmp_path / f"content{n}", 10 * MIB, n) for n in range(3)]
    async with (
        loopback_node(tmp_path / "a", upload_limit=LIMIT) as seeder,
        loopback_node(tmp_path / "b") as leecher,
    ):
        first = await seeder.share(contents[0], options=swarm.TransferOptions(upload_limit=own))
        shared = [first, *[await seeder.share(content) for content in contents[1:]]]
        fetches = [leecher.fetch(one.link, into=tmp_path / "received") for one in shared]
        await until(lambda: all(fetch.now().received for fetch in fetches), "all three have begun")
        span = Span()
        async with span.watched():
            before = [fetch.now().received for fetch in fetches]
            await trio.sleep(SPAN)
            moved = [fetch.now().received - was for fetch, was in zip(fetches, before, strict=True)]
        assert span.is_rate(sum(moved), LIMIT, rel=0.05), (moved, span.seconds, span.stalled)
        assert all(moved)
        if own is not None:
            assert span.is_rate(moved[0], own, rel=0.1), (moved, span.seconds, span.stalled)
        for fetch in fetches:
            await fetch.stop()


async def test_the_download_limit_is_of_all_transfers_together(tmp_path: Path) -> None:
    contents = [random_file(tmp_path / f"content{n}", 10 * MIB, n) for n in range(3)]
    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b", download_limit=LIMIT) as leecher,
    ):
        shared = [await seeder.share(content) for content in contents]
        fetches = [leecher.fetch(one.link, into=tmp_path / "received") for one in shared]
        await until(lambda: all(fetch.now().received for fetch in fetches), "all three have begun")
        span = Span()
        async with span.watched():
            before = sum(fetch.now().received for fetch in fetches)
            await trio.sleep(SPAN)
            moved = sum(fetch.now().received for fetch in fetches) - before
        assert span.is_rate(moved, LIMIT, rel=0.05), (moved, span.seconds, span.stalled)


async def test_limits_change_while_transfers_run(tmp_path: Path) -> None:
    content = random_file(tmp_path / "content", 12 * MIB)
    async with loopback_node(tmp_path / "a") as seeder, loopback_node(tmp_path / "b") as leecher:
        shared = await seeder.share(content)
        seeder.limit(upload=MIB, download=None)
        async with leecher.fetch(shared.link, into=tmp_path / "received") as fetch:
            # Also before the content is open.
            fetch.limit(upload=None, download=MIB // 2)
            await until(lambda: fetch.now().received, "it has begun")
            await _assert_rate(fetch, MIB // 2)
            fetch.limit(upload=None, download=None)
            await _assert_rate(fetch, MIB)
            seeder.limit(upload=None, download=None)
            with trio.fail_after(20):
                await fetch.complete()


async def _assert_rate(fetch: swarm.Transfer, limit: int) -> None:
    """Over two seconds, after the first."""
    span = Span()
    async with span.watched():
        before = fetch.now().received
        await trio.sleep(2)
        moved = fetch.now().received - before
    assert span.is_rate(moved, limit, rel=0.1), (moved, span.seconds, span.stalled)


async def test_slow_receivers_do_not_hold_the_memory_that_a_fast_one_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow one takes a piece in 105 s, and two pieces fill the memory for what is sent."""
    length = 2 * MIB
    monkeypatch.setattr(buffers, "UPLOAD_BYTES", 2 * length)
    monkeypatch.setattr(upload_queue, "LATE_MOST", 0.5)
    content = random_file(tmp_path / "content", 4 * length)
    async with (
        loopback_node(tmp_path / "a") as seeder,
        loopback_node(tmp_path / "b") as first,
        loopback_node(tmp_path / "c") as second,
        loopback_node(tmp_path / "d") as fast,
    ):
        link = (await seeder.share(content, piece_length=length)).link
        slowly = swarm.TransferOptions(download_limit=20_000)
        slow = [
            node.fetch(link, into=tmp_path / f"slow{n}", options=slowly)
            for n, node in enumerate((first, second))
        ]
        await until(lambda: all(fetch.now().received for fetch in slow), "both slow ones have begun")
        with trio.fail_after(30):
            assert sha256(await fast.fetch(link, into=tmp_path / "fast").complete()) == sha256(content)
        assert not any(fetch.now().done for fetch in slow)


class Liar:
    """A seeder that serves every manifest well, but lies about one piece of ``lies_in`` once told to."""

    def __init__(self, host: Host, contents: Mapping[swarm.ManifestId, Content]) -> None:
        self.host = host
        self.contents = contents
        self.lies_in: swarm.ManifestId | None = None
        self.addresses = host.addresses

    async def serve(self, stream: swarm.ByteStream) -> None:
        """One exchange that a leecher has opened."""
        any_content = next(iter(self.contents.values()))
        hello = (await RawPeer(stream, any_content.manifest).hear()).message
        assert isinstance(hello, Hello)
        content = self.contents[hello.manifest]
        peer = RawPeer(stream, content.manifest)
        await peer.greet(HaveAll())
        await peer.say(Unchoke())
        while True:
            message = (await peer.hear()).message
            if not isinstance(message, Request):
                continue
            await trio.sleep(0.05)
            data = content.piece(message.piece)
            if hello.manifest == self.lies_in:
                data = bytes(byte ^ 1 for byte in data)
            await peer.send_piece(message.piece, data)


@asynccontextmanager
async def _liar(contents: Mapping[swarm.ManifestId, Content]) -> AsyncIterator[Liar]:
    async with open_host(os.urandom(32), LISTEN) as host:
        liar = Liar(host, contents)
        host.serve(PING_PROTOCOL, Responder())
        host.serve(EXCHANGE_PROTOCOL, liar.serve)
        yield liar


async def test_a_liar_in_one_transfer_is_refused_by_all(tmp_path: Path) -> None:
    files = [random_file(tmp_path / f"content{n}", 4 * MIB, n) for n in range(3)]
    async with loopback_node(tmp_path / "a") as seeder:
        shared = [await seeder.share(file, piece_length=PIECE) for file in files]
        envelopes = [each.envelope for each in shared]
        contents = {
            envelope.manifest.id: Content(envelope.manifest, file)
            for envelope, file in zip(envelopes, files, strict=True)
        }
        async with (
            _liar(contents) as liar,
            loopback_node(tmp_path / "b") as leecher,
            trio.open_nursery() as nursery,
        ):
            observed = await observe(leecher, nursery)
            peers = swarm.TransferOptions(peers=liar.addresses)
            into = tmp_path / "received"
            lied_to = leecher.fetch(envelopes[0], into=into, options=peers)
            other = leecher.fetch(envelopes[1], into=into, options=peers)
            await until(lambda: lied_to.now().done and other.now().done, "both take pieces from it")
            liar.lies_in = envelopes[0].manifest.id
            await until(lambda: observed.of(swarm.SourceBanned), "it is banned")
            await until(lambda: not other.peers() and not lied_to.peers(), "both sessions have ended", 10)
            (banned,) = observed.of(swarm.SourceBanned)
            assert (banned.transfer, banned.source) == (lied_to.number, liar.host.peer_id)
            assert banned.piece is not None
            gone = [event.transfer for event in observed.of(swarm.PeerDisconnected)]
            assert sorted(gone) == [lied_to.number, other.number]

            # It is refused when it comes, and a new transfer that names it does not dial it.
            sessions = len(observed.of(swarm.PeerConnected))
            assert await _greeted_by(liar, leecher, envelopes[1].manifest) is False
            dials = len(observed.of(swarm.PeerDialing))
            impatient = swarm.TransferOptions(peers=liar.addresses, patience=1)
            third = leecher.fetch(envelopes[2], into=into, options=impatient)
            with pytest.raises(swarm.NoPeerReachable):
                await third.complete()
            await trio.sleep(1)
            assert len(observed.of(swarm.PeerConnected)) == sessions
            assert not any(
                event.peer == liar.host.peer_id for event in observed.of(swarm.PeerDialing)[dials:]
            )
            assert len(observed.of(swarm.SourceBanned)) == 1

            # What the liar gave before is kept, and the rest comes from an honest peer.
            await lied_to.stop()
            async with leecher.fetch(shared[0].link, into=into) as again:
                assert sha256(await again.complete()) == sha256(files[0])
            await leecher.aclose()


async def _greeted_by(liar: Liar, victim: swarm.Node, manifest: swarm.Manifest) -> bool:
    """Whether the victim opens a session that the liar asks for."""
    where = parse_peer_address(victim.addresses[0])
    try:
        with trio.fail_after(10):
            await liar.host.connect(where.peer, [where.endpoint])
            peer = RawPeer(await liar.host.open_stream(where.peer, EXCHANGE_PROTOCOL), manifest)
            await peer.greet(HaveAll())
            while True:
                message = (await peer.hear()).message
                assert isinstance(message, Hello | Goodbye)
                if isinstance(message, Hello):
                    return True
    except swarm.SwarmError:
        return False


async def test_a_peer_that_the_program_bans_is_refused_by_all(tmp_path: Path) -> None:
    contents = [random_file(tmp_path / f"content{n}", 4 * MIB, n) for n in range(2)]
    async with (
        loopback_node(tmp_path / "a", upload_limit=MIB) as seeder,
        loopback_node(tmp_path / "b") as leecher,
    ):
        shared = [await seeder.share(content) for content in contents]
        fetches = [leecher.fetch(one.link, into=tmp_path / "received") for one in shared]
        await until(lambda: all(fetch.peers() for fetch in fetches), "both have a session")
        assert leecher.ban(seeder.peer_id)
        assert not leecher.ban(seeder.peer_id)
        assert leecher.is_banned(seeder.peer_id)
        await until(lambda: not any(fetch.peers() for fetch in fetches), "both sessions have ended", 10)


async def test_options_are_the_node_s_own(tmp_path: Path) -> None:
    """Two nodes in one process share nothing."""
    async with (
        swarm.open_node(node_options(tmp_path / "a")) as one,
        swarm.open_node(node_options(tmp_path / "b")) as other,
    ):
        assert one.peer_id != other.peer_id
        one.ban(other.peer_id)
        assert not other.is_banned(one.peer_id)
