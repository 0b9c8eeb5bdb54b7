"""A node: one identity, one host, any number of transfers. The only place that wires rooms together."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from swarm.bits import PieceSet
from swarm.config import NodeConfig
from swarm.content.envelope import Envelope
from swarm.content.link import MAX_LINK_PEERS, SwarmLink
from swarm.content.selection import select
from swarm.content.signature import sign
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError, UsageError
from swarm.events import FilesSelected, ManifestReady, NodeListening, TransferComplete, TransferResumed
from swarm.ids import ManifestId, PeerId
from swarm.net.addresses import PeerAddress, parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.inbound import PeerStanding
from swarm.net.network_limits import PING_RATE, STREAMS_PER_QUESTION
from swarm.net.ping_protocol import PING_PROTOCOL, Prober, Responder
from swarm.net.streams import shielded
from swarm.node.catalogue import ADVERTISE_PROTOCOL, MANIFEST_PROTOCOL, Catalogue, ask_adverts, obtain
from swarm.node.membership import EXCHANGE_PROTOCOL, Membership
from swarm.node.racing import first_of
from swarm.node.results import FetchResult, PingSample, Shared
from swarm.observe.event_stream import EventStream
from swarm.ports import ByteStream, Store
from swarm.protocol.advert import Advert, encode_length
from swarm.storage.home import hold_identity, swarm_home
from swarm.storage.scan import scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import Target, open_target
from swarm.transfer.memory import Memory
from swarm.transfer.session import meet, refuse

GOODBYE_SECONDS = 0.5
"""How long the end of a node waits for its sessions to end in words."""

NOT_ALLOWED = "this peer serves only those whom its user allows; ask its user to allow your peer id"

Progress = Callable[[int, int], None]


class Node:
    """Shares, fetches and pings; made by `open_node`."""

    def __init__(self, host: Host, key: bytes, config: NodeConfig, nursery: trio.Nursery) -> None:
        self.events = EventStream()
        self._host = host
        self._key = key
        self._config = config
        self._nursery = nursery
        self._rng = random.Random()
        self._memory = Memory()
        self._memberships: dict[ManifestId, Membership] = {}
        self._stores = AsyncExitStack()
        catalogue = Catalogue(self._adverts, self._envelope)
        host.serve(PING_PROTOCOL, Responder())
        host.serve(ADVERTISE_PROTOCOL, self._for_allowed(catalogue.advertise), most=STREAMS_PER_QUESTION)
        host.serve(MANIFEST_PROTOCOL, self._for_allowed(catalogue.manifest), most=STREAMS_PER_QUESTION)
        host.serve(EXCHANGE_PROTOCOL, self._exchange)
        host.judge_by(self._standing)

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""
        return self._host.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """The dialable multiaddrs of this node, with ``/p2p/<id>``."""
        return self._host.addresses

    async def share(
        self,
        path: Path,
        *,
        piece_length: int | None = None,
        on_progress: Progress | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> Shared:
        """Hash the file or folder ``path``, sign its manifest and seed it in place.

        ``piece_length`` is in bytes, a power of two; by default it follows from the size.
        ``on_progress`` is told hashed and total bytes. Raises UsageError, DiskError.
        """
        scanned = await scan(path, piece_length=piece_length, progress=on_progress, warn=on_warning)
        manifest = scanned.manifest
        envelope = Envelope(manifest, sign(self._key, manifest.encode()))
        store = SeedStore(manifest, path, scanned.checks)
        self._stores.callback(store.close)
        self._announce(envelope)
        self._join(envelope, store, peers=())
        return Shared(envelope, SwarmLink(manifest.id, self.addresses[:MAX_LINK_PEERS], manifest.name))

    async def fetch(
        self,
        what: Envelope | ManifestId,
        peers: Sequence[str],
        output: Path,
        *,
        only: Sequence[str] = (),
        trusted: Collection[PeerId] = (),
        seed: bool = False,
        on_progress: Progress | None = None,
    ) -> FetchResult:
        """Fetch into the folder ``output`` from ``peers`` (multiaddrs with ``/p2p/<id>``) and others.

        Given an id, the manifest itself comes from a peer and is checked against the id; with ``trusted`` it
        must be signed by one of these. What earlier runs left is kept. ``only`` are patterns of files, see
        `selection.select`; the others are neither fetched nor touched. Returns when all is verified and has
        its final name; a node that is to ``seed`` goes on serving it until the node ends. ``on_progress`` is
        told checked and total bytes of what is there already, from a worker thread.

        Raises UsageError, ManifestError, NoPeerReachable, Incomplete, DiskError, Locked.
        """
        started = trio.current_time()
        named = [parse_peer_address(peer) for peer in peers]
        what = await obtain(self._host, what, named, trusted)
        self._announce(what)
        files = select(what.manifest, only)
        target = await self._stores.enter_async_context(
            open_target(what.manifest, output, progress=on_progress, selected=files)
        )
        size = sum(what.manifest.files[file].length for file in files)
        self._tell_begun(target, files if only else None, size)
        if not (target.complete or named or seed):
            raise UsageError("nobody to fetch from: name at least one peer, or wait for peers with --seed")
        if seed or not target.complete:
            membership = self._join(what, target, named, wanted=target.wanted, upkeep=target.run_syncer)
            await membership.until_complete()
        path = await target.finish()
        result = FetchResult(what.manifest, path, size, trio.current_time() - started)
        self.events.publish(TransferComplete(what.manifest.id, str(path), result.size, result.seconds))
        return result

    def _tell_begun(self, target: Target, selected: Collection[int] | None, size: int) -> None:
        manifest = target.manifest.id
        if selected is not None:
            self.events.publish(FilesSelected(manifest, len(selected), target.wanted.count, size))
        if target.resumed_pieces:
            self.events.publish(TransferResumed(manifest, target.resumed_pieces, target.resumed_bytes))

    async def seed_forever(self) -> None:
        """Serve what is shared and fetched until cancelled; raises DiskError when that fails."""
        failures = (membership.failed for membership in self._memberships.values())
        error = await first_of(trio.sleep_forever, *failures)
        if error is not None:
            raise error

    async def ping(self, address: str, *, count: int, interval: float) -> AsyncGenerator[PingSample, None]:
        """Ping the peer at ``address`` ``count`` times, ``interval`` seconds apart.

        Raises UsageError for a malformed address, NoPeerReachable when the peer does not answer there.
        """
        where = parse_peer_address(address)
        await self._host.connect(where.peer, [where.address])
        prober = Prober(lambda: self._host.open_link(where.peer, PING_PROTOCOL))
        try:
            for number in range(count):
                if number:
                    await trio.sleep(max(interval, 1 / PING_RATE))
                try:
                    seconds = await prober.probe()
                except LinkClosed as error:
                    if not self._host.connected(where.peer) or number == 0:
                        raise NoPeerReachable(f"{address} hung up: {error}") from error
                    seconds = None
                yield PingSample(address, seconds)
        finally:
            await prober.aclose()

    async def list_manifests(self, address: str) -> tuple[Advert, ...]:
        """Return what the peer at ``address`` offers; raises UsageError, NoPeerReachable."""
        where = parse_peer_address(address)
        await self._host.connect(where.peer, [where.address])
        try:
            link = await self._host.open_link(where.peer, ADVERTISE_PROTOCOL)
            try:
                return await ask_adverts(link)
            finally:
                await link.reset()
        except (LinkClosed, RemoteError) as error:
            raise NoPeerReachable(f"{address} does not say what it offers: {error}") from error

    def _announce(self, envelope: Envelope) -> None:
        manifest = envelope.manifest
        self.events.publish(
            ManifestReady(
                manifest.id,
                manifest.name,
                manifest.total_length,
                manifest.piece_count,
                manifest.piece_length,
                len(manifest.files),
                envelope.signer,
            )
        )

    def _join(
        self,
        envelope: Envelope,
        store: Store,
        peers: Sequence[PeerAddress],
        wanted: PieceSet | None = None,
        upkeep: Callable[[], Awaitable[None]] | None = None,
    ) -> Membership:
        if envelope.manifest.id in self._memberships:
            raise UsageError("this node shares or fetches that already")
        membership = Membership(
            self._host,
            envelope,
            store,
            config=self._config.transfer,
            events=self.events,
            rng=self._rng,
            named=peers,
            in_use=self._in_use,
            memory=self._memory,
            wanted=wanted,
            upkeep=upkeep,
        )
        self._memberships[envelope.manifest.id] = membership
        self._nursery.start_soon(membership.run)
        return membership

    def _for_allowed(
        self, answer: Callable[[ByteStream], Awaitable[None]]
    ) -> Callable[[ByteStream], Awaitable[None]]:
        async def guarded(link: ByteStream) -> None:
            # To whom it does not serve, it has nothing.
            unwanted = self._standing(link.peer) is PeerStanding.UNWANTED
            await (link.write(encode_length(0)) if unwanted else answer(link))

        return guarded

    async def _exchange(self, link: ByteStream) -> None:
        hello = await meet(link)
        if self._standing(link.peer) is PeerStanding.UNWANTED:
            await refuse(link, NOT_ALLOWED)
            return
        membership = self._memberships.get(hello.manifest)
        if membership is None:
            await refuse(link, "that manifest is not here")
        else:
            await membership.accept(link, hello)

    def _standing(self, peer: PeerId) -> PeerStanding:
        each = (membership.standing(peer) for membership in self._memberships.values())
        known = max(each, default=PeerStanding.STRANGER)
        allowed = self._config.allowed
        if allowed is None or known is PeerStanding.NAMED:
            return known
        return PeerStanding.NAMED if peer in allowed else PeerStanding.UNWANTED

    def _in_use(self, peer: PeerId) -> bool:
        return any(membership.has_session(peer) for membership in self._memberships.values())

    def _envelope(self, manifest: ManifestId) -> Envelope | None:
        membership = self._memberships.get(manifest)
        return None if membership is None else membership.envelope

    def _adverts(self) -> Sequence[Advert]:
        return tuple(membership.advert() for membership in self._memberships.values())

    async def aclose(self) -> None:
        """Say goodbye to all peers, save every journal and release every file."""
        with shielded(GOODBYE_SECONDS):
            async with trio.open_nursery() as nursery:
                for membership in self._memberships.values():
                    nursery.start_soon(membership.leave, "this node ends")
        self._nursery.cancel_scope.cancel()
        await self._stores.aclose()
        self.events.close()


@asynccontextmanager
async def open_node(config: NodeConfig | None = None) -> AsyncIterator[Node]:
    """Open a node with this machine's identity, or an own one while another process holds that.

    Raises UsageError when an address to listen on is malformed or taken, DiskError when the identity
    cannot be kept.
    """
    config = config or NodeConfig()
    async with (
        hold_identity(swarm_home()) as identity,
        open_host(identity.private, config.listen, max_connections=config.max_connections) as host,
        trio.open_nursery() as nursery,
    ):
        node = Node(host, identity.private, config, nursery)
        node.events.publish(NodeListening(node.peer_id, node.addresses))
        try:
            yield node
        finally:
            await node.aclose()
