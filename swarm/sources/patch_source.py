"""A patch that was fetched, and the old version on this machine: together they make pieces of a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.ids import SourceId
from swarm.ports import RequestDesk
from swarm.storage.patch_reader import PatchReader


class PatchSource:
    """Makes pieces out of the ``patch`` from ``old`` and the files of it that lie in ``bases``.

    What does not match the manifest is refused here and then comes from peers, so a damaged patch or an
    edited old file costs time and no more.
    """

    local = True
    patched = True

    def __init__(self, patch: Path, old: Manifest, bases: Sequence[Path]) -> None:
        self._patch = patch
        self._old = old
        self._bases = tuple(bases)

    @property
    def id(self) -> SourceId:
        """``patch:`` and the path."""
        return SourceId(f"patch:{self._patch}")

    @property
    def description(self) -> str:
        """The path."""
        return printable(str(self._patch))

    async def deliver(self, desk: RequestDesk) -> None:
        """Serve requests until cancelled.

        Raises `PatchError` if this is no patch to the content that is fetched, `DiskError` if it cannot be
        read.
        """
        reader = await trio.to_thread.run_sync(
            PatchReader.open, self._patch, self._old, desk.manifest, self._bases
        )
        try:
            desk.offer(reader.pieces)
            while True:
                piece = await desk.next_request()
                if reader.at_hand(piece):
                    data = reader.read(piece)
                else:
                    data = await trio.to_thread.run_sync(reader.read, piece)
                if data is None:
                    # The rest of its segment is not to be asked for in vain.
                    desk.offer(reader.pieces)
                    desk.refuse(piece)
                else:
                    await desk.supply(piece, data)
        finally:
            reader.close()
