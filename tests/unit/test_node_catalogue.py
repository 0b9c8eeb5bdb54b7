"""What a peer offers and a manifest by its id, over streams in memory; and the search for one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import TypeVar

import pytest
import trio
import trio.testing

from swarm.content.envelope import MAX_ENVELOPE_BYTES, Envelope
from swarm.content.signature import sign
from swarm.content.times import FileTimes
from swarm.discovery.named_peers import NamedPeers
from swarm.endpoint import Endpoint, PeerAddress
from swarm.errors import (
    Incomplete,
    LinkClosed,
    ManifestError,
    NoPeerReachable,
    RemoteError,
    SwarmError,
    UsageError,
)
from swarm.ids import ManifestId, PeerId
from swarm.node.catalogue import (
    MANIFEST_PROTOCOL,
    QUESTIONS_PER_PEER,
    Catalogue,
    Questions,
    ask_adverts,
    ask_manifest,
    ask_tree_times,
    same_machine,
)
from swarm.node.manifest_search import FIRST_PAUSE, NOBODY_YET, find_manifest, obtain
from swarm.ports import ByteStream, FoundPeer, PeerSource
from swarm.protocol import protocol_limits as limits
from swarm.protocol.advert import Advert, encode_length
from tests.support.contents import file_manifest
from tests.support.memory_link import memory_link_pair

T = TypeVar("T")
KEY = bytes(range(32))
MANIFEST = file_manifest("file.bin", bytes(100_000))
ENVELOPE = Envelope(MANIFEST, sign(KEY, MANIFEST.encode()))
OTHER = file_manifest("other.bin", b"other")
ADVERT = Advert(MANIFEST.id, "file.bin", 100_000, MANIFEST.piece_count, MANIFEST.piece_length, 3)


def catalogue() -> Catalogue:
    known = {MANIFEST.id: ENVELOPE}
    return Catalogue(lambda _: [ADVERT], known.get)


def test_what_comes_from_this_machine() -> None:
    own = [
        "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW",
        "/ip4/192.168.1.7/tcp/4001/p2p/12D3KooW",
        "/dns4/a.b/tcp/1",
    ]
    assert same_machine("/ip4/127.0.0.1/tcp/50000", ())
    assert same_machine("/ip6/::1/tcp/50000", ())
    assert same_machine("/ip4/192.168.1.7/tcp/50000", own)
    assert not same_machine("/ip4/192.168.1.8/tcp/50000", own)
    assert not same_machine("", own)
    # A relay on this machine says nothing of who is behind it.
    assert not same_machine("/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW/p2p-circuit", own)


async def between(
    serve: Callable[[ByteStream], Awaitable[None]],
    ask: Callable[[ByteStream], Awaitable[T]],
    *,
    deadline: float = 5,
) -> T:
    here, there = memory_link_pair(PeerId("here"), PeerId("there"))
    with trio.fail_after(deadline):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, there)
            answer = await ask(here)
            nursery.cancel_scope.cancel()
    return answer


async def test_a_peer_says_what_it_offers() -> None:
    assert await between(catalogue().advertise, ask_adverts) == (ADVERT,)


async def test_a_manifest_comes_with_its_signature() -> None:
    envelope = await between(catalogue().manifest, lambda link: ask_manifest(link, MANIFEST.id))
    assert envelope == ENVELOPE
    assert envelope.signer == ENVELOPE.signer


async def test_an_unknown_manifest_is_none() -> None:
    assert await between(catalogue().manifest, lambda link: ask_manifest(link, OTHER.id)) is None


@pytest.mark.parametrize(
    "answer",
    [
        encode_length(len(Envelope(OTHER).to_bytes())) + Envelope(OTHER).to_bytes(),
        encode_length(5) + b"12345",
        encode_length(MAX_ENVELOPE_BYTES + 1),
    ],
    ids=["another manifest", "garbage", "too long"],
)
async def test_a_wrong_manifest_is_the_peers_fault(answer: bytes) -> None:
    async def lie(link: ByteStream) -> None:
        await link.read_exactly(32)
        await link.write(answer)

    async def expect_blame(link: ByteStream) -> None:
        with pytest.raises(RemoteError):
            await ask_manifest(link, MANIFEST.id)

    await between(lie, expect_blame)


async def test_a_silent_peer_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(link: ByteStream) -> None:
        await trio.sleep_forever()

    async def give_up(link: ByteStream) -> None:
        with pytest.raises(LinkClosed):
            await ask_adverts(link)
        with pytest.raises(LinkClosed):
            await ask_manifest(link, MANIFEST.id)

    await between(silent, give_up, deadline=2.5 * limits.ANSWER_TIMEOUT)


async def test_who_does_not_read_the_answer_is_dropped(mock_clock: trio.testing.MockClock) -> None:
    large = Envelope(file_manifest("large", bytes(40_000_000)))
    here, there = memory_link_pair(PeerId("here"), PeerId("there"), window=1024)
    await here.write(large.manifest.id.digest)

    async def answer() -> None:
        with pytest.raises(LinkClosed):
            await Catalogue(lambda _: [], {large.manifest.id: large}.get).manifest(there)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await here.read_exactly(1)
        # A thread has made the answer. Time must not pass before: to the clock, a thread looks like idling.
        mock_clock.autojump_threshold = 0
        nursery.cancel_scope.deadline = trio.current_time() + 2.5 * limits.ANSWER_TIMEOUT
    assert not nursery.cancel_scope.cancelled_caught


# --- Asking -----------------------------------------------------------------------------------------


async def test_a_peer_is_asked_few_questions_at_a_time_and_is_in_use_meanwhile() -> None:
    network = Peers(a=late, b=late)
    questions = Questions(network, network.banned.__contains__, lambda _: None)
    open_now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def ask(peer: PeerId) -> None:
        async with questions.ask(peer, [ENDPOINT], MANIFEST_PROTOCOL):
            open_now[peer] += 1
            most[peer] = max(most[peer], open_now[peer])
            assert questions.asking(peer)
            await trio.testing.wait_all_tasks_blocked()
            open_now[peer] -= 1

    async with trio.open_nursery() as network.nursery:
        async with trio.open_nursery() as asking:
            for _ in range(3 * QUESTIONS_PER_PEER):
                for peer in ("a", "b"):
                    asking.start_soon(ask, PeerId(peer))
        network.nursery.cancel_scope.cancel()
    assert most == {"a": QUESTIONS_PER_PEER, "b": QUESTIONS_PER_PEER}
    assert not questions.asking(PeerId("a"))


async def test_a_question_that_cannot_be_asked_leaves_nothing_behind() -> None:
    questions = Questions(Peers(a="connection refused"), lambda _: False, lambda _: None)
    with pytest.raises(NoPeerReachable, match="connection refused"):
        async with questions.ask(PeerId("a"), [ENDPOINT], MANIFEST_PROTOCOL):
            pytest.fail("there is nobody to ask")
    assert not questions.asking(PeerId("a"))


# --- Finding a manifest ---------------------------------------------------------------------------

ENDPOINT = Endpoint.parse("/ip4/192.0.2.1/tcp/1")


class Peers:
    """A `swarm.ports.Network` of peers that each serve manifests in one way, or cannot be reached."""

    peer_id = PeerId("here")

    def __init__(self, **serving: Callable[[ByteStream], Awaitable[None]] | str) -> None:
        self.serving = serving
        self.nursery: trio.Nursery
        self.banned: set[PeerId] = set()
        self.asked: list[str] = []

    async def connect(self, peer: PeerId, where: Sequence[Endpoint]) -> str:
        await trio.lowlevel.checkpoint()
        if isinstance(self.serving[peer], str):
            raise NoPeerReachable(f"{where[0]}: {self.serving[peer]}")
        return str(where[0])

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        if protocol != MANIFEST_PROTOCOL:
            await trio.lowlevel.checkpoint()
            raise LinkClosed("these peers are older than the other protocol")
        self.asked.append(peer)
        here, there = memory_link_pair(self.peer_id, peer)
        serve = self.serving[peer]
        assert not isinstance(serve, str)
        self.nursery.start_soon(self._served, serve, there)
        await trio.lowlevel.checkpoint()
        return here

    @staticmethod
    async def _served(serve: Callable[[ByteStream], Awaitable[None]], stream: ByteStream) -> None:
        """As the host does: whoever has what he wanted may end the stream before the answer is closed."""
        with suppress(LinkClosed):
            await serve(stream)

    async def find(self, *, trusted: Collection[PeerId] = ()) -> Envelope:
        named = NamedPeers(PeerAddress(PeerId(name), ENDPOINT) for name in self.serving)
        sources = [named] if self.serving else []
        async with trio.open_nursery() as self.nursery:
            found: Envelope | SwarmError
            try:
                found = await find_manifest(
                    Questions(self, self.banned.__contains__, lambda _: None), MANIFEST.id, sources, trusted
                )
            except SwarmError as error:
                found = error
            self.nursery.cancel_scope.cancel()
        if isinstance(found, SwarmError):
            raise found
        return found


async def late(link: ByteStream) -> None:
    await trio.sleep_forever()


async def nothing_here(link: ByteStream) -> None:
    await Catalogue(lambda _: [], {}.get).manifest(link)


async def lying(link: ByteStream) -> None:
    await Catalogue(lambda _: [], lambda _: Envelope(OTHER)).manifest(link)


async def unsigned(link: ByteStream) -> None:
    await Catalogue(lambda _: [], {MANIFEST.id: Envelope(MANIFEST)}.get).manifest(link)


async def honest(link: ByteStream) -> None:
    await catalogue().manifest(link)


async def test_the_first_right_answer_wins_and_nobody_else_is_waited_for() -> None:
    peers = Peers(late=late, gone="connection refused", empty=nothing_here, liar=lying, good=honest)
    with trio.fail_after(limits.ANSWER_TIMEOUT / 2):
        assert await peers.find() == ENVELOPE
    assert set(peers.asked) <= {"late", "empty", "liar", "good"}


async def test_a_manifest_without_a_trusted_signature_is_not_taken() -> None:
    assert ENVELOPE.signer is not None
    peers = Peers(first=unsigned, second=honest)
    assert (await peers.find(trusted=[ENVELOPE.signer])).signer == ENVELOPE.signer
    with pytest.raises(ManifestError):
        await Peers(first=unsigned, gone="refused").find(trusted=[ENVELOPE.signer])


@pytest.mark.parametrize(
    ("serving", "error", "words"),
    [
        ({"a": "connection refused", "b": "no route"}, NoPeerReachable, "no peer could be reached: "),
        ({"a": "connection refused", "b": nothing_here}, Incomplete, "b does not have it"),
        ({"a": "connection refused", "b": lying}, Incomplete, "is not to be used"),
    ],
)
async def test_the_most_telling_failure_is_told(
    serving: dict[str, Callable[[ByteStream], Awaitable[None]] | str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await Peers(**serving).find()


async def test_a_banned_peer_is_not_asked() -> None:
    peers = Peers(good=honest)
    peers.banned.add(PeerId("good"))
    with pytest.raises(NoPeerReachable):
        await peers.find()
    assert peers.asked == []


class Growing:
    """A source that finds its peers one after the other, and does not say that there are no more."""

    provenance = "growing"

    def __init__(self, *names: str) -> None:
        self.names = names

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        for name in self.names:
            await trio.sleep(0.01)
            yield FoundPeer(PeerId(name), (str(ENDPOINT),))
            yield FoundPeer(PeerId(name), ("/ip4/192.0.2.1/udp/1",))
        await trio.sleep_forever()


async def test_peers_that_a_source_finds_later_are_asked_until_patience_ends() -> None:
    network = Peers(gone="connection refused", good=honest)
    async with trio.open_nursery() as network.nursery:
        questions = Questions(network, lambda _: False, lambda _: None)
        sources = [NamedPeers([PeerAddress(PeerId("gone"), ENDPOINT)]), Growing("gone", "good")]
        assert await find_manifest(questions, MANIFEST.id, sources, (), 30) == ENVELOPE
        with pytest.raises(NoPeerReachable, match="connection refused"):
            await find_manifest(questions, MANIFEST.id, [*sources[:1], Growing()], (), 0.2)
        with pytest.raises(NoPeerReachable, match="nobody was found in"):
            await find_manifest(questions, MANIFEST.id, [Growing()], (), 0.2)
        network.nursery.cancel_scope.cancel()


class Elsewhere(Growing):
    """Another source, which knows the peer at another address."""

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        await trio.sleep(0.05)
        yield FoundPeer(PeerId("good"), ("/ip4/192.0.2.77/tcp/77",))
        await trio.sleep_forever()


class Moved(Peers):
    """The peer is not where the first source says, but where the second does."""

    async def connect(self, peer: PeerId, where: Sequence[Endpoint]) -> str:
        await trio.lowlevel.checkpoint()
        if len(where) < 2:
            raise NoPeerReachable(f"{where[0]}: connection refused")
        return str(where[1])


async def test_what_two_sources_say_of_one_peer_is_tried_at_once() -> None:
    network = Moved(good=honest)
    found: list[tuple[FoundPeer, str]] = []
    async with trio.open_nursery() as network.nursery:
        questions = Questions(network, lambda _: False, lambda _: None)
        with trio.fail_after(FIRST_PAUSE):
            assert (
                await find_manifest(
                    questions,
                    MANIFEST.id,
                    [Growing("good"), Elsewhere()],
                    patience=30,
                    finding=lambda each, provenance: found.append((each, provenance)),
                )
                == ENVELOPE
            )
        network.nursery.cancel_scope.cancel()
    assert found == [(FoundPeer(PeerId("good"), (str(ENDPOINT),)), "growing")]


async def test_that_nobody_was_found_yet_is_told_while_it_is_waited_for(autojump_clock: object) -> None:
    told: list[tuple[str, float]] = []
    questions = Questions(Peers(), lambda _: False, lambda _: None)
    with pytest.raises(NoPeerReachable, match="nobody was found in 30 s"):
        await find_manifest(
            questions, MANIFEST.id, [Growing()], (), 30, lambda why, left: told.append((why, left))
        )
    assert told == [(NOBODY_YET, pytest.approx(29))]


async def test_an_id_alone_names_nobody_to_ask() -> None:
    with pytest.raises(UsageError, match="names no peer to ask"):
        await Peers().find()


async def test_what_is_known_already_is_not_asked_for_but_its_signature_is_looked_at() -> None:
    assert ENVELOPE.signer is not None
    peers = Peers(a="must not be dialled")
    where = [NamedPeers([PeerAddress(PeerId("a"), ENDPOINT)])]
    assert (
        await obtain(
            Questions(peers, peers.banned.__contains__, lambda _: None), ENVELOPE, where, (), math.inf
        )
        is ENVELOPE
    )
    assert (
        await obtain(
            Questions(peers, peers.banned.__contains__, lambda _: None),
            ENVELOPE,
            where,
            [ENVELOPE.signer],
            math.inf,
        )
        is ENVELOPE
    )
    with pytest.raises(ManifestError):
        await obtain(
            Questions(peers, peers.banned.__contains__, lambda _: None),
            Envelope(MANIFEST),
            where,
            [ENVELOPE.signer],
            math.inf,
        )


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (encode_length(24) + b"\1" * 24, FileTimes(b"\1" * 24)),
        (encode_length(0), None),
        (encode_length(16) + bytes(16), None),
        (encode_length(25) + bytes(25), RemoteError),
        (encode_length(2**32 - 1), RemoteError),
        (encode_length(24) + bytes(10), LinkClosed),
        (b"\0\0", LinkClosed),
    ],
)
async def test_times_of_folders_are_taken_only_if_there_are_as_many_as_asked_for(
    answer: bytes, found: FileTimes | type[Exception] | None
) -> None:
    here, there = memory_link_pair(PeerId("here"), PeerId("there"))

    async def reply() -> None:
        assert await there.read_exactly(32) == MANIFEST.id.digest
        await there.write(answer)
        await there.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reply)
        if isinstance(found, type):
            with pytest.raises(found):
                await ask_tree_times(here, MANIFEST.id, 3)
        else:
            assert await ask_tree_times(here, MANIFEST.id, 3) == found


async def test_a_node_that_has_no_times_of_folders_says_so() -> None:
    assert await between(catalogue().times, lambda link: ask_tree_times(link, MANIFEST.id, 3)) is None


@pytest.mark.parametrize(
    ("named", "error", "reason"),
    [("connection refused", NoPeerReachable, "connection refused"), (late, Incomplete, "no answer yet")],
    ids=["refused", "silent"],
)
async def test_what_a_stranger_lacks_does_not_hide_why_the_named_peer_is_away(
    autojump_clock: trio.testing.MockClock,
    named: Callable[[ByteStream], Awaitable[None]] | str,
    error: type[Exception],
    reason: str,
) -> None:
    told: list[str] = []
    network = Peers(named=named, stranger=nothing_here)
    async with trio.open_nursery() as network.nursery:
        sources = [NamedPeers([PeerAddress(PeerId("named"), ENDPOINT)]), Growing("stranger")]
        questions = Questions(network, lambda _: False, lambda _: None)
        with pytest.raises(error, match=reason):
            await find_manifest(questions, MANIFEST.id, sources, (), 3, lambda reason, _: told.append(reason))
        network.nursery.cancel_scope.cancel()
    assert "stranger" in network.asked
    assert not any("stranger" in each for each in told)


class Later(Growing):
    """Finds its peers only after a while."""

    def __init__(self, seconds: float, *names: str) -> None:
        super().__init__(*names)
        self.seconds = seconds

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        await trio.sleep(self.seconds)
        async for found in super().peers(manifest):
            yield found


@pytest.mark.parametrize(
    ("named", "error", "patience"),
    [(unsigned, ManifestError, 60.0), ("connection refused", NoPeerReachable, 1.5)],
    ids=["the named", "a stranger"],
)
async def test_only_an_untrusted_signature_of_the_named_ends_the_search(
    monkeypatch: pytest.MonkeyPatch,
    named: Callable[[ByteStream], Awaitable[None]] | str,
    error: type[Exception],
    patience: float,
) -> None:
    monkeypatch.setattr("swarm.node.manifest_search.UNTRUSTED_SECONDS", 1.0)
    assert ENVELOPE.signer is not None
    network = Peers(named=named, empty=nothing_here, forger=unsigned, good=honest)
    named_peers = NamedPeers([PeerAddress(PeerId("named"), ENDPOINT)])
    sources: list[PeerSource] = [named_peers, Growing("empty", "forger")]
    async with trio.open_nursery() as network.nursery:
        questions = Questions(network, lambda _: False, lambda _: None)
        with trio.fail_after(20), pytest.raises(error):
            await find_manifest(questions, MANIFEST.id, sources, [ENVELOPE.signer], patience)
        # Somebody near may have the manifest with a good signature.
        sources.append(Later(0.2, "good"))
        found = await find_manifest(questions, MANIFEST.id, sources, [ENVELOPE.signer], patience)
        assert found.signer == ENVELOPE.signer
        network.nursery.cancel_scope.cancel()
