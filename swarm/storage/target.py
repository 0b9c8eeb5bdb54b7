"""A file or folder that is being fetched; docs/storage.md describes its states on the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from swarm.content.bitfield import Bitfield
from swarm.content.fingerprints import fingerprint
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.content.selection import pieces_of
from swarm.errors import DiskError, Incomplete, PieceMismatch
from swarm.storage.aio import make_folder
from swarm.storage.exact import write_at
from swarm.storage.failures import refusals
from swarm.storage.hashing import Progress, piece_matches
from swarm.storage.layer import POSIX, FileLayer
from swarm.storage.piecefiles import PieceFiles
from swarm.storage.places import Places, check_room
from swarm.storage.restore import Restored, restore
from swarm.storage.serving import CheckedReader
from swarm.storage.syncing import UNSYNCED_BYTES, Syncer
from swarm.storage.work import PieceWork

SAVE_SECONDS = 1.5
"""What closing may take to save the journal; what is unsynced then is checked again when resumed."""


@asynccontextmanager
async def open_target(
    manifest: Manifest,
    output_dir: Path,
    *,
    layer: FileLayer = POSIX,
    progress: Progress | None = None,
    selected: frozenset[int] | None = None,
) -> AsyncIterator[Target]:
    """Lock, resume and hold the target of a fetch; leaving the block saves the journal.

    ``output_dir`` is created if missing. ``progress`` is told how many bytes of earlier runs, or of
    files that exist already, are checked. ``selected`` are the indices of the files that are wanted
    (None: all); what earlier runs left of the others is kept and can be read.

    Raises `Locked` if another process fetches this; `DiskError` if there is no space, if what has
    the final name differs, if a journal is another content's, or when the system refuses.
    """
    everything = frozenset(range(len(manifest.files)))
    selected = everything if selected is None else selected & everything
    check_room(manifest, output_dir, selected)
    await make_folder(output_dir)
    places = Places(manifest, output_dir, layer, selected)
    try:
        target = Target(places, await restore(places, progress))
    except BaseException:
        places.close()
        raise
    try:
        yield target
    except BaseException:
        with suppress(DiskError):
            await target.aclose()
        raise
    await target.aclose()


class Target:
    """A `ports.Store` over a partial file or folder, which gets its final name in `finish`.

    Made by `open_target`.
    """

    def __init__(self, places: Places, restored: Restored) -> None:
        self._places = places
        self._manifest = places.manifest
        self._layout = places.manifest.layout
        self._stored = restored.stored
        self._checks = restored.checks
        self._syncer = restored.syncer
        self._work = PieceWork()
        self._reader = CheckedReader(self._layout, self._stored, self._checks.__getitem__, self._work)
        self._begin_lock = trio.Lock()
        self._moving: trio.Event | None = None
        self._finished = False
        self.wanted = pieces_of(self._layout, places.selected)
        """The pieces of the selected files; not to be changed by callers."""
        resumed = [piece for piece in self._stored if piece in self.wanted]
        self.resumed_pieces = len(resumed)
        """Wanted pieces that earlier runs left, or that were in place already."""
        self.resumed_bytes = sum(map(self._layout.length, resumed))

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""
        return self._manifest

    @property
    def stored(self) -> Bitfield:
        """The pieces that are verified and readable; not to be changed by callers."""
        return self._stored

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is stored."""
        return all(piece in self._stored for piece in self.wanted)

    @property
    def path(self) -> Path:
        """The final place."""
        return self._places.path

    async def put(self, piece: int, data: memoryview) -> None:
        """Verify one whole piece against the manifest's BLAKE3 and write it.

        Raises `PieceMismatch` with nothing written when the hash differs, `DiskError` when the
        file system refuses. Waits for the disk while too much is unsynced.
        """
        span = self._layout.span(piece)
        check = await self._work.compute(span.length, lambda: self._verified(piece, data))
        if check is None:
            raise PieceMismatch(f"piece {piece} does not have the hash that the manifest names")
        if piece in self._stored:
            return
        syncer, files = await self._begun(span.file)
        with refusals(files.path(span.file)), files.writing(span.file, syncer.changed) as fd:
            layer = files.folder.layer
            await self._work.write(span.length, lambda: write_at(layer, fd, data, span.offset))
        if syncer.failed is not None:
            raise syncer.failed
        self._checks[piece] = check
        self._stored.add(piece)
        syncer.add(piece, check, span.file, span.length)
        if syncer.unsynced >= UNSYNCED_BYTES:
            await syncer.sync()

    async def get(self, piece: int) -> memoryview:
        """Read one whole stored piece, checked to be what was verified before.

        Raises `PieceWithdrawn` when it is not (the piece then leaves ``stored``), `DiskError` when
        this process cannot open files.
        """
        if self._moving is not None:
            await self._moving.wait()
        return await self._reader.read(piece, self._places.holder)

    async def sync(self) -> None:
        """Make everything written so far durable and claim it in the journal; raises `DiskError`."""
        if self._syncer is not None:
            await self._syncer.sync()

    async def run_syncer(self) -> None:
        """Sync every 16 MiB or 2 s of unsynced data, until cancelled; raises `DiskError`."""
        if self._syncer is None:
            await trio.sleep_forever()
        else:
            await self._syncer.run()

    async def finish(self) -> Path:
        """Sync everything, set executable bits, give the final name, and remove the journal.

        Returns the final path, from which pieces are served on. Of a selection, the selected files
        alone get there; a partial place that holds more than these stays, with its journal.
        Raises `Incomplete` while wanted pieces are missing, `DiskError` if the final name was taken
        meanwhile; then all is kept.
        """
        if self._finished:
            return self.path
        if missing := sum(piece not in self._stored for piece in self.wanted):
            raise Incomplete(
                f"{printable(str(self.path))}: {missing} of {self.wanted.count} pieces are missing"
            )
        await self.sync()
        self._moving = trio.Event()
        try:
            await trio.to_thread.run_sync(self._places.put_in_place)
            self._places.settle()
            self._finished = True
        finally:
            self._moving.set()
            self._moving = None
        return self.path

    async def aclose(self) -> None:
        """Save the journal, for at most `SAVE_SECONDS`, and release everything; raises `DiskError`."""
        try:
            if self._syncer is not None and self._syncer.failed is None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_SECONDS):
                    await self._syncer.sync()
        finally:
            self._places.close()

    def _verified(self, piece: int, data: memoryview) -> bytes | None:
        """The XXH3-128 of a piece that has the right BLAKE3, else None."""
        return fingerprint(data) if piece_matches(data, self._manifest.piece_hash(piece)) else None

    async def _begun(self, file: int) -> tuple[Syncer, PieceFiles]:
        """What a piece is written with: the journal has its header, the partial folder exists."""
        if self._syncer is None or self._finished or file in self._places.existing:
            raise DiskError(f"{printable(str(self.path))}: is in place already and never written to")
        if self._syncer.failed is not None:
            raise self._syncer.failed
        partial = self._places.partial
        if not self._syncer.begun or partial is None:
            async with self._begin_lock:
                await self._syncer.begin()
                partial = self._places.create_partial()
        return self._syncer, partial
