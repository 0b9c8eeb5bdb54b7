"""A hash table as a source of peers: what it finds, whom it tells, and whom it never dials."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

import pytest
import trio
import trio.testing

from swarm.discovery import hash_table
from swarm.discovery.hash_table import (
    AGAIN_SECONDS,
    BEGUN_TOGETHER,
    FIRST_PAUSE,
    PROVIDED_SECONDS,
    QUESTION_SECONDS,
    SLOW_SECONDS,
    WALKS_AT_ONCE,
    HashTable,
)
from swarm.endpoint import Endpoint, PeerAddress
from swarm.errors import NoPeerReachable
from swarm.ids import ManifestId, PeerId
from swarm.node.keep_running import FIRST_PAUSE as KEPT_PAUSE
from swarm.node.keep_running import keep_running
from swarm.ports import Announcement, FoundPeer
from swarm.reach import kad_nodes
from swarm.reach.kad_messages import KadPeer, add_provider, get_providers, key_of
from swarm.reach.kad_nodes import DOUBT_SECONDS, LATE_SECONDS
from swarm.reach.kad_walk import NEAREST_ASKED, KadWalk
from swarm.reach.multiaddrs import address_to_bytes, peer_to_bytes
from swarm.reach.protobuf import encode
from swarm.strategy.peer_book import DHT, NEAR_DHT
from tests.unit.test_reach_kad import peer

MANIFEST = ManifestId(bytes(32))
KEY = key_of(MANIFEST)
ME, FIRST, OTHER, SEEDER = peer(1), peer(2), peer(3), peer(4)
PUBLIC = Endpoint.parse("/ip4/5.5.5.7/tcp/4001")
MOVED = Endpoint.parse("/ip4/5.5.5.8/tcp/4001")
PRIVATE = Endpoint.parse("/ip4/192.168.1.7/tcp/4001")


def listed(of: PeerId, *endpoints: Endpoint) -> bytes:
    return encode([(1, peer_to_bytes(of)), *((2, address_to_bytes(each)) for each in endpoints)])


class Table:
    """The nodes of a table, as one of its clients sees them."""

    me = ME

    def __init__(self, answer: Callable[[KadPeer], bytes | None]) -> None:
        self.answer = answer
        self.asked: list[KadPeer] = []
        self.told: list[tuple[KadPeer, bytes]] = []
        self.open: set[PeerId] = set()

    def connected(self, peer: PeerId) -> bool:
        return peer in self.open

    async def ask(self, node: KadPeer, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(node)
        answer = self.answer(node)
        if answer is None:
            await trio.sleep_forever()
        assert answer is not None
        return answer

    async def tell(self, node: KadPeer, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if node.peer == OTHER:
            raise NoPeerReachable("gone")
        self.told.append((node, message))


async def found_by(table: HashTable, count: int) -> list[FoundPeer]:
    found: list[FoundPeer] = []
    async with aclosing(table.peers(MANIFEST)) as peers:
        async for each in peers:
            found.append(each)
            if len(found) == count:
                break
    return found


async def look_for(table: HashTable, seconds: float) -> list[FoundPeer]:
    found: list[FoundPeer] = []
    with trio.move_on_after(seconds):
        async with aclosing(table.peers(MANIFEST)) as peers:
            async for each in peers:
                found.append(each)
    return found


async def test_a_public_table_leads_to_no_private_address(autojump_clock: trio.testing.MockClock) -> None:
    def answer(node: KadPeer) -> bytes:
        return encode(
            [
                (8, listed(OTHER, PRIVATE, Endpoint.parse("/ip4/127.0.0.1/tcp/1"))),
                (9, listed(peer(9), PRIVATE)),
                (9, listed(SEEDER, PRIVATE, PUBLIC)),
            ]
        )

    link = Table(answer)
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    assert table.provenance == DHT
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        assert await found_by(table, 1) == [FoundPeer(SEEDER, (str(PUBLIC),))]
        table.announce(Announcement(MANIFEST, (f"{PRIVATE}/p2p/{ME}",), complete=True))
        await trio.sleep(1)
        assert link.told == []
        table.announce(Announcement(MANIFEST, (f"{PRIVATE}/p2p/{ME}", f"{PUBLIC}/p2p/{ME}"), complete=True))
        await trio.sleep(1)
        assert link.told == [(KadPeer(FIRST, (PUBLIC,)), add_provider(KEY, ME, [PUBLIC]))]
        nursery.cancel_scope.cancel()
    assert {node.peer for node in link.asked} == {FIRST}


async def test_a_table_of_this_place_may_name_its_addresses(autojump_clock: trio.testing.MockClock) -> None:
    link = Table(lambda _: encode([(9, listed(SEEDER, PRIVATE, Endpoint.parse("/ip4/127.0.0.1/tcp/1")))]))
    table = HashTable([PeerAddress(FIRST, PRIVATE)], link)
    assert table.provenance == NEAR_DHT
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        assert await found_by(table, 1) == [FoundPeer(SEEDER, (str(PRIVATE),))]
        nursery.cancel_scope.cancel()


async def test_it_provides_again_in_time_until_it_is_withdrawn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link = Table(lambda _: b"")
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        table.announce(Announcement(MANIFEST, (f"{PUBLIC}/p2p/{ME}",), complete=False))
        await trio.sleep(1)
        assert len(link.told) == 1
        table.announce(Announcement(MANIFEST, (f"{PUBLIC}/p2p/{ME}",), complete=True))
        await trio.sleep(1)
        assert len(link.told) == 1, "nothing has changed for those who look"
        await trio.sleep(PROVIDED_SECONDS)
        assert len(link.told) == 2
        table.withdraw(MANIFEST)
        await trio.sleep(2 * PROVIDED_SECONDS)
        assert len(link.told) == 2
        nursery.cancel_scope.cancel()


def at(*endpoints: Endpoint) -> Announcement:
    return Announcement(MANIFEST, tuple(f"{each}/p2p/{ME}" for each in endpoints), complete=True)


class SlowToTell(Table):
    """Nodes that answer at once and are told within ``seconds``; to the message ``deaf`` they hang up."""

    def __init__(self, seconds: float, deaf: bytes = b"") -> None:
        super().__init__(lambda _node: b"")
        self.seconds = seconds
        self.deaf = deaf
        self.log: list[tuple[float, bytes]] = []

    async def tell(self, node: KadPeer, message: bytes) -> None:
        await trio.sleep(self.seconds)
        if message == self.deaf:
            raise NoPeerReachable("it hangs up")
        self.log.append((trio.current_time(), message))


@pytest.mark.parametrize("withdrawn", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_only_the_addresses_that_were_announced_last_are_provided(
    autojump_clock: trio.testing.MockClock, fails: bool, withdrawn: bool
) -> None:
    """Even if the nodes are still being told earlier ones, whether or not that would have succeeded."""
    old, new = add_provider(KEY, ME, (PUBLIC,)), add_provider(KEY, ME, (MOVED,))
    link = SlowToTell(QUESTION_SECONDS / 2, old if fails else b"")
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        table.announce(at(PUBLIC))
        await trio.sleep(QUESTION_SECONDS / 4)
        if withdrawn:
            table.withdraw(MANIFEST)
        table.announce(at(MOVED))
        await trio.sleep(PROVIDED_SECONDS + QUESTION_SECONDS)
        assert [message for _, message in link.log] == [new, new]
        nursery.cancel_scope.cancel()


async def test_what_is_withdrawn_while_nodes_are_told_is_told_no_further(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link = SlowToTell(1)
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        table.announce(at(PUBLIC))
        await trio.sleep(0.5)
        table.withdraw(MANIFEST)
        await trio.sleep(PROVIDED_SECONDS)
        assert link.log == []
        nursery.cancel_scope.cancel()


async def test_what_no_node_was_told_is_provided_again_soon_and_an_announcement_of_the_same_changes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    message = add_provider(KEY, ME, (PUBLIC,))
    link = SlowToTell(1, message)
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        table.announce(at(PUBLIC))
        await trio.sleep(0.5)
        table.announce(at(PUBLIC))
        await trio.sleep(1)
        link.deaf = b""
        await trio.sleep(PROVIDED_SECONDS / 2)
        assert link.log == [(pytest.approx(1 + AGAIN_SECONDS + 1), message)]
        nursery.cancel_scope.cancel()


class Crowded(Table):
    """Counts the walks under way by their messages; each question and each telling takes ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(lambda _node: encode([(9, listed(SEEDER, PUBLIC))]))
        self.seconds = seconds
        self.under_way: set[bytes] = set()
        self.most = 0

    async def _take(self, message: bytes) -> None:
        self.under_way.add(message)
        self.most = max(self.most, len(self.under_way))
        await trio.sleep(self.seconds)
        self.under_way.discard(message)

    async def ask(self, node: KadPeer, message: bytes) -> bytes:
        await self._take(message)
        return await super().ask(node, message)

    async def tell(self, node: KadPeer, message: bytes) -> None:
        await self._take(message)
        await super().tell(node, message)


