"""Whole swarms in virtual time: real runners, brains and sessions over links in memory.

Every run is decided by its seed: the scheduler of trio, the windows and latencies of the links, the
brains' choices.
"""

from __future__ import annotations

import random
from functools import partial

import pytest
import trio
import trio._core._run as trio_run

from swarm.bits import PieceSet
from swarm.config import TransferConfig
from swarm.errors import LinkClosed
from swarm.events import PeerBanned, PieceRefused
from swarm.ids import PeerId
from swarm.protocol.codec import encode
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Data,
    ExchangedPeer,
    Goodbye,
    Have,
    HaveAll,
    Hello,
    Interested,
    NotInterested,
    Peers,
    Reject,
    RejectReason,
    Request,
    Unchoke,
    Withdraw,
)
from swarm.storage.memory_store import MemoryStore
from swarm.transfer.memory import Memory
from swarm.transfer.runner import Identity, Runner
from tests.support.contents import file_manifest, folder_manifest
from tests.support.memory_link import memory_link_pair
from tests.support.raw_peer import RawPeer

DATA = random.Random(5).randbytes(100 * 16384 + 77)
MANIFEST = file_manifest("file", DATA)
SEEDS = (1, 2)


@pytest.fixture(params=SEEDS)
def rng(request, monkeypatch) -> random.Random:
    """The one source of chance of a run."""
    monkeypatch.setattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(trio_run, "_r", random.Random(request.param))
    return random.Random(request.param)


class Member:
    """One node: a runner, its store, and a dialler that follows what it learns."""

    def __init__(self, world: World, name: str, store: MemoryStore, config: TransferConfig) -> None:
        self.world = world
        self.id = PeerId(name * 40)
        self.address = f"/ip4/10.0.0.{len(world.members) + 1}/tcp/4001"
        self.store = store
        self.memory = Memory()
        identity = Identity(self.id, "test", (self.address,))
        self.runner = Runner(store, identity, config, random.Random(world.rng.random()), memory=self.memory)
        self.dialled: list[PeerId] = []
        self.alive = True
        self.scope = trio.CancelScope()

    async def live(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._dial_learnt, nursery)
            with self.scope:
                await self.runner.run()
            self.alive = False

    async def _dial_learnt(self, nursery: trio.Nursery) -> None:
        async for learnt in self.runner.learnt:
            other = self.world.members.get(learnt.address.peer)
            if other is not None and not self.runner.has_session(other.id):
                assert learnt.address.addresses == (other.address,)
                nursery.start_soon(self.dial, other)

    async def dial(self, other: Member, window: int | None = None) -> None:
        """Connect and stay until the session ends."""
        self.dialled.append(other.id)
        ours, theirs = memory_link_pair(
            self.id,
            other.id,
            window=window or self.world.rng.choice((3000, 40_000, 256 * 1024)),
            latency=self.world.rng.uniform(0.0005, 0.02),
            left_address=self.address,
            right_address=other.address,
        )
        self.world.links += [ours, theirs]
        self.world.nursery.start_soon(self._accept, other, theirs)
        await self.runner.add_link(ours, inbound=False, address=other.address)

    async def _accept(self, other: Member, link) -> None:
        if other.alive:
            await other.runner.add_link(link, inbound=True)
        else:
            await link.reset()


class World:
    """All members of one swarm."""

    def __init__(self, rng: random.Random, nursery: trio.Nursery, manifest=MANIFEST) -> None:
        self.rng = rng
        self.nursery = nursery
        self.manifest = manifest
        self.members: dict[PeerId, Member] = {}
        self.links: list = []

    def add(self, name: str, data: bytes | None = None, stored: PieceSet | None = None, **config) -> Member:
        member = Member(self, name, MemoryStore(self.manifest, data, stored), TransferConfig(**config))
        self.members[member.id] = member
        self.nursery.start_soon(member.live)
        return member

    async def end(self) -> None:
        async with trio.open_nursery() as nursery:
            for member in self.members.values():
                nursery.start_soon(member.runner.stop)
        for member in self.members.values():
            assert member.memory.pool.used == 0
            assert member.memory.uploads.used == 0


def sent(member: Member) -> int:
    return sum(status.sent for status in member.runner.peers())


async def all_complete(members, seconds: float) -> None:
    with trio.fail_after(seconds):
        for member in members:
            await member.runner.complete.wait()
    for member in members:
        assert member.store.content() == DATA


RATE = 400_000
COPY_SECONDS = len(DATA) / RATE


async def test_leechers_that_know_only_the_seeder_find_and_feed_each_other(rng, autojump_clock):
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        seeder = world.add("S", DATA, upload_limit=RATE)
        leechers = [world.add(name, upload_limit=RATE) for name in "ABCDE"]
        for leecher in leechers:
            nursery.start_soon(leecher.dial, seeder)
        await trio.sleep(1.2)
        for member in world.members.values():
            connected = {status.peer for status in member.runner.peers()}
            assert connected == set(world.members) - {member.id}
        await all_complete(leechers, 4 * COPY_SECONDS)
        assert sent(seeder) < 3 * len(DATA)
        assert all(sent(leecher) > 0 for leecher in leechers)
        assert not any(member.runner.banned for member in world.members.values())
        await world.end()


