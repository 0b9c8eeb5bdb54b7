"""Asking peers for the newest release: the newest wins, hostile ones alone are to blame."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import swarm
from swarm.content.release import SignedRelease, series_of, sign_release
from swarm.content.series_link import SeriesLink
from swarm.ids import ManifestId
from swarm.ports import Announcement, FoundPeer
from swarm.protocol.release_question import (
    QUESTION_BYTES,
    ReleaseQuestion,
    decode_question,
    encode_question,
)
from tests.support.nodes import NOBODY, Observed, loopback_node, observe, until

KEY = bytes(range(32))
SERIES = series_of(KEY, "game")
FIRST = swarm.ReleaseRecord(SERIES, 1, ManifestId(b"1" * 32), 10)
BEYOND = replace(FIRST, sequence=1 << 40)


def release(sequence: int, manifest: bytes = b"x", name: str = "game", key: bytes = KEY) -> SignedRelease:
    series = series_of(key, name)
    return sign_release(
        key, replace(FIRST, series=series, sequence=sequence, manifest=ManifestId(manifest * 32))
    )


@dataclass(frozen=True)
class Lie:
    """Stands for a record of `SERIES` in a node, and sends other bytes."""

    data: bytes
    record: swarm.ReleaseRecord = BEYOND

    def to_bytes(self) -> bytes:
        return self.data


def offer(node: swarm.Node, what: Any) -> None:
    node._releases.offer(what)


def link(*nodes: swarm.Node, extra: tuple[str, ...] = ()) -> SeriesLink:
    return SeriesLink(SERIES, tuple(node.addresses[0] for node in nodes) + extra)


def warnings(observed: Observed) -> list[str]:
    return [event.message for event in observed.of(swarm.Warned)]


def flipped(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


LIES = {
    "a flipped byte": Lie(flipped(release(9).to_bytes())),
    "another key": Lie(release(9, key=bytes(32)).to_bytes()),
    "another name": Lie(release(9, name="other").to_bytes()),
    "no record": Lie(b"\xff" * 100),
    "too long": Lie(b"\xff" * 70_000),
}


async def test_the_newest_record_of_several_peers_wins(tmp_path: Path) -> None:
    async with (
        loopback_node(tmp_path / "a") as a,
        loopback_node(tmp_path / "b") as b,
        loopback_node(tmp_path / "asks") as asks,
    ):
        offer(a, release(2))
        offer(b, release(3))
        found = await asks.newest_release(link(a, b, extra=(NOBODY,)))
        assert found == release(3).record
        # It is served from now on, and to who knows an older one.
        async with loopback_node(tmp_path / "c") as c:
            assert await c.newest_release(link(asks)) == found


class Tracker:
    """A source of peers that names what it is told to."""

    provenance = "tracker"

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[FoundPeer](100)

    def find(self, peer: swarm.PeerId, *addresses: str) -> None:
        self.send.send_nowait(FoundPeer(peer, addresses))

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        async for found in self.receive:
            yield found

    def announce(self, announcement: Announcement) -> None: ...
    def withdraw(self, manifest: ManifestId) -> None: ...


@pytest.mark.parametrize("follows", [False, True], ids=["the newest", "the next"])
async def test_a_peer_whose_address_in_the_link_is_old_is_found_where_another_source_names_it(
    tmp_path: Path, follows: bool
) -> None:
    async with loopback_node(tmp_path / "a") as a, loopback_node(tmp_path / "asks") as asks:
        offer(a, release(2))
        tracker = Tracker()
        asks.add_peer_source(tracker)
        old = SeriesLink(SERIES, tuple(f"/ip4/127.0.0.1/tcp/{port}/p2p/{a.peer_id}" for port in (1, 2)))
        found: list[swarm.ReleaseRecord] = []

        async def ask() -> None:
            options = swarm.TransferOptions(patience=20)
            if follows:
                found.append(await asks.next_release(old, 1, options=options))
            else:
                found.append(await asks.newest_release(old, options=options))

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await trio.sleep(0.5)
                # It has moved more often than addresses are kept.
                for port in range(3, 60):
                    tracker.find(a.peer_id, f"/ip4/127.0.0.1/tcp/{port}")
                tracker.find(a.peer_id, *(each.partition("/p2p/")[0] for each in a.addresses))
        assert found == [release(2).record]


async def test_what_a_stranger_knows_does_not_hide_why_the_named_peer_is_away(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as stranger, loopback_node(tmp_path / "asks") as asks:
        tracker = Tracker()
        asks.add_peer_source(tracker)
        tracker.find(stranger.peer_id, *(each.partition("/p2p/")[0] for each in stranger.addresses))
        options = swarm.TransferOptions(patience=2)
        with trio.fail_after(20), pytest.raises(swarm.NoPeerReachable, match="refused"):
            await asks.newest_release(SeriesLink(SERIES, (NOBODY,)), options=options)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_hostile_peer_is_refused_with_one_line_and_alone_is_to_blame(
    tmp_path: Path, lie: Lie
) -> None:
    async with (
        loopback_node(tmp_path / "good") as good,
        loopback_node(tmp_path / "bad") as bad,
        loopback_node(tmp_path / "asks") as asks,
        trio.open_nursery() as nursery,
    ):
        observed = await observe(asks, nursery)
        offer(good, release(2))
        offer(bad, lie)
        assert await asks.newest_release(link(good, bad)) == release(2).record
        await until(lambda: warnings(observed), "a warning")
        (warning,) = warnings(observed)
        assert f"the release record from {bad.peer_id} is refused: " in warning
        assert asks.is_banned(bad.peer_id)
        assert not asks.is_banned(good.peer_id)
        nursery.cancel_scope.cancel()


async def test_with_a_hostile_peer_alone_there_is_no_release(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "bad") as bad, loopback_node(tmp_path / "asks") as asks:
        offer(bad, LIES["a flipped byte"])
        with pytest.raises(swarm.ManifestError, match="the signature of the release record is wrong"):
            await asks.newest_release(link(bad), options=swarm.TransferOptions(patience=5))


async def test_a_lower_number_than_was_seen_is_refused(tmp_path: Path) -> None:
    async with (
        loopback_node(tmp_path / "a") as a,
        loopback_node(tmp_path / "b") as b,
        trio.open_nursery() as nursery,
    ):
        offer(a, release(5))
        async with loopback_node(tmp_path / "asks") as asks:
            assert (await asks.newest_release(link(a))).sequence == 5
        # Another process of the same user; the peer answers what is older than what was asked for.
        offer(b, Lie(release(3).to_bytes()))
        async with loopback_node(tmp_path / "asks") as asks:
            observed = await observe(asks, nursery)
            assert (await asks.newest_release(link(b))).sequence == 5
            await until(lambda: len(warnings(observed)) > 1, "two warnings")
            assert "it is release 3, and one above 4 was asked for" in warnings(observed)[0]
            assert "going on with number 5" in warnings(observed)[1]
            assert asks.is_banned(b.peer_id)
            nursery.cancel_scope.cancel()


async def test_a_peer_that_is_behind_is_not_to_blame(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as a, loopback_node(tmp_path / "b") as b:
        offer(a, release(5))
        offer(b, release(3))
        async with loopback_node(tmp_path / "asks") as asks:
            assert (await asks.newest_release(link(a))).sequence == 5
        async with loopback_node(tmp_path / "asks") as asks:
            assert (await asks.newest_release(link(b))).sequence == 5
            assert not asks.is_banned(b.peer_id)


async def test_two_records_of_one_number_are_refused(tmp_path: Path) -> None:
    async with (
        loopback_node(tmp_path / "a") as a,
        loopback_node(tmp_path / "b") as b,
        loopback_node(tmp_path / "c") as c,
        loopback_node(tmp_path / "asks") as asks,
    ):
        offer(a, release(2, b"a"))
        offer(b, release(2, b"b"))
        offer(c, release(3))
        with pytest.raises(swarm.ManifestError, match="signed two different releases with number 2"):
            await asks.newest_release(link(a, b))
        # One that is kept counts as well.
        await asks.newest_release(link(a))
        with pytest.raises(swarm.ManifestError, match="signed two different releases with number 2"):
            await asks.newest_release(link(b))
        assert not asks.is_banned(a.peer_id)
        assert not asks.is_banned(b.peer_id)
        # The next release mends it.
        assert (await asks.newest_release(link(a, b, c))).sequence == 3


async def test_nobody_who_knows_and_nobody_at_all(tmp_path: Path) -> None:
    options = swarm.TransferOptions(patience=1)
    async with loopback_node(tmp_path / "a") as a, loopback_node(tmp_path / "asks") as asks:
        with pytest.raises(swarm.Incomplete, match="knows of no release of game"):
            await asks.newest_release(link(a), options=options)
        with pytest.raises(swarm.NoPeerReachable):
            await asks.newest_release(SeriesLink(SERIES, (NOBODY,)), options=options)
        with pytest.raises(swarm.UsageError, match="names no peer"):
            await asks.newest_release(SeriesLink(SERIES), options=options)


async def test_who_waits_learns_of_a_release_at_once(tmp_path: Path) -> None:
    async with (
        loopback_node(tmp_path / "a") as a,
        loopback_node(tmp_path / "b") as b,
        loopback_node(tmp_path / "c") as c,
        trio.open_nursery() as nursery,
    ):
        learned: dict[str, int] = {}

        async def wait(name: str, node: swarm.Node, where: SeriesLink) -> None:
            learned[name] = (await node.next_release(where, after=1)).sequence

        offer(a, release(1))
        offer(b, release(1))
        # One knows the publisher, the other only the first.
        nursery.start_soon(wait, "b", b, link(a))
        nursery.start_soon(wait, "c", c, link(b))
        await until(lambda: a._releases._waiting == 1 and b._releases._waiting == 1, "both wait")
        offer(a, release(2))
        await until(lambda: learned == {"b": 2, "c": 2}, "both know")
        await until(lambda: a._releases._waiting == 0 and b._releases._waiting == 0, "nobody waits")


async def test_who_hangs_up_waits_no_more(tmp_path: Path) -> None:
    async with loopback_node(tmp_path / "a") as a, loopback_node(tmp_path / "b") as b:
        offer(a, release(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.next_release, link(a), 1)
            await until(lambda: a._releases._waiting == 1, "it waits")
            nursery.cancel_scope.cancel()
        await until(lambda: a._releases._waiting == 0, "nobody waits")


def test_a_question_is_read_as_it_was_written() -> None:
    question = ReleaseQuestion(SERIES.id, 7, 60)
    data = encode_question(question)
    assert len(data) == QUESTION_BYTES == 42
    assert decode_question(data) == question
    for broken in (data[:-2] + (61).to_bytes(2, "big"), data[:32] + b"\xff" * 8 + data[40:]):
        with pytest.raises(swarm.RemoteError):
            decode_question(broken)


@dataclass
class Hearing:
    """A source of peers that notes what it is told."""

    heard: list[Announcement]
    provenance: str = "hearing"

    async def peers(self, _manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        for nobody in ():
            yield nobody

    def announce(self, announcement: Announcement) -> None:
        self.heard.append(announcement)

    def withdraw(self, _manifest: ManifestId) -> None:
        pass


async def test_each_series_is_announced_again_once_when_the_addresses_of_the_node_change(
    tmp_path: Path,
) -> None:
    """A meeting point keeps one record for each peer: old addresses of a series replace those of all."""
    heard: list[Announcement] = []
    async with loopback_node(tmp_path / "a") as a:
        a.add_peer_source(Hearing(heard))
        series = [release(2), release(2, name="other")]
        for each in series:
            offer(a, each)
        await trio.testing.wait_all_tasks_blocked()
        for number in (1, 2):
            heard.clear()
            moved = (f"/ip4/127.0.0.1/tcp/{number}/p2p/{a.peer_id}",)
            a._addresses.become(moved)
            await trio.testing.wait_all_tasks_blocked()
            assert [each.addresses for each in heard] == [moved, moved]
            assert {each.manifest.digest for each in heard} == {
                each.record.series.id.digest for each in series
            }
