"""One update: chooses the cheapest way to what is missing, and fetches the patch as a transfer of its own.

The patch's transfer runs on the same node, so the patch is seeded for as long as the update's own transfer
runs. Observers hear of it as of the update: what it receives and sends counts there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from swarm.config import TransferOptions
from swarm.content.manifest import Manifest
from swarm.content.release import PatchOffer, ReleaseRecord
from swarm.errors import SwarmError
from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    PatchProgress,
    PeersAwaited,
    SourceBanned,
    UpdatePlanned,
    Warned,
)
from swarm.lazy_dataclass import dataclass, replace
from swarm.ports import PieceSource
from swarm.storage.manifest_files import NamedContent
from swarm.storage.patch_folder import PatchFolder
from swarm.transfer.transfer import Transfer

if TYPE_CHECKING:
    from swarm.ids import TransferId

PATCH_PATIENCE: Final = 15.0
"""Seconds without a peer that has the patch, or a verified piece of it, after which it is done without."""
TELL_SECONDS: Final = 0.25

BeginPatch = Callable[[NamedContent, Path, TransferOptions, Callable[[Event], None]], Transfer]
"""Begins the patch's transfer: what, into which folder, how, and where its events go."""


@dataclass(frozen=True, slots=True)
class PatchDesk:
    """What the node gives to fetch a patch with."""

    folder: PatchFolder
    begin: BeginPatch
    publish: Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Update:
    """What a transfer updates: the release, where its peers are, the version that is installed and where.

    ``installed`` is None if nothing is, or nobody knows what. ``missing`` are the bytes of the pieces that no
    file on this machine has.
    """

    record: ReleaseRecord
    content: NamedContent
    installed: Manifest | None
    bases: Sequence[Path]
    missing: int


def plan_of(update: Update, transfer: TransferId) -> tuple[UpdatePlanned, PatchOffer | None]:
    """The cheapest way, and the patch if that is it."""
    offer = None if update.installed is None else update.record.patch_from(update.installed.id)
    way, reason = "patch", ""
    if not update.missing:
        way, reason, offer = "nothing", "everything is on this machine", None
    elif offer is not None and offer.size >= update.missing:
        way, reason, offer = "reuse", "the patch is larger than what is missing", None
    elif offer is None:
        way = "reuse" if update.missing < update.record.size else "pieces"
        reason = "no version is installed"
        if update.installed is not None:
            reason = "the release has no patch from what is installed"
    return UpdatePlanned(transfer, way, 0 if offer is None else offer.size, update.missing, reason), offer


@asynccontextmanager
async def patch_sources(
    desk: PatchDesk, transfer: Transfer, update: Update
) -> AsyncIterator[tuple[PieceSource, ...]]:
    """Fetch the patch if that is the cheapest way; yields the source that applies it, or nothing.

    The patch is seeded until the block ends. What is wrong with it costs one warning: the pieces come from
    peers then.
    """
    plan, offer = plan_of(update, transfer.number)
    desk.publish(plan)
    if offer is None or update.installed is None:
        yield ()
        return
    number = transfer.number
    await trio.to_thread.run_sync(desk.folder.prepare)
    options = TransferOptions(
        peers=transfer.options.peers,
        patience=min(PATCH_PATIENCE, transfer.options.patience),
        max_peers=transfer.options.max_peers,
        name=desk.folder.name_of(offer.patch),
        overwrite=True,
        origin_use="never",
        times=False,
    )
    content = replace(update.content, manifest=offer.patch, origins=(), name=None)
    fetch = desk.begin(content, desk.folder.path, options, heard_as(transfer))
    complete = False
    try:
        path = await _fetched(fetch, transfer, offer)
        if path is None:
            yield ()
        else:
            # Few fetches have a patch: what decompresses it is not loaded for the others.
            from swarm.sources.patch_source import PatchSource

            desk.publish(PatchProgress(number, "fetching", offer.size, offer.size))
            yield (PatchSource(path, update.installed, update.bases),)
        complete = transfer.path is not None
    finally:
        with trio.CancelScope(shield=True):
            await fetch.stop()
            if complete:
                await trio.to_thread.run_sync(desk.folder.remove, offer.patch)


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
            await fetch.opened()
            # Before a byte of it is here: the record says how large it may be.
            if fetch.size == offer.size and not fetch.manifest.folder:
                path = await fetch.complete()
            nursery.cancel_scope.cancel()
    except* SwarmError as group:
        reason = str(group.exceptions[0])
    if path is None:
        transfer.tell(Warned(f"the patch is not used, pieces are fetched instead: {reason}", transfer.number))
    return path


def heard_as(transfer: Transfer) -> Callable[[Event], None]:
    """Where the events of a patch's transfer go: what concerns the user is told as of ``transfer``."""
    number = transfer.number

    def publish(event: Event) -> None:
        match event:
            case BytesReceived() | BytesSent() | SourceBanned() | PeersAwaited():
                transfer.tell(replace(event, transfer=number))
            case Warned(message=message):
                transfer.tell(Warned(message, number))
            case _:
                pass

    return publish
