"""Rate limits and places, with real exchanges at both ends."""

import random

import pytest
import trio
import trio.testing

from swarm.config import TransferOptions
from swarm.discovery.peer_exchange import FOUND_PEERS
from swarm.ids import PeerId
from swarm.ports import FoundPeer
from swarm.protocol.messages import (
    Cancel,
    ExchangedPeer,
    Goodbye,
    Interested,
    Peers,
    Reject,
    Request,
    Unchoke,
)
from swarm.storage.memory_store import MemoryStore
from swarm.transfer.exchange import Exchange
from swarm.transfer.session import SessionOrigin
from tests.support.contents import file_manifest
from tests.support.exchanges import Member
from tests.support.memory_link import memory_link_pair
from tests.support.raw_peer import RawPeer

PIECE = 256 * 1024
DATA = random.Random(3).randbytes(80 * PIECE)
MANIFEST = file_manifest("file", DATA, piece_length=PIECE)
SEED = PeerId("S" * 40)


def exchange(name: str, store: MemoryStore, *, named: tuple[PeerId, ...] = (), **options) -> Exchange:
    member = Member(
        PeerId(name * 40),
        store,
        TransferOptions(**options),
        addresses=(f"/ip4/10.0.0.{ord(name)}/tcp/1",),
        rng=random.Random(ord(name)),
        named=named,
    )
    return member.exchange


def join(nursery: trio.Nursery, here: Exchange, there: Exchange, names: str) -> None:
    ours, theirs = memory_link_pair(
        PeerId(names[0] * 40), PeerId(names[1] * 40), window=1 << 20, latency=0.005
    )
    nursery.start_soon(here.add_stream, ours, SessionOrigin(inbound=False))
    nursery.start_soon(there.add_stream, theirs, SessionOrigin(inbound=True))


@pytest.mark.parametrize("limit", [1_000_000, 2_000_000])
@pytest.mark.parametrize("side", ["upload_limit", "download_limit"])
async def test_a_limit_is_held_and_used(autojump_clock, nursery, side, limit):
    settings = {side: limit}
    seeder = exchange("S", MemoryStore(MANIFEST, DATA), **(settings if side == "upload_limit" else {}))
    leecher = exchange("A", MemoryStore(MANIFEST), **(settings if side == "download_limit" else {}))
    for one in (seeder, leecher):
        nursery.start_soon(one.run)
    join(nursery, leecher, seeder, "AS")
    await trio.sleep(1)
    before = leecher.peers()[0].received
    await trio.sleep(8)
    assert leecher.peers()[0].received - before == pytest.approx(8 * limit, rel=0.03)
    nursery.cancel_scope.cancel()


async def test_each_receiver_gets_its_share_of_an_upload_limit(autojump_clock, nursery):
    limit = 2_000_000
    seeder = exchange("S", MemoryStore(MANIFEST, DATA), upload_limit=limit)
    nursery.start_soon(seeder.run)
    leechers = [exchange(name, MemoryStore(MANIFEST)) for name in "ABC"]
    for leecher, name in zip(leechers, "ABC", strict=True):
        nursery.start_soon(leecher.run)
        join(nursery, leecher, seeder, name + "S")
    await trio.sleep(9)
    sent = [status.sent for status in seeder.peers()]
    assert sum(sent) == pytest.approx(9 * limit, rel=0.03)
    assert min(sent) > 0.75 * sum(sent) / 3  # the rarest piece goes first, so not to a hair
    nursery.cancel_scope.cancel()


async def test_control_passes_a_limited_upload(autojump_clock, nursery):
    """At 50 KB/s a queued MiB takes 20 s; a message to the same peer does not wait for it."""
    seeder = exchange("S", MemoryStore(MANIFEST, DATA), upload_limit=50_000)
    leecher = exchange("A", MemoryStore(MANIFEST))
    for one in (seeder, leecher):
        nursery.start_soon(one.run)
    join(nursery, leecher, seeder, "AS")
    await trio.sleep(3)
    assert leecher.peers()[0].received > 0
    started = trio.current_time()
    seeder.dismiss(PeerId("A" * 40), "enough")
    while leecher.peers():
        await trio.sleep(0.01)
    assert trio.current_time() - started < 0.5
    nursery.cancel_scope.cancel()


async def test_what_was_cancelled_before_its_turn_costs_the_limit_nothing(autojump_clock, nursery):
    seeder = exchange("S", MemoryStore(MANIFEST, DATA), upload_limit=4096)
    nursery.start_soon(seeder.run)
    peer = await raw(nursery, seeder, "A")
    await peer.say(Interested())
    await peer.hear_until(Unchoke)
    for _ in range(20):
        await peer.say(Request(0))
        await trio.sleep(0.001)
        await peer.say(Cancel(0))
        await peer.hear_until(Reject)
    started = trio.current_time()
    await peer.say(Request(1))
    while getattr((await peer.hear()).message, "piece", None) != 1:
        pass
    assert trio.current_time() - started < 3
    nursery.cancel_scope.cancel()


async def test_who_leaves_is_named_to_the_others(autojump_clock, nursery):
    seeder = exchange("S", MemoryStore(MANIFEST, DATA))
    nursery.start_soon(seeder.run)
    first, second = await raw(nursery, seeder, "A"), await raw(nursery, seeder, "B")
    heard = (await first.hear_until(Peers))[-1].message
    assert heard == Peers((ExchangedPeer(PeerId("B" * 40), ("/ip4/10.0.0.66/tcp/1",)),))
    await second.say(Goodbye())
    heard = (await first.hear_until(Peers))[-1].message
    assert heard == Peers((), (PeerId("B" * 40),))
    nursery.cancel_scope.cancel()


