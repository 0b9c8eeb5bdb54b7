"""How the content of a transfer is opened: hashing what is shared, finding and checking what is fetched."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import trio

from swarm.bits import PieceSet
from swarm.config import TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.hints import shown_hint
from swarm.content.link import SwarmLink, is_link
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.content.release import SignedRelease
from swarm.content.selection import select
from swarm.content.series_link import SeriesLink, is_series_link
from swarm.content.signature import parse_signer, sign
from swarm.content.times import FileTimes
from swarm.discovery.named_peers import NamedPeers
from swarm.endpoint import Circuit, PeerAddress
from swarm.errors import ManifestError, UsageError
from swarm.events import (
    Event,
    FilesKept,
    FilesSelected,
    HashingProgress,
    ManifestReady,
    PeerFound,
    PeersAwaited,
    ReleaseFound,
    TransferResumed,
    Warned,
)
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.lazy_dataclass import dataclass, field
from swarm.net.addresses import parse_peer_address
from swarm.node.asked_times import find_tree_times
from swarm.node.catalogue import Questions
from swarm.node.manifest_search import obtain
from swarm.node.release_content import KnownRelease, check_title, named_release
from swarm.node.releases import AskOrigin, Releases, ReleaseSearch
from swarm.node.updating import PatchDesk, Update, update_sources
from swarm.origin_url import MAX_ORIGINS, OriginUrl, read_origins
from swarm.ports import PeerSource, PieceSource
from swarm.sources.base_source import BaseSource
from swarm.storage.hash_cache import HashCache
from swarm.storage.manifest_files import NamedContent, find_content
from swarm.storage.scan import ScanRules, scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import Target, TargetOptions, open_target
from swarm.transfer.transfer import OpenContent, Transfer

if TYPE_CHECKING:
    from swarm.discovery.meeting_point import MeetingPoint

HASHING_SECONDS = 0.1
"""The least time between two events about the progress of hashing."""


@dataclass(frozen=True, slots=True)
class ContentOpener:
    """What the node gives to open content with.

    ``questions`` asks peers for manifests, ``key`` signs them. ``claim`` makes a manifest the transfer's own,
    and raises UsageError if it is another's. ``peer_sources`` are the node's own. ``hashes`` remembers
    what was hashed. ``releases`` asks for the newest of a series. ``meeting_points`` gives those of the node,
    and the ones at further addresses.
    """

    questions: Questions
    key: bytes
    publish: Callable[[Event], None]
    claim: Callable[[Transfer, ManifestId], None]
    peer_sources: Callable[[], Sequence[PeerSource]]
    hashes: HashCache
    releases: Releases
    meeting_points: Callable[[Sequence[str]], tuple[MeetingPoint, ...]]
    origin_connections: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    patches: PatchDesk | None = None


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """What to share, and as what; ``piece_length`` is bytes, or None to choose it by the size."""

    path: Path
    piece_length: int | None
    peers: tuple[str, ...]
    rules: ScanRules = field(default_factory=ScanRules)
    rehash: bool = False
    name: str | None = None
    origins: tuple[OriginUrl, ...] = ()


Content: TypeAlias = str | Path | SwarmLink | SeriesLink | ManifestId | Envelope | NamedContent | KnownRelease
"""What can be fetched: a link (of a series: its newest release), the path of a ``.swarm`` file, an id."""


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What to fetch, into which folder, and from which peers."""

    content: str | NamedContent | SeriesLink | KnownRelease
    into: Path
    peers: tuple[str, ...]
    trusted: frozenset[PeerId]
    options: TransferOptions

    @classmethod
    def read(
        cls,
        content: Content,
        into: Path,
        peers: tuple[str, ...],
        options: TransferOptions,
    ) -> FetchRequest:
        """Read what the user gave; raises UsageError, ManifestError for what is malformed."""
        if isinstance(content, str) and is_link(content):
            content = (SeriesLink if is_series_link(content) else SwarmLink).pasted(content)
        named: str | NamedContent | SeriesLink | KnownRelease
        match content:
            case SeriesLink() | KnownRelease():
                named = content
            case SwarmLink():
                named = NamedContent.of_link(content)
            case NamedContent():
                named = content
            case Envelope():
                named = NamedContent.of_envelope(content)
            case ManifestId():
                named = NamedContent(content)
            case _:
                named = str(content)
        return cls(named, into, peers, frozenset(map(_signer, options.trusted)), options)


