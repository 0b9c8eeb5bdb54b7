"""One transfer: the owner of everything that one share or fetch needs, from beginning to end.

A transfer owns its tasks, its store, its exchange and its connector, and ends them all together, whichever
way it ends: by `stop`, by leaving its ``async with`` block, by failing, or with its node. Then its files
are closed, its target is unlocked, and the same content can be shared or fetched again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Protocol

import trio

from swarm.bits import PieceSet
from swarm.config import TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.errors import Incomplete, PiecesChanged, SwarmError, UsageError
from swarm.events import (
    Event,
    TransferComplete,
    TransferContinued,
    TransferEnded,
    TransferPaused,
)
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.lazy_dataclass import dataclass, replace
from swarm.origin_url import OriginUrl
from swarm.ports import ByteStream, PeerSource, PieceSource, Store, StoredChange
from swarm.protocol.advert import Advert
from swarm.strategy.peer_book import PeerBook
from swarm.transfer.connector import PeerConnector
from swarm.transfer.content_reader import ContentReader
from swarm.transfer.exchange import Exchange
from swarm.transfer.give_up import Contact, GiveUpTimer, give_up_error
from swarm.transfer.progress import Progress, TransferRecord
from swarm.transfer.readiness import be_ready_to_fetch
from swarm.transfer.services import NodeServices
from swarm.transfer.session import PeerStatus, SessionOrigin, refuse_stream

logger = logging.getLogger(__name__)

GOODBYE_SECONDS = 0.5
"""Seconds that `Transfer.stop` gives its sessions to say GOODBYE."""

END_SECONDS = 5.0
"""How long the end of a transfer is waited for where nothing else may go on: a disk may never answer."""

HOPELESS_SECONDS = 5.0
"""How long a fetch whose web servers have all failed for good waits for a peer that nobody named."""

PROGRESS_SECONDS = 0.5
"""The longest time between two values of `Transfer.progress`."""


class TransferKind(Enum):
    """What a transfer is for."""

    SHARE = "share"
    FETCH = "fetch"


@dataclass(frozen=True, slots=True)
class OpenContent:
    """The content of one transfer, opened on this machine.

    ``files`` are the indices of those that are wanted, ``wanted`` their pieces, ``size`` their bytes.
    ``finish`` gives what is complete its final name and returns that. ``upkeep`` runs beside the transfer;
    what it raises ends it.
    """

    envelope: Envelope
    store: Store
    files: Collection[int]
    wanted: PieceSet
    size: int
    finish: Callable[[], Awaitable[Path]]
    upkeep: Callable[[], Awaitable[None]] | None = None
    watch: Callable[[Callable[[StoredChange], None]], Awaitable[None]] | None = None
    """Runs beside the transfer, and calls its argument when files of the store are away or back."""
    peer_sources: Sequence[PeerSource] = ()
    piece_sources: Sequence[PieceSource] = ()
    origins: Sequence[OriginUrl] = ()
    """The web servers that a link names."""
    expects_peers: bool = False
    """Whether peers are named, so that a source which is shared waits a moment for them."""


OpenContentOf = Callable[["Transfer"], AbstractAsyncContextManager[OpenContent]]


class Transfer:
    """One share or fetch of a node; made by `Node.share` and `Node.fetch`.

    As an ``async with`` block it ends with the block, unless `keep_seeding` was called or it is a complete
    fetch whose options say `seed`. Without a block it goes on until `stop`, or until its node closes. Methods
    are for the trio thread of the node.
    """

    def __init__(
        self,
        kind: TransferKind,
        transfer: TransferId,
        services: NodeServices,
        options: TransferOptions,
        open_content: OpenContentOf,
        node: TransferNode,
    ) -> None:
        self.kind = kind
        self.number = transfer
        """The node's number of this transfer, which its events carry."""
        self.options = options
        self._services = services
        self._open_content = open_content
        self._node = node
        self._record = TransferRecord(transfer, services.publish, services.now)
        self._book = PeerBook(services.rng, max_peers=options.max_peers)
        self._scope = trio.CancelScope()
        self._timer = GiveUpTimer(options.patience, services.now())
        self._began_at = services.now()
        self._opened = trio.Event()
        self._in_place = trio.Event()
        self._ended = trio.Event()
        self._unpaused = trio.Event()
        self._unpaused.set()
        self._keep_seeding = False
        self._content: OpenContent | None = None
        self._envelope: Envelope | None = None
        self._size = 0
        self._files: Collection[int] = ()
        self._exchange: Exchange | None = None
        self._connector: PeerConnector | None = None
        self._path: Path | None = None
        self._failure: BaseException | None = None
        self._nursery: trio.Nursery | None = None
        self._piece_sources: list[PieceSource] = []
        self._content_reader = ContentReader(self._record, self._reason)

    def __repr__(self) -> str:
        name = self._envelope.manifest.name if self._envelope else "not open yet"
        return f"<Transfer {self.number} {self.kind.value} {name!r}>"

    # --- What it is ---------------------------------------------------------------------------------

    @property
    def envelope(self) -> Envelope:
        """The manifest with its signature; raises RuntimeError before `opened` has returned."""
        if self._envelope is None:
            raise RuntimeError("the manifest is not known yet: await transfer.opened() first")
        return self._envelope

    @property
    def manifest(self) -> Manifest:
        """What is shared or fetched; as `envelope`."""
        return self.envelope.manifest

    @property
    def id(self) -> ManifestId:
        """The manifest's id; as `envelope`."""
        return self.manifest.id

    @property
    def link(self) -> str:
        """A ``swarm:`` link to the content with this node's addresses, and its origins; as `envelope`."""
        return self._node.link_to(self.manifest, self._content.origins if self._content else ())

    @property
    def is_open(self) -> bool:
        """Whether the manifest is known and the transfer has not ended: peers may ask for it."""
        return self._content is not None and not self._ended.is_set()

    @property
    def path(self) -> Path | None:
        """Where the complete content lies; None until then."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes that are wanted; 0 before `opened` has returned."""
        return self._size

    @property
    def files(self) -> Collection[int]:
        """The indices in the manifest of the files that are wanted; none before `opened` has returned."""
        return self._files

    @property
    def failure(self) -> BaseException | None:
        """What ended the transfer before it was stopped; None while it has not failed."""
        return self._failure

    @property
    def stored(self) -> PieceSet | None:
        """The pieces that can be served now, not to be changed; None while it is not open."""
        return self._content.store.stored if self._content is not None else None

    def peers(self) -> tuple[PeerStatus, ...]:
        """The peers with an open session."""
        return self._exchange.peers() if self._exchange else ()

    def events(self) -> AsyncIterator[Event]:
        """The events of this transfer until it has ended: first what is needed to understand them."""
        return self._node.events_of(self.number)

    # --- Waiting ------------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait until the manifest is known and what is on the disk was checked.

        For a share this is when its content is hashed. Raises what ended the transfer before.
        """
        await self._opened.wait()
        if self._envelope is None:
            raise self._reason()

    async def has_opened(self) -> bool:
        """Wait until `opened` returns, or would raise, and say which: True if the transfer is open."""
        await self._opened.wait()
        return self._envelope is not None

    async def complete(self) -> Path:
        """Wait until everything wanted is verified and in place; returns its path.

        Raises what ended the transfer before that: ManifestError, NoPeerReachable, Incomplete,
        IntegrityError, DiskError, Locked; Incomplete also when it was stopped.
        """
        await self._in_place.wait()
        if self._path is None:
            raise self._reason()
        return self._path

    async def chunks(self) -> AsyncIterator[memoryview]:
        """Everything that is wanted, piece by piece in order, each as soon as it is verified and stored.

        Whoever reads slowly does not hold up the transfer. Raises what `complete` raises, and PieceWithdrawn
        if another program changed or removed what was stored. What a fetch then lacks it fetches again.
        """
        await self.opened()
        for piece in sorted(self._content.wanted) if self._content else ():
            yield await self._content_reader.when_stored(piece)

    async def read(
        self, file: int, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[memoryview, None]:
        """The bytes of a file of the manifest from ``start`` to ``stop``, as they are verified and stored.

        What is needed next is fetched first (`ContentReader.read`). Close the iterator when it is no longer
        read. Raises UsageError for a file that is not fetched, and what `chunks` raises.
        """
        await self.opened()
        if file not in self._files:
            raise UsageError(f"file {file} is not among those that are shared or fetched")
        async with aclosing(self._content_reader.read(self.manifest.layout, file, start, stop)) as found:
            async for data in found:
                yield data

    async def closed(self) -> None:
        """Wait until the transfer has ended; raises what it failed with."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    async def ended(self) -> None:
        """Wait until the transfer has ended, however it did; never raises its failure."""
        await self._ended.wait()

    async def progress(self) -> AsyncIterator[Progress]:
        """How far the transfer is, at least twice a second, until it is complete or has ended.

        The last value is that of the end. Errors are raised by `complete`, not here.
        """
        while not self._in_place.is_set():
            yield self.now()
            with trio.move_on_after(PROGRESS_SECONDS):
                await self._in_place.wait()
        yield self.now()

    def now(self) -> Progress:
        """How far the transfer is now."""
        paused = not self._unpaused.is_set()
        if self._exchange is not None:
            return self._exchange.progress(paused=paused)
        return self._record.progress(peers=0, complete=self._path is not None, paused=paused)

    def _reason(self) -> BaseException:
        stopped = "the transfer was stopped before it was complete; what was fetched is kept"
        return Incomplete(stopped) if self._failure is None else self._failure.with_traceback(None)

    # --- Commands -----------------------------------------------------------------------------------

    def keep_seeding(self) -> None:
        """Hand the transfer to its node: it goes on until `stop` or until the node closes."""
        self._keep_seeding = True

    async def pause(self) -> None:
        """End all sessions and open none until `resume`; what is stored stays."""
        if self._unpaused.is_set() and not self._ended.is_set():
            self._unpaused = trio.Event()
            self._record.publish(TransferPaused(self.number))
            if self._exchange is not None and self._connector is not None:
                self._connector.pause()
                await self._exchange.pause()

    async def resume(self) -> None:
        """Exchange pieces again after `pause`."""
        if self._unpaused.is_set() or self._ended.is_set():
            return
        self._timer.restart(self._services.now())
        if self._exchange is not None and self._connector is not None:
            self._exchange.unpause()
            self._connector.unpause()
            self._start_piece_sources(self._exchange)
        self._unpaused.set()
        self._record.publish(TransferContinued(self.number))
        await trio.lowlevel.checkpoint()

    def tell(self, event: Event) -> None:
        """Tell observers of something that concerns this transfer; bytes that moved for it are counted."""
        self._record.publish(event)

    def add_piece_source(self, source: PieceSource) -> None:
        """Request pieces from ``source``, too, until it ends or the transfer does."""
        if self._ended.is_set():
            return
        self._piece_sources.append(source)
        if self._exchange is not None and self._nursery is not None and self._unpaused.is_set():
            self._nursery.start_soon(self._exchange.run_source, source)

    @property
    def piece_sources(self) -> tuple[PieceSource, ...]:
        """The sources that are no peers."""
        return tuple(self._piece_sources)

    def limit(self, *, upload: int | None, download: int | None) -> None:
        """Set both own limits, in bytes per second; those of the node hold, too. None is no limit."""
        self.options = replace(self.options, upload_limit=upload, download_limit=download)
        if self._exchange is not None:
            self._exchange.limit(upload=upload, download=download)

    async def stop(self) -> None:
        """End the transfer: say goodbye to its peers, save, close and unlock its files.

        What was fetched is kept. Returns when all of that is done, unless it is cancelled meanwhile: then the
        transfer ends by itself. Harmless when done twice.
        """
        if self._exchange is not None:
            with trio.move_on_after(GOODBYE_SECONDS):
                await self._exchange.stop("this transfer ends")
        self._scope.cancel()
        await self._ended.wait()

    def cancel(self) -> None:
        """End the transfer at once, without goodbyes; `closed` tells when it has ended."""
        self._scope.cancel()

    async def __aenter__(self) -> Transfer:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and (self._keep_seeding or (self.options.seed and self._path is not None)):
            return
        if kind is None:
            await self.stop()
            return
        self.cancel()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + END_SECONDS):
            await self._ended.wait()

    # --- For the node -------------------------------------------------------------------------------

    def is_named(self, peer: PeerId) -> bool:
        """Whether the user named the peer for this transfer."""
        return self._book.is_named(peer)

    def has_session(self, peer: PeerId) -> bool:
        """Whether pieces are exchanged with the peer."""
        return self._exchange is not None and self._exchange.has_session(peer)

    def uses(self, peer: PeerId) -> bool:
        """Whether a connection to the peer is needed: a session is open, or about to be."""
        return self.has_session(peer) or (self._connector is not None and self._connector.is_dialling(peer))

    def round_trip(self, peer: PeerId, seconds: float | None) -> None:
        """A ping of the peer was answered after ``seconds``, or lost (None)."""
        if self._exchange is not None and self._exchange.has_session(peer):
            self._book.round_trip(peer, seconds)
            self._exchange.round_trip(peer, seconds)

    def peer_banned(self, peer: PeerId) -> None:
        """The node refuses the peer from now on."""
        self._book.forget(peer)
        if self._exchange is not None:
            self._exchange.dismiss(peer, "the peer is banned")

    def limits_changed(self) -> None:
        """A limit of the node has changed."""
        if self._exchange is not None:
            self._exchange.limits_changed()

    async def accept(self, stream: ByteStream, origin: SessionOrigin) -> None:
        """Exchange over a stream that a peer has opened, until the session ends."""
        if self._connector is None:
            await refuse_stream(stream, "this transfer has not begun")
        else:
            await self._connector.accept(stream, origin)

    def advert(self) -> Advert:
        """What this node says it offers of the manifest."""
        manifest = self.manifest
        stored = self._content.store.stored.count if self._content else 0
        return Advert(
            manifest.id,
            manifest.name,
            manifest.total_length,
            manifest.piece_count,
            manifest.piece_length,
            stored,
        )

    async def run(self) -> None:
        """Run from beginning to end; never raises anything but cancellation of the node."""
        try:
            with self._scope:
                async with self._open_content(self) as content:
                    await self._run_content(content)
        except Exception as error:
            self._failure = _bare(error)
            if not isinstance(self._failure, SwarmError):
                logger.exception("transfer %d failed", self.number)
        finally:
            self._exchange = self._connector = self._content = self._nursery = None
            self._content_reader.end()
            self._node.transfer_ended(self)
            error_text = None if self._failure is None else str(self._failure)
            self._record.publish(TransferEnded(self.number, error_text))
            for event in (self._opened, self._in_place, self._ended, self._record.next_stored):
                event.set()

    async def _run_content(self, content: OpenContent) -> None:
        self._content, self._envelope, self._size = content, content.envelope, content.size
        self._files = content.files
        self._piece_sources[:0] = content.piece_sources
        self._timer = GiveUpTimer(self.options.patience, self._services.now())
        self._exchange = exchange = Exchange(
            self._services,
            self._record,
            content.store,
            self.options,
            self._book,
            wanted=content.wanted,
        )
        self._content_reader.begin(content.store, exchange)
        if content.expects_peers:
            exchange.expect_peers()
        self._connector = connector = PeerConnector(
            self._services, self._record, exchange, self._book, self._timer
        )
        if not self._unpaused.is_set():
            connector.pause()
            await exchange.pause()
        self._opened.set()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            sources = (*content.peer_sources, *self._node.peer_sources(), exchange.discovered)
            nursery.start_soon(connector.run, self.id, sources)
            if content.upkeep is not None:
                nursery.start_soon(content.upkeep)
            if not exchange.complete.is_set():
                nursery.start_soon(connector.once_reached, be_ready_to_fetch)
            if content.watch is not None:
                nursery.start_soon(content.watch, exchange.stored_changed)
            nursery.start_soon(self._fetch, content, exchange)
            self._start_piece_sources(exchange)
            await exchange.run()
            nursery.cancel_scope.cancel()

    def _start_piece_sources(self, exchange: Exchange) -> None:
        if self._nursery is not None and not exchange.complete.is_set():
            for source in self._piece_sources:
                self._nursery.start_soon(exchange.run_source, source)

    async def _fetch(self, content: OpenContent, exchange: Exchange) -> None:
        """Bring what is wanted to its final name, or give up."""
        fetched_again = PieceSet(content.wanted.size)
        while self._path is None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_patience, exchange)
                await exchange.complete.wait()
                nursery.cancel_scope.cancel()
            try:
                self._path = await content.finish()
            except PiecesChanged as changed:
                pieces = PieceSet.of(fetched_again.size, changed.pieces)
                # Once for each piece: a program that goes on would never let it end.
                if pieces & fetched_again:
                    raise
                fetched_again |= pieces
                self._timer.restart(self._services.now())
                exchange.fetch_again(changed.path, pieces)
                if self._connector is not None:
                    self._connector.look_again()
                self._start_piece_sources(exchange)
        seconds = self._services.now() - self._began_at
        if self.kind is TransferKind.FETCH:
            record = self._record
            record.publish(
                TransferComplete(
                    self.number,
                    self.id,
                    str(self._path),
                    content.size,
                    seconds,
                    bytes_received=record.received,
                    bytes_reused=record.reused,
                    bytes_patched=record.patched,
                )
            )
        self._in_place.set()

    async def _watch_patience(self, exchange: Exchange) -> None:
        """Raise the error of giving up once nothing useful has happened for too long."""
        while True:
            await self._unpaused.wait()
            if self._record.advanced_at is not None:
                self._timer.useful(self._record.advanced_at)
            if self._services.now() >= self._timer.deadline() or await self._is_hopeless(exchange):
                raise self._give_up_error(exchange)
            with trio.move_on_at(self._timer.deadline()):
                await exchange.changed()

    def _give_up_error(self, exchange: Exchange) -> SwarmError:
        connector, content = self._connector, self._content
        return give_up_error(
            contact=Contact.NONE if connector is None else connector.contact,
            progressed=self._record.advanced_at is not None,
            kept=content is not None and bool(content.store.stored),
            connected=exchange.sources,
            lack=exchange.lack(),
            reason="" if connector is None else connector.failures.most_telling(),
            patience=self.options.patience,
            troubles=exchange.troubles,
        )

    async def _is_hopeless(self, exchange: Exchange) -> bool:
        """Whether everybody who was named has failed for good, and nobody else turns up for a moment."""
        if not exchange.hopeless or self.options.seed or self._book.named:
            return False
        with trio.move_on_after(min(HOPELESS_SECONDS, self.options.patience)):
            while exchange.hopeless:
                await exchange.changed()
        return exchange.hopeless


class TransferNode(Protocol):
    """What a transfer asks of its node."""

    def link_to(self, manifest: Manifest, origins: Sequence[OriginUrl] = ()) -> str:
        """A ``swarm:`` link with the node's addresses, and with those of the origins that have no secrets."""

    def events_of(self, transfer: TransferId) -> AsyncIterator[Event]:
        """The events of one transfer."""

    def peer_sources(self) -> Sequence[PeerSource]:
        """The node's own sources of peers."""

    def transfer_ended(self, transfer: Transfer) -> None:
        """The transfer is no longer part of the node."""


def _bare(error: Exception) -> BaseException:
    """The one error that tells most, out of the groups that nurseries make."""
    while isinstance(error, ExceptionGroup):
        errors = sorted(error.exceptions, key=lambda each: not isinstance(each, SwarmError))
        error = errors[0]
    return error
