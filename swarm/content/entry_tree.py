"""The entries of a manifest of format 2, kept as the columns in which they are encoded.

A million files as objects take half a gigabyte. So the columns stay views of the encoded bytes, and names,
paths and entries are made when they are asked for. Sparse indexes, one number for some dozens of entries,
make that quick.

The tree is numbered level by level: first the entries of the shared folder, then those of each of its
folders, and so on. Folder 0 is the shared folder. The entries of one folder follow each other.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress, islice, repeat
from operator import eq
from typing import TypeVar, overload

from swarm.content.entries import FileEntry, LinkEntry, Path
from swarm.content.layout import Layout
from swarm.ids import DIGEST_BYTES
from swarm.lazy_dataclass import dataclass

FILE, PROGRAM, LINK, FOLDER = range(4)
"""Kinds of entries; a program is an executable file."""
SIZE_BYTES = 8
_STEP = 64
"""Entries for which a `Ranks` keeps one number."""
_SIZES = 8192
"""Sizes that are decoded together."""
_SPAN = 2048
"""Bytes of names for which a `Names` keeps one number."""
_CACHED_FOLDERS = 256

BIG_ENDIAN = array("H", b"\0\1")[0] == 1
# Translate kinds to 1 or 0.
IS_FOLDER = bytes(kind == FOLDER for kind in range(256))
IS_FILE = bytes(kind in {FILE, PROGRAM} for kind in range(256))
IS_LINK = bytes(kind == LINK for kind in range(256))


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of docs/manifest.md, section 3: bytes, or views of them.

    ``kinds`` has a byte for each entry. ``sizes`` are unsigned 64-bit integers, little endian: the bytes of a
    file, the bytes of a link's target, the entries of a folder. ``names`` is UTF-8, a line feed after each.
    ``targets`` is UTF-8. ``hashes`` has the BLAKE3-256 of each file, ``pieces`` those of the pieces of the
    files that have more than one.
    """

    kinds: bytes
    sizes: memoryview
    names: memoryview
    targets: memoryview
    hashes: memoryview
    pieces: memoryview

    def sizes_of(self, selector: bytes) -> Iterator[int]:
        """Iterate over the sizes of the entries whose kind ``selector`` maps to 1."""
        return chain.from_iterable(self._some_sizes(selector))

    def _some_sizes(self, selector: bytes) -> Iterator[Iterable[int]]:
        for start in range(0, len(self.kinds), _SIZES):
            marks = self.kinds[start : start + _SIZES].translate(selector)
            if marked := marks.count(1):
                sizes = array("Q", bytes(self.sizes[start * SIZE_BYTES : (start + _SIZES) * SIZE_BYTES]))
                if BIG_ENDIAN:
                    sizes.byteswap()
                yield sizes if marked == len(marks) else compress(sizes, marks)


def folder_starts(columns: Columns) -> array[int]:
    """Return the first entry of each folder, then the end; empty if the folders have too many entries."""
    rest = len(columns.kinds) - sum(columns.sizes_of(IS_FOLDER))
    if rest < 0:
        return array("I")
    return array("I", accumulate(chain((rest,), columns.sizes_of(IS_FOLDER)), initial=0))


class Ranks:
    """Counts the entries of some kinds: how many precede an entry, and which is the n-th."""

    def __init__(self, kinds: bytes, selector: bytes) -> None:
        self._marks = kinds.translate(selector)
        self._latest = -1, -1
        starts = range(0, len(kinds), _STEP)
        ends = range(_STEP, len(kinds) + _STEP, _STEP)
        self._before = array("I", accumulate(map(self._marks.count, repeat(1), starts, ends), initial=0))

    @property
    def count(self) -> int:
        """How many there are."""
        return self._before[-1]

    def rank(self, entry: int) -> int:
        """Return how many precede the entry."""
        block = entry // _STEP
        return self._before[block] + self._marks.count(1, block * _STEP, entry)

    def entry(self, number: int) -> int:
        """Return the entry with that number among its kind."""
        latest, at = self._latest
        # One after the other is how most ask, and takes a tenth of the time.
        at = self._marks.index(1, at + 1) if number == latest + 1 else self._find(number)
        self._latest = number, at
        return at

    def _find(self, number: int) -> int:
        block = bisect_right(self._before, number) - 1
        at = block * _STEP - 1
        for _ in range(number - self._before[block] + 1):
            at = self._marks.index(1, at + 1)
        return at


class Names:
    """The names of all entries, found by the number of the entry."""

    def __init__(self, text: memoryview) -> None:
        self._text = text
        self._starts = array("I")
        self._first = array("I")
        at = number = 0
        while at < len(text):
            part = bytes(text[at : at + _SPAN])
            part = part[: part.rindex(b"\n") + 1]
            self._starts.append(at)
            self._first.append(number)
            number += part.count(b"\n")
            at += len(part)
        self.count = number
        self._latest = -1
        self._names: list[str] = []

    def __getitem__(self, number: int) -> str:
        span = bisect_right(self._first, number) - 1
        if span != self._latest:
            start = self._starts[span]
            end = self._starts[span + 1] if span + 1 < len(self._starts) else len(self._text)
            self._names = str(self._text[start:end], "utf-8").split("\n")
            self._latest = span
        return self._names[number - self._first[span]]