@asynccontextmanager
async def open_share(
    opener: ContentOpener, transfer: Transfer, request: ShareRequest
) -> AsyncIterator[OpenContent]:
    """Hash the path and open it to be served in place."""
    if request.origins and await trio.Path(request.path).is_dir():
        for origin in request.origins:
            origin.require_folder()
    scanned = await scan(
        request.path,
        request.rules,
        name=request.name,
        piece_length=request.piece_length,
        progress=_hashing_progress(opener, transfer),
        warn=_warner(opener, transfer),
        recall=None if request.rehash else opener.hashes.find,
    )
    manifest = scanned.manifest
    opener.claim(transfer, manifest.id)
    if scanned.hashed:
        await trio.to_thread.run_sync(
            opener.hashes.keep, request.path, manifest, scanned.checks, scanned.unsettled
        )
    mtimes = scanned.checks.files.mtimes
    envelope = await trio.to_thread.run_sync(
        lambda: Envelope(manifest, sign(opener.key, manifest.encode()), times=FileTimes.of(mtimes))
    )
    with SeedStore(manifest, request.path, scanned.checks) as store:
        _tell_manifest(opener, transfer, envelope)

        async def finish() -> Path:
            await trio.lowlevel.checkpoint()
            return request.path

        named = [parse_peer_address(peer) for peer in request.peers]
        circuits = tuple(Circuit(point.at) for point in opener.meeting_points(()))
        yield OpenContent(
            envelope=envelope,
            store=store,
            files=range(len(manifest.files)),
            wanted=PieceSet.all(manifest.piece_count),
            size=manifest.total_length,
            finish=finish,
            watch=store.watch,
            peer_sources=(NamedPeers(named, circuits),),
            origins=request.origins,
        )


@asynccontextmanager
async def open_fetch(
    opener: ContentOpener, transfer: Transfer, request: FetchRequest
) -> AsyncIterator[OpenContent]:
    """Find the manifest, and open the target with what earlier runs left in it."""
    options = request.options
    named_content, release = await _find(opener, request, transfer.number)
    what = named_content.manifest
    opener.claim(transfer, what if isinstance(what, ManifestId) else what.manifest.id)
    named, sources = _sources(opener, request, named_content, transfer.number)
    origins = _origins(options, named_content)

    async def ask_peers() -> Envelope:
        return await obtain(
            opener.questions,
            what,
            sources,
            request.trusted,
            options.patience,
            lambda reason, seconds: opener.publish(PeersAwaited(transfer.number, reason, seconds)),
            finding=lambda found, provenance: opener.publish(
                PeerFound(transfer.number, found.peer, found.addresses, provenance)
            ),
        )

    envelope = await _obtain(opener, request, named_content, ask_peers if sources else None)
    manifest = envelope.manifest
    _check_place(request, named_content, manifest)
    _tell_manifest(opener, transfer, envelope)
    chosen, files, size = await _chosen(manifest, options.only)
    progress = _hashing_progress(opener, transfer)
    how = _target_options(opener, options, envelope, chosen)
    async with (
        open_target(manifest, request.into, how, progress=progress, warn=_warner(opener, transfer)) as target,
        _updating(opener, transfer, request, release, named_content, target) as patched,
    ):
        _tell_resumed(opener, transfer, target, (len(files), size) if options.only else None)
        bases = (*options.bases, *target.bases)
        others = options.seed or bases or origins or transfer.piece_sources
        if not (target.complete or sources or others):
            raise UsageError("nobody to fetch from: name at least one peer, or wait for peers with --seed")
        yield OpenContent(
            envelope=envelope,
            store=target,
            files=files,
            wanted=target.wanted,
            size=size,
            finish=partial(_finish, opener, transfer, target),
            upkeep=target.run_syncer,
            watch=target.watch,
            peer_sources=named,
            piece_sources=(
                *patched,
                *_base_sources(opener, options, bases),
                *_origin_sources(opener, options, origins),
            ),
            origins=origins,
            expects_peers=bool(request.peers or named_content.peers or named_content.meets),
        )


