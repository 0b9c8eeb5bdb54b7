"""A patch that was fetched, and the old version on this machine: together they make pieces of a new one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import SwarmError
from swarm.ids import SourceId
from swarm.ports import RequestDesk
from swarm.storage.patch_reader import PatchReader

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


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
        self._prepared: tuple[Executor, Future[PatchReader]] | None = None

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
        thread, opening = self._prepared or await self._open(desk.manifest)
        self._prepared = None
        with thread, opening.result() as reader:
            desk.offer(reader.pieces)
            while True:
                await _answer(desk, reader, await desk.next_request(), thread)

    async def prepare(self, manifest: Manifest) -> None:
        """Open the patch to this content now, so that `deliver` offers all of it at once.

        Peers would be asked for the same meanwhile. What is wrong with the patch is raised by `deliver`.
        """
        self._prepared = await self._open(manifest)

    def close(self) -> None:
        """Give back what was prepared, if it was never delivered from."""
        if self._prepared is not None:
            _close(*self._prepared)
            self._prepared = None

    async def _open(self, manifest: Manifest) -> tuple[Executor, Future[PatchReader]]:
        from concurrent.futures import ThreadPoolExecutor

        # One thread makes all: each further one would keep large freed memory of its own (glibc's arenas).
        thread = ThreadPoolExecutor(1, "patch")
        opening = thread.submit(PatchReader.open, self._patch, self._old, manifest, self._bases)
        try:
            with suppress(SwarmError):
                await trio.to_thread.run_sync(opening.result)
        except BaseException:
            _close(thread, opening)
            raise
        return thread, opening


def _close(thread: Executor, opening: Future[PatchReader]) -> None:
    with thread, suppress(SwarmError), opening.result():
        pass


async def _answer(desk: RequestDesk, reader: PatchReader, piece: int, thread: Executor) -> None:
    if reader.at_hand(piece):
        data = reader.read(piece)
    else:
        data = await trio.to_thread.run_sync(thread.submit(reader.read, piece).result)
    if data is None:
        # The rest of its segment is not to be asked for in vain.
        desk.offer(reader.pieces)
        desk.refuse(piece)
    else:
        await desk.supply(piece, data)
