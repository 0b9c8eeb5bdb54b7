"""A file or folder on this machine that may hold parts of the same content, such as an older version."""

from __future__ import annotations

from pathlib import Path

import trio

from swarm.bits import PieceSet
from swarm.content.paths import printable
from swarm.ids import SourceId
from swarm.ports import LocalDesk, RequestDesk
from swarm.storage.hash_cache import Recall
from swarm.storage.reuse import Reusable, find_reusable

TAKEN_BYTES = 8 * 1024 * 1024
"""What is taken in one step: short enough that others hear of it soon."""
AT_ONCE = 2
"""Steps that are taken side by side: one reads and hashes while the other writes."""


class BaseSource:
    """Takes pieces from ``path`` where it holds them: a file, or a folder, or the folder which that lies in.

    See `swarm.storage.reuse` for what is found. ``recall`` returns what was hashed at a path before. What
    does not match the manifest is refused, so a base with other content costs reading and no more.
    """

    local = True
    patched = False

    def __init__(self, path: Path, recall: Recall | None = None) -> None:
        self._path = path
        self._recall = recall

    @property
    def id(self) -> SourceId:
        """``base:`` and the path."""
        return SourceId(f"base:{self._path}")

    @property
    def description(self) -> str:
        """The path."""
        return printable(str(self._path))

    async def deliver(self, desk: RequestDesk) -> None:
        """Serve requests until cancelled; raises `DiskError` if the path cannot be read."""
        manifest = desk.manifest
        found = await trio.to_thread.run_sync(
            lambda: find_reusable(
                manifest, PieceSet.all(manifest.piece_count), [self._path], self._recall, verify=False
            )
        )
        try:
            desk.offer(found.pieces)
            if isinstance(desk, LocalDesk):
                async with trio.open_nursery() as nursery:
                    for _ in range(AT_ONCE):
                        nursery.start_soon(self._serve, desk, found)
            else:
                await self._answer(desk, found)
        finally:
            found.close()

    async def _serve(self, desk: LocalDesk, found: Reusable) -> None:
        while True:
            await desk.take(await desk.next_batch(TAKEN_BYTES), found)

    async def _answer(self, desk: RequestDesk, found: Reusable) -> None:
        while True:
            piece = await desk.next_request()
            data = await trio.to_thread.run_sync(found.read, piece)
            if data is None:
                desk.refuse(piece)
            else:
                await desk.supply(piece, data)
