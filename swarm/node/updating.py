"""One update: chooses the cheapest way to what is missing, and fetches the patch as a transfer of its own.

The patch's transfer runs on the same node, so the patch is seeded for as long as the update's own transfer
runs. Observers hear of it as of the update: what it receives and sends counts there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from swarm.bits import PieceSet
from swarm.config import TransferOptions
from swarm.content.manifest import Manifest
from swarm.content.pairing import pair_files
from swarm.content.release import PatchOffer, ReleaseRecord, patch_name
from swarm.errors import SwarmError, UsageError
from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    PatchProgress,
    PeerComplete,
    PeerConnected,
    PeerDisconnected,
    PeersAwaited,
    SourceBanned,
    SourceFailed,
    UpdatePlanned,
    Warned,
)
from swarm.ids import DIGEST_BYTES, PeerId, SourceId
from swarm.lazy_dataclass import dataclass, field, replace
from swarm.net.addresses import parse_peer_address
from swarm.origin_url import MAX_ORIGINS, OriginUrl, read_origins
from swarm.ports import EventSink, PieceSource, RequestDesk
from swarm.storage.hash_cache import HashCache, Remembered
from swarm.storage.manifest_files import NamedContent
from swarm.storage.patch_folder import PatchFolder
from swarm.storage.scan import ScanRules, scan
from swarm.transfer.transfer import END_SECONDS, Transfer

if TYPE_CHECKING:
    from swarm.ids import TransferId

FINDING_SECONDS: Final = 6.0
"""How long somebody is looked for who has the patch."""
PATCH_PATIENCE: Final = 15.0
"""Seconds without a verified piece of the patch after which it is done without."""
TELL_SECONDS: Final = 0.25
LEAST_PASSING: Final = 5.0
MOST_PASSING: Final = 120.0
"""Seconds for which an update that is done passes its patch on to who needs it: as long as it took to get it,
within these bounds. So receivers that begin together end together, and the publisher sends one patch."""

BeginPatch = Callable[[NamedContent, Path, TransferOptions, EventSink], Transfer]
"""Begins the patch's transfer: what, into which folder, how, and where its events go."""


@dataclass(frozen=True, slots=True)
class PatchDesk:
    """What the node gives to fetch a patch with."""

    folder: PatchFolder
    begin: BeginPatch
    publish: Callable[[Event], None]
    passing: dict[TransferId, PatchNews] = field(default_factory=dict)
    """The patches that are here, by the transfer that they are for."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a transfer updates: the release, where its peers are, and the pieces that are not here yet.

    ``places`` are where older versions may lie, ``target`` is the final name.
    """

    record: ReleaseRecord
    content: NamedContent
    manifest: Manifest
    lacking: PieceSet
    places: Sequence[Path]
    target: Path


@dataclass(frozen=True, slots=True)
class Installed:
    """An older version: what was hashed at ``place``."""

    place: Path
    remembered: Remembered


def plan_of(
    update: Update, versions: Sequence[Installed], missing: int, transfer: TransferId
) -> tuple[UpdatePlanned, Installed | None, PatchOffer | None]:
    """The cheapest way to ``missing`` bytes that no version here has; what a patch is from, and the patch."""
    offers = [(update.record.patch_from(each.remembered.manifest.id), each) for each in versions]
    found = [(offer, each) for offer, each in offers if offer is not None]
    offer, installed = min(found, key=lambda pair: pair[0].size, default=(None, None))
    way, reason = "patch", ""
    if not missing:
        way, reason, offer = "nothing", "everything is on this machine", None
    elif offer is not None and offer.size >= missing:
        way, reason, offer = "reuse", "the patch is larger than what is missing", None
    elif offer is None and versions:
        way, reason = "reuse", "the release has no patch from what is installed"
    elif offer is None:
        way = "reuse" if update.places else "pieces"
        reason = "no older version is known here"
    size = 0 if offer is None else offer.size
    return UpdatePlanned(transfer, way, size, missing, reason), installed, offer


