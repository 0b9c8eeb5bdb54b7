"""Compares a file or folder with its manifest."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Sequence
from pathlib import Path

import trio

from swarm.content.manifest import FileEntry, Manifest
from swarm.content.paths import printable
from swarm.content.selection import select
from swarm.errors import UsageError
from swarm.ids import DIGEST_BYTES
from swarm.lazy_dataclass import dataclass, field
from swarm.storage.disk_errors import disk_error, refusals
from swarm.storage.extras import target_of
from swarm.storage.folder import Folder
from swarm.storage.hashing import FileHashing, Progress, in_thread, new_buffer
from swarm.storage.walk import OWNER_EXECUTES, files_below


@dataclass(frozen=True, slots=True)
class BadPiece:
    """A piece that differs from the manifest; ``file`` is the relative path, ``reason`` one line."""

    piece: int
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class WrongSize:
    """A file whose length, in bytes, differs from the manifest."""

    file: str
    expected: int
    found: int


@dataclass(frozen=True, slots=True)
class WrongLink:
    """A link that leads elsewhere; ``found`` is its target, or None if it is no link."""

    link: str
    expected: str
    found: str | None


@dataclass(slots=True)
class VerifyReport:
    """The differences found. Files are relative paths with ``/``, unescaped: escape them for display."""

    bad_pieces: list[BadPiece] = field(default_factory=list)
    bad_files: list[str] = field(default_factory=list)
    """Files whose pieces all match but whose own BLAKE3 does not: the manifest contradicts itself."""
    missing: list[str] = field(default_factory=list)
    wrong_sizes: list[WrongSize] = field(default_factory=list)
    wrong_links: list[WrongLink] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    """Files, links and empty folders that the manifest does not name; they do not affect `matches`."""
    executable: list[str] = field(default_factory=list)
    """Files whose executable bit differs."""

    @property
    def matches(self) -> bool:
        """Whether every file, link and empty folder of the manifest exists with its content."""
        return not (self.bad_pieces or self.bad_files or self.missing or self.wrong_sizes or self.wrong_links)

    @property
    def identical(self) -> bool:
        """Whether nothing differs: also no extra files, and the same executable bits."""
        return self.matches and not (self.extra or self.executable)


async def verify(
    manifest: Manifest,
    path: str | Path,
    progress: Progress | None = None,
    *,
    only: Sequence[str] = (),
) -> VerifyReport:
    """Compare the file or folder at ``path`` with ``manifest``: every piece and every whole file.

    ``only`` are patterns as of `TransferOptions.only`: nothing else is looked at, not even what the manifest
    does not name. ``progress`` is called with done and total bytes. Raises `UsageError` if ``path`` is
    missing, or is a folder and the manifest describes a file, or the reverse, and for a pattern that matches
    nothing; `DiskError` for an unreadable file.
    """
    report = VerifyReport()
    selected = await trio.to_thread.run_sync(select, manifest, only) if only else None
    folder, name = await trio.to_thread.run_sync(_open, manifest, Path(path))
    try:
        comparison = _Comparison(manifest, folder, name, report, selected)
        await in_thread(comparison.steps(), comparison.total, progress)
    finally:
        folder.close()
    return report


def _open(manifest: Manifest, path: Path) -> tuple[Folder, str]:
    """Open the folder that contains the files; also return the name of a single file in it."""
    shown = printable(str(path))
    real = Path(os.path.realpath(path))
    try:
        is_folder = stat.S_ISDIR(real.stat().st_mode)
    except FileNotFoundError as error:
        from swarm.storage.update_swap import recover_at

        if recover_at(real):
            return _open(manifest, path)
        raise UsageError(f"{shown}: there is no such file or folder") from error
    except OSError as error:
        raise disk_error(error, path) from error
    if is_folder != manifest.folder:
        kinds = ("a folder", "a file") if is_folder else ("a file", "a folder")
        raise UsageError(f"{shown}: this is {kinds[0]}, but the manifest describes {kinds[1]}")
    with refusals(path):
        return Folder.open(real if is_folder else real.parent), real.name


class _Comparison:
    def __init__(
        self,
        manifest: Manifest,
        folder: Folder,
        name: str,
        report: VerifyReport,
        selected: frozenset[int] | None,
    ) -> None:
        self._manifest = manifest
        self._selected = selected
        self._folder = folder
        self._name = name
        self._report = report
        self._buffer = new_buffer()

    @property
    def total(self) -> int:
        """The bytes of the files that are compared."""
        if self._selected is None:
            return self._manifest.total_length
        files = (item for item in self._selected if item < len(self._manifest.files))
        return sum(map(self._manifest.layout.file_length, files))

    def steps(self) -> Generator[int, None, None]:
        for number, entry in enumerate(self._manifest.files):
            if self._is_selected(number):
                yield from self._file(number, entry)
                yield 0
        if self._manifest.folder:
            yield from self._extras()
            if self._selected is None:
                yield from self._others()

    def _is_selected(self, item: int) -> bool:
        return self._selected is None or item in self._selected

    def _extras(self) -> Generator[int, None, None]:
        """Compare links and empty folders."""
        first = len(self._manifest.files)
        for item, link in enumerate(self._manifest.links, first):
            if not self._is_selected(item):
                continue
            with refusals(self._folder.at(link.path)):
                found = target_of(self._folder, link.path)
                if found == link.target:
                    continue
                exists = self._folder.stat(link.path) is not None
            shown = "/".join(link.path)
            if exists:
                self._report.wrong_links.append(WrongLink(shown, link.target, found))
            else:
                self._report.missing.append(shown)
            yield 0
        for item, path in enumerate(self._manifest.empty_folders, first + len(self._manifest.links)):
            if not self._is_selected(item):
                continue
            with refusals(self._folder.at(path)):
                about = self._folder.stat(path)
            if about is None or not stat.S_ISDIR(about.st_mode):
                self._report.missing.append("/".join(path))
            yield 0

    def _others(self) -> Generator[int, None, None]:
        """List what the manifest does not name."""
        # The hashes of the paths: the paths themselves take ten times as much memory. Two paths with one
        # hash would hide a name that is only mentioned.
        wanted = {hash(path) for path in self._manifest.item_paths()}
        formed = self._manifest.version > 1
        for parts, is_folder in files_below(self._folder):
            # In format 1 nothing tells whether there were links or empty folders.
            if hash(parts) not in wanted and (formed or not is_folder):
                self._report.extra.append("/".join(parts))
            yield 0

    def _file(self, number: int, entry: FileEntry) -> Generator[int, None, None]:
        shown = "/".join(entry.path)
        parts = entry.path if self._manifest.folder else (self._name,)
        with refusals(self._folder.at(parts)):
            about = self._folder.stat(parts)
            if about is None or not stat.S_ISREG(about.st_mode):
                self._report.missing.append(shown)
                yield entry.length
                return
            if about.st_size != entry.length:
                self._report.wrong_sizes.append(WrongSize(shown, entry.length, about.st_size))
            if bool(about.st_mode & OWNER_EXECUTES) != entry.executable:
                self._report.executable.append(shown)
            hashing = FileHashing(self._manifest.piece_length)
            fd = self._folder.open_file(parts, os.O_RDONLY)
            try:
                yield from hashing.steps(self._folder.layer, fd, entry.length, self._buffer)
            finally:
                self._folder.layer.close(fd)
        yield entry.length - hashing.length
        self._judge(number, entry, shown, hashing)

    def _judge(self, number: int, entry: FileEntry, shown: str, hashing: FileHashing) -> None:
        bad = 0
        for index, piece in enumerate(self._manifest.layout.pieces_of(number)):
            span = self._manifest.layout.span(piece)
            digest = slice(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES)
            if span.offset + span.length > hashing.length:
                reason = "the file is too short"
            elif hashing.pieces[digest] != entry.pieces[digest]:
                reason = "the bytes differ"
            else:
                continue
            bad += 1
            self._report.bad_pieces.append(BadPiece(piece, shown, reason))
        if not bad and hashing.whole != entry.blake3:
            self._report.bad_files.append(shown)