def _target_options(
    opener: ContentOpener, options: TransferOptions, envelope: Envelope, chosen: frozenset[int] | None
) -> TargetOptions:
    """How the target of a fetch is opened; ``chosen`` are the items that are wanted, None: all."""
    recall = None if options.rehash else opener.hashes.find
    if options.update and options.rehash:
        # Which files the older version had is needed all the same.
        recall = opener.hashes.find_list
    times = envelope.times if options.times else None
    return TargetOptions(chosen, options.name, options.overwrite, times, recall, options.update)


async def _finish(opener: ContentOpener, transfer: Transfer, target: Target) -> Path:
    """Give what is complete its final name and its times, and tell which files of the user were kept."""
    options, tree_times = transfer.options, None
    if options.times and not options.only:
        peers = [status.peer for status in transfer.peers()]
        tree_times = await find_tree_times(opener.questions, target.manifest, peers)
    path = await target.finish(tree_times, opener.hashes.keep)
    if target.kept.files:
        opener.publish(FilesKept(transfer.number, str(path), target.kept.told(), len(target.kept.files)))
    return path


@asynccontextmanager
async def _updating(
    opener: ContentOpener,
    transfer: Transfer,
    request: FetchRequest,
    release: SignedRelease | None,
    content: NamedContent,
    target: Target,
) -> AsyncIterator[tuple[PieceSource, ...]]:
    """The patch, if a release is fetched and there is one to be had; see `swarm.node.updating`."""
    if release is None or opener.patches is None or target.complete:
        yield ()
        return
    places = await trio.to_thread.run_sync(_older_versions, request, target)
    lacking = target.wanted - target.stored
    update = Update(release.record, content, target.manifest, lacking, places, target.path)
    async with update_sources(opener.patches, opener.hashes, transfer, update) as sources:
        yield sources


def _older_versions(request: FetchRequest, target: Target) -> tuple[Path, ...]:
    """Where older versions of what is fetched may lie: under its final name, and where the user says."""
    return tuple(place for place in (*target.bases, *request.options.bases) if place.exists())


async def _chosen(
    manifest: Manifest, patterns: Sequence[str]
) -> tuple[frozenset[int] | None, Collection[int], int]:
    """Return what the patterns select (None: all, without any), the files among that, and their bytes."""
    if not patterns:
        return None, range(len(manifest.files)), manifest.total_length

    def chosen() -> tuple[frozenset[int], Collection[int], int]:
        items = select(manifest, patterns)
        files = [item for item in items if item < len(manifest.files)]
        return items, files, sum(map(manifest.layout.file_length, files))

    return await trio.to_thread.run_sync(chosen)


async def look_up(opener: ContentOpener, request: FetchRequest) -> Envelope:
    """Return the manifest that the request names, from peers if only its id is known; fetch nothing.

    Raises what `swarm.node.manifest_search.find_manifest` does.
    """
    named_content, _ = await _find(opener, request, None)
    _, sources = _sources(opener, request, named_content, None)

    async def ask_peers() -> Envelope:
        return await obtain(
            opener.questions,
            named_content.manifest,
            sources,
            request.trusted,
            request.options.patience,
            lambda reason, seconds: opener.publish(
                Warned(f"waiting up to {seconds:.0f} s for a peer: {reason}")
            ),
        )

    return await _obtain(opener, request, named_content, ask_peers if sources else None)