@asynccontextmanager
async def update_sources(
    desk: PatchDesk, hashes: HashCache, transfer: Transfer, update: Update
) -> AsyncIterator[tuple[PieceSource, ...]]:
    """Fetch the patch if that is the cheapest way; yields the source that applies it, or nothing.

    The patch is seeded until the block ends. What is wrong with it costs one warning: the pieces come from
    peers then.
    """
    versions = await _versions(update, hashes)
    missing = await trio.to_thread.run_sync(_missing, update, versions)
    plan, installed, offer = plan_of(update, versions, missing, transfer.number)
    desk.publish(plan)
    if offer is None or installed is None:
        yield ()
        return
    folder = await trio.to_thread.run_sync(desk.folder.prepare, update.target)
    origins = _folders(transfer.options, update.content.origins)
    options = TransferOptions(
        peers=transfer.options.peers,
        upload_limit=transfer.options.upload_limit,
        download_limit=transfer.options.download_limit,
        patience=min(PATCH_PATIENCE, transfer.options.patience),
        max_peers=transfer.options.max_peers,
        name=desk.folder.name_of(offer.patch),
        overwrite=True,
        origin_use=transfer.options.origin_use,
        origin_ca=transfer.options.origin_ca,
        origin_public_only=transfer.options.origin_public_only,
        times=False,
        # The publisher, most likely: receivers pass the patch on among themselves.
        spare=_named((*transfer.options.peers, *update.content.peers)),
    )
    name = patch_name(offer.old, update.manifest.id)
    content = replace(update.content, manifest=offer.patch, origins=origins, name=name)
    news = desk.passing[transfer.number] = PatchNews(transfer, offer.size, desk.publish)
    fetch = desk.begin(content, folder, options, news.publish)
    try:
        path = await _fetched(fetch, transfer, offer)
        if path is None:
            yield ()
        else:
            # Few fetches have a patch: what decompresses it is not loaded for the others.
            from swarm.sources.patch_source import PatchSource

            news.arrived()
            transfer.tell(PatchProgress(transfer.number, "fetching", offer.size, offer.size))
            source = PatchSource(path, installed.remembered.manifest, (installed.place,))
            with closing(source):
                await source.prepare(update.manifest)
                yield (WatchedPatch(source, transfer),)
    finally:
        del desk.passing[transfer.number]
        with trio.CancelScope(shield=True, deadline=trio.current_time() + END_SECONDS):
            await fetch.stop()
            if transfer.path is not None:
                await trio.to_thread.run_sync(desk.folder.remove, update.target)


def _folders(options: TransferOptions, named: Sequence[OriginUrl]) -> tuple[OriginUrl, ...]:
    """The web servers that may have patches: those whose URL is a folder's. One that has none costs a 404."""
    urls = read_origins((*options.origin_urls, *named)[:MAX_ORIGINS])
    return tuple(each for each in urls if each.is_folder)


def _named(addresses: Sequence[str]) -> tuple[PeerId, ...]:
    """The peers at well-formed addresses."""
    found = []
    for address in addresses:
        with suppress(UsageError):
            found.append(parse_peer_address(address).peer)
    return tuple(found)


async def _versions(update: Update, hashes: HashCache) -> list[Installed]:
    """What is known of the older versions here.

    What was hashed at a place last tells; if nothing was, and there are patches, it is hashed now.
    """
    found = []
    for place in update.places:
        remembered = await trio.to_thread.run_sync(hashes.find, place)
        if remembered is None and update.record.patches:
            remembered = await _hashed(place, update.record)
        if remembered is not None:
            found.append(Installed(place, remembered))
    return found


async def _hashed(place: Path, record: ReleaseRecord) -> Remembered | None:
    """What stands at a place, as its publisher would have hashed it; None if that cannot be told.

    It is not remembered: nobody knows which of the files are the user's.
    """
    is_folder = await trio.Path(place).is_dir()
    title = record.series.title_of(None if is_folder else place.name)
    try:
        scanned = await scan(place, ScanRules(skip=True), name=title)
    except SwarmError:
        return None
    return Remembered(scanned.manifest, scanned.checks)


def _missing(update: Update, versions: Sequence[Installed]) -> int:
    """The bytes of the lacking pieces that no version here is known to hold."""
    lacking, layout = update.lacking, update.manifest.layout
    for version in versions:
        lacking = lacking - pieces_in(update.manifest, version.remembered.manifest)
    return layout.total_length if lacking.full else sum(map(layout.length, lacking))


def pieces_in(new: Manifest, old: Manifest) -> PieceSet:
    """The pieces of ``new`` that an unchanged ``old`` holds in a whole file or at the same offset."""
    held = PieceSet(new.piece_count)
    for file, other in pair_files(new, old).items():
        entry, known = new.files[file], old.files[other]
        pieces = new.layout.pieces_of(file)
        if entry.blake3 == known.blake3:
            held |= PieceSet.between(new.piece_count, pieces.start, pieces.stop)
        elif new.piece_length == old.piece_length:
            ends = range(DIGEST_BYTES, len(known.pieces) + 1, DIGEST_BYTES)
            for piece, end in zip(pieces, ends, strict=False):
                if entry.pieces[end - DIGEST_BYTES : end] == known.pieces[end - DIGEST_BYTES : end]:
                    held.add(piece)
    return held