async def test_hundreds_of_shares_walk_a_few_at_a_time_and_a_fetch_does_not_wait_for_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """For each share there is a walk to provide it, and one to find who else has it."""
    link = Crowded(0.2)
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    shares = [ManifestId(number.to_bytes(32, "big")) for number in range(1, 301)]
    found: list[ManifestId] = []

    async def look(share: ManifestId) -> None:
        async with aclosing(table.peers(share)) as peers:
            async for _ in peers:
                found.append(share)
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        for share in shares:
            table.announce(Announcement(share, (f"{PUBLIC}/p2p/{ME}",), complete=True))
            nursery.start_soon(look, share)
        await trio.sleep(5)
        assert WALKS_AT_ONCE < link.most <= 2 * WALKS_AT_ONCE
        assert len(found) < len(shares)
        table.announce(Announcement(MANIFEST, (), complete=False))
        with trio.fail_after(0.3):
            assert await found_by(table, 1) == [FoundPeer(SEEDER, (str(PUBLIC),))]
        await trio.sleep(len(shares) * 2 * link.seconds / WALKS_AT_ONCE)
        assert set(found) == set(shares)
        assert len(link.told) == len(shares)
        assert 2 * WALKS_AT_ONCE < link.most <= 3 * WALKS_AT_ONCE
        nursery.cancel_scope.cancel()