def release_search(
    opener: ContentOpener, request: FetchRequest, link: SeriesLink, transfer: TransferId | None
) -> ReleaseSearch:
    """Whom to ask for the newest release of a series; raises UsageError for malformed peers."""
    place = NamedContent(
        ManifestId(link.series.id.digest), link.peers, linked=True, meets=link.meets, origins=link.origins
    )
    _, sources = _sources(opener, request, place, transfer)
    origins = _origins(request.options, place)
    asks: Sequence[AskOrigin] = ()
    if origins:
        from swarm.node.origin_opening import release_asks, settings_of

        asks = release_asks(origins, link.series, settings_of(request.options, opener.origin_connections))

    def warn(message: str) -> None:
        opener.publish(Warned(message, transfer))

    def awaiting(reason: str, seconds: float) -> None:
        if transfer is not None:
            opener.publish(PeersAwaited(transfer, reason, seconds))

    return ReleaseSearch(link.series, sources, request.options.patience, warn, asks, awaiting)


async def _find(
    opener: ContentOpener, request: FetchRequest, transfer: TransferId | None
) -> tuple[NamedContent, SignedRelease | None]:
    """What the request names, and of a series the newest release."""
    content = request.content
    if isinstance(content, KnownRelease):
        link = content.link
        what: Envelope | ManifestId = content.envelope
        release: SignedRelease | None = await opener.releases.offer_known(link.series)
        if release is not None and release.record.manifest != content.envelope.manifest.id:
            release = None
    elif isinstance(content, SeriesLink):
        link = content
        release = await opener.releases.newest(release_search(opener, request, link, transfer))
        what = release.record.manifest
    else:
        return await find_content(content) if isinstance(content, str) else content, None
    if release is None:
        return named_release(link, what, ()), None
    record = release.record
    if transfer is not None:
        opener.publish(
            ReleaseFound(transfer, record.series.key, record.series.name, record.sequence, record.manifest)
        )
    return named_release(link, what, record.origins), release


def _check_place(request: FetchRequest, content: NamedContent, manifest: Manifest) -> None:
    """Raise ManifestError if something would be replaced under a name of which the user knows nothing."""
    options = request.options
    replaces = options.name is None and (options.update or options.overwrite)
    if isinstance(request.content, SeriesLink | KnownRelease):
        check_title(request.content, manifest, options)
    elif replaces and content.name not in {None, manifest.name}:
        raise ManifestError(
            f"the link names {printable(content.name or '')}, but its content is called "
            f"{printable(manifest.name)}: nothing is replaced; say the final name with --name"
        )


async def _obtain(
    opener: ContentOpener,
    request: FetchRequest,
    content: NamedContent,
    ask_peers: Callable[[], Awaitable[Envelope]] | None,
) -> Envelope:
    """The envelope: given, from an origin, or from peers."""
    what, options = content.manifest, request.options
    origins = _origins(options, content)
    if isinstance(what, ManifestId) and origins:
        from swarm.node.origin_opening import obtain_from_origins, settings_of

        settings = settings_of(options, opener.origin_connections)
        found = await obtain_from_origins(
            origins, content.name or options.name, what, settings, options.patience, ask_peers
        )
        if request.trusted:
            found.require_signer(request.trusted)
        return found
    if ask_peers is not None or isinstance(what, ManifestId):
        return await (ask_peers or _nobody)()
    if request.trusted:
        what.require_signer(request.trusted)
    return what


async def _nobody() -> Envelope:
    await trio.lowlevel.checkpoint()
    raise UsageError("an id alone names no peer to ask: add at least one peer")


def _origins(options: TransferOptions, content: NamedContent) -> tuple[OriginUrl, ...]:
    """The web servers that the user and the link name, each once."""
    if options.origin_use == "never":
        return ()
    return read_origins((*options.origin_urls, *content.origins)[:MAX_ORIGINS])


def _base_sources(
    opener: ContentOpener, options: TransferOptions, bases: Sequence[Path]
) -> tuple[PieceSource, ...]:
    """The sources that take pieces from files on this machine."""
    recall = None if options.rehash else opener.hashes.find
    return tuple(BaseSource(base, recall) for base in dict.fromkeys(bases))


