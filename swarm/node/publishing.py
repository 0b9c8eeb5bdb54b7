"""Publishes a release: hashes it, makes patches from older versions, signs the record, seeds all of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from swarm.config import TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.content.release import PatchOffer, ReleaseRecord, Series, SignedRelease, series_of, sign_release
from swarm.errors import DiskError, ManifestError, SwarmError, UsageError
from swarm.events import PatchProgress, Warned
from swarm.ids import ManifestId
from swarm.lazy_dataclass import dataclass
from swarm.storage.manifest_files import read_envelope
from swarm.storage.own_releases import OwnReleases
from swarm.storage.scan import ScanRules, scan

if TYPE_CHECKING:
    from swarm.node.node import Node
    from swarm.node.opening import ContentOpener
    from swarm.transfer.transfer import Transfer

TELL_SECONDS: Final = 0.2
"""The least time between two events about the making of a patch."""
MAX_KEEP: Final = 64

_MANIFEST_SUFFIX = ".swarm"


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """What to release under which name, and from which older versions patches are made."""

    name: str
    path: Path
    previous: tuple[Path, ...]
    keep: int
    options: TransferOptions


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """A release that its publisher seeds: the record, the content's transfer, and those of its patches.

    ``link`` is the link of the series. ``new`` is False if this release was published before.
    ``record_path`` is the file of the signed record, ``patch_folder`` has the patches: for web servers.
    """

    record: ReleaseRecord
    link: str
    transfer: Transfer
    patches: tuple[Transfer, ...]
    new: bool
    record_path: Path
    patch_folder: Path

    async def stop(self) -> None:
        """Seed none of it any more."""
        for transfer in (*self.patches, self.transfer):
            await transfer.stop()


@dataclass(frozen=True, slots=True)
class OldVersion:
    """An older version whose content is at hand."""

    manifest: Manifest
    path: Path


async def publish(node: Node, opener: ContentOpener, home: Path, request: PublishRequest) -> PublishedRelease:
    """Publish a release; raises UsageError, ManifestError, DiskError, Locked.

    A cancelled call leaves nothing running.
    """
    if not 0 <= request.keep <= MAX_KEEP:
        raise UsageError(f"patches are kept for 0 to {MAX_KEEP} earlier releases, not {request.keep}")
    series = series_of(opener.key, request.name)
    if any(origin.has_secrets for origin in request.options.origin_urls):
        raise UsageError("a release record is public: its origins have no user, password or query")
    publishing = _Publishing(node, opener, OwnReleases(home, series), series, request)
    try:
        return await publishing.run()
    except BaseException:
        for transfer in publishing.begun:
            transfer.cancel()
        raise


class _Publishing:
    """One call of `publish`."""

    def __init__(
        self, node: Node, opener: ContentOpener, own: OwnReleases, series: Series, request: PublishRequest
    ) -> None:
        self._node = node
        self._opener = opener
        self._own = own
        self._series = series
        self._request = request
        self.begun: list[Transfer] = []

    async def run(self) -> PublishedRelease:
        """Do it."""
        own, path = self._own, self._request.path
        await self._opener.releases.publish_alone(self._series, own.prepare)
        newest = await self._newest()
        is_file = await trio.Path(path).is_file()
        title = self._series.title_of(path.name if is_file else None)
        # Before any work: what cannot be found is an error at once.
        given = [await self._given(each, title) for each in self._request.previous]
        content = await self._node.share(path, name=title, options=self._request.options)
        self.begun.append(content)
        offers, patches = [], []
        for old in await self._old_versions(content.manifest, given, title):
            made = await self._patch(old, content)
            if made is not None:
                patches.append(made)
                offers.append(PatchOffer(old.manifest.id, made.id, made.size))
        if newest is not None and newest.record.manifest == content.id:
            # The same release again: a patch whose old version is gone by now is as good as before.
            for offer in newest.record.patches:
                if offer not in offers and (again := await self._again(offer, content)) is not None:
                    patches.append(again)
                    offers.append(offer)
        offers.sort(key=lambda offer: offer.old.digest)
        release = self._signed(newest, content.manifest, tuple(offers))
        is_new = newest is None or newest.record != release.record
        if is_new:
            envelope = Envelope(content.manifest, content.envelope.signature)
            await trio.to_thread.run_sync(own.keep, release, envelope, path, self._request.keep)
        await self._opener.releases.accept(release, self._warn)
        link = self._node.series_link(self._series, release.record.origins)
        places = own.record_path, own.patch_folder
        return PublishedRelease(release.record, link.shown(), content, tuple(patches), is_new, *places)

    async def _newest(self) -> SignedRelease | None:
        """The release that was signed last, as far as this home knows."""
        own = await trio.to_thread.run_sync(self._own.newest)
        seen = await self._opener.releases.known(self._series)
        if own is None or (seen is not None and seen.record.sequence > own.record.sequence):
            return seen
        return own

    def _signed(
        self, newest: SignedRelease | None, manifest: Manifest, offers: tuple[PatchOffer, ...]
    ) -> SignedRelease:
        """The record of before if nothing has changed, or the next one."""
        sequence = 1 if newest is None else newest.record.sequence
        record = ReleaseRecord(
            self._series,
            sequence,
            manifest.id,
            manifest.total_length,
            offers,
            self._request.options.origin_urls,
        )
        if newest is not None and newest.record == record:
            return newest
        if newest is not None:
            record = ReleaseRecord(
                self._series, sequence + 1, record.manifest, record.size, record.patches, record.origins
            )
        release = sign_release(self._opener.key, record)
        release.to_bytes()
        return release

    # --- Older versions -----------------------------------------------------------------------------

    async def _old_versions(self, new: Manifest, given: Sequence[OldVersion], title: str) -> list[OldVersion]:
        """The older versions that are at hand: those given, then the last ones that still stand unchanged."""
        earlier = await trio.to_thread.run_sync(self._own.earlier)
        found: dict[ManifestId, OldVersion] = {}
        for old in given:
            # As receivers have it: the same files may have been released in pieces of another size.
            released = [each.manifest for each in earlier if each.manifest.files == old.manifest.files]
            manifest = released[0] if released else old.manifest
            found[manifest.id] = OldVersion(manifest, old.path)
        found.pop(new.id, None)
        kept = 0
        for each in earlier:
            if each.manifest.id == new.id:
                continue
            if kept >= self._request.keep:
                break
            kept += 1
            if each.manifest.id not in found and await self._stands(each.manifest, each.path, title):
                found[each.manifest.id] = OldVersion(each.manifest, each.path)
        return list(found.values())

    async def _stands(self, manifest: Manifest, path: Path, title: str) -> bool:
        """Whether an earlier release still stands unchanged where it was released from."""
        remembered = await trio.to_thread.run_sync(self._opener.hashes.find, path)
        if remembered is None or remembered.manifest.id != manifest.id or not await trio.Path(path).exists():
            return False
        try:
            scanned = await self._scan(path, title, manifest.piece_length)
        except SwarmError:
            return False
        return scanned.id == manifest.id

    async def _given(self, path: Path, title: str) -> OldVersion:
        """An older version that the user names: its folder or file, or a manifest, the content beside it."""
        if path.suffix != _MANIFEST_SUFFIX or not await trio.Path(path).is_file():
            if not await trio.Path(path).exists():
                raise UsageError(f"there is no older version at {path}")
            return OldVersion(await self._scan(path, title, None), path)
        manifest = (await read_envelope(path)).manifest
        places = [path.with_name(manifest.name), Path(manifest.name)]
        earlier = await trio.to_thread.run_sync(self._own.earlier)
        places += [each.path for each in earlier if each.manifest.id == manifest.id]
        for place in places:
            if await trio.Path(place).exists():
                with_name = await self._scan(place, manifest.name, manifest.piece_length)
                if with_name.files == manifest.files:
                    return OldVersion(manifest, place)
        raise UsageError(
            f"the content of {path} is not beside it under the name {manifest.name}: give its folder or file "
            "with --previous instead"
        )

    async def _scan(self, path: Path, title: str, piece_length: int | None) -> Manifest:
        options = self._request.options
        rules = ScanRules(options.ignore, options.omit, skip=True)
        scanned = await scan(
            path, rules, name=title, piece_length=piece_length, recall=self._opener.hashes.find
        )
        if scanned.hashed:
            await trio.to_thread.run_sync(
                self._opener.hashes.keep, path, scanned.manifest, scanned.checks, scanned.unsettled
            )
        return scanned.manifest

    # --- Patches ------------------------------------------------------------------------------------

    async def _again(self, offer: PatchOffer, content: Transfer) -> Transfer | None:
        """Seed a patch that was made before; None if it is not there any more."""
        target = self._own.patch_path(offer.old, content.id)
        if not await trio.Path(target).exists():
            return None
        transfer = await self._seed(target, content)
        return transfer if transfer.id == offer.patch else None

    async def _seed(self, target: Path, content: Transfer) -> Transfer:
        options = TransferOptions(max_peers=content.options.max_peers)
        transfer = await self._node.share(target, options=options)
        self.begun.append(transfer)
        await trio.to_thread.run_sync(self._own.keep_manifest, target, transfer.envelope)
        return transfer

    async def _patch(self, old: OldVersion, content: Transfer) -> Transfer | None:
        """Make a patch unless it is there, and seed it; None if there is none worth while."""
        own, new = self._own, content.manifest
        target = own.patch_path(old.manifest.id, new.id)
        if not await trio.Path(target).exists():
            if await trio.to_thread.run_sync(own.has_no_patch, old.manifest.id, new.id):
                return None
            try:
                made = await self._make(old, content, target)
            except (DiskError, ManifestError) as error:
                self._warn(f"no patch is made from {old.path}: {error}")
                return None
            if not made:
                await trio.to_thread.run_sync(own.note_no_patch, old.manifest.id, new.id)
                return None
        return await self._seed(target, content)

    async def _make(self, old: OldVersion, content: Transfer, target: Path) -> bool:
        from swarm.storage.patch_maker import make_patch

        stopped = threading.Event()
        done = 0, content.manifest.total_length

        def progress(now: int, total: int) -> None:
            nonlocal done
            done = now, total

        def make() -> int | None:
            old_and_new = old.manifest, old.path, content.manifest, self._request.path
            return make_patch(*old_and_new, target, progress=progress, cancelled=stopped.is_set)

        def tell() -> None:
            self._opener.publish(PatchProgress(content.number, "making", *done))

        async def watch() -> None:
            try:
                while True:
                    tell()
                    await trio.sleep(TELL_SECONDS)
            finally:
                stopped.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            size = await trio.to_thread.run_sync(make)
            nursery.cancel_scope.cancel()
        # A cancelled one says nothing about what it is worth.
        await trio.lowlevel.checkpoint()
        done = done[1], done[1]
        tell()
        return size is not None

    def _warn(self, message: str) -> None:
        self._opener.publish(Warned(message))
