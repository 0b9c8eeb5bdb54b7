"""A meeting point as a source of peers: what it is told, what it is believed, and how often it is asked."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import pairwise

import pytest
import trio
import trio.testing

from swarm.discovery.meeting_point import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    NEAR_MEETING,
    REGISTERED_PAUSE,
    UNHURRIED_SECONDS,
    MeetingPoint,
    visible_from,
)
from swarm.endpoint import Circuit, Endpoint, PeerAddress, Route
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.node.meeting_server import RendezvousService
from swarm.ports import Announcement, FoundPeer
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.peer_record import open_record, seal_record
from swarm.reach.relay_protocols import HOP_PROTOCOL
from swarm.reach.rendezvous_messages import (
    Discover,
    DiscoverResponse,
    Register,
    RegisterResponse,
    RendezvousStatus,
    decode_rendezvous,
    encode_rendezvous,
    namespace_of,
)
from swarm.strategy.peer_book import MEETING
from tests.support.memory_link import MemoryLink, memory_link_pair
from tests.unit.test_reach_kad import peer

MANIFEST = ManifestId(bytes(32))
ME, SERVER = peer(1), peer(2)
PUBLIC = Endpoint.parse("/ip4/5.5.5.7/tcp/4001")
OTHER_PUBLIC = Endpoint.parse("/ip4/5.5.5.8/tcp/4001")
PRIVATE = Endpoint.parse("/ip4/192.168.1.7/tcp/4001")
LOOPBACK = Endpoint.parse("/ip4/127.0.0.1/tcp/4001")
NAME = Endpoint.parse("/dns4/example.net/tcp/4001")
EVERY = (PUBLIC, PRIVATE, LOOPBACK, NAME)
SPACE = namespace_of(MANIFEST)
KEY = bytes(range(32))
OWNER, OTHER = (open_record(seal_record(key, [PUBLIC], 1)).peer for key in (KEY, bytes(32)))

Serve = Callable[["Link", MemoryLink], Awaitable[None]]


class Link:
    """The way to a meeting point at ``where`` that answers as ``serve`` does, on each stream."""

    me = ME

    def __init__(self, where: Endpoint, serve: Serve, nursery: trio.Nursery) -> None:
        self.where = where
        self.serve = serve
        self.nursery = nursery
        self.registered: list[Register] = []
        self.asked: list[tuple[float, Discover]] = []
        self.said: list[str] = []
        self.connects = self.unreachable = 0
        self.relays = True
        self.places_asked: list[float] = []
        self.sequences = itertools.count(1)

    async def connect(self) -> Endpoint:
        self.connects += 1
        await trio.lowlevel.checkpoint()
        if self.connects <= self.unreachable:
            raise NoPeerReachable("no way there")
        return self.where

    async def open_stream(self, _protocol: str) -> MemoryLink:
        ours, theirs = memory_link_pair(ME, SERVER)
        self.nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: MemoryLink) -> None:
        # The visitor hangs up as it likes.
        with suppress(LinkClosed):
            await self.serve(self, stream)

    async def reserve(self) -> float:
        await trio.lowlevel.checkpoint()
        self.places_asked.append(trio.current_time())
        if not self.relays:
            raise LinkClosed(f"{SERVER} does not answer {HOP_PROTOCOL}")
        return 3600.0

    def seal(self, addresses: tuple[Route, ...]) -> bytes:
        return seal_record(KEY, addresses, next(self.sequences))

    async def probe(self, where: Endpoint) -> None:
        assert where == self.where
        await trio.lowlevel.checkpoint()

    def tell(self, message: str) -> None:
        self.said.append(message)


def serving(*records: Register) -> Serve:
    """A server that has these records in every namespace and waits for nobody."""

    async def serve(link: Link, stream: MemoryLink) -> None:
        while True:
            message = decode_rendezvous(await read_message(stream, limits.MAX_REQUEST_BYTES))
            if isinstance(message, Register):
                link.registered.append(message)
                answer = encode_rendezvous(RegisterResponse(RendezvousStatus.OK, ttl=3600))
            else:
                assert isinstance(message, Discover)
                link.asked.append((trio.current_time(), message))
                found = () if message.cookie else records
                answer = encode_rendezvous(DiscoverResponse(RendezvousStatus.OK, found, b"next"))
            await write_message(stream, answer)

    return serve


@asynccontextmanager
async def meeting(where: Endpoint, serve: Serve) -> AsyncIterator[tuple[MeetingPoint, Link]]:
    async with trio.open_nursery() as nursery:
        link = Link(where, serve, nursery)
        point = MeetingPoint(PeerAddress(SERVER, where), link, random.Random(1))
        nursery.start_soon(point.run)
        yield point, link
        nursery.cancel_scope.cancel()


async def first_of(point: MeetingPoint) -> FoundPeer:
    with trio.fail_after(1000):
        async with aclosing(point.peers(MANIFEST)) as peers:
            async for found in peers:
                return found
    raise AssertionError("nobody was found")


@pytest.mark.parametrize(
    ("where", "visible", "provenance"),
    [
        (PUBLIC, (PUBLIC,), MEETING),
        (PRIVATE, (PUBLIC, PRIVATE), NEAR_MEETING),
        (LOOPBACK, (PUBLIC, PRIVATE, LOOPBACK), NEAR_MEETING),
    ],
    ids=str,
)
async def test_addresses_are_told_and_believed_from_the_scope_of_the_meeting_point_upwards(
    autojump_clock: trio.testing.MockClock, where: Endpoint, visible: tuple[Endpoint, ...], provenance: str
) -> None:
    assert visible_from(where, list(EVERY)) == visible
    record = seal_record(KEY, EVERY, 1)
    async with meeting(where, serving(Register(SPACE, record, 100))) as (point, link):
        point.announce(Announcement(MANIFEST, tuple(f"{each}/p2p/{ME}" for each in EVERY), complete=False))
        found = await first_of(point)
        await trio.testing.wait_all_tasks_blocked()
    assert point.provenance == provenance
    assert found.peer == open_record(record).peer
    assert found.addresses == (*map(str, visible), str(Circuit(PeerAddress(SERVER, where))))
    [registered] = link.registered
    assert registered.namespace == SPACE
    assert open_record(registered.record).addresses == visible


async def test_a_forged_record_is_left_out(autojump_clock: trio.testing.MockClock) -> None:
    good = seal_record(KEY, [PUBLIC], 1)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    async with meeting(PUBLIC, serving(Register(SPACE, forged, 100), Register(SPACE, good, 100))) as (
        point,
        _,
    ):
        assert (await first_of(point)).peer == open_record(good).peer


async def test_a_server_that_does_not_wait_is_asked_without_hurry(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The field that makes an answer wait is ours; other servers answer at once."""
    async with meeting(PUBLIC, serving()) as (point, link):
        with trio.move_on_after(10 * UNHURRIED_SECONDS + 1):
            await first_of(point)
    assert 9 <= len(link.asked) <= 11
    assert [question.wait for _, question in link.asked] == [limits.MAX_WAIT] * len(link.asked)


