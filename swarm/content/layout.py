"""Where each piece is located in the files of a manifest."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple


class Span(NamedTuple):
    """The location of one piece: index of its file, byte offset in that file, length in bytes."""

    file: int
    offset: int
    length: int


def piece_counts(piece_length: int, file_lengths: Sequence[int]) -> Iterator[int]:
    """Yield how many pieces each file has, in order; an empty file has none."""
    if max(file_lengths, default=0) <= piece_length:
        # A million small files are quickly counted.
        return map(bool, file_lengths)
    return (-(-length // piece_length) for length in file_lengths)


class Layout:
    """The division of files into pieces. Pieces are numbered through all files; each file starts a new one.

    So no piece spans two files, the last piece of a file may be short, and an empty file has no piece.
    Sizes are bytes. Raises ValueError for a piece length below 1 or a negative file length.
    """

    __slots__ = ("_count", "_first", "_lengths", "_one_file", "_piece_length", "_total")

    def __init__(self, piece_length: int, file_lengths: Iterable[int]) -> None:
        if piece_length < 1:
            raise ValueError(f"a piece cannot have {piece_length} bytes")
        self._piece_length = piece_length
        try:
            self._lengths = array("Q", file_lengths)
        except OverflowError as error:
            raise ValueError("a file cannot have a negative number of bytes, or 2**64") from error
        self._total = sum(self._lengths)
        # The first piece of each file, then the piece count. An empty file has the same entry as the next.
        self._first = array("Q", accumulate(piece_counts(piece_length, self._lengths), initial=0))
        # Kept, because both are needed several times for each piece that is transferred.
        self._count = self._first[-1]
        self._one_file = len(self._lengths) == 1

    @property
    def piece_length(self) -> int:
        """Bytes of every piece that is not the last of its file."""
        return self._piece_length

    @property
    def piece_count(self) -> int:
        """The number of pieces of all files."""
        return self._count

    @property
    def total_length(self) -> int:
        """Bytes of all files."""
        return self._total

    def span(self, piece: int) -> Span:
        """Return the location of ``piece``; raises IndexError if there is no such piece."""
        if not 0 <= piece < self._count:
            raise IndexError(f"piece {piece} is not in 0..{self._count - 1}")
        if self._one_file:
            offset = piece * self._piece_length
            return Span(0, offset, min(self._piece_length, self._total - offset))
        # If several files share a first piece, all but the last are empty.
        file = bisect_right(self._first, piece) - 1
        offset = (piece - self._first[file]) * self._piece_length
        return Span(file, offset, min(self._piece_length, self._lengths[file] - offset))

    def length(self, piece: int) -> int:
        """Return the bytes of ``piece``; raises IndexError if there is no such piece."""
        if not 0 <= piece < self._count:
            raise IndexError(f"piece {piece} is not in 0..{self._count - 1}")
        if self._one_file:
            return self._piece_length if piece < self._count - 1 else self._total - piece * self._piece_length
        file = bisect_right(self._first, piece) - 1
        left = self._lengths[file] - (piece - self._first[file]) * self._piece_length
        return min(self._piece_length, left)

    def pieces_of(self, file: int) -> range:
        """Return the pieces of the file with that index; raises IndexError if there is no such file."""
        if not 0 <= file < len(self._lengths):
            raise IndexError(f"file {file} is not in 0..{len(self._lengths) - 1}")
        return range(self._first[file], self._first[file + 1])

    def file_length(self, file: int) -> int:
        """Return the bytes of a file; raises IndexError if there is no such file."""
        return self._lengths[file]

    def files_of_many_pieces(self) -> Iterator[int]:
        """Yield the files that have more than one piece, ascending."""
        if max(self._lengths, default=0) <= self._piece_length:
            return iter(())
        return (file for file, length in enumerate(self._lengths) if length > self._piece_length)

    def empty_files(self) -> Iterator[int]:
        """Yield the files without a byte, ascending."""
        return (file for file, length in enumerate(self._lengths) if not length)