async def test_a_place_is_kept_for_the_peer_that_the_user_named(autojump_clock, nursery):
    named = PeerId("N" * 40)
    seeder = exchange("S", MemoryStore(MANIFEST, DATA), max_peers=2, named=(named,))
    nursery.start_soon(seeder.run)
    strangers = [await raw(nursery, seeder, name) for name in "AB"]
    assert isinstance((await strangers[1].hear()).message, Goodbye)
    friend = await raw(nursery, seeder, "N")
    await friend.hear_until(Peers)
    assert {status.peer for status in seeder.peers()} == {PeerId("A" * 40), named}
    nursery.cancel_scope.cancel()


async def raw(nursery: trio.Nursery, target: Exchange, name: str) -> RawPeer:
    """A peer that has greeted."""
    ours, theirs = memory_link_pair(SEED, PeerId(name * 40), left_address=f"/ip4/10.0.0.{ord(name)}/tcp/9")

    nursery.start_soon(target.add_stream, ours, SessionOrigin(inbound=True))
    peer = RawPeer(theirs, MANIFEST)
    await peer.greet(addresses=(f"/ip4/10.0.0.{ord(name)}/tcp/1",))
    await trio.testing.wait_all_tasks_blocked()
    return peer


async def test_what_peers_say_of_others_is_filtered_and_bounded(autojump_clock, nursery):
    seeder = exchange("S", MemoryStore(MANIFEST, DATA))
    nursery.start_soon(seeder.run)
    peer = await raw(nursery, seeder, "A")
    told = [
        ExchangedPeer(SEED, ("/ip4/10.0.0.1/tcp/1",)),
        ExchangedPeer(PeerId("B" * 40), ("/ip4/127.0.0.1/tcp/1",)),
        ExchangedPeer(PeerId("C" * 40), ("/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.3/tcp/1")),
        ExchangedPeer(PeerId("D" * 40), ()),
    ]
    await peer.say(Peers(tuple(told)))
    await trio.testing.wait_all_tasks_blocked()
    found = seeder.discovered.peers(MANIFEST.id)
    alice = PeerId("A" * 40)
    assert [await anext(found) for _ in range(2)] == [
        FoundPeer(alice, ("/ip4/10.0.0.65/tcp/1",), told_by=alice),
        FoundPeer(PeerId("C" * 40), ("/ip4/10.0.0.3/tcp/1",), told_by=alice),
    ]
    with trio.move_on_after(1) as scope:
        await anext(found)
    assert scope.cancelled_caught, "nobody else was found"
    digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
    for first in digits[:8]:
        many = [ExchangedPeer(PeerId((first + second) * 20), ("/ip4/10.0.0.1/tcp/1",)) for second in digits]
        await peer.say(Peers(tuple(many)))
        await trio.sleep(1)
    assert len(digits[:8]) * len(digits) > FOUND_PEERS
    seeder.discovered.close()
    assert len([each async for each in seeder.discovered.peers(MANIFEST.id)]) == FOUND_PEERS
    nursery.cancel_scope.cancel()


async def test_a_limit_can_be_set_and_taken_away_during_a_transfer(autojump_clock, nursery):
    seeder, leecher = exchange("S", MemoryStore(MANIFEST, DATA)), exchange("A", MemoryStore(MANIFEST))
    seeder.limit(upload=200_000, download=None)
    for one in (seeder, leecher):
        nursery.start_soon(one.run)
    join(nursery, leecher, seeder, "AS")
    await trio.sleep(5)
    slow = leecher.peers()[0].received
    assert 0 < slow <= 5 * 200_000 * 1.1
    leecher.limit(upload=None, download=1_000_000)
    seeder.limit(upload=None, download=None)
    await trio.sleep(1)
    before = leecher.peers()[0].received
    await trio.sleep(5)
    assert leecher.peers()[0].received - before == pytest.approx(5 * 1_000_000, rel=0.05)
    leecher.limit(upload=None, download=None)
    with trio.fail_after(3):
        await leecher.complete.wait()
    nursery.cancel_scope.cancel()


async def test_a_paused_exchange_has_no_sessions_and_goes_on_afterwards(autojump_clock, nursery):
    seeder = exchange("S", MemoryStore(MANIFEST, DATA), upload_limit=1_000_000)
    leecher = exchange("A", MemoryStore(MANIFEST))
    for one in (seeder, leecher):
        nursery.start_soon(one.run)
    join(nursery, leecher, seeder, "AS")
    await trio.sleep(2)
    await leecher.pause()
    assert leecher.peers() == ()
    assert not leecher.has_session(SEED)
    assert leecher.progress(paused=True).paused
    stored = leecher.progress(paused=True).pieces_done
    assert 0 < stored < MANIFEST.piece_count
    refused = await raw(nursery, leecher, "B")
    assert (await refused.hear()).message == Goodbye("this transfer is paused")
    await trio.sleep(5)
    assert leecher.progress(paused=True).pieces_done == stored
    leecher.unpause()
    seeder.limit(upload=None, download=None)
    join(nursery, leecher, seeder, "AS")
    with trio.fail_after(5):
        await leecher.complete.wait()
    progress = leecher.progress(paused=False)
    assert (progress.done, progress.total, progress.complete) == (len(DATA), len(DATA), True)
    nursery.cancel_scope.cancel()