async def test_a_server_that_names_peers_without_end_is_not_asked_without_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each of its records is verified."""
    record = seal_record(KEY, [PUBLIC], 1)

    async def endless(link: Link, stream: MemoryLink) -> None:
        while len(link.asked) < 5000:
            message = decode_rendezvous(await read_message(stream, limits.MAX_REQUEST_BYTES))
            assert isinstance(message, Discover)
            link.asked.append((trio.current_time(), message))
            again = DiscoverResponse(RendezvousStatus.OK, (Register(SPACE, record, 100),), b"next")
            await write_message(stream, encode_rendezvous(again))
        await trio.sleep_forever()

    async with meeting(PUBLIC, endless) as (point, link):
        with trio.move_on_after(100):
            async with aclosing(point.peers(MANIFEST)) as peers:
                async for _ in peers:
                    pass
        # As many peers as there can be are heard of at once.
        first = sum(at < link.asked[0][0] + 1 for at, _ in link.asked)
        assert first * limits.MAX_FOUND >= limits.MAX_RECORDS
        assert len(link.asked) <= limits.FOUND_BURST + 100 * limits.FOUND_RATE + 1


async def test_an_answer_that_was_not_asked_for_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def talkative(_link: Link, stream: MemoryLink) -> None:
        for _ in range(3):
            await write_message(stream, encode_rendezvous(RegisterResponse(RendezvousStatus.OK, ttl=3600)))
        await trio.sleep_forever()

    async with meeting(PUBLIC, talkative) as (_, link):
        await trio.sleep(60)
        # It comes back, less and less often, and the user is told once.
        assert 2 <= link.connects < 12
        assert len(link.said) == 1
        assert "answers what was not asked" in link.said[0]


@pytest.mark.parametrize("seconds", [1.0, 20.0])
async def test_who_was_registered_comes_back_soon_after_each_reset_of_its_stream(
    autojump_clock: trio.testing.MockClock, seconds: float
) -> None:
    """The connection stays, and nothing but the stream's end says that nobody finds the node any more."""
    moments: list[float] = []

    async def forgetful(_link: Link, stream: MemoryLink) -> None:
        await read_message(stream, limits.MAX_REQUEST_BYTES)
        moments.append(trio.current_time())
        await write_message(stream, encode_rendezvous(RegisterResponse(RendezvousStatus.OK, ttl=3600)))
        await trio.sleep(seconds)
        await stream.reset()

    async with meeting(PUBLIC, forgetful) as (point, _):
        point.announce(Announcement(MANIFEST, (f"{PUBLIC}/p2p/{ME}",), complete=True))
        await trio.sleep(300)
    pauses = [later - earlier - seconds for earlier, later in pairwise(moments)]
    assert len(pauses) > 10
    assert max(pauses) <= (FIRST_PAUSE if seconds > REGISTERED_PAUSE else REGISTERED_PAUSE) + 0.01