async def test_the_seeder_may_leave_after_one_full_copy(rng, autojump_clock):
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        seeder = world.add("S", DATA, upload_limit=RATE)
        leechers = [world.add(name, upload_limit=RATE) for name in "ABCD"]
        for leecher in leechers:
            nursery.start_soon(leecher.dial, seeder)
        with trio.fail_after(10 * COPY_SECONDS):
            while (
                len(set().union(*(set(leecher.store.stored) for leecher in leechers))) < MANIFEST.piece_count
            ):
                await trio.sleep(0.002)
        assert not all(leecher.runner.complete.is_set() for leecher in leechers)
        seeder.scope.cancel()
        await all_complete(leechers, 5 * COPY_SECONDS)
        await world.end()


async def test_two_halves_complete_each_other_both_ways_at_once(rng, autojump_clock):
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        count = MANIFEST.piece_count
        left, right = PieceSet(count), PieceSet(count)
        for piece in range(count):
            (left if piece % 2 else right).add(piece)
        members = [world.add("A", DATA, left), world.add("B", DATA, right)]
        nursery.start_soon(members[0].dial, members[1])
        await all_complete(members, 30)
        assert abs(sent(members[0]) - sent(members[1])) <= 16384
        await world.end()


async def test_sessions_opened_to_each_other_at_once_become_one(rng, autojump_clock):
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        seeder, leecher = world.add("S", DATA, upload_limit=RATE), world.add("A")
        nursery.start_soon(seeder.dial, leecher)
        nursery.start_soon(leecher.dial, seeder)
        await trio.sleep(1)
        (here,), (there,) = seeder.runner.peers(), leecher.runner.peers()
        assert here.inbound != there.inbound
        assert there.inbound is False, "the session that the smaller id opened stays"
        await all_complete([leecher], 2 * COPY_SECONDS)
        await world.end()


async def test_links_that_break_all_the_time_lose_nothing(rng, autojump_clock):
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        seeder = world.add("S", DATA, upload_limit=RATE)
        leechers = [world.add(name, upload_limit=RATE) for name in "ABC"]

        async def redial(member: Member) -> None:
            while not member.runner.complete.is_set():
                if not member.runner.has_session(seeder.id):
                    nursery.start_soon(member.dial, seeder)
                await trio.sleep(rng.uniform(0.05, 0.3))

        async def saw() -> None:
            while True:
                await trio.sleep(rng.uniform(0.05, 0.3))
                await rng.choice(world.links).reset()

        for leecher in leechers:
            nursery.start_soon(redial, leecher)
        async with trio.open_nursery() as storm:
            storm.start_soon(saw)
            await all_complete(leechers, 20 * COPY_SECONDS)
            storm.cancel_scope.cancel()
        assert not any(member.runner.banned for member in world.members.values())
        await world.end()


async def test_thousands_of_small_files_pass(autojump_clock):
    files = {f"d/{index:04}": index.to_bytes(4, "big") * 256 for index in range(2000)}
    manifest = folder_manifest("folder", files)
    data = b"".join(files[name] for name in sorted(files))
    async with trio.open_nursery() as nursery:
        world = World(random.Random(1), nursery, manifest)
        seeder, leecher = world.add("S", data), world.add("A")
        nursery.start_soon(leecher.dial, seeder, 1 << 20)
        with trio.fail_after(5):
            await leecher.runner.complete.wait()
        assert leecher.store.content() == data
        await world.end()


# --- Hostile ones ---------------------------------------------------------------------------------


def truth(piece: int) -> bytes:
    start = piece * MANIFEST.piece_length
    return DATA[start : start + MANIFEST.layout.length(piece)]


async def corrupt(peer: RawPeer, piece: int) -> None:
    await peer.send_piece(piece, bytes(len(truth(piece))), chunk=5000)


async def replay(peer: RawPeer, piece: int) -> None:
    other = (piece + 1) % (MANIFEST.piece_count - 1)
    await peer.send_piece(piece, truth(other)[: len(truth(piece))])


async def stall(peer: RawPeer, piece: int) -> None:
    await peer.say(encode(Data(piece, 0, 50)) + truth(piece)[:50])
    await trio.sleep_forever()


async def be_silent(peer: RawPeer, piece: int) -> None:
    await trio.sleep_forever()


async def reject(peer: RawPeer, piece: int) -> None:
    await trio.sleep(0.01)
    await peer.say(Reject(piece, RejectReason.NOT_STORED))


async def trickle(peer: RawPeer, piece: int) -> None:
    for offset in range(len(truth(piece))):
        await peer.say(encode(Data(piece, offset, 1)) + truth(piece)[offset : offset + 1])
        await trio.sleep(5)


