"""Follows series for a daemon: each release is taken as soon as there is one, and seeded until the next.

The record and the manifest of a release are kept on the disk before anything of it is fetched. So after a
kill, in the middle of an update too, the next start goes on with the same release and needs nobody for that.
Source: docs/daemon.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from swarm.content.release import ReleaseRecord
from swarm.content.series_link import SeriesLink
from swarm.daemon.kept_entry import KeptEntry
from swarm.daemon.wishes import options_of
from swarm.errors import SwarmError, UsageError
from swarm.lazy_dataclass import replace
from swarm.transfer.transfer import Transfer

if TYPE_CHECKING:
    from swarm.daemon.keeper import TransferKeeper

MANIFEST_SECONDS: Final = 60.0
"""How long the manifest of a new release is asked for before it is asked which release is the newest."""
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 300.0
"""Before a release that could not be taken is tried again; doubled each time."""


class SeriesFollower:
    """Brings the transfers of a keeper that follow a series from release to release."""

    def __init__(self, keeper: TransferKeeper) -> None:
        self._keeper = keeper

    async def begin(self, entry: KeptEntry, link: SeriesLink) -> None:
        """Keep the newest release if none is kept yet; raises what `Node.newest_release` does."""
        if entry.kept.manifest:
            return
        options = options_of(entry.kept, private_origins=self._keeper.private_origins)
        record = await self._keeper.node.newest_release(link, options=options, hear=self._hear(entry))
        entry.awaited = ""
        await self._take(entry, link, record, patience=options.patience)

    async def until_ended(self, entry: KeptEntry, link: SeriesLink, transfer: Transfer) -> None:
        """Wait until the transfer ends; a newer release ends it, and the next attempt fetches that."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, entry, link)
            await transfer.ended()
            nursery.cancel_scope.cancel()

    async def _follow(self, entry: KeptEntry, link: SeriesLink) -> None:
        """Take the next release, and end what runs."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await entry.unpaused()
            options = options_of(entry.kept, private_origins=self._keeper.private_origins)
            try:
                record = await self._keeper.node.next_release(
                    link, entry.kept.release, options=options, hear=self._hear(entry)
                )
                await entry.unpaused()
                await self._take(entry, link, record, patience=MANIFEST_SECONDS)
            except SwarmError as error:
                self._keeper.note(entry, f"the next release cannot be taken yet: {error}")
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                # Its folder is about to be replaced.
                await self._keeper.again(entry)
                return

    def _hear(self, entry: KeptEntry) -> Callable[[str], None]:
        return lambda line: self._keeper.note(entry, line)

    async def _take(
        self, entry: KeptEntry, link: SeriesLink, record: ReleaseRecord, *, patience: float
    ) -> None:
        """Keep a release with its manifest; raises UsageError if another transfer has that content."""
        keeper = self._keeper
        other = keeper.holder_of(str(record.manifest))
        if other is not None and other is not entry:
            raise UsageError(f"release {record.sequence} is transfer {other.kept.id} already: remove that")
        options = options_of(entry.kept, private_origins=keeper.private_origins)
        envelope = await keeper.node.release_manifest(
            link, record, options=replace(options, patience=patience)
        )
        await keeper.take_release(entry, record.sequence, envelope)
