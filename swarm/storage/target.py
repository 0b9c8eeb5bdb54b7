"""The file or folder that a fetch writes. Source: docs/storage.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from swarm.bits import PieceSet
from swarm.content.layout import Span
from swarm.content.manifest import MAX_FILES_1, Manifest
from swarm.content.paths import check_title, printable
from swarm.content.selection import pieces_of
from swarm.content.times import FileTimes
from swarm.errors import (
    DiskError,
    Incomplete,
    ManifestError,
    PieceMismatch,
    PiecesChanged,
    SwarmError,
    UsageError,
)
from swarm.lazy_dataclass import dataclass
from swarm.ports import HeldPieces, StoredChange
from swarm.storage.aio import make_folder
from swarm.storage.disk_errors import refusals
from swarm.storage.file_identity import Checks
from swarm.storage.file_layer import POSIX, FileLayer, read_at
from swarm.storage.hash_cache import Recall
from swarm.storage.hashing import Progress
from swarm.storage.one_by_one import get_each
from swarm.storage.piece_reader import CheckedReader, PieceExecutor
from swarm.storage.piece_writer import PieceWriter
from swarm.storage.restoring import RestoredPieces, restore
from swarm.storage.room import check_rest, check_room
from swarm.storage.seed_store import SeedStore
from swarm.storage.shared_place import SharedPlace
from swarm.storage.taking import (
    clonable_bytes,
)
from swarm.storage.target_files import TargetFiles, TargetPlan
from swarm.storage.update_swap import KeptFiles

_T = TypeVar("_T")

SAVE_SECONDS = 1.5
"""The most seconds that closing takes to save the journal; unsynced pieces are checked again on resume."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How a target is opened.

    ``selected`` holds the wanted files, links and empty folders, numbered as in `Manifest.item_paths` (None:
    all); pieces of other files from earlier runs are kept and can be read. ``name`` is the final name (None:
    that of the manifest). With ``overwrite``, files that differ under the final name are replaced when
    everything is complete, and what is right in them is reused; otherwise they are an error. With ``update``,
    an older version there is replaced as a whole (`swarm.storage.update_swap`). ``times`` are what the files
    are given when they are put in place.
    """

    selected: frozenset[int] | None = None
    name: str | None = None
    overwrite: bool = False
    times: FileTimes | None = None
    recall: Recall | None = None
    """Returns what was hashed at the final path before, so that it need not be hashed again."""
    update: bool = False

    def plan(self, manifest: Manifest) -> TargetPlan:
        """Return what is to be done for a manifest; raises `UsageError` for an unsafe name."""
        count = len(manifest.files)
        items = range(manifest.item_count) if self.selected is None else self.selected
        selected = frozenset(item for item in items if 0 <= item < count)
        extras = frozenset(item for item in items if count <= item < manifest.item_count)
        if self.name is not None:
            try:
                check_title(self.name)
            except ManifestError as error:
                raise UsageError(f"{error}: choose another final name") from error
        return TargetPlan(
            manifest, self.name or manifest.name, selected, self.overwrite, extras, self.times, self.update
        )


@asynccontextmanager
async def open_target(
    manifest: Manifest,
    output_dir: Path,
    options: TargetOptions | None = None,
    *,
    layer: FileLayer = POSIX,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> AsyncIterator[Target]:
    """Lock and resume the target of a fetch, and hold it for the block; leaving saves the journal.

    ``output_dir`` is created if missing. ``progress`` is called with checked and total bytes of earlier
    runs and existing files, ``warn`` with one line about what the file system cannot do.

    Raises `Locked` if another process fetches this, and `DiskError` if there is not enough space, if the
    file system does not take a name, if the final name has other content, if the journal belongs to other
    content, or if the system refuses.
    """
    options = options or TargetOptions()
    many = manifest.item_count > MAX_FILES_1
    plan = await _run(many, partial(options.plan, manifest))
    await _run(many, partial(check_room, manifest, output_dir, plan.selected, plan.name))
    await make_folder(output_dir)
    files = await _run(many, partial(TargetFiles, plan, output_dir, layer))
    try:
        restored = await restore(files, progress, options.recall)
        _check_rest(files, restored)
        target = Target(files, restored, warn)
    except BaseException:
        files.close()
        raise
    try:
        await target.reuse(restored.reusable, progress)
        yield target
    except BaseException:
        with suppress(DiskError):
            await target.aclose()
        raise
    await target.aclose()


def _check_rest(files: TargetFiles, restored: RestoredPieces) -> None:
    """Check the room again if earlier runs or files to be replaced make a difference."""
    if files.differing or restored.stored or files.old is not None:
        rest = sorted(files.selected - files.existing)
        if rest:
            part = files.output.path / files.names.part
            what = files.plan.name
            shared = 0
            if files.old is not None:
                what = f"{what}, which is prepared beside the old version,"
                shared = clonable_bytes(files.manifest, files.old)
            check_rest(files.manifest, part, rest, restored.stored, what=what, shared=shared)


async def _run(many: bool, work: Callable[[], _T]) -> _T:
    """Do what takes some seconds for ``many`` files, in a thread if need be: others must not wait."""
    return await trio.to_thread.run_sync(work) if many else work()


class Target:
    """A `ports.Store` over a partial file or folder; `finish` gives it its final name.

    Use `open_target` to make one.
    """

    def __init__(
        self, files: TargetFiles, restored: RestoredPieces, warn: Callable[[str], None] | None = None
    ) -> None:
        self._files = files
        self._warn = warn
        self._manifest = files.manifest
        self._layout = files.manifest.layout
        self._stored = restored.stored
        self._checks = restored.checks
        self._syncer = restored.syncer
        self._executor = PieceExecutor()
        self._reader = CheckedReader(self._layout, self._stored, self._checks.__getitem__, self._executor)
        self._writer = PieceWriter(files, restored, self._executor)
        self._moving: trio.Event | None = None
        self._finished = False
        self._served: SeedStore | None = None
        self._in_place = trio.Event()
        self.unsettled: frozenset[int] = frozenset()
        """After `finish`: the files whose later changes might not show in their time stamps."""
        everything = len(files.selected) == len(self._manifest.files)
        count = self._manifest.piece_count
        self.wanted = PieceSet.all(count) if everything else pieces_of(self._layout, files.selected)
        """The pieces of the selected files; callers must not change it."""
        self.resumed_pieces = self.resumed_bytes = 0
        """Wanted pieces that were stored before this run, and their bytes."""
        self._count_resumed()

    def _count_resumed(self) -> None:
        resumed = self._stored & self.wanted
        self.resumed_pieces = resumed.count
        self.resumed_bytes = (
            self._manifest.total_length if resumed.full else sum(map(self._layout.length, resumed))
        )

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""
        return self._manifest

    @property
    def stored(self) -> PieceSet:
        """The pieces that are verified and readable; callers must not change it."""
        return self._stored

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is stored."""
        return not self.wanted - self._stored

    @property
    def path(self) -> Path:
        """The final path."""
        return self._files.path

    async def put(self, piece: int, data: memoryview) -> None:
        """As `PieceWriter.put`."""
        await self._writer.put(piece, data)

    async def put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
        """As `PieceWriter.put_many`."""
        return await self._writer.put_many(pieces)

    def put_now(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int] | None:
        """As `PieceWriter.put_now`."""
        return self._writer.put_now(pieces)

    async def take(self, pieces: Sequence[int], held: HeldPieces) -> list[int]:
        """As `PieceWriter.take`."""
        return await self._writer.take(pieces, held)

    async def get_many(self, pieces: Sequence[int]) -> list[memoryview | SwarmError]:
        """As `get`, for many small pieces in one step; what fails is the last of the answer."""
        if self._moving is not None:
            await self._moving.wait()
        if self._served is not None and self._files.partial is None:
            return await self._served.get_many(pieces)
        found: list[memoryview | SwarmError] = []
        if self._served is None and self._files.partial is not None:
            with suppress(OSError):
                # Whatever is wrong, `get` finds out what, piece by piece.
                found += await self._reader.read_small(pieces, self._files.partial)
        return found + await get_each(self, pieces[len(found) :])

    def get_now(self, pieces: Sequence[int], room: memoryview) -> list[memoryview]:
        """As `get`, without waiting; those before the first where that will not do."""
        served = self._moving is None and self._served is not None and self._files.partial is None
        return self._served.get_now(pieces, room) if served and self._served else []

    async def get(self, piece: int) -> memoryview:
        """Read one whole stored piece and check that it is unchanged.

        Raises `PieceWithdrawn` when it has changed (the piece is then removed from ``stored``), `DiskError`
        when this process cannot open files.
        """
        if self._moving is not None:
            await self._moving.wait()
        if self._served is not None and self._layout.span(piece).file in self._files.existing:
            return await self._served.get(piece)
        return await self._reader.read(piece, self._files.holder)

    async def watch(self, tell: Callable[[StoredChange], None]) -> None:
        """Once finished: tell of files that are gone, and offer them again when they are back."""
        await self._in_place.wait()
        if self._served is None:
            await trio.sleep_forever()
        else:
            await self._served.watch(tell)

    @property
    def checks(self) -> Checks | None:
        """After `finish`: what tells whether the files are still what was verified."""
        return None if self._served is None else self._served.checks

    async def reuse(self, pieces: PieceSet, progress: Progress | None = None) -> None:
        """Copy pieces that are right in files which will be replaced; those count as resumed.

        ``progress`` is called with copied and total bytes. Raises `DiskError`.
        """
        final = self._files.final
        wanted = [piece for piece in pieces if piece not in self._stored]
        if final is None or not wanted:
            return
        total, done = sum(map(self._layout.length, wanted)), 0
        for piece in wanted:
            span = self._layout.span(piece)
            with refusals(final.path(span.file)), final.reading(span.file) as fd:
                data = await trio.to_thread.run_sync(_read, final.folder.layer, fd, span)
            # What has changed since it was hashed is fetched like any other piece.
            with suppress(PieceMismatch):
                await self.put(piece, data)
            done += span.length
            if progress is not None:
                progress(done, total)
        self._count_resumed()

    async def sync(self) -> None:
        """Make everything written so far durable and claim it in the journal; raises `DiskError`."""
        if self._syncer is not None:
            await self._syncer.sync()

    async def run_syncer(self) -> None:
        """Sync every 16 MiB or 2 s of unsynced data until cancelled; raises `DiskError`."""
        if self._syncer is None:
            await trio.sleep_forever()
        else:
            await self._syncer.run()

    @property
    def bases(self) -> tuple[Path, ...]:
        """What may hold pieces that are missing: what is to be replaced, and what was given up for this."""
        files = self._files
        replaced = files.old is not None or (files.final is not None and files.plan.overwrite)
        if self.complete:
            return ()
        stale = files.stale
        return (*((self.path,) if replaced else ()), *((stale,) if stale is not None else ()))

    @property
    def kept(self) -> KeptFiles:
        """After `finish`: the user's files that an update has kept."""
        return self._files.kept

    async def finish(
        self,
        tree_times: FileTimes | None = None,
        remember: Callable[[Path, Manifest, Checks, frozenset[int]], None] | None = None,
    ) -> Path:
        """Sync everything, set executable bits, give the final name, and remove the journal.

        ``tree_times`` are given to the folders and links, if any file is put in place. ``remember`` is called
        in a thread with the final path, the manifest, its `Checks`, and the files that they do not cover;
        before that with what was remembered of an old version that is still to be removed, and where it is.

        Returns the final path, from which pieces are served afterwards. Of a selection, only the selected
        files are moved there; a partial folder with pieces of other files stays, with its journal.
        Raises `Incomplete` while wanted pieces are missing; `PiecesChanged` if another program has changed
        some, which are then no longer stored; `DiskError`, with everything kept, if the final name was taken
        meanwhile.
        """
        if self._finished:
            return self.path
        if missing := (self.wanted - self._stored).count:
            raise Incomplete(
                f"{printable(str(self.path))}: {missing} of {self.wanted.count} pieces are missing"
            )
        await self.sync()
        self._moving = trio.Event()
        before = frozenset(self._files.existing)
        try:
            await trio.to_thread.run_sync(self._files.put_in_place)
            self._files.settle()
            self._finished = True
            self._writer.end()
            if tree_times is not None and len(before) < len(self._files.selected):
                await trio.to_thread.run_sync(self._files.set_tree_times, tree_times)
            with suppress(DiskError):
                await self._serve_in_place(before)
            if remember is not None and self._served is not None:
                await trio.to_thread.run_sync(self._remember, remember, self._served.checks)
            # Not before the new version is remembered: what is not listed is the user's.
            await trio.to_thread.run_sync(self._files.clean_up)
            if self._served is not None:
                # From here on files are found by their path.
                self._files.release()
            self._in_place.set()
        except PiecesChanged as changed:
            self._stored -= PieceSet.of(self._stored.size, changed.pieces)
            raise
        finally:
            self._moving.set()
            self._moving = None
        kept = self._files.kept.warnings(self.path)
        for line in (self._files.executable.warning(), self._files.extras.warning(), *kept):
            if self._warn is not None and line is not None:
                self._warn(line)
        return self.path

    def _remember(
        self, remember: Callable[[Path, Manifest, Checks, frozenset[int]], None], checks: Checks
    ) -> None:
        old, left = self._files.remembered, self._files.left
        if old is not None and left is not None and old.manifest != self._manifest:
            remember(left, old.manifest, old.checks, frozenset())
        remember(self.path, self._manifest, checks, self.unsettled)

    async def aclose(self) -> None:
        """Save the journal, in at most `SAVE_SECONDS`, and release everything; raises `DiskError`."""
        try:
            if self._syncer is not None and self._syncer.failed is None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_SECONDS):
                    await self._syncer.sync()
        finally:
            if self._served is not None:
                self._served.close()
            self._files.close()

    async def _serve_in_place(self, before: frozenset[int]) -> None:
        """Serve the finished files as a share does; ``before`` had their final names before."""
        files = sorted(self._files.existing)
        checks, self.unsettled = await trio.to_thread.run_sync(self._identify, files, before)
        layer = self._files.output.layer
        self._served = SeedStore(
            self._manifest, self.path, checks, layer=layer, stored=self._stored, files=files
        )

    def _identify(self, files: list[int], before: frozenset[int]) -> tuple[Checks, frozenset[int]]:
        """Note what the finished files are, and which of them could not be told from changed ones."""
        layer = self._files.output.layer
        with refusals(self.path), closing(SharedPlace(self._manifest, self.path, layer)) as at:
            identities, unsettled = at.identify(files, before, self._files.checked)
        return Checks(identities, self._checks.packed()), unsettled


def _read(layer: FileLayer, fd: int, span: Span) -> memoryview:
    """Return as many bytes of a piece as there are."""
    data = memoryview(bytearray(span.length))
    return data[: read_at(layer, fd, data, span.offset)]