async def pretend(world: World, name: str, target: Member, conduct) -> None:
    """Connect to ``target`` as a peer that has everything, and answer its requests with ``conduct``."""
    ours, theirs = memory_link_pair(PeerId(name * 40), target.id, latency=0.001)
    world.nursery.start_soon(partial(target.runner.add_link, theirs, inbound=True))
    peer = RawPeer(ours, world.manifest)
    try:
        await peer.greet(HaveAll())
        await peer.say(Unchoke())
        one_at_a_time = trio.Lock()

        async def reply(piece: int) -> None:
            async with one_at_a_time:
                await conduct(peer, piece)

        async with trio.open_nursery() as nursery:
            while True:
                message, _ = await peer.hear()
                if isinstance(message, Request):
                    nursery.start_soon(reply, message.piece)
    except* LinkClosed:
        pass


async def test_exactly_the_peers_that_send_bad_pieces_are_banned(rng, autojump_clock):
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        leecher = world.add("A")
        observer = leecher.runner.events.subscribe()
        for name, conduct in zip("CDEFG", (corrupt, replay, corrupt, stall, reject), strict=True):
            nursery.start_soon(pretend, world, name, leecher, conduct)
        await trio.sleep(0.5)
        for name in "ST":
            nursery.start_soon(leecher.dial, world.add(name, DATA, upload_limit=RATE))
        await all_complete([leecher], 20 * COPY_SECONDS)
        assert leecher.runner.banned == {PeerId(name * 40) for name in "CDE"}
        leecher.runner.events.close()
        refused = [event.source async for event in observer if isinstance(event, PieceRefused)]
        assert len(refused) == len(set(refused)), "one piece wasted for each liar at most"
        await world.end()


async def test_slow_peers_do_not_hold_up_the_transfer(rng, autojump_clock):
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        leecher = world.add("A")
        observer = leecher.runner.events.subscribe()
        for number in range(16):
            conduct = (be_silent, trickle, stall)[number % 3]
            nursery.start_soon(pretend, world, "BCDEFGHJKLMNPQRT"[number], leecher, conduct)
        await trio.sleep(0.1)
        for name in "ST":
            nursery.start_soon(leecher.dial, world.add(name, DATA, upload_limit=RATE))
        await all_complete([leecher], 15 + COPY_SECONDS)
        leecher.runner.events.close()
        assert not [event async for event in observer if isinstance(event, PeerBanned)]
        nursery.cancel_scope.cancel()


def noise(rng: random.Random) -> bytes:
    """A legal message, a message that is illegal now or for ever, or no message at all."""
    piece = rng.choice((0, 1, 5, MANIFEST.piece_count - 1, MANIFEST.piece_count, 1 << 31))
    size = rng.choice((1, 77, 16384, 16385))
    return rng.choice(
        (
            encode(Request(piece)),
            encode(Cancel(piece)),
            encode(Have((piece,))),
            encode(Withdraw(piece)),
            encode(Reject(piece, RejectReason.BUSY)),
            encode(Data(piece, rng.choice((0, 77)), size)) + bytes(size),
            encode(HaveAll()),
            encode(Unchoke()),
            encode(Choke()),
            encode(Interested()),
            encode(NotInterested()),
            encode(Peers((ExchangedPeer(PeerId("Z" * 40), ("/ip4/10.9.9.9/tcp/1",)),))),
            encode(Goodbye("noise")),
            encode(Hello(MANIFEST.id, MANIFEST.piece_count)),
            rng.randbytes(rng.randrange(1, 30)),
        )
    )


async def make_noise(world: World, peer: PeerId, target: Member, rng: random.Random) -> None:
    ours, theirs = memory_link_pair(peer, target.id, window=rng.choice((16, 4096, 1 << 18)))
    world.nursery.start_soon(partial(target.runner.add_link, theirs, inbound=True))
    with trio.move_on_after(rng.uniform(0.01, 3)):
        try:
            if rng.random() < 0.9:
                await ours.write(encode(Hello(MANIFEST.id, MANIFEST.piece_count)) + encode(HaveAll()))
            for _ in range(rng.randrange(30)):
                await ours.write(noise(rng))
                await trio.sleep(rng.choice((0, 0.01, 0.1)))
            while True:
                await ours.read_exactly(1)
        except LinkClosed:
            pass
    await rng.choice((ours.reset, ours.close))()


async def test_noise_ends_the_sessions_of_those_who_make_it_and_nothing_else(rng, autojump_clock):
    letters = "123456789ABCDEFGHJKLMNPQRTUVWXYZ"
    async with trio.open_nursery() as nursery:
        world = World(rng, nursery)
        seeder = world.add("S", DATA, upload_limit=RATE)
        leecher = world.add("y")
        nursery.start_soon(leecher.dial, seeder)
        for number in range(150):
            peer = PeerId((letters[number % 30] + letters[number // 30]) * 20)
            target = seeder if number % 2 else leecher
            nursery.start_soon(make_noise, world, peer, target, random.Random(rng.random()))
            await trio.sleep(rng.uniform(0, 0.1))
        await all_complete([leecher], 60)
        assert leecher.id not in seeder.runner.banned
        assert seeder.id not in leecher.runner.banned
        assert seeder.runner.banned
        with trio.fail_after(200):
            while len(seeder.runner.peers()) + len(leecher.runner.peers()) > 2:
                await trio.sleep(1)
        await world.end()
