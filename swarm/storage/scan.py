"""Makes the manifest of a file or folder to share: finds the files and hashes them."""

from __future__ import annotations

import gc
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from swarm.content.entries import EMPTY_BLAKE3
from swarm.content.format2 import Draft
from swarm.content.ignoring import IGNORE_FILE, IgnoreRules
from swarm.content.layout import piece_counts
from swarm.content.manifest import (
    MAX_FILES_1,
    MAX_PIECE_LENGTH,
    MAX_PIECES,
    MAX_PIECES_1,
    FileEntry,
    Manifest,
    check_piece_length,
    choose_piece_length,
)
from swarm.content.paths import check_title, printable
from swarm.errors import DiskError, ManifestError, UsageError
from swarm.ids import DIGEST_BYTES
from swarm.lazy_dataclass import dataclass
from swarm.storage.disk_errors import disk_error, refusals
from swarm.storage.file_identity import Checks, FileIdentities, FileIdentity
from swarm.storage.folder import Folder
from swarm.storage.hash_cache import Recall, Reuse, is_settled
from swarm.storage.hashing import FileHashing, Progress, in_thread, new_buffer
from swarm.storage.walk import OWNER_EXECUTES, Listing, WalkRules, walk

MAX_LISTED = 20
"""Lines about what cannot be shared, or is left out; the rest is counted."""
MAX_IGNORE_BYTES = 1024 * 1024
"""Characters of a ``.swarmignore`` that are read."""


