"""Finding and dialling peers for one exchange, over a network in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from swarm.config import TransferOptions
from swarm.discovery.named_peers import NamedPeers
from swarm.endpoint import Endpoint, PeerAddress
from swarm.errors import LinkClosed, NoPeerReachable
from swarm.events import (
    Event,
    PeerConnected,
    PeerDialing,
    PeerDisconnected,
    PeerFailed,
    PeersAwaited,
    SourceBanned,
)
from swarm.ids import ManifestId, PeerId
from swarm.ports import Announcement, ByteStream, FoundPeer, PeerSource
from swarm.protocol.messages import Goodbye, HaveAll, HaveNone, Request, Unchoke
from swarm.storage.memory_store import MemoryStore
from swarm.transfer.connector import EXCHANGE_PROTOCOL, LACK_SECONDS, MAX_FAILURES, PeerConnector
from swarm.transfer.give_up import Contact, GiveUpTimer
from swarm.transfer.session import SessionOrigin
from tests.support.contents import file_manifest
from tests.support.exchanges import TRANSFER, Member, SilentNetwork
from tests.support.memory_link import memory_link_pair
from tests.support.raw_peer import RawPeer

ME = PeerId("M" * 40)
A, B, C = (PeerId(name * 40) for name in "ABC")
DATA = random.Random(4).randbytes(10 * 16384)
MANIFEST = file_manifest("file", DATA)
ADDRESS = "/ip4/192.0.2.1/tcp/1"


def at(peer: PeerId, *addresses: str) -> PeerSource:
    where = addresses or (ADDRESS,)
    return NamedPeers(PeerAddress(peer, Endpoint.parse(text)) for text in where)


class Network(SilentNetwork):
    """A network on which some peers can be reached, each at one address, and serve in one way."""

    def __init__(self, me: PeerId) -> None:
        super().__init__(me)
        self.there: dict[PeerId, tuple[str, Callable]] = {}
        self.open_now = self.most_open = 0
        self.slow = 0.0
        self.nursery: trio.Nursery

    async def connect(self, peer: PeerId, where: Sequence[Endpoint]) -> str:
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            await trio.sleep(self.slow)
            addresses = tuple(map(str, where))
            self.tried.append((peer, addresses))
            if peer not in self.there or self.there[peer][0] not in addresses:
                raise NoPeerReachable(f"{where[0]}: connection refused")
            return self.there[peer][0]
        finally:
            self.open_now -= 1

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        assert protocol == EXCHANGE_PROTOCOL
        ours, theirs = memory_link_pair(ME, peer)
        self.nursery.start_soon(_served, self.there[peer][1], RawPeer(theirs, MANIFEST))
        await trio.lowlevel.checkpoint()
        return ours

    def dials(self, peer: PeerId) -> int:
        return sum(tried == peer for tried, _ in self.tried)


async def _served(serve: Callable, peer: RawPeer) -> None:
    try:
        await serve(peer)
    except LinkClosed:
        return


async def has_all(peer: RawPeer) -> None:
    """Answers every request."""
    await peer.greet(HaveAll())
    await peer.say(Unchoke())
    while True:
        message, _ = await peer.hear()
        if isinstance(message, Request):
            await peer.send_piece(message.piece, DATA[message.piece * 16384 :][:16384])


async def has_none(peer: RawPeer) -> None:
    await peer.greet(HaveNone())
    await peer.hear_to_the_end()


async def refuses(peer: RawPeer) -> None:
    await peer.hear()
    await peer.say(Goodbye("that manifest is not here"))
    await peer.hear_to_the_end()


class Connecting:
    """A connector over `Network`, and what was told about it."""

    def __init__(self, store: MemoryStore, options: TransferOptions | None = None) -> None:
        network = Network(ME)
        self.member = Member(ME, store, options, network=network, addresses=("/ip4/10.0.0.1/tcp/1",))
        self.network = network
        self.timer = GiveUpTimer(120, trio.current_time())
        self.exchange = self.member.exchange
        self.book = self.member.book
        self.connector = PeerConnector(
            self.member.services, self.member.record, self.exchange, self.book, self.timer
        )
        self.subscription = self.member.events.subscribe()
        self.scope = trio.CancelScope()
        self.nursery: trio.Nursery

    async def run(self, sources: Sequence[PeerSource]) -> None:
        with self.scope:
            await self.connector.run(MANIFEST.id, [*sources, self.exchange.discovered])

    def peers(self) -> set[PeerId]:
        return {status.peer for status in self.exchange.peers()}

    async def told(self, *kinds: type[Event]) -> list:
        """The events of these kinds so far; there are none afterwards."""
        self.member.events.close()
        return [event async for event in self.subscription if isinstance(event, kinds)]


@asynccontextmanager
async def connecting(
    *sources: PeerSource, have: bool = False, options: TransferOptions | None = None, **there: Callable
) -> AsyncIterator[Connecting]:
    """``there`` are the peers that can be reached at `ADDRESS`, by the letter of their id."""
    async with trio.open_nursery() as nursery:
        made = Connecting(MemoryStore(MANIFEST, DATA if have else None), options)
        made.nursery = made.network.nursery = nursery
        made.network.there = {PeerId(name * 40): (ADDRESS, serve) for name, serve in there.items()}
        nursery.start_soon(made.exchange.run)
        nursery.start_soon(made.run, sources)
        yield made
        made.scope.cancel()
        await made.exchange.stop("the transfer ended")
        nursery.cancel_scope.cancel()
    assert made.member.nothing_is_held()


# --- Dialling -------------------------------------------------------------------------------------


async def test_a_named_peer_is_dialled_at_all_its_addresses_and_exchanges(autojump_clock):
    async with connecting(at(A, "/ip4/192.0.2.9/tcp/9", ADDRESS), A=has_all) as made:
        with trio.fail_after(5):
            await made.exchange.complete.wait()
        assert made.network.tried == [(A, ("/ip4/192.0.2.9/tcp/9", ADDRESS))]
        assert made.timer.met_somebody
        assert made.connector.failures.by_peer() == {}
        assert made.member.network.proven_peers == {A}
    dialling, connected = await made.told(PeerDialing, PeerConnected)
    assert dialling == PeerDialing(TRANSFER, A, "/ip4/192.0.2.9/tcp/9", "named by the user, not tried yet")
    assert connected == PeerConnected(TRANSFER, A, ADDRESS, inbound=False)


async def test_a_peer_that_cannot_be_reached_is_tried_again_and_again(autojump_clock):
    async with connecting(at(A)) as made:
        await trio.sleep(60)
        tries = made.network.dials(A)
        assert 8 <= tries <= 20, "named peers are dialled every eight seconds at least"
        assert made.connector.failures.by_peer() == {A: f"{ADDRESS}: connection refused"}
        assert not made.timer.met_somebody
        made.network.there[A] = (ADDRESS, has_all)
        with trio.fail_after(10):
            await made.exchange.complete.wait()
        assert made.network.dials(A) == tries + 1
        assert made.connector.failures.by_peer() == {A: f"{ADDRESS}: connection refused"}
        await made.exchange.stop("enough")
        assert made.connector.failures.by_peer() == {}, "a session that was joined ends the failure"
    told = await made.told(PeerFailed)
    assert {(e.peer, e.reason) for e in told} == {(A, f"{ADDRESS}: connection refused")}
    assert all(0 < e.retry_in <= 8 for e in told)


async def test_a_refusal_is_remembered_until_the_peer_exchanges(autojump_clock):
    async with connecting(at(A), A=refuses) as made:
        await trio.sleep(0.5)
        assert made.connector.failures.by_peer() == {A: f"{A}: the peer left: that manifest is not here"}
        assert made.timer.met_somebody, "a stream was opened"
        assert made.network.dials(A) >= 1
        made.network.there[A] = (ADDRESS, has_all)
        with trio.fail_after(20):
            await made.exchange.complete.wait()
        await made.exchange.stop("enough")
        assert made.connector.failures.by_peer() == {}


async def test_the_answer_of_a_stranger_is_none_when_the_user_named_peers(autojump_clock):
    for named, contact, reason in (
        ((at(A),), Contact.NONE, f"{ADDRESS}: connection refused"),
        ((), Contact.ANSWERED, f"{B}: the peer left: that manifest is not here"),
    ):
        finding = Finding()
        finding.find(B)
        async with connecting(*named, finding, B=refuses) as made:
            await trio.sleep(3)
            assert {A, B} >= set(made.connector.failures.by_peer()) >= {B}
            assert made.connector.contact is contact
            assert made.connector.failures.most_telling() == reason
        (awaited,) = await made.told(PeersAwaited)
        assert awaited.reason == reason


async def test_that_the_connected_peers_have_nothing_of_what_is_missing_is_said_once(autojump_clock):
    async with connecting(at(A), A=has_none) as made:
        await trio.sleep(60)
    (awaited,) = await made.told(PeersAwaited)
    count = MANIFEST.piece_count
    assert awaited.reason == f"the only connected peer lacks {count} pieces: 0-{count - 1}"
    assert 120 - 2 * LACK_SECONDS <= awaited.seconds <= 120 - LACK_SECONDS


async def test_who_has_pieces_and_sends_none_yet_does_not_lack_them(autojump_clock):
    async def chokes(peer: RawPeer) -> None:
        await peer.greet(HaveAll())
        await peer.hear_to_the_end()

    async with connecting(at(A), at(B), A=has_none, B=chokes) as made:
        await trio.sleep(60)
    assert await made.told(PeersAwaited) == []


async def test_a_session_that_ends_frees_the_peer_for_another_dial(autojump_clock):
    async def leaves_soon(peer: RawPeer) -> None:
        await peer.greet(HaveNone())
        await trio.sleep(1)
        await peer.say(Goodbye("see you"))
        await peer.hear_to_the_end()

    async with connecting(at(A), A=leaves_soon) as made:
        await trio.sleep(30)
        assert made.network.dials(A) >= 4
        assert set(made.member.node.closed) == {A}, "the node is told of every end"
        ends = [e for e in await made.told(PeerDisconnected) if e.peer == A]
        assert {e.reason for e in ends} == {"the peer left: see you"}
        assert abs(len(made.member.node.closed) - len(ends)) <= 1


async def test_a_bug_in_a_session_costs_that_session_alone(autojump_clock):
    async with connecting(at(A), at(B), A=has_none, B=has_none) as made:
        joined = made.exchange.participant_joined

        def broken(participant, hello) -> None:
            if participant.peer == A:
                raise KeyError("a bug")
            joined(participant, hello)

        made.exchange.participant_joined = broken
        await trio.sleep(3)
        assert made.peers() == {B}
        assert "KeyError" in made.connector.failures.by_peer()[A]
        assert not made.exchange.has_session(A)


async def test_few_peers_are_dialled_at_the_same_time(autojump_clock):
    sources = [at(PeerId(f"{number:02}" * 20)) for number in range(10, 60)]
    async with connecting(*sources) as made:
        made.network.slow = 5.0
        await trio.sleep(4)
        assert made.network.most_open == 8
        await trio.sleep(60)
        assert made.network.most_open == 8
        assert len({peer for peer, _ in made.network.tried}) == 50


async def test_reasons_are_kept_of_so_many_peers_and_no_more(autojump_clock):
    sources = [at(PeerId(f"{number:040}")) for number in range(MAX_FAILURES + 50)]
    async with connecting(*sources, options=TransferOptions(max_peers=1000)) as made:
        await trio.sleep(5)
        assert len(made.connector.failures.by_peer()) == MAX_FAILURES


async def test_what_is_being_dialled_is_said(autojump_clock):
    async with connecting(at(A), A=has_none) as made:
        made.network.slow = 2.0
        await trio.sleep(1)
        assert made.connector.is_dialling(A)
        await trio.sleep(2)
        assert not made.connector.is_dialling(A) or made.exchange.has_session(A)
        assert made.peers() == {A}


# --- Whom to dial ---------------------------------------------------------------------------------


class Finding:
    """A source that finds peers when it is told to, and notes what it is told."""

    provenance = "tracker"

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[FoundPeer](100)
        self.told: list[object] = []

    def find(self, peer: PeerId, *addresses: str, told_by: PeerId | None = None) -> None:
        self.send.send_nowait(FoundPeer(peer, addresses or (ADDRESS,), told_by))

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        assert manifest == MANIFEST.id
        async for found in self.receive:
            yield found

    def announce(self, announcement: Announcement) -> None:
        self.told.append(announcement)

    def withdraw(self, manifest: ManifestId) -> None:
        self.told.append(manifest)


async def test_peers_are_dialled_as_they_are_found_and_the_banned_are_not(autojump_clock):
    finding = Finding()
    async with connecting(finding, A=has_none, B=has_none) as made:
        made.member.node.banned.add(B)
        await trio.sleep(5)
        assert made.network.tried == []
        finding.find(B)
        finding.find(A)
        await trio.sleep(1)
        assert made.peers() == {A}
        assert made.network.dials(B) == 0
        assert B not in made.book
        why = [e.why for e in await made.told(PeerDialing)]
        assert why == ["found by tracker, not tried yet"]


async def test_an_address_that_cannot_be_dialled_costs_nothing_but_its_peer(autojump_clock):
    finding = Finding()
    async with connecting(finding, A=has_none) as made:
        finding.find(B, "/ip4/192.0.2.1/udp/1/quic-v1", "nonsense")
        finding.find(A, "nonsense", ADDRESS)
        await trio.sleep(1)
        assert made.peers() == {A}
        assert (A, (ADDRESS,)) in made.network.tried


async def test_strangers_are_dialled_only_while_pieces_are_missing(autojump_clock):
    finding = Finding()
    async with connecting(finding, at(A), have=True, A=has_none, B=has_none) as made:
        finding.find(B)
        await trio.sleep(20)
        assert made.peers() == {A}, "the one that the user named"
        assert made.network.dials(B) == 0


async def test_a_peer_that_a_session_names_is_dialled(autojump_clock):
    from swarm.protocol.messages import ExchangedPeer, Peers

    async def gossips(peer: RawPeer) -> None:
        await peer.greet(HaveNone())
        await peer.say(Peers((ExchangedPeer(B, (ADDRESS,)),), ()))
        await peer.hear_to_the_end()

    async with connecting(at(A), A=gossips, B=has_all) as made:
        with trio.fail_after(5):
            await made.exchange.complete.wait()
        assert made.peers() == {A, B}


async def test_a_peer_that_is_banned_meanwhile_is_not_dialled_again(autojump_clock):
    async def lies(peer: RawPeer) -> None:
        await peer.greet(HaveAll())
        await peer.say(Unchoke())
        while True:
            message, _ = await peer.hear()
            if isinstance(message, Request):
                await peer.send_piece(message.piece, bytes(16384))

    async with connecting(at(A), A=lies) as made:
        made.member.node.on_ban = made.book.forget
        await trio.sleep(60)
        assert made.network.dials(A) == 1
        assert made.peers() == set()
        assert A not in made.book
        assert [e.source for e in await made.told(SourceBanned)] == [A]


async def test_a_source_that_fails_costs_nothing_but_its_own_peers(autojump_clock, caplog):
    class Broken(Finding):
        async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
            yield FoundPeer(B, (ADDRESS,))
            raise KeyError("a bug")

        def announce(self, announcement: Announcement) -> None:
            raise KeyError("another bug")

        withdraw = announce

    async with connecting(Broken(), at(A), A=has_all, B=has_none) as made:
        with trio.fail_after(5):
            await made.exchange.complete.wait()
        await trio.sleep(1)
        assert made.peers() == {A, B}
    assert "tracker" in caplog.text


# --- What sources are told ------------------------------------------------------------------------


async def test_a_source_is_told_of_the_beginning_the_completion_and_the_end(autojump_clock):
    finding = Finding()
    mine = (f"/ip4/10.0.0.1/tcp/1/p2p/{ME}",)
    async with connecting(finding, A=has_all) as made:
        await trio.sleep(1)
        assert finding.told == [Announcement(MANIFEST.id, mine, complete=False)]
        finding.find(A)
        with trio.fail_after(5):
            await made.exchange.complete.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert finding.told[1:] == [Announcement(MANIFEST.id, mine, complete=True)]
    assert finding.told[2:] == [MANIFEST.id]


async def test_of_what_is_complete_from_the_start_a_source_is_told_once(autojump_clock):
    finding = Finding()
    async with connecting(finding, have=True):
        await trio.sleep(1)
        assert [told.complete for told in finding.told] == [True]
    assert finding.told[1:] == [MANIFEST.id]


async def test_what_changes_as_soon_as_a_source_was_told_is_told_as_well(autojump_clock):
    moved = (f"/ip4/10.0.0.2/tcp/1/p2p/{ME}",)

    class Changing(Finding):
        """As soon as it was told for the first time the addresses change, and the content is complete."""

        def announce(self, announcement: Announcement) -> None:
            super().announce(announcement)
            if len(self.told) == 1:
                made.member.services.addresses.become(moved)
                made.exchange.complete.set()

    changing = Changing()
    async with connecting(changing) as made:
        await trio.sleep(1)
        first, *later = changing.told
        assert not first.complete
        assert later == [Announcement(MANIFEST.id, moved, complete=True)] * 2


# --- Streams that peers open, and pauses ----------------------------------------------------------


async def test_a_stream_that_a_peer_opens_is_exchanged_over(autojump_clock):
    async with connecting() as made:
        ours, theirs = memory_link_pair(ME, C, left_address="/ip4/192.0.2.7/tcp/51234")
        made.nursery.start_soon(made.connector.accept, ours, SessionOrigin(inbound=True))
        made.nursery.start_soon(_served, has_all, RawPeer(theirs, MANIFEST))
        with trio.fail_after(5):
            await made.exchange.complete.wait()
        assert made.timer.met_somebody
        assert made.network.tried == [], "it is connected already"
        assert [(status.peer, status.inbound) for status in made.exchange.peers()] == [(C, True)]
    assert made.member.node.closed == [C]


async def test_while_paused_nobody_is_dialled(autojump_clock):
    async with connecting(at(A), A=has_none) as made:
        await trio.sleep(1)
        assert made.peers() == {A}
        made.connector.pause()
        await made.exchange.pause()
        await trio.sleep(60)
        assert made.network.dials(A) == 1
        assert made.peers() == set()
        made.exchange.unpause()
        made.connector.unpause()
        await trio.sleep(1)
        assert made.peers() == {A}
        assert made.network.dials(A) == 2


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5])
async def test_cancelling_it_anywhere_leaves_nothing_behind(autojump_clock, seconds):
    finding = Finding()
    async with connecting(finding, at(A), at(B), A=has_all) as made:
        made.network.slow = 1.0
        await trio.sleep(seconds)
        made.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert not made.exchange.has_session(A)
        assert not made.connector.is_dialling(A)
        assert finding.told[-1] == MANIFEST.id or seconds == 0.0


async def test_a_session_that_is_cancelled_is_no_failure_of_the_peers(autojump_clock):
    async with connecting(at(A), A=has_none) as made:
        await trio.sleep(1)
        assert made.peers() == {A}
        made.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert made.connector.failures.by_peer() == {}
    assert await made.told(PeersAwaited) == []
