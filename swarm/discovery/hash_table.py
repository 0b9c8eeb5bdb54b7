"""A distributed hash table as a source of peers: a client of libp2p's Kademlia, never a server.

What this node shares or fetches is provided under a hash of its id, at the nodes whose ids are nearest to it;
who looks for the id asks those. Nodes of the table are strangers: addresses are told, and believed, only if
they are at least of the scope in which the table's first nodes are, so that a public table leads to no
private address.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final, Protocol

import trio

from swarm.discovery.meeting_point import visible_from
from swarm.endpoint import Endpoint, PeerAddress, Scope, by_peer, read_route
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.ports import Announcement, FoundPeer
from swarm.reach.kad_messages import (
    KadAnswer,
    KadPeer,
    add_provider,
    decode_kad,
    find_node,
    get_providers,
    key_of,
)
from swarm.reach.kad_nodes import KadNodes
from swarm.reach.kad_walk import AT_ONCE, NEAREST, NEAREST_ASKED, KadWalk
from swarm.strategy.peer_book import DHT, NEAR_DHT

logger = logging.getLogger(__name__)

Taking = Callable[[KadAnswer], None]

QUESTION_SECONDS: Final = 5.0
"""So long a node has for the connection and its answer, if the walk lasts so long."""
SLOW_SECONDS: Final = 0.7
"""After so long without an answer, and once it is late, a walk may end without a node: many are gone."""
BEGUN_TOGETHER: Final = 4
STEP_SECONDS: Final = 0.03
"""A walk begins with so many questions, and with as many more after each of these steps: handshakes that are
made at once are all done at the end only, and the first answer is waited for."""
WALKS_AT_ONCE: Final = 4
"""Walks that provide; so many more to find what is missing here, and others that have what is here. Each
connects to ten nodes at once, and hundreds together would find every node late."""
FIRST_PAUSE: Final = 15.0
LONGEST_PAUSE: Final = 600.0
"""Between two walks for one manifest."""
PROVIDED_SECONDS: Final = 6 * 3600.0
"""Nodes forget a provider after a day or two."""
AGAIN_SECONDS: Final = 60.0
"""After a walk that found no node to provide at."""
MAX_PROVIDERS: Final = 128
"""Peers that one walk yields."""


class TableLink(Protocol):
    """What this module needs of the node."""

    @property
    def me(self) -> PeerId:
        """This node."""

    def connected(self, peer: PeerId) -> bool:
        """Whether a connection to the node is open, so that its answer costs one round trip."""

    async def ask(self, node: KadPeer, message: bytes) -> bytes:
        """Send a message and return the answer. Raises NoPeerReachable, LinkClosed, RemoteError."""

    async def tell(self, node: KadPeer, message: bytes) -> None:
        """Send a message that has no answer. Raises NoPeerReachable, LinkClosed."""


class HashTable:
    """The `PeerSource` of one table, which is entered through ``first``; works while `run` runs.

    ``known`` are nodes of it that answered in an earlier run.
    """

    def __init__(
        self, first: Sequence[PeerAddress], link: TableLink, known: Iterable[PeerAddress] = ()
    ) -> None:
        self._link = link
        self._first = [KadPeer(peer, tuple(where)) for peer, where in by_peer(first).items()]
        self._least = min((each.endpoint for each in first), key=Scope.of)
        self.provenance = DHT if Scope.of(self._least) is Scope.PUBLIC else NEAR_DHT
        routes = by_peer(known)
        self._nodes = KadNodes(KadPeer(peer, self._visible(where)) for peer, where in routes.items())
        self._nursery: trio.Nursery | None = None
        self._provided: dict[ManifestId, tuple[tuple[Endpoint, ...], float]] = {}
        self._providing: dict[ManifestId, trio.CancelScope] = {}
        """What nodes are being told now."""
        self._complete: set[ManifestId] = set()
        self._providing_walks = trio.CapacityLimiter(WALKS_AT_ONCE)
        self._missing_walks = trio.CapacityLimiter(WALKS_AT_ONCE)
        self._complete_walks = trio.CapacityLimiter(WALKS_AT_ONCE)
        self._changed = trio.Event()
        self._running = trio.Event()

    @property
    def answering(self) -> tuple[KadPeer, ...]:
        """The nodes that answered when they were last asked, from which walks begin, too."""
        return self._nodes.answering

    # --- The source ---------------------------------------------------------------------------------

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        """Who provides the manifest, as the walk meets them; walked again now and then.

        Does not end: while `run` does not run, it waits for the next one.
        """
        while True:
            if self._nursery is None:
                await self._running.wait()
                continue
            send, receive = trio.open_memory_channel[FoundPeer](MAX_PROVIDERS)
            scope = trio.CancelScope()
            self._nursery.start_soon(self._look, manifest, send, scope)
            try:
                async for found in receive:
                    yield found
            finally:
                scope.cancel()

    def announce(self, announcement: Announcement) -> None:
        """The manifest is provided from now on, if this node has an address that others can use."""
        (self._complete.add if announcement.complete else self._complete.discard)(announcement.manifest)
        routes = [read_route(text.partition("/p2p/")[0]) for text in announcement.addresses]
        own = self._visible(each for each in routes if isinstance(each, Endpoint))
        before, due = self._provided.get(announcement.manifest, ((), -math.inf))
        if before != own:
            self._stop_providing(announcement.manifest)
            due = -math.inf
        self._provided[announcement.manifest] = own, due
        self._changed.set()

    def withdraw(self, manifest: ManifestId) -> None:
        """Not provided again; the nodes forget it by themselves."""
        self._provided.pop(manifest, None)
        self._complete.discard(manifest)
        self._stop_providing(manifest)

    def _stop_providing(self, manifest: ManifestId) -> None:
        """End what is under way: nodes remember what they are told last, and that must not be outdated."""
        if (scope := self._providing.pop(manifest, None)) is not None:
            scope.cancel()

    # --- Walks --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Provide what is announced until cancelled; may be run again after it has failed.

        What nodes were being told then is told again, and searches go on.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._running.set()
            try:
                await self._provide_in_time(nursery)
            finally:
                # Within the nursery, which is open until this task leaves it: nobody meets a closed one.
                self._nursery = None
                self._running = trio.Event()
                for manifest in self._providing:
                    own, _ = self._provided[manifest]
                    self._provided[manifest] = own, -math.inf
                self._providing.clear()

    async def _provide_in_time(self, nursery: trio.Nursery) -> None:
        while True:
            self._changed = trio.Event()
            now = trio.current_time()
            for manifest, (own, due) in tuple(self._provided.items()):
                if own and due <= now:
                    self._provided[manifest] = own, now + PROVIDED_SECONDS
                    scope = self._providing[manifest] = trio.CancelScope()
                    nursery.start_soon(self._provide, manifest, own, scope)
            soonest = min((due for own, due in self._provided.values() if own), default=math.inf)
            with trio.move_on_at(soonest):
                await self._changed.wait()

    async def _provide(
        self, manifest: ManifestId, own: tuple[Endpoint, ...], scope: trio.CancelScope
    ) -> None:
        told = 0
        with scope:
            async with self._providing_walks:
                told = await self._tell_nearest(key_of(manifest), own)
        if self._providing.get(manifest) is not scope:
            return
        del self._providing[manifest]
        if not told:
            self._provided[manifest] = own, trio.current_time() + AGAIN_SECONDS
            self._changed.set()

    async def _tell_nearest(self, key: bytes, own: tuple[Endpoint, ...]) -> int:
        """Tell the nodes nearest to the key that this node provides it; returns how many were told."""
        walk = self._walk(key, NEAREST)
        await self._run_walk(walk, find_node(key), lambda _answer: None)
        message = add_provider(key, self._link.me, own)
        limiter = trio.CapacityLimiter(AT_ONCE)
        told = 0

        async def tell(node: KadPeer) -> None:
            nonlocal told
            async with limiter:
                with trio.move_on_after(QUESTION_SECONDS):
                    try:
                        await self._link.tell(node, message)
                        told += 1
                    except (NoPeerReachable, LinkClosed, RemoteError) as error:
                        logger.debug("%s is not told: %s", node.peer, error)

        async with trio.open_nursery() as nursery:
            for node in walk.keepers():
                nursery.start_soon(tell, node)
        return told

    async def _look(
        self, manifest: ManifestId, send: trio.MemorySendChannel[FoundPeer], scope: trio.CancelScope
    ) -> None:
        key, pause = key_of(manifest), FIRST_PAUSE
        with scope, send:
            while True:
                seen: set[PeerId] = set()

                def take(answer: KadAnswer, seen: set[PeerId] = seen) -> None:
                    for each in answer.providers:
                        own = self._visible(each.endpoints)
                        if own and each.peer not in {*seen, self._link.me} and len(seen) < MAX_PROVIDERS:
                            seen.add(each.peer)
                            with_address = FoundPeer(each.peer, tuple(map(str, own)))
                            try:
                                send.send_nowait(with_address)
                            except trio.WouldBlock:
                                return

                complete = manifest in self._complete
                async with self._complete_walks if complete else self._missing_walks:
                    await self._run_walk(self._walk(key, NEAREST_ASKED), get_providers(key), take)
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _walk(self, key: bytes, nearest: int) -> KadWalk:
        start = (*self._first, *self._nodes.answering)
        return KadWalk(key, start, self._link.me, nearest, self._nodes.doubted(trio.current_time()))

    async def _run_walk(self, walk: KadWalk, message: bytes, take: Taking) -> None:
        """Ask until the walk is over."""
        news = trio.Event()

        async def grow_impatient(node: KadPeer) -> None:
            patience = self._nodes.patience
            await trio.sleep(patience)
            walk.late(node.peer)
            news.set()
            await trio.sleep(max(0.0, SLOW_SECONDS - patience))
            walk.slow(node.peer)
            news.set()

        async def ask(node: KadPeer, pause: float) -> None:
            await trio.sleep(pause)
            began = None if self._link.connected(node.peer) else trio.current_time()
            async with trio.open_nursery() as waiting:
                waiting.start_soon(grow_impatient, node)
                answer = await self._answer(node, message)
                waiting.cancel_scope.cancel()
            if answer is None:
                walk.failed(node.peer)
            else:
                take(answer)
                walk.answered(
                    node.peer, [KadPeer(each.peer, self._visible(each.endpoints)) for each in answer.closer]
                )
                self._nodes.answered(node, None if began is None else trio.current_time() - began)
            news.set()

        try:
            async with trio.open_nursery() as nursery:
                while not walk.over:
                    news = trio.Event()
                    begins = not walk.questions
                    batch = list(iter(walk.next, None))
                    batch.sort(key=lambda node: not self._link.connected(node.peer))
                    for number, node in enumerate(batch):
                        steps = number // BEGUN_TOGETHER if begins else 0
                        nursery.start_soon(ask, node, steps * STEP_SECONDS)
                    if not walk.over:
                        await news.wait()
                nursery.cancel_scope.cancel()
        finally:
            others_answered = bool(walk.keepers())
            for peer in walk.unanswered:
                self._nodes.silent(peer, trio.current_time(), alone=others_answered)

    async def _answer(self, node: KadPeer, message: bytes) -> KadAnswer | None:
        with trio.move_on_after(QUESTION_SECONDS):
            try:
                return decode_kad(await self._link.ask(node, message))
            except (NoPeerReachable, LinkClosed, RemoteError) as error:
                logger.debug("%s does not answer: %s", node.peer, error)
        return None

    def _visible(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        return visible_from(self._least, list(endpoints))