async def _fetched(fetch: Transfer, transfer: Transfer, offer: PatchOffer) -> Path | None:
    """Wait for the patch; None, with a warning, if it cannot be had."""

    async def tell() -> None:
        while True:
            await trio.sleep(TELL_SECONDS)
            transfer.tell(PatchProgress(transfer.number, "fetching", fetch.now().done, offer.size))

    path: Path | None = None
    reason = "it is not what the release record says"
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            with trio.move_on_after(FINDING_SECONDS):
                await fetch.opened()
            # Before a byte of it is here: the record says how large it may be.
            if not fetch.is_open:
                reason = "nobody who could be asked has it"
            elif fetch.size == offer.size and not fetch.manifest.folder:
                path = await fetch.complete()
            nursery.cancel_scope.cancel()
    except* SwarmError as group:
        reason = str(group.exceptions[0])
    if path is None:
        transfer.tell(Warned(f"the patch is not used, pieces are fetched instead: {reason}", transfer.number))
    return path


class WatchedPatch:
    """A patch source that tells the user, in one line, when the patch is of no use, or part of it is not."""

    local = True
    patched = True

    def __init__(self, source: PieceSource, transfer: Transfer) -> None:
        self._source = source
        self._transfer = transfer
        self._told = False

    @property
    def id(self) -> SourceId:
        """That of the source."""
        return self._source.id

    @property
    def description(self) -> str:
        """That of the source."""
        return self._source.description

    async def deliver(self, desk: RequestDesk) -> None:
        """Serve requests until cancelled; raises what the source raises."""
        try:
            await self._source.deliver(_WatchedDesk(desk, self.refused))
        except SwarmError as error:
            self._tell(f"the patch is not used, pieces are fetched instead: {error}")
            raise

    def refused(self) -> None:
        """A piece could not be made."""
        self._tell("a part of the patch does not fit what is installed: pieces are fetched instead")

    def _tell(self, line: str) -> None:
        if not self._told:
            self._told = True
            self._transfer.tell(Warned(line, self._transfer.number))


class _WatchedDesk:
    """A desk that tells of refusals."""

    def __init__(self, desk: RequestDesk, refused: Callable[[], None]) -> None:
        self._desk = desk
        self._refused = refused

    @property
    def manifest(self) -> Manifest:
        return self._desk.manifest

    def offer(self, pieces: PieceSet) -> None:
        self._desk.offer(pieces)

    async def next_request(self) -> int:
        return await self._desk.next_request()

    async def supply(self, piece: int, data: memoryview) -> None:
        await self._desk.supply(piece, data)

    def refuse(self, piece: int) -> None:
        self._refused()
        self._desk.refuse(piece)


class PatchNews:
    """Hears the events of a patch's transfer: tells observers of them as of ``transfer``, and who needs more.

    ``size`` is that of the patch. ``publish`` tells observers what does not count for the update.
    """

    def __init__(self, transfer: Transfer, size: int, publish: Callable[[Event], None]) -> None:
        self._transfer = transfer
        self._size = size
        self._publish = publish
        self._began = trio.current_time()
        self._took = 0.0
        self._sent = 0
        self._lacking: set[PeerId] = set()
        self._complete: set[PeerId] = set()
        self._changed = trio.Event()

    def publish(self, *events: Event) -> None:
        """Take events: what moves counts for the update, and its warnings are the update's."""
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        number = self._transfer.number
        match event:
            case BytesReceived() | BytesSent() | SourceBanned() | PeersAwaited():
                self._transfer.tell(replace(event, transfer=number))
            case SourceFailed():
                self._publish(replace(event, transfer=number))
            case Warned(message=message):
                self._transfer.tell(Warned(message, number))
        match event:
            case BytesSent(size=size):
                self._sent += size
            case PeerConnected(peer=peer) if peer not in self._complete:
                self._lacking.add(peer)
            case PeerDisconnected(peer=peer):
                self._lacking.discard(peer)
            case PeerComplete(peer=peer):
                self._complete.add(peer)
                self._lacking.discard(peer)
            case _:
                return
        self._changed.set()

    def arrived(self) -> None:
        """The patch is here."""
        self._took = trio.current_time() - self._began

    async def passed_on(self) -> None:
        """Wait until nobody who is connected lacks any of the patch, or as much of it was sent as was taken.

        At most as long as it took to get it here, within bounds.
        """
        with trio.move_on_after(min(max(self._took, LEAST_PASSING), MOST_PASSING)):
            while self._lacking and self._sent < self._size:
                self._changed = trio.Event()
                await self._changed.wait()
