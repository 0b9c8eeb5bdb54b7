"""Which of the shared files are away, and when they are back.

Whoever cannot read a file reports it here; all of its pieces are withdrawn in that moment. `Presence.watch`
then looks for other files that are away, tells what happened in one change, and looks for their return. While
nothing is away it sleeps.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from swarm.bits import PieceSet
from swarm.content.fingerprints import FINGERPRINT_BYTES, fingerprint
from swarm.content.manifest import Manifest
from swarm.lazy_dataclass import dataclass
from swarm.ports import StoredChange
from swarm.storage.file_identity import Checks, FileIdentity
from swarm.storage.file_layer import read_at
from swarm.storage.hashing import in_thread, piece_matches
from swarm.storage.shared_place import SharedPlace, what_happened

LOOK_SECONDS = 1.0
"""Between two looks for the return of what is away: one stat for each such file."""
LOOK_SHARE = 10
"""A look that takes long, for many files or on a bad sector, is followed by a pause of so many times that."""
CHECK_SHARE = 4
"""A file that keeps changing is not hashed again before so many times the time that hashing it took."""
TOLD_SECONDS = 1.0
"""Between two changes that tell of files found again by the same look."""

Tell = Callable[[StoredChange], None]


@dataclass(slots=True)
class _Watched:
    """A file of which pieces are withdrawn.

    ``away``: all of them. ``probes``: pieces that could not be read. ``doubtful``: its bytes changed and its
    times did not, so it is hashed in any case. ``seen``: as it was at the last look. ``checked``: as it was
    when it was hashed last. ``not_before``: it is not read again before.
    """

    reason: str
    away: bool
    probes: tuple[int, ...] = ()
    doubtful: bool = False
    seen: FileIdentity | None = None
    checked: FileIdentity | None = None
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class _Checked:
    """A file that was hashed as it was at ``identity``; ``good`` and ``bad`` are its pieces."""

    file: int
    identity: FileIdentity
    good: list[int]
    bad: list[int]
    seconds: float


class _Looked(NamedTuple):
    """What files are now: as they were, changed, or gone."""

    same: list[int]
    changed: dict[int, FileIdentity]
    gone: list[int]


class Presence:
    """Withdraws and restores pieces of ``stored``, as its owner would; ``checks`` tells what was verified.

    ``files`` are those that are watched, ascending. The identity of a file that is verified again is noted in
    ``checks``.

    Methods are for the event loop, unless they say otherwise.
    """

    def __init__(
        self,
        place: SharedPlace,
        manifest: Manifest,
        stored: PieceSet,
        checks: Checks,
        files: Sequence[int],
    ) -> None:
        self._place = place
        self._manifest = manifest
        self._layout = manifest.layout
        self._stored = stored
        self._files = files
        self._mine = stored.copy()
        if len(files) < len(manifest.files):
            self._mine = self._pieces_of(files)
        self._bad = PieceSet(stored.size)
        self._known = checks.files
        self._checks = checks.pieces
        self._fresh = PieceSet(stored.size)
        self._watched: dict[int, _Watched] = {}
        self._root_reason: str | None = None
        self._news: list[tuple[Path, str]] = []
        self._trouble = trio.Event()
        self._checking: set[int] = set()

    # --- Reports ------------------------------------------------------------------------------------

    def everything_away(self, reason: str) -> None:
        """The folder that contains the files cannot be opened."""
        if self._root_reason is None:
            self._root_reason = reason
            self._withdraw(self._stored & self._mine, self._place.path, reason)

    def file_away(
        self, file: int, reason: str, probes: tuple[int, ...] = (), changed: FileIdentity | None = None
    ) -> None:
        """A file is gone or changed; ``probes`` are pieces of it that could not be read.

        ``changed`` is its identity if it has other bytes now.
        """
        watched = self._watched.get(file)
        if watched is not None and watched.away:
            return
        doubtful = changed is not None and changed.same_file(self._known[file])
        self._watched[file] = _Watched(reason, away=True, probes=probes, doubtful=doubtful)
        self._withdraw(self._stored & self._pieces_of([file]), self._place.path_of(file), reason)

    def _files_away(self, reasons: dict[int, str]) -> None:
        """As `file_away`, for many files."""
        pieces = self._pieces_of(reasons)
        for file, reason in reasons.items():
            self._watched[file] = _Watched(reason, away=True)
            self._news.append((self._place.path_of(file), reason))
        self._stored -= pieces
        self._fresh |= pieces

    def piece_rotten(self, piece: int) -> None:
        """A piece has other bytes, though nothing has written to its file: it is not served any more."""
        file = self._layout.span(piece).file
        self._stored.discard(piece)
        self._bad.add(piece)
        watched = self._watched.setdefault(file, _Watched("", away=False))
        watched.checked = self._known[file]
        self._trouble.set()

    def piece_unreadable(self, piece: int, reason: str) -> None:
        """A piece cannot be read, though others of its file can: it alone is withdrawn until it can."""
        file = self._layout.span(piece).file
        watched = self._watched.setdefault(file, _Watched(reason, away=False))
        watched.probes = (*watched.probes, piece)
        alone = PieceSet.of(self._stored.size, [piece])
        self._withdraw(self._stored & alone, self._place.path_of(file), f"{reason}, piece {piece}")

    def _withdraw(self, pieces: PieceSet, path: Path, reason: str) -> None:
        self._stored -= pieces
        self._fresh |= pieces
        self._news.append((path, reason))
        self._trouble.set()

    def _pieces_of(self, files: Iterable[int]) -> PieceSet:
        """The pieces of files; those of neighbours are put together first, for speed."""
        found = PieceSet(self._stored.size)
        start = stop = 0
        for file in files:
            pieces = self._layout.pieces_of(file)
            if pieces.start != stop:
                found |= PieceSet.between(found.size, start, stop)
                start = pieces.start
            stop = pieces.stop
        found |= PieceSet.between(found.size, start, stop)
        return found & self._mine

    # --- Watching -----------------------------------------------------------------------------------

    async def watch(self, tell: Tell) -> None:
        """Tell of every withdrawal and every return until cancelled."""
        pause = LOOK_SECONDS
        async with trio.open_nursery() as nursery:
            while True:
                if self._trouble.is_set():
                    self._trouble = trio.Event()
                    await self._survey(tell)
                busy = self._root_reason is not None or self._watched
                with trio.move_on_after(pause if busy else math.inf):
                    await self._trouble.wait()
                if self._trouble.is_set():
                    continue
                began = trio.current_time()
                for_hashing = await self._look(tell)
                if for_hashing:
                    self._checking.update(for_hashing)
                    nursery.start_soon(self._check, for_hashing, tell)
                pause = max(LOOK_SECONDS, LOOK_SHARE * (trio.current_time() - began))

    async def _survey(self, tell: Tell) -> None:
        """Look which other files are away, so that all are withdrawn together, and tell."""
        if self._root_reason is None and len(self._files) > 1 and self._news:
            others = [file for file in self._files if file not in self._watched]
            try:
                found = await trio.to_thread.run_sync(self._place.problems, others)
            except OSError as error:
                self.everything_away(what_happened(error))
            else:
                self._files_away(found)
        self._trouble = trio.Event()
        news, self._news = self._news, []
        fresh, self._fresh = self._fresh, PieceSet(self._stored.size)
        if not fresh:
            return
        path, reason = news[0]
        if self._root_reason is not None:
            path, reason = self._place.path, self._root_reason
        elif len(news) > 1:
            path, reason = self._place.path, f"lacks {len(news)} of its files: {path.name} {reason}, …"
        size = await trio.to_thread.run_sync(self._size_of, fresh)
        tell(StoredChange(str(path), fresh.count, size, reason))

    def _size_of(self, pieces: PieceSet) -> int:
        if pieces.full:
            return self._manifest.total_length
        return sum(map(self._layout.length, pieces))

    # --- Return -------------------------------------------------------------------------------------

    async def _look(self, tell: Tell) -> dict[int, FileIdentity]:
        """Restore what is back as it was; returns the files that are to be hashed first."""
        root_was_away = self._root_reason is not None
        if root_was_away:
            files: Iterable[int] = self._files
        else:
            files = [file for file in self._watched if file not in self._checking]
        try:
            doubtful = {file for file, watched in self._watched.items() if watched.doubtful}
            looked = await trio.to_thread.run_sync(self._compare, files, doubtful)
        except OSError:
            return {}
        if root_was_away:
            self._root_is_back(looked)
        back = [file for file in looked.same if await self._is_back(file)]
        if self._root_reason is not None:
            # The folder has gone meanwhile: all its files are looked at once it is back.
            return {}
        for_hashing = {
            file: state
            for file, state in looked.changed.items()
            if (watched := self._watched.get(file)) and self._settled(watched, state)
        }
        for file in looked.gone:
            if watched := self._watched.get(file):
                watched.seen = None
        self._restore_files(back, tell)
        return for_hashing

    def _compare(self, files: Iterable[int], doubtful: set[int]) -> _Looked:
        """Sort files by what they are now; runs in a thread. Raises OSError."""
        looked = _Looked([], {}, [])
        for file, state in self._place.examine(files):
            if isinstance(state, str):
                looked.gone.append(file)
            elif self._known[file].same_file(state) and file not in doubtful:
                looked.same.append(file)
            else:
                looked.changed[file] = state
        return looked

    async def _is_back(self, file: int) -> bool:
        """Whether pieces of a file that is as it was are to be offered again."""
        watched = self._watched.get(file)
        if watched is None:
            return False
        return await self._readable(file, watched) if watched.probes else watched.away

    def _settled(self, watched: _Watched, state: FileIdentity) -> bool:
        """Whether a changed file is to be hashed now: nothing has written to it since the last look."""
        if state not in {watched.checked, watched.seen}:
            watched.seen = state
            return False
        return state != watched.checked and trio.current_time() >= watched.not_before

    def _root_is_back(self, looked: _Looked) -> None:
        """The folder can be opened again: from now on each of its files is watched by itself."""
        reason, self._root_reason = self._root_reason or "", None
        for files in (looked.same, looked.changed, looked.gone):
            for file in files:
                watched = self._watched.get(file)
                if watched is None or not watched.away:
                    self._watched[file] = _Watched(reason, away=True)

    async def _readable(self, file: int, watched: _Watched) -> bool:
        """Whether a piece that could not be read can be read now; such pieces are no longer probes."""
        if trio.current_time() < watched.not_before:
            return False
        began = trio.current_time()
        good = {piece for piece in watched.probes if await trio.to_thread.run_sync(self._reads, file, piece)}
        watched.probes = tuple(piece for piece in watched.probes if piece not in good)
        now = trio.current_time()
        watched.not_before = now + LOOK_SHARE * (now - began) if watched.probes else 0.0
        return bool(good)

    def _reads(self, file: int, piece: int) -> bool:
        span = self._layout.span(piece)
        buffer = memoryview(bytearray(span.length))
        try:
            with self._place.reading(file) as fd:
                self._place.layer.forget_cache(fd, span.offset, span.length)
                whole = read_at(self._place.layer, fd, buffer, span.offset) == span.length
        except OSError:
            return False
        start = piece * FINGERPRINT_BYTES
        return whole and fingerprint(buffer) == self._checks[start : start + FINGERPRINT_BYTES]

    def _restore_files(self, files: list[int], tell: Tell) -> None:
        """These files are back as they were, but for those that were hashed meanwhile."""
        files = [file for file in files if file in self._watched]
        pieces = self._pieces_of(files) - self._bad
        damaged = {self._layout.span(piece).file for piece in self._bad}
        for file in files:
            watched = self._watched[file]
            for piece in watched.probes:
                pieces.discard(piece)
            watched.away = False
            if not watched.probes and file not in damaged:
                del self._watched[file]
        self._restore(pieces, files, tell)

    def _restore(self, pieces: PieceSet, files: list[int], tell: Tell) -> None:
        pieces -= self._stored
        if not pieces:
            return
        self._stored |= pieces
        path = self._place.path_of(files[0]) if len(files) == 1 else self._place.path
        tell(StoredChange(str(path), pieces.count, self._size_of(pieces), None))

    # --- Hashing what came back ---------------------------------------------------------------------

    async def _check(self, files: dict[int, FileIdentity], tell: Tell) -> None:
        """Hash files that are back but not as they were, and offer what is the same."""
        done: list[_Checked] = []
        waiting: list[_Checked] = []
        told_at = trio.current_time()

        def settle(_done: int, _total: int) -> None:
            nonlocal told_at
            waiting.extend(done)
            done.clear()
            if trio.current_time() >= told_at + TOLD_SECONDS:
                told_at = trio.current_time()
                self._settle(waiting, tell)

        try:
            await in_thread(self._hash(files, done), 0, settle)
        finally:
            self._checking.difference_update(files)
        self._settle([*waiting, *done], tell)

    def _hash(self, files: dict[int, FileIdentity], done: list[_Checked]) -> Generator[int, None, None]:
        buffer = memoryview(bytearray(self._layout.piece_length))
        for file, identity in files.items():
            began = time.perf_counter()
            good: list[int] = []
            bad: list[int] = []
            try:
                with self._place.reading(file) as fd:
                    for piece in self._pieces_of([file]):
                        span = self._layout.span(piece)
                        data = buffer[: span.length]
                        whole = read_at(self._place.layer, fd, data, span.offset) == span.length
                        same = whole and piece_matches(data, self._manifest.piece_hash(piece))
                        (good if same else bad).append(piece)
                        yield span.length
                    after = FileIdentity.of(os.fstat(fd))
            except OSError:
                continue
            if after == identity:
                done.append(_Checked(file, identity, good, bad, time.perf_counter() - began))
            yield 0

    def _settle(self, checked: list[_Checked], tell: Tell) -> None:
        if self._root_reason is not None:
            # The folder has gone meanwhile: all its files are looked at once it is back.
            checked.clear()
            return
        pieces = PieceSet(self._stored.size)
        files = []
        for each in checked:
            watched = self._watched.get(each.file)
            if watched is None:
                continue
            files.append(each.file)
            pieces |= PieceSet.of(self._stored.size, each.good)
            lost = PieceSet.of(self._stored.size, each.bad)
            if self._bad:
                self._bad -= self._pieces_of([each.file])
            self._bad |= lost
            if changed := self._stored & lost:
                self._withdraw(changed, self._place.path_of(each.file), "was edited")
            watched.checked = each.identity
            watched.probes = ()
            watched.not_before = trio.current_time() + CHECK_SHARE * each.seconds
            if each.good:
                self._known[each.file] = each.identity
            watched.away = not each.good
            if not each.bad:
                del self._watched[each.file]
        checked.clear()
        self._restore(pieces, files, tell)