async def test_the_pauses_after_failures_grow_and_a_refusal_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def full(link: Link, stream: MemoryLink) -> None:
        await read_message(stream, limits.MAX_REQUEST_BYTES)
        link.asked.append((trio.current_time(), Discover(SPACE)))
        refusal = RegisterResponse(RendezvousStatus.UNAVAILABLE, "no room")
        await write_message(stream, encode_rendezvous(refusal))
        await trio.sleep_forever()

    async with meeting(PUBLIC, full) as (point, link):
        point.announce(Announcement(MANIFEST, (f"{PUBLIC}/p2p/{ME}",), complete=True))
        await trio.sleep(600)
        moments = [at for at, _ in link.asked]
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert pauses[0] < 1
    assert 40 < pauses[-1] <= 60
    assert len(link.said) == 1
    assert "no room" in link.said[0]


async def test_who_looks_for_peers_finds_them_when_the_meeting_point_is_reached_at_last(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A machine that begins without a network, or moves to another one."""
    record = seal_record(KEY, [PUBLIC], 1)
    async with meeting(PUBLIC, serving(Register(SPACE, record, 100))) as (point, link):
        link.unreachable = 3
        assert (await first_of(point)).peer == open_record(record).peer
        assert link.connects == 4


async def test_a_server_that_is_no_relay_keeps_the_node_registered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Peers are found there all the same; a place is asked for again, for it may only have been slow."""
    record = seal_record(bytes(range(1, 33)), [PUBLIC], 1)
    async with meeting(PUBLIC, serving(Register(SPACE, record, 100))) as (point, link):
        link.relays = False
        point.announce(Announcement(MANIFEST, (f"{PUBLIC}/p2p/{ME}",), complete=True))
        assert (await first_of(point)).peer == open_record(record).peer
        await trio.sleep(10 * LONGEST_PAUSE)
        assert link.connects == len(link.registered) == 1
        assert link.said == []
        link.relays = True
        await trio.sleep(LONGEST_PAUSE)
        pauses = [later - earlier for earlier, later in pairwise(link.places_asked)]
        assert len(pauses) > 5
        assert min(pauses) >= LONGEST_PAUSE * limits.RESERVATION_RENEWED
        asked = len(link.places_asked)
        # The place that it gave in the end lasts.
        await trio.sleep(10 * LONGEST_PAUSE)
        assert len(link.places_asked) == asked


async def test_what_changes_nothing_that_the_server_may_see_is_not_told_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with meeting(PUBLIC, serving()) as (point, link):
        for addresses in ((PUBLIC,), (PUBLIC, PRIVATE), (PUBLIC,), (PUBLIC, LOOPBACK)):
            point.announce(
                Announcement(MANIFEST, tuple(f"{each}/p2p/{ME}" for each in addresses), complete=True)
            )
            await trio.sleep(5)
        assert len(link.registered) == 1
        point.announce(Announcement(MANIFEST, (f"{OTHER_PUBLIC}/p2p/{ME}",), complete=True))
        await trio.sleep(5)
        assert [open_record(each.record).addresses for each in link.registered] == [
            (PUBLIC,),
            (OTHER_PUBLIC,),
        ]
        # It is renewed all the same.
        await trio.sleep(limits.REFRESH_SECONDS)
        assert len(link.registered) == 3


def served_by(service: RendezvousService, visitor: PeerId, floods: list[str]) -> Serve:
    """The meeting point itself, which ``visitor`` has come to; ``floods`` are those that it ended."""

    async def serve(_link: Link, stream: MemoryLink) -> None:
        stream.peer, stream.remote_address = visitor, "/ip4/5.5.5.7/tcp/31234"
        try:
            await service(stream)
        except RemoteError as error:
            floods.append(str(error))
            await stream.reset()

    return serve


def shares_of(count: int) -> list[ManifestId]:
    return [ManifestId(number.to_bytes(32, "big")) for number in range(count)]


def host(number: int) -> str:
    return f"/ip4/5.5.5.{number}/tcp/4001"


def be_at(point: MeetingPoint, shares: list[ManifestId], where: str) -> None:
    for each in shares:
        point.announce(Announcement(each, (f"{where}/p2p/{ME}",), complete=True))


@pytest.mark.parametrize(("shares", "moves"), [(400, 2), (200, 5)])
async def test_a_node_with_hundreds_of_shares_stays_registered_while_its_addresses_change(
    autojump_clock: trio.testing.MockClock, shares: int, moves: int
) -> None:
    service = RendezvousService()
    floods: list[str] = []
    manifests = shares_of(shares)
    async with meeting(PUBLIC, served_by(service, OWNER, floods)) as (point, _):
        for move in range(moves + 1):
            be_at(point, manifests, host(7 + move))
            await trio.sleep(5 if moves == 2 else 1.5)
        for manifest in manifests[:10]:
            point.withdraw(manifest)
        await trio.sleep(60)
        assert floods == []
        assert len(service.registry) == shares - 10
        newest = open_record(service.registry.record_of(OWNER) or b"")
        assert newest.addresses == (Endpoint.parse(host(7 + moves)),)


async def told_of(seeker: MeetingPoint, manifest: ManifestId, heard: dict[ManifestId, list[str]]) -> None:
    """Keep for ever what the seeker hears of the share: the first address of each record."""
    async with aclosing(seeker.peers(manifest)) as peers:
        async for found in peers:
            heard.setdefault(manifest, []).append(found.addresses[0])


async def test_who_looks_for_any_share_is_told_of_a_new_address_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A meeting point has one record of a peer: the first registration must not hide the news of the rest."""
    service = RendezvousService()
    floods: list[str] = []
    manifests = shares_of(5)
    heard: dict[ManifestId, list[str]] = {}
    async with (
        meeting(PUBLIC, served_by(service, OWNER, floods)) as (point, _),
        meeting(PUBLIC, served_by(service, OTHER, floods)) as (seeker, _),
        trio.open_nursery() as nursery,
    ):
        be_at(point, manifests, host(7))
        for each in manifests:
            nursery.start_soon(told_of, seeker, each, heard)
        await trio.sleep(5)
        assert heard == {each: [host(7)] for each in manifests}
        be_at(point, manifests, host(8))
        await trio.sleep(1)
        assert heard == {each: [host(7), host(8)] for each in manifests}
        assert floods == []
        nursery.cancel_scope.cancel()


async def test_who_heard_of_a_passing_address_is_told_when_the_old_one_is_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also about shares that were not registered meanwhile, there being too many: they have one record."""
    service = RendezvousService()
    floods: list[str] = []
    manifests = shares_of(400)
    heard: dict[ManifestId, list[str]] = {}
    async with (
        meeting(PUBLIC, served_by(service, OWNER, floods)) as (point, _),
        meeting(PUBLIC, served_by(service, OTHER, floods)) as (seeker, _),
        trio.open_nursery() as nursery,
    ):
        be_at(point, manifests, host(7))
        await trio.sleep(60)
        be_at(point, manifests, host(8))
        await trio.sleep(1)
        looked_for = manifests[::40]
        for each in looked_for:
            nursery.start_soon(told_of, seeker, each, heard)
        await trio.sleep(1)
        assert heard == {each: [host(8)] for each in looked_for}
        be_at(point, manifests, host(7))
        await trio.sleep(60)
        assert heard == {each: [host(8), host(7)] for each in looked_for}
        assert floods == []
        nursery.cancel_scope.cancel()


async def test_each_share_is_told_of_new_addresses_in_time_while_they_change_again_and_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Changes that come faster than all shares can be registered leave none of them behind."""
    manifests = shares_of(400)
    moved_at: dict[str, float] = {}
    async with meeting(PUBLIC, serving()) as (point, link):
        for number in range(100):
            moved_at[host(number)] = trio.current_time()
            be_at(point, manifests, host(number))
            await trio.sleep(5)
        told = {each.namespace: str(open_record(each.record).addresses[0]) for each in link.registered}
        assert len(told) == len(manifests)
        oldest = min(moved_at[where] for where in told.values())
        assert trio.current_time() - oldest < len(manifests) / limits.REGISTERS_RATE + 10


async def test_registrations_are_sent_no_faster_after_their_stream_has_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The server counts the messages of a peer, not those of a stream."""

    async def forgetful(link: Link, stream: MemoryLink) -> None:
        with trio.move_on_after(1):
            await serving()(link, stream)
        await stream.reset()

    async with meeting(PUBLIC, forgetful) as (point, link):
        for number in range(200):
            where = (f"{PUBLIC}/p2p/{ME}",)
            point.announce(Announcement(ManifestId(number.to_bytes(32, "big")), where, complete=True))
        await trio.sleep(60)
        assert link.connects > 10
        assert 300 < len(link.registered) <= limits.REGISTERS_BURST + 60 * limits.REGISTERS_RATE