async def test_what_is_withdrawn_before_its_walk_is_not_walked_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link = Crowded(1)
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    shares = [ManifestId(number.to_bytes(32, "big")) for number in range(100)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        for share in shares:
            table.announce(Announcement(share, (f"{PUBLIC}/p2p/{ME}",), complete=True))
        await trio.sleep(0.5)
        for share in shares:
            table.withdraw(share)
        await trio.sleep(100)
        assert len(link.asked) == 0
        assert link.told == []
        nursery.cancel_scope.cancel()


class FailsOnce(Table):
    """The first question raises what nobody expects, a moment after it was asked; later ones are answered."""

    def __init__(self) -> None:
        super().__init__(lambda _node: encode([(9, listed(SEEDER, PUBLIC))]))
        self.failed = False

    async def ask(self, node: KadPeer, message: bytes) -> bytes:
        await trio.sleep(0.1)
        if not self.failed:
            self.failed = True
            raise OSError("too many open files")
        return await super().ask(node, message)


@pytest.mark.parametrize("provided_first", [False, True])
async def test_what_is_looked_for_and_provided_goes_on_after_a_failure(
    autojump_clock: trio.testing.MockClock, provided_first: bool
) -> None:
    """Whichever walk fails; and what is looked for while the table does not run is found later."""
    link = FailsOnce()
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    found: list[FoundPeer] = []

    async def look() -> None:
        found.extend(await found_by(table, 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_running, table.run, "the table")
        if not provided_first:
            nursery.start_soon(look)
            await trio.sleep(0.05)
        table.announce(at(PUBLIC))
        await trio.sleep(0.05 if provided_first else 0)
        if provided_first:
            nursery.start_soon(look)
        await trio.sleep(KEPT_PAUSE / 2)
        assert link.failed
        assert found == []
        assert link.told == []
        nursery.start_soon(look)
        await trio.sleep(KEPT_PAUSE)
        assert found == 2 * [FoundPeer(SEEDER, (str(PUBLIC),))]
        assert link.told == [(KadPeer(FIRST, (PUBLIC,)), add_provider(KEY, ME, [PUBLIC]))]
        await trio.sleep(PROVIDED_SECONDS)
        assert len(link.told) == 2
        nursery.cancel_scope.cancel()


async def test_a_search_waits_idly_while_the_table_does_not_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also if the table is ended first: the search ends when it is cancelled, and asks nobody."""
    link = Table(lambda _: b"")
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    with trio.fail_after(4 * FIRST_PAUSE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_for, table, 3 * FIRST_PAUSE)
            with trio.move_on_after(FIRST_PAUSE / 2):
                await table.run()
            asked = len(link.asked)
            # Autojump moves the clock on only while every task waits.
            await trio.sleep(FIRST_PAUSE)
            assert await look_for(table, FIRST_PAUSE) == []
            assert len(link.asked) == asked == 1


async def test_a_silent_node_costs_its_time_and_the_walk_is_walked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    silent = True

    def answer(node: KadPeer) -> bytes | None:
        return None if silent else encode([(9, listed(SEEDER, PUBLIC))])

    link = Table(answer)
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        began = trio.current_time()
        asking = trio.Event()

        async def look() -> None:
            await found_by(table, 1)
            asking.set()

        nursery.start_soon(look)
        await trio.sleep(2)
        silent = False
        await asking.wait()
        assert trio.current_time() - began == pytest.approx(QUESTION_SECONDS + FIRST_PAUSE)
        nursery.cancel_scope.cancel()
    assert get_providers(KEY)


async def test_a_machine_without_a_network_for_a_while_forgets_no_node(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first node is gone for good; the others are known from before."""
    offline = True

    def answer(node: KadPeer) -> bytes | None:
        return None if offline or node.peer == FIRST else encode([(9, listed(SEEDER, PUBLIC))])

    known = [PeerAddress(peer(number), PUBLIC) for number in range(10, 40)]
    link = Table(answer)
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link, known)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        with trio.fail_after(2000):
            assert await look_for(table, 120) == []
            offline = False
            assert await found_by(table, 1) == [FoundPeer(SEEDER, (str(PUBLIC),))]
        assert table.answering
        # Now it is they who are silent.
        before = len(table.answering)
        link.answer = lambda node: b"" if node.peer == FIRST else None
        assert await look_for(table, 600) == []
        assert len(table.answering) < before
        nursery.cancel_scope.cancel()


async def test_what_is_malformed_counts_as_no_answer(autojump_clock: trio.testing.MockClock) -> None:
    link = Table(lambda node: b"\xff\xff" if node.peer == FIRST else encode([(9, listed(SEEDER, PUBLIC))]))
    table = HashTable([PeerAddress(FIRST, PUBLIC), PeerAddress(OTHER, PUBLIC)], link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        assert await found_by(table, 1) == [FoundPeer(SEEDER, (str(PUBLIC),))]
        nursery.cancel_scope.cancel()


async def test_an_answer_without_end_yields_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Of providers, and of nodes from which later walks begin."""
    monkeypatch.setattr(hash_table, "MAX_PROVIDERS", 6)
    monkeypatch.setattr(kad_nodes, "MAX_ANSWERING", 5)
    number = 10

    def answer(_node: KadPeer) -> bytes:
        nonlocal number
        number += 20
        others = range(number, number + 20)
        return encode(
            [(field, listed(peer(each + field * 10_000), PUBLIC)) for each in others for field in (8, 9)]
        )

    link = Table(answer)
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    found: list[FoundPeer] = []

    async def look() -> None:
        async with aclosing(table.peers(MANIFEST)) as peers:
            async for each in peers:
                found.append(each)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        nursery.start_soon(look)
        await trio.sleep(FIRST_PAUSE / 2)
        asked = len(link.asked)
        assert len(found) == 6
        assert asked > 5
        assert len(table.answering) == 5
        # The second walk begins anew.
        await trio.sleep(FIRST_PAUSE)
        assert len(found) == 12
        nursery.cancel_scope.cancel()


def nearest_first(nodes: list[PeerId]) -> list[PeerId]:
    """The nodes in the order in which a walk for the key meets them."""
    walk = KadWalk(KEY, [KadPeer(each, (PUBLIC,)) for each in nodes], ME, nearest=len(nodes))
    found = []
    while (node := walk.next()) is not None:
        found.append(node.peer)
        walk.failed(node.peer)
    return found


async def test_silent_nodes_do_not_hold_up_those_behind_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As many as are asked at once, and nearer than all that answer: asked for at most a moment, once."""
    ordered = nearest_first([peer(number) for number in range(100, 124)])
    silent = set(ordered[:NEAREST_ASKED])
    everyone = [(8, listed(each, PUBLIC)) for each in ordered]

    def answer(node: KadPeer) -> bytes | None:
        if node.peer in silent:
            return None
        return encode([*everyone, *([(9, listed(SEEDER, PUBLIC))] if node.peer != ordered[-1] else [])])

    link = Table(answer)
    table = HashTable([PeerAddress(ordered[-1], PUBLIC)], link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        began = trio.current_time()
        assert await found_by(table, 1) == [FoundPeer(SEEDER, (str(PUBLIC),))]
        assert trio.current_time() - began < 2 * LATE_SECONDS
        await look_for(table, SLOW_SECONDS)
        link.asked.clear()
        await look_for(table, SLOW_SECONDS)
        assert silent.isdisjoint(node.peer for node in link.asked)
        # They may be back later.
        await trio.sleep(DOUBT_SECONDS)
        link.asked.clear()
        await look_for(table, SLOW_SECONDS)
        assert silent <= {node.peer for node in link.asked}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("first", "others"), [(0.0, 0.4), (0.02, 1.2), (1.4, 1.4), (3.0, 3.0)])
async def test_a_table_that_is_far_away_is_waited_for(
    autojump_clock: trio.testing.MockClock, first: float, others: float
) -> None:
    """At a round trip of 200 ms a connection and an answer take 1.4 s."""
    link = Table(lambda _: encode([(8, listed(peer(each), PUBLIC)) for each in range(100, 130)]))

    async def ask(node: KadPeer, message: bytes) -> bytes:
        is_first = node.peer == FIRST
        await trio.sleep(first if is_first else others)
        answer = await Table.ask(link, node, message)
        return answer + encode([] if is_first else [(9, listed(SEEDER, PUBLIC))])

    link.ask = ask  # type: ignore[method-assign]
    table = HashTable([PeerAddress(FIRST, PUBLIC)], link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        with trio.fail_after(first + others + 0.01):
            assert await found_by(table, 1) == [FoundPeer(SEEDER, (str(PUBLIC),))]
        nursery.cancel_scope.cancel()


async def test_nodes_to_which_a_connection_is_open_are_asked_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    known = [peer(number) for number in range(100, 110)]
    link = Table(lambda _: b"")
    link.open = set(nearest_first(known)[-BEGUN_TOGETHER:])
    table = HashTable([PeerAddress(known[0], PUBLIC)], link, [PeerAddress(each, PUBLIC) for each in known])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.run)
        await look_for(table, SLOW_SECONDS)
        nursery.cancel_scope.cancel()
    assert {node.peer for node in link.asked[:BEGUN_TOGETHER]} == link.open
    assert {node.peer for node in link.asked} == set(known)


def test_known_nodes_of_a_public_table_are_public() -> None:
    known = [PeerAddress(OTHER, PRIVATE), PeerAddress(SEEDER, PRIVATE), PeerAddress(SEEDER, PUBLIC)]
    table = HashTable([PeerAddress(FIRST, PUBLIC)], Table(lambda _: b""), known)
    assert [node for node in table.answering if node.endpoints] == [KadPeer(SEEDER, (PUBLIC,))]