def _origin_sources(
    opener: ContentOpener, options: TransferOptions, origins: tuple[OriginUrl, ...]
) -> tuple[PieceSource, ...]:
    if not origins:
        return ()
    # Most fetches have none: what speaks HTTP is not loaded for them.
    from swarm.node.origin_opening import origin_sources, settings_of

    return origin_sources(origins, settings_of(options, opener.origin_connections))


def _sources(
    opener: ContentOpener, request: FetchRequest, content: NamedContent, transfer: TransferId | None
) -> tuple[tuple[PeerSource, ...], tuple[PeerSource, ...]]:
    """What finds peers for this transfer beside the node's own sources, and everything that finds any.

    The peers that the user and the content name come first; each may be met at a meeting point, too.
    """
    peers = _peer_addresses(opener, transfer, request.peers, content.peers)
    points = opener.meeting_points(_usable(opener, transfer, content.meets))
    own = tuple(opener.peer_sources())
    linked = tuple(point for point in points if point not in own)
    named = NamedPeers(peers, tuple(Circuit(point.at) for point in points))
    sources = ((named,) if peers else ()) + own + linked
    origins = _origins(request.options, content)
    named_some = content.peers or content.meets
    if content.linked and not (sources or origins):
        if named_some:
            raise UsageError("no address in the link can be used: look whether it is whole, or add a peer")
        raise UsageError(
            "the link names no peer to ask: if a shell cut it at '&', put quotes around it, or use the form "
            "with commas; or add a peer"
        )
    if content.linked and not (named_some or peers or origins):
        nobody = (
            "the link names no peer, so others are looked for: if a shell cut it at '&', put quotes around it"
        )
        opener.publish(Warned(nobody, transfer))
    return (named, *linked), sources


def _peer_addresses(
    opener: ContentOpener, transfer: TransferId | None, given: Sequence[str], hints: Sequence[str]
) -> list[PeerAddress]:
    """Whom to ask: the peers that the user gave, then those in the link, each once."""
    found = [parse_peer_address(text) for text in (*given, *_usable(opener, transfer, hints))]
    return list(dict.fromkeys(found))


def _usable(opener: ContentOpener, transfer: TransferId | None, hints: Sequence[str]) -> tuple[str, ...]:
    """Those of the addresses in a link or manifest that are well formed."""
    found = []
    for hint in hints:
        try:
            parse_peer_address(hint)
        except UsageError:
            useless = f"the address {shown_hint(hint)} in the link or manifest cannot be used and is left out"
            opener.publish(Warned(useless, transfer))
        else:
            found.append(hint)
    return tuple(found)


def _signer(text: str) -> PeerId:
    try:
        return parse_signer(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a signer: {error}") from error


def _warner(opener: ContentOpener, transfer: Transfer) -> Callable[[str], None]:
    return lambda message: opener.publish(Warned(message, transfer.number))


def _hashing_progress(opener: ContentOpener, transfer: Transfer) -> Callable[[int, int], None]:
    told_at = -math.inf

    def tell(done: int, total: int) -> None:
        nonlocal told_at
        now = trio.current_time()
        if done >= total or now >= told_at + HASHING_SECONDS:
            told_at = now
            opener.publish(HashingProgress(transfer.number, done, total))

    return tell


def _tell_manifest(opener: ContentOpener, transfer: Transfer, envelope: Envelope) -> None:
    manifest = envelope.manifest
    opener.publish(
        ManifestReady(
            transfer.number,
            manifest.id,
            manifest.name,
            manifest.total_length,
            manifest.piece_count,
            manifest.piece_length,
            len(manifest.files),
            envelope.signer,
        )
    )


def _tell_resumed(
    opener: ContentOpener, transfer: Transfer, target: Target, selected: tuple[int, int] | None
) -> None:
    if selected is not None:
        files, size = selected
        opener.publish(FilesSelected(transfer.number, files, target.wanted.count, size))
    if target.resumed_pieces:
        opener.publish(TransferResumed(transfer.number, target.resumed_pieces, target.resumed_bytes))