class EntryTree:
    """The checked entries of a manifest of format 2, and where each is in the columns."""

    def __init__(self, columns: Columns, piece_length: int, starts: array[int]) -> None:
        self.columns = columns
        self._piece_length = piece_length
        self._starts = starts
        kinds = columns.kinds
        self._folders = Ranks(kinds, IS_FOLDER)
        self._files = Ranks(kinds, IS_FILE)
        self._links = Ranks(kinds, IS_LINK)
        self._names = Names(columns.names)
        self._paths: dict[int, Path] = {0: ()}
        lengths = array("Q", columns.sizes_of(IS_FILE))
        self.layout = Layout(piece_length, lengths)
        self._many = array("I", self.layout.files_of_many_pieces())
        many = (len(self.layout.pieces_of(file)) for file in self._many)
        # Where the piece hashes of each of those start, in hashes.
        self._many_at = array("I", accumulate(many, initial=0))
        self.empty_folder_count = sum(map(eq, islice(starts, 1, None), islice(starts, 2, None)))
        """The number of folders without an entry, the shared one aside."""
        self._empty = array("I")
        self._link_at = array("I", accumulate(columns.sizes_of(IS_LINK), initial=0))

    @property
    def file_count(self) -> int:
        """The number of files."""
        return self._files.count

    @property
    def link_count(self) -> int:
        """The number of symbolic links."""
        return self._links.count

    @property
    def further_pieces(self) -> int:
        """The pieces of files that have more than one."""
        return self._many_at[-1]

    def empty_folder(self, number: int) -> Path:
        """Return the path of a folder without an entry."""
        if not self._empty:
            ends = islice(self._starts, 2, None)
            same = map(eq, islice(self._starts, 1, None), ends)
            self._empty = array("I", compress(range(1, len(self._starts)), same))
        return self.folder_path(self._empty[number])

    @property
    def folder_count(self) -> int:
        """The number of folders, the shared one included."""
        return self._folders.count + 1

    def folder_path(self, folder: int) -> Path:
        """Return the path of a folder; the shared one has none."""
        found = self._paths.get(folder)
        if found is None:
            found = self._path(self._folders.entry(folder - 1))
            if len(self._paths) >= _CACHED_FOLDERS:
                self._paths = {0: ()}
            self._paths[folder] = found
        return found

    def file_path(self, file: int) -> Path:
        """Return the path of a file."""
        return self._path(self._files.entry(file))

    def file(self, file: int) -> FileEntry:
        """Return a file."""
        entry = self._files.entry(file)
        digest = bytes(self.columns.hashes[file * DIGEST_BYTES : (file + 1) * DIGEST_BYTES])
        executable = self.columns.kinds[entry] == PROGRAM
        pieces = self._pieces_of(file, digest)
        return FileEntry(self._path(entry), self.layout.file_length(file), executable, digest, pieces)

    def link(self, link: int) -> LinkEntry:
        """Return a link."""
        target = self.columns.targets[self._link_at[link] : self._link_at[link + 1]]
        return LinkEntry(self._path(self._links.entry(link)), str(target, "utf-8"))

    def piece_hash(self, piece: int) -> bytes:
        """Return the BLAKE3-256 of a piece; raises IndexError if there is no such piece."""
        file, offset, _ = self.layout.span(piece)
        if len(self.layout.pieces_of(file)) == 1:
            return bytes(self.columns.hashes[file * DIGEST_BYTES : (file + 1) * DIGEST_BYTES])
        start = (
            self._many_at[bisect_right(self._many, file) - 1] + offset // self._piece_length
        ) * DIGEST_BYTES
        return bytes(self.columns.pieces[start : start + DIGEST_BYTES])

    def _pieces_of(self, file: int, digest: bytes) -> bytes:
        count = len(self.layout.pieces_of(file))
        if count < 2:
            return digest if count else b""
        at = bisect_right(self._many, file) - 1
        return bytes(
            self.columns.pieces[self._many_at[at] * DIGEST_BYTES : self._many_at[at + 1] * DIGEST_BYTES]
        )

    def _path(self, entry: int) -> Path:
        folder = bisect_right(self._starts, entry, hi=len(self._starts) - 1) - 1
        return (*self.folder_path(folder), self._names[entry])


_T = TypeVar("_T")


class EntriesView(Sequence[_T]):
    """A sequence whose items are made when they are asked for."""

    __slots__ = ("_count", "_make")

    def __init__(self, count: int, make: Callable[[int], _T]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> _T: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[_T, ...]: ...

    def __getitem__(self, index: int | slice) -> _T | tuple[_T, ...]:
        if isinstance(index, slice):
            return tuple(self._make(at) for at in range(self._count)[index])
        return self._make(range(self._count)[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
