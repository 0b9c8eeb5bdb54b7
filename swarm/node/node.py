"""A node: one identity, one host, any number of transfers. The only place that joins the rooms."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from swarm.config import NodeOptions, TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.link import MAX_LINK_PEERS, SwarmLink
from swarm.content.manifest import Manifest
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError, UsageError
from swarm.events import NodeListening, PortLost, PortMapped, RoundTrip, TransferStarted
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.lazy_dataclass import replace
from swarm.net.addresses import of_others, parse_peer_address
from swarm.net.host import Host
from swarm.net.inbound import PeerStanding
from swarm.net.network_limits import STREAMS_PER_QUESTION
from swarm.net.ping_protocol import PING_PROTOCOL, Responder
from swarm.net.streams import shielded
from swarm.node.address_keeper import AddressKeeper
from swarm.node.asked_times import TreeTimes
from swarm.node.catalogue import (
    ADVERTISE_PROTOCOL,
    MANIFEST_PROTOCOL,
    PARTS_PROTOCOL,
    TIMES_PROTOCOL,
    Catalogue,
    Questions,
    ask_adverts,
    same_machine,
)
from swarm.node.introducing import PunchIntroductions
from swarm.node.keep_running import keep_running
from swarm.node.node_releases import NodeReleases
from swarm.node.opening import (
    Content,
    ContentOpener,
    FetchRequest,
    ShareRequest,
    look_up,
    open_fetch,
    open_share,
)
from swarm.node.pinging import PingSample, ping_peer
from swarm.node.releases import RELEASE_PROTOCOL, Releases
from swarm.node.round_trips import RoundTrips
from swarm.node.surroundings import PeerNear, begin_lan, peers_near
from swarm.node.updating import PatchDesk
from swarm.observe.event_stream import EventStream, Subscription
from swarm.origin_url import OriginUrl
from swarm.ports import ByteStream, EventSink, PeerSource
from swarm.protocol.advert import Advert, encode_length
from swarm.storage.hash_cache import HashCache
from swarm.storage.home_folder import swarm_home
from swarm.storage.kept_parts import FOLDER as KEPT_MANIFESTS
from swarm.storage.manifest_files import NamedContent
from swarm.storage.patch_folder import PatchFolder
from swarm.storage.release_files import ReleaseFiles
from swarm.storage.scan import ScanRules
from swarm.transfer.buffers import TransferMemory
from swarm.transfer.connector import EXCHANGE_PROTOCOL
from swarm.transfer.pacing import RateLimit
from swarm.transfer.services import NodeServices
from swarm.transfer.session import SessionOrigin, read_greeting, refuse_stream
from swarm.transfer.transfer import END_SECONDS, GOODBYE_SECONDS, OpenContentOf, Transfer, TransferKind

if TYPE_CHECKING:
    from swarm.discovery.lan import LanPeers
    from swarm.discovery.meeting_point import MeetingPoint
    from swarm.net.port_mapper import PortLease, PortMapper
    from swarm.node.meetings import Meetings

MAX_DIALS = 8
"""Named peers, and strangers, that are dialled at the same time by all transfers together."""

SILENT_ROUTERS = "silent-routers"
"""In the home: the routers that gave no port when they were last asked."""

MAPPING_SECONDS = 0.5
"""So long after the node's start a link waits for the router's answer, to name its address."""

MAX_ORIGIN_CONNECTIONS = 8
"""To web servers, by all transfers together."""

LINGER_SECONDS = 5.0
"""How long a connection stays after a question to its peer: often a session follows."""

MAX_BANNED = 4096
"""Peers that are refused; of more the oldest are forgotten. A new peer id costs its owner nothing."""

NOT_ALLOWED = "it serves only peers that its user allows: ask for --allow {peer}, which is your peer id"


class Node(NodeReleases):
    """Shares, fetches and pings; made by `open_node`. For the trio thread that opened it.

    What concerns all transfers is owned here: rate limits, memory, dials, bans, connections.
    """

    def __init__(self, host: Host, key: bytes, options: NodeOptions, nursery: trio.Nursery) -> None:
        self._host = host
        self._options = options
        self._nursery = nursery
        self._rng = random.Random()
        self._stream = EventStream()
        self._transfers: dict[TransferId, Transfer] = {}
        self._by_manifest: dict[ManifestId, Transfer] = {}
        self._claims: dict[TransferId, ManifestId] = {}
        self._numbers = 0
        self._opened_at = trio.current_time()
        self._closed = False
        self._banned: dict[PeerId, None] = {}
        self._peer_sources: list[PeerSource] = []
        self._meetings: Meetings | None = None
        self._lan: LanPeers | None = None
        home = options.home or swarm_home()
        self._questions = Questions(host, self.is_banned, self._asked, self.ban, home / KEPT_MANIFESTS)
        self._round_trips = RoundTrips(host, self._round_trip_measured, nursery, self._rng)
        self._address_keeper = AddressKeeper(host, options.announce)
        self._addresses = self._address_keeper.own
        self._mapper: PortMapper | None = None
        # Asked some twenty times for each piece: not by way of `trio.current_time`, which looks the clock up.
        now = trio.lowlevel.current_clock().current_time
        self._services = NodeServices(
            network=host,
            peers=self,
            addresses=self._addresses,
            publish=self._stream.publish,
            requests_observed=lambda: self._stream.requests_observed,
            memory=TransferMemory(),
            upload_limit=RateLimit(options.upload_limit, now),
            download_limit=RateLimit(options.download_limit, now),
            dials=trio.CapacityLimiter(MAX_DIALS),
            named_dials=trio.CapacityLimiter(MAX_DIALS),
            rng=self._rng,
            now=now,
        )
        self._releases = Releases(
            self._questions, ReleaseFiles(home), self._addresses, self.peer_sources, self._rng
        )
        self._patches = PatchDesk(PatchFolder(home), self._begin_patch, self._stream.publish)
        self._opener = ContentOpener(
            self._questions,
            key,
            self._stream.publish,
            self._claim,
            self.peer_sources,
            HashCache(home),
            self._releases,
            self.meeting_points,
            trio.CapacityLimiter(MAX_ORIGIN_CONNECTIONS),
            self._patches,
        )
        self._peer_sources += self.meeting_points(())
        self._tree_times = TreeTimes()
        self._serve(host)
        self._address_keeper.follow_interfaces(nursery)
        nursery.start_soon(keep_running, self._releases.announce_moves, "announcing the series again")
        self._stream.publish(NodeListening(self.peer_id, self.addresses))

    def _serve(self, host: Host) -> None:
        catalogue = Catalogue(self._adverts, self._envelope, self._tree_times_of)
        host.serve(PING_PROTOCOL, Responder(), anywhere=True)
        host.serve(ADVERTISE_PROTOCOL, self._for_allowed(catalogue.advertise), most=STREAMS_PER_QUESTION)
        host.serve(PARTS_PROTOCOL, self._for_allowed(catalogue.parts), most=STREAMS_PER_QUESTION)
        host.serve(MANIFEST_PROTOCOL, self._for_allowed(catalogue.manifest), most=STREAMS_PER_QUESTION)
        host.serve(TIMES_PROTOCOL, self._for_allowed(catalogue.times), most=STREAMS_PER_QUESTION)
        host.serve(RELEASE_PROTOCOL, self._for_allowed(self._releases.answer), most=STREAMS_PER_QUESTION)
        host.serve(EXCHANGE_PROTOCOL, self._exchange)
        host.judge_by(self._standing)
        PunchIntroductions(host, self._together)
        host.punch_through(self._has_session, carry_data=self._options.relay_data)

    # --- What it is ---------------------------------------------------------------------------------

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""
        return self._host.peer_id

    @property
    def memory(self) -> TransferMemory:
        """What all transfers have in buffers."""
        return self._services.memory

    @property
    def addresses(self) -> tuple[str, ...]:
        """The dialable multiaddrs of this node, with ``/p2p/<id>``: those announced come first."""
        return self._addresses.now

    @property
    def next_move(self) -> trio.Event:
        """Set when `addresses` change. Take it before reading them: then no change goes unseen."""
        return self._addresses.next_change

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """The transfers that have not ended, oldest first."""
        return tuple(self._transfers.values())

    @property
    def event_stream(self) -> EventStream:
        """Where everything that happens in this node is published."""
        return self._stream

    def events(self) -> Subscription:
        """Everything that happens in this node from now on, after what is needed to understand it.

        Close it, or use it as a ``with`` block, when it is no longer read.
        """
        return self._stream.subscribe()

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """Set the limits of all transfers together, in bytes per second; None for none."""
        self._services.upload_limit.change(upload)
        self._services.download_limit.change(download)
        for transfer in self.transfers:
            transfer.limits_changed()

    def add_peer_source(self, source: PeerSource) -> None:
        """Let ``source`` find peers for every transfer that begins from now on."""
        self._peer_sources.append(source)

    def map_port(self) -> None:
        """Ask the router for a port that leads to this node, and keep it, from now on."""
        from swarm.net.port_mapper import PortMapper
        from swarm.net.router_memory import RouterMemory

        memory = RouterMemory((self._options.home or swarm_home()) / SILENT_ROUTERS)
        self._mapper = PortMapper(self._host.listening, self._port_mapped, memory)
        self._nursery.start_soon(keep_running, self._mapper.run, "asking the router for a port")

    async def port_decided(self) -> None:
        """Wait until a router has given this node a port, or is not to be expected to.

        It is waited for until half a second after the node's start. Links made from then on name that port.
        """
        if self._mapper is not None:
            with trio.move_on_at(self._opened_at + MAPPING_SECONDS):
                await self._mapper.decided.wait()

    def _port_mapped(self, lease: PortLease | None) -> None:
        self._address_keeper.mapped(None if lease is None else lease.endpoint)
        if lease is None:
            self._stream.publish(PortLost())
        else:
            public = lease.endpoint.is_public
            self._stream.publish(PortMapped(str(lease.endpoint), lease.protocol, lease.seconds, public))

    def enter_tables(self) -> None:
        """Find peers in distributed hash tables, and be found there, from now on."""
        from swarm.node.tables import begin_tables

        home = self._options.home or swarm_home()
        self._peer_sources += begin_tables(
            self._options.dht, self._questions, self._stream.publish, self._nursery, home
        )

    def look_around(self) -> None:
        """Find peers in the networks of this machine, and be found there, from now on."""
        self._lan = begin_lan(self._host, self._nursery)
        self.add_peer_source(self._lan)

    # --- Transfers ----------------------------------------------------------------------------------

    async def share(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        piece_length: int | None = None,
        options: TransferOptions | None = None,
    ) -> Transfer:
        """Hash the file or folder ``path``, sign its manifest and seed it in place until it is stopped.

        Returns when it is hashed; `events` tells how far that is. ``name`` is what others get it as, by
        default the last part of ``path``. ``piece_length`` is in bytes, a power of two; by default it follows
        from the size. A cancelled call leaves nothing behind. Raises UsageError,
        DiskError.
        """
        transfer = self.begin_share(path, name=name, piece_length=piece_length, options=options)
        try:
            await transfer.opened()
            await self.port_decided()
        except BaseException:
            transfer.cancel()
            with shielded(END_SECONDS):
                await transfer.ended()
            raise
        return transfer

    def begin_share(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        piece_length: int | None = None,
        options: TransferOptions | None = None,
    ) -> Transfer:
        """As `share`, but return at once; `Transfer.opened` waits until it is hashed.

        Raises UsageError for a malformed peer; what else prevents the share ends the transfer.
        """
        options = options or TransferOptions()
        request = ShareRequest(
            Path(path),
            piece_length,
            self._peers_of(options),
            ScanRules(options.ignore, options.omit, options.skip),
            options.rehash,
            name,
            options.origin_urls,
        )
        return self._begin(TransferKind.SHARE, options, lambda own: open_share(self._opener, own, request))

    def fetch(
        self,
        content: Content,
        *,
        into: str | Path,
        options: TransferOptions | None = None,
    ) -> Transfer:
        """Fetch into the folder ``into``; returns at once.

        Use the transfer as an ``async with`` block, at the end of which it ends, and await its `complete`.
        ``content`` is a ``swarm:`` link, the path of a ``.swarm`` file, an id, or an envelope. Given an id,
        the manifest itself comes from a peer and is checked against the id. Of a series the newest release is
        fetched, with a patch if there is one (docs/updates.md). What earlier runs left in the folder is
        checked and kept.

        Raises UsageError and ManifestError at once for what is malformed; `complete` raises the rest.
        """
        options = options or TransferOptions()
        request = FetchRequest.read(content, Path(into), self._peers_of(options), options)
        return self._begin(TransferKind.FETCH, options, lambda own: open_fetch(self._opener, own, request))

    def _begin(
        self,
        kind: TransferKind,
        options: TransferOptions,
        opening: OpenContentOf,
        publish: EventSink | None = None,
    ) -> Transfer:
        """Begin a transfer; with ``publish`` its events go there instead of to the observers."""
        if self._closed:
            raise UsageError("this node is closed: open another one")
        self._numbers += 1
        number = TransferId(self._numbers)
        services = self._services if publish is None else replace(self._services, publish=publish)
        transfer = Transfer(kind, number, services, options, opening, self)
        self._transfers[number] = transfer
        self._nursery.start_soon(transfer.run)
        # Before it runs, so that its events can be asked for at once.
        services.publish(TransferStarted(number, kind.value))
        return transfer

    def _begin_patch(
        self, content: NamedContent, into: Path, options: TransferOptions, publish: EventSink
    ) -> Transfer:
        """Fetch a patch for another transfer, which hears of it through ``publish``."""
        opener = replace(self._opener, publish=publish)
        # Whoever has the patch has it now: each peer is asked once.
        once = replace(options, patience=0.0)
        request = FetchRequest(content, into, self._peers_of(options), frozenset(), once)
        opening: OpenContentOf = lambda own: open_fetch(opener, own, request)  # noqa: E731
        return self._begin(TransferKind.FETCH, options, opening, publish)

    def _claim(self, transfer: Transfer, manifest: ManifestId) -> None:
        other = self._by_manifest.setdefault(manifest, transfer)
        if other is not transfer:
            raise UsageError("this node shares or fetches that already: stop that transfer first")
        self._claims[transfer.number] = manifest

    # --- Asking peers -------------------------------------------------------------------------------

    async def ping(
        self, address: str, *, count: int = 5, interval: float = 0.05
    ) -> AsyncGenerator[PingSample, None]:
        """Ping the peer at ``address`` ``count`` times, ``interval`` seconds apart.

        Raises UsageError for a malformed address, NoPeerReachable when the peer does not answer there.
        """
        async for sample in ping_peer(self._host, self._questions, address, count, interval):
            yield sample

    async def near(self, seconds: float = 2.0) -> AsyncGenerator[PeerNear, None]:
        """Everybody who is found in the networks of this machine within ``seconds``, each once.

        Raises UsageError unless the node has the option ``lan``.
        """
        if self._lan is None:
            raise UsageError("this node does not look around: open it with the option lan")
        async with peers_near(self._lan, self._host, self._questions, seconds) as found:
            async for each in found:
                yield each

    async def list(self, address: str) -> tuple[Advert, ...]:
        """Return what the peer at ``address`` offers; raises UsageError, NoPeerReachable."""
        where = parse_peer_address(address)
        try:
            async with self._questions.ask(where.peer, [where.endpoint], ADVERTISE_PROTOCOL) as stream:
                return await ask_adverts(stream)
        except (LinkClosed, RemoteError) as error:
            raise NoPeerReachable(f"{address} does not say what it offers: {error}") from error

    async def inspect(self, content: Content, *, options: TransferOptions | None = None) -> Envelope:
        """Return the manifest of a link, an id or a ``.swarm`` file; nothing is fetched but the manifest.

        Of the options, ``peers``, ``trusted`` and ``patience`` count. Raises UsageError, ManifestError,
        NoPeerReachable, Incomplete when the peers that were reached do not have it.
        """
        options = options or TransferOptions()
        request = FetchRequest.read(content, Path(), self._peers_of(options), options)
        return await look_up(self._opener, request)

    # --- For transfers ------------------------------------------------------------------------------

    def link_to(self, manifest: Manifest, origins: Sequence[OriginUrl] = ()) -> str:
        """A ``swarm:`` link with those of this node's addresses that others can reach.

        Of the ``origins`` it has those without secrets.
        """
        peers = of_others(self.addresses)[:MAX_LINK_PEERS]
        return SwarmLink(manifest.id, peers, manifest.name, self._options.meet, tuple(origins)).shown()

    def events_of(self, transfer: TransferId) -> Subscription:
        """The events of one transfer."""
        return self._stream.subscribe(transfer)

    def peer_sources(self) -> Sequence[PeerSource]:
        """The node's own sources of peers."""
        return tuple(self._peer_sources)

    def meeting_points(self, addresses: Sequence[str]) -> tuple[MeetingPoint, ...]:
        """This node's meeting points and those at further multiaddrs; raises UsageError.

        All of them are visited from now on.
        """
        addresses = (*self._options.meet, *addresses)
        if not addresses:
            return ()
        from swarm.node.meetings import Meetings

        if self._meetings is None:
            relay_data = self._options.relay_data
            publish = self._stream.publish
            self._meetings = Meetings(self._host, self._nursery, publish, self._rng, relay_data=relay_data)
        return self._meetings.at(addresses)

    def transfer_ended(self, transfer: Transfer) -> None:
        """The transfer is no longer part of the node."""
        del self._transfers[transfer.number]
        manifest = self._claims.pop(transfer.number, None)
        if manifest is not None:
            del self._by_manifest[manifest]

    def is_banned(self, peer: PeerId) -> bool:
        """Whether the peer broke a rule in any transfer."""
        return peer in self._banned

    def ban(self, peer: PeerId) -> bool:
        """Refuse the peer in all transfers from now on; says whether that is new."""
        if peer in self._banned:
            return False
        self._banned[peer] = None
        if len(self._banned) > MAX_BANNED:
            del self._banned[next(iter(self._banned))]
        for transfer in self.transfers:
            transfer.peer_banned(peer)
        return True

    def session_opened(self, peer: PeerId) -> None:
        """A transfer has a session with the peer."""
        self._round_trips.begin(peer)

    def session_closed(self, peer: PeerId) -> None:
        """A session has ended: a connection that no transfer uses is closed."""
        if not self._has_session(peer):
            self._round_trips.end(peer)
        # At once, or a peer that stopped answering would be met again over its dead connection.
        self._nursery.start_soon(self._release, peer, 0.0)

    def _asked(self, peer: PeerId) -> None:
        """A question to the peer has its answer."""
        self._nursery.start_soon(self._release, peer, LINGER_SECONDS)

    async def _release(self, peer: PeerId, seconds: float) -> None:
        """Close the connection to a peer that neither end uses."""
        await trio.sleep(seconds)
        if not self._in_use(peer) and not self._host.converses(peer, besides=EXCHANGE_PROTOCOL):
            await self._host.disconnect(peer)

    def _round_trip_measured(self, peer: PeerId, seconds: float | None) -> None:
        self._stream.publish(RoundTrip(peer, seconds))
        for transfer in self.transfers:
            transfer.round_trip(peer, seconds)

    def _in_use(self, peer: PeerId) -> bool:
        return self._questions.asking(peer) or any(transfer.uses(peer) for transfer in self.transfers)

    # --- Answering peers ----------------------------------------------------------------------------

    def _transfer_of(self, manifest: ManifestId) -> Transfer | None:
        transfer = self._by_manifest.get(manifest)
        return transfer if transfer is not None and transfer.is_open else None

    async def _exchange(self, stream: ByteStream) -> None:
        hello = await read_greeting(stream)
        if self._standing(stream.peer) is PeerStanding.UNWANTED:
            refusal = NOT_ALLOWED.format(peer=stream.peer)
            await refuse_stream(stream, "the peer is banned" if self.is_banned(stream.peer) else refusal)
            return
        transfer = self._transfer_of(hello.manifest)
        if transfer is None:
            await refuse_stream(stream, "that manifest is not here")
        else:
            await transfer.accept(
                stream, SessionOrigin(inbound=True, address=stream.remote_address, hello=hello)
            )

    def _for_allowed(
        self, answer: Callable[[ByteStream], Awaitable[None]]
    ) -> Callable[[ByteStream], Awaitable[None]]:
        async def guarded(stream: ByteStream) -> None:
            # A peer that is not served is told of nothing.
            unwanted = self._standing(stream.peer) is PeerStanding.UNWANTED
            await (stream.write(encode_length(0)) if unwanted else answer(stream))

        return guarded

    def _standing(self, peer: PeerId) -> PeerStanding:
        if peer in self._banned:
            return PeerStanding.UNWANTED
        allowed = self._options.allowed
        if any(transfer.is_named(peer) for transfer in self._transfers.values()):
            return PeerStanding.NAMED
        if allowed is not None:
            return PeerStanding.NAMED if peer in allowed else PeerStanding.UNWANTED
        return PeerStanding.IN_SESSION if self._has_session(peer) else PeerStanding.STRANGER

    def _has_session(self, peer: PeerId) -> bool:
        return any(transfer.has_session(peer) for transfer in self._transfers.values())

    def _together(self, one: PeerId, other: PeerId) -> bool:
        """Whether both have a session for the same manifest here."""
        return any(each.has_session(one) and each.has_session(other) for each in self._transfers.values())

    def _envelope(self, manifest: ManifestId) -> Envelope | None:
        transfer = self._transfer_of(manifest)
        return None if transfer is None else transfer.envelope

    async def _tree_times_of(self, manifest: ManifestId) -> bytes:
        transfer = self._transfer_of(manifest)
        if transfer is None or transfer.path is None or not transfer.manifest.folder:
            return b""
        return await self._tree_times.of(transfer.manifest, transfer.path)

    def _adverts(self, stream: ByteStream) -> Sequence[Advert]:
        """What is offered here, for who may know of it (decision 14)."""
        told = self._options.listed
        if told is None:
            sought = self._lan is not None or self._meetings is not None or bool(self._options.dht)
            near = same_machine(stream.remote_address, self._host.addresses)
            told = not sought or near or self._standing(stream.peer) is PeerStanding.NAMED
        return tuple(each.advert() for each in self._transfers.values() if each.is_open) if told else ()

    # --- End ----------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Say goodbye to all peers, save every journal and close every file."""
        self._closed = True
        with shielded(GOODBYE_SECONDS):
            async with trio.open_nursery() as nursery:
                for transfer in self.transfers:
                    nursery.start_soon(transfer.stop)
        for transfer in self.transfers:
            transfer.cancel()
        with shielded(END_SECONDS):
            for transfer in self.transfers:
                await transfer.ended()
        self._releases.close()
        if self._meetings is not None:
            with shielded(END_SECONDS):
                await self._meetings.aclose()
        self._stream.close()