class Found(NamedTuple):
    """A regular file: its path below the scanned folder, its identity, its owner's executable bit."""

    parts: tuple[str, ...]
    identity: FileIdentity
    executable: bool

    @classmethod
    def all_of(
        cls, folder: tuple[str, ...], names: Sequence[str], abouts: Sequence[os.stat_result]
    ) -> list[Found]:
        """Return the files in ``folder`` with these names and stat results."""
        # Constructors and functions would take most of the time: there may be a million.
        new = tuple.__new__
        return [
            new(
                cls,
                (
                    (*folder, name),
                    new(
                        FileIdentity,
                        (about.st_size, about.st_mtime_ns, about.st_ino, about.st_dev, about.st_ctime_ns),
                    ),
                    about.st_mode & OWNER_EXECUTES != 0,
                ),
            )
            for name, about in zip(names, abouts, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Scanned:
    """A manifest, and the checks that later tell whether the files are unchanged."""

    manifest: Manifest
    checks: Checks
    unsettled: frozenset[int] = frozenset()
    """Files that were modified so shortly before that a later change might not show."""
    hashed: bool = True
    """Whether anything had to be read."""


@dataclass(frozen=True, slots=True)
class ScanRules:
    """What of a folder is not shared.

    ``ignore`` are patterns, besides those in the folder's own ``.swarmignore``; ``omit`` are paths, such as
    that of the manifest. With ``skip``, what cannot be shared is left out; otherwise it is an error.
    """

    ignore: tuple[str, ...] = ()
    omit: tuple[Path, ...] = ()
    skip: bool = False


async def scan(
    path: Path,
    rules: ScanRules | None = None,
    *,
    name: str | None = None,
    piece_length: int | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
    recall: Recall | None = None,
) -> Scanned:
    """Hash the file or folder at ``path`` and make its manifest.

    ``name`` is the name that receivers create, by default the last part of ``path``. ``piece_length`` is
    in bytes, by default chosen from the size.

    ``progress`` is called with hashed and total bytes, ``warn`` with a line for each entry that is left out:
    sockets, pipes, devices, links that lead out of the folder, and with ``skip`` what cannot be shared; the
    first `MAX_LISTED` of each kind, and a count of the rest. ``recall`` returns what was hashed at a path
    before: what has not changed since is not read again.

    Raises `UsageError` for a path that cannot be shared or a name that a manifest cannot have, and
    `DiskError` for an unreadable file or one that changes while it is hashed. If several files are the
    reason, ``warn`` has been called with a line for each.
    """
    rules = rules or ScanRules()
    warn = warn or (lambda _line: None)
    source, listing = await trio.to_thread.run_sync(_find, path, rules)
    with closing(source.folder):
        title = _title(path, name)
        _judge(listing, warn, skip=rules.skip)
        plan = await trio.to_thread.run_sync(_Plan, title, source.whole, listing, piece_length)
        before = await trio.to_thread.run_sync(recall, path) if recall is not None else None
        reuse = Reuse(before, plan.files, plan.piece_length)
        same = await trio.to_thread.run_sync(reuse.everything, plan.describes)
        if same is not None:
            return Scanned(same.manifest, same.checks, hashed=False)
        total = sum(file.identity.size for file in plan.files)
        hashed = Hashes()
        unsettled: set[int] = set()
        steps = _hash_all(source.folder, plan.files, plan.piece_length, reuse, hashed, unsettled)
        await in_thread(steps, total, progress)
        manifest = await trio.to_thread.run_sync(plan.manifest, hashed)
    checks = Checks(FileIdentities([file.identity for file in plan.files]), bytes(hashed.checks))
    return Scanned(manifest, checks, frozenset(unsettled))


class Hashes:
    """The hashes of all files, in order."""

    def __init__(self) -> None:
        self.whole = bytearray()
        """The BLAKE3 of each file."""
        self.pieces = bytearray()
        """The BLAKE3 of each piece of the files that have several."""
        self.checks = bytearray()
        """The XXH3-128 of each piece."""

    def add(self, whole: bytes, pieces: bytes, checks: bytes) -> None:
        """Add the next file: its hash, and those of its pieces."""
        self.whole += whole
        if len(pieces) > DIGEST_BYTES:
            self.pieces += pieces
        self.checks += checks


class _Plan:
    """The manifest that will be made, as far as it is known before hashing.

    Raises `UsageError` for content that no manifest can describe.
    """

    def __init__(self, title: str, whole: bool, listing: Listing[Found], piece_length: int | None) -> None:
        self._title, self._whole, self._listing = title, whole, listing
        try:
            if piece_length is not None:
                check_piece_length(piece_length)
        except ManifestError as error:
            raise UsageError(f"this cannot be shared: {error}") from error
        sizes = [file.identity.size for file in listing.files]
        self.piece_length = _piece_length(sizes) if piece_length is None else piece_length
        pieces = sum(piece_counts(self.piece_length, sizes))
        if pieces > (MAX_PIECES if whole else MAX_PIECES_1):
            raise UsageError(f"this is {pieces} pieces, more than {MAX_PIECES}; choose a larger piece length")
        self._draft: Draft | None = listing.draft
        self.files = listing.files
        if not (listing.links or listing.empty_folders or len(listing.files) > MAX_FILES_1):
            self.files = sorted(listing.files, key=lambda file: file.parts)
            hashes = Hashes()
            for size in (file.identity.size for file in self.files):
                needed = bytes(-(-size // self.piece_length) * DIGEST_BYTES)
                hashes.add(bytes(DIGEST_BYTES) if size else EMPTY_BLAKE3, needed, b"")
            if self._as_files(hashes).version == 1:
                self._draft = None
            else:
                self.files = listing.files

    def describes(self, manifest: Manifest) -> bool:
        """Whether a manifest has exactly this content, as far as that is known before hashing."""
        found = (self._title, self._whole, self.piece_length, len(self.files))
        if found != (manifest.name, manifest.folder, manifest.piece_length, len(manifest.files)):
            return False
        columns = manifest.columns
        if self._draft is not None:
            return columns is not None and self._draft.lists(columns)
        return columns is None and all(
            (file.identity.size, file.executable) == (entry.length, entry.executable)
            and (file.parts == entry.path or not self._whole)
            for file, entry in zip(self.files, manifest.files, strict=True)
        )

    def manifest(self, hashes: Hashes) -> Manifest:
        """Return the manifest; raises `UsageError`."""
        if self._draft is None:
            return self._as_files(hashes)
        self._draft.hashes, self._draft.pieces = hashes.whole, hashes.pieces
        try:
            return Manifest.of_draft(self._title, self.piece_length, self._draft)
        except ManifestError as error:
            raise UsageError(f"this cannot be shared: {error}") from error

    def _as_files(self, hashes: Hashes) -> Manifest:
        entries, at = [], 0
        for number, file in enumerate(self.files):
            size = file.identity.size
            digest = bytes(hashes.whole[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])
            pieces = digest if size else b""
            if size > self.piece_length:
                end = at - (-size // self.piece_length) * DIGEST_BYTES
                pieces, at = bytes(hashes.pieces[at:end]), end
            parts = file.parts if self._whole else (self._title,)
            entries.append(FileEntry(parts, size, file.executable, digest, pieces))
        try:
            return Manifest(self._title, self._whole, self.piece_length, entries)
        except ManifestError as error:
            raise UsageError(f"this cannot be shared: {error}") from error


def _piece_length(sizes: Sequence[int]) -> int:
    length = choose_piece_length(sum(sizes))
    while length < MAX_PIECE_LENGTH and sum(piece_counts(length, sizes)) > MAX_PIECES:
        length *= 2
    return length


def _judge(listing: Listing[Found], warn: Callable[[str], None], *, skip: bool) -> None:
    """Tell what is left out; raise `UsageError` or `DiskError` for what cannot be shared, unless ``skip``."""
    _tell(listing.left_out, warn, "more entries are left out")
    problems = listing.refused + listing.unreadable
    if not problems:
        return
    if skip:
        _tell([f"left out: {line}" for line in problems], warn, "more names and files are left out")
        return
    kind = UsageError if listing.refused else DiskError
    if len(problems) == 1:
        raise kind(f"{problems[0]}; or leave it out with --skip")
    _tell(problems, warn, "more")
    raise kind(f"{len(problems)} files or folders cannot be shared; mend them, or leave them out with --skip")


def _tell(lines: Sequence[str], warn: Callable[[str], None], rest: str) -> None:
    for line in lines[:MAX_LISTED]:
        warn(line)
    if len(lines) > MAX_LISTED:
        warn(f"and {len(lines) - MAX_LISTED} {rest}")


@dataclass(frozen=True, slots=True)
class _Source:
    """The folder to read from; ``whole`` tells whether all of it is shared or one file in it."""

    folder: Folder
    whole: bool


def _title(path: Path, name: str | None) -> str:
    own = path.name if path.name not in {"", ".."} else path.resolve().name
    title = own if name is None else name
    try:
        return check_title(title)
    except ManifestError as error:
        raise UsageError(f"{error}; give it another name") from error


def _find(path: Path, rules: ScanRules) -> tuple[_Source, Listing[Found]]:
    """Open the folder to read from, and list what is in it."""
    real = Path(os.path.realpath(path))
    try:
        about = real.stat()
    except FileNotFoundError as error:
        # Few commands meet what a crash in an update has left: what mends that is not loaded for the others.
        from swarm.storage.update_swap import recover_at

        if recover_at(real):
            return _find(path, rules)
        raise UsageError(f"{printable(str(path))}: there is no such file or folder") from error
    except OSError as error:
        raise disk_error(error, path) from error
    whole = stat.S_ISDIR(about.st_mode)
    if not whole and not stat.S_ISREG(about.st_mode):
        raise UsageError(f"{printable(str(path))}: this is neither a file nor a folder")
    with refusals(path):
        folder = Folder.open(real if whole else real.parent)
    try:
        if whole:
            with _uncollected():
                return _Source(folder, whole), walk(folder, _walk_rules(folder, real, rules), Found.all_of)
        listing: Listing[Found] = Listing()
        listing.files += Found.all_of((), [real.name], [about])
        return _Source(folder, whole), listing
    except BaseException:
        folder.close()
        raise


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector off: it looks again and again at all that was found, a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _walk_rules(folder: Folder, real: Path, rules: ScanRules) -> WalkRules:
    patterns: list[str] = []
    with refusals(real / IGNORE_FILE):
        try:
            fd = folder.open_file((IGNORE_FILE,), os.O_RDONLY)
        except FileNotFoundError:
            pass
        else:
            with os.fdopen(fd, encoding="utf-8", errors="surrogateescape") as lines:
                patterns += lines.read(MAX_IGNORE_BYTES).splitlines()
    omitted = frozenset(
        Path(os.path.realpath(each)).relative_to(real).parts
        for each in rules.omit
        if Path(os.path.realpath(each)).is_relative_to(real)
    )
    return WalkRules(IgnoreRules([*patterns, *rules.ignore]), omitted)


def _hash_all(
    folder: Folder,
    found: Sequence[Found],
    piece_length: int,
    reuse: Reuse,
    hashed: Hashes,
    unsettled: set[int],
) -> Generator[int, None, None]:
    buffer = new_buffer()
    for number, file in enumerate(found):
        size = file.identity.size
        known = reuse.entry(file)
        if known is not None:
            entry, checks = known
            hashed.add(entry.blake3, entry.pieces, checks)
            yield size
            continue
        began = time.time_ns()
        with refusals(folder.at(file.parts)):
            fd = folder.open_file(file.parts, os.O_RDONLY)
            try:
                hashing = FileHashing(piece_length)
                yield from hashing.steps(folder.layer, fd, size, buffer)
                after = FileIdentity.of(os.fstat(fd))
            finally:
                folder.layer.close(fd)
        if not after.same_file(file.identity) or hashing.length != size:
            shown = printable(str(folder.at(file.parts)))
            raise DiskError(f"{shown}: changed while it was hashed; run the same command again")
        if after != file.identity or not is_settled(after, began):
            unsettled.add(number)
        hashed.add(hashing.whole, bytes(hashing.pieces), bytes(hashing.checks))
        # Empty files take time too, so let the batch end here.
        yield 0
