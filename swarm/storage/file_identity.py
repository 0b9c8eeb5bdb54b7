"""What identifies an unchanged file: its size, times, inode and device; of many files in columns."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple, overload

from swarm.lazy_dataclass import dataclass


class FileIdentity(NamedTuple):
    """Identifies an unchanged file: size in bytes, times in nanoseconds, inode, device."""

    size: int
    mtime_ns: int
    inode: int
    device: int
    ctime_ns: int = 0

    @classmethod
    def of(cls, about: os.stat_result) -> FileIdentity:
        """Return the identity in a stat result."""
        # At half the cost of the constructor: there may be a million.
        return tuple.__new__(
            cls, (about.st_size, about.st_mtime_ns, about.st_ino, about.st_dev, about.st_ctime_ns)
        )

    def same_file(self, other: FileIdentity) -> bool:
        """Whether ``other`` is most likely this file with this content.

        The change time is left out, because moving a file away and back sets it; so is the device, which
        a disk may get anew with every mount. Whoever serves the file compares its bytes anyway.
        """
        return (self.size, self.mtime_ns, self.inode) == (other.size, other.mtime_ns, other.inode)


NOBODY = FileIdentity(0, 0, 0, 0, 0)
"""The identity of no file."""


class FileIdentities(Sequence[FileIdentity]):
    """The identities of the files of one manifest, in its order: five columns of 8 bytes a file."""

    __slots__ = ("ctimes", "devices", "inodes", "mtimes", "sizes")

    def __init__(self, files: Sequence[FileIdentity] = ()) -> None:
        # All fields in a row: to unpack every file for each column takes longer, and there may be a million.
        row, width = [*chain.from_iterable(files)], len(FileIdentity._fields)
        self.sizes = array("Q", row[0::width])
        self.mtimes = array("q", row[1::width])
        self.inodes = array("Q", row[2::width])
        self.devices = array("Q", row[3::width])
        self.ctimes = array("q", row[4::width])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileIdentities):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> FileIdentities:
        """Return independent columns."""
        twin = FileIdentities()
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name)[:])
        return twin

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> FileIdentity: ...
    @overload
    def __getitem__(self, index: slice) -> list[FileIdentity]: ...
    def __getitem__(self, index: int | slice) -> FileIdentity | list[FileIdentity]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return FileIdentity(
            self.sizes[index], self.mtimes[index], self.inodes[index], self.devices[index], self.ctimes[index]
        )

    def __setitem__(self, index: int, file: FileIdentity) -> None:
        self.sizes[index] = file.size
        self.mtimes[index] = file.mtime_ns
        self.inodes[index] = file.inode
        self.devices[index] = file.device
        self.ctimes[index] = file.ctime_ns

    def __iter__(self) -> Iterator[FileIdentity]:
        return map(FileIdentity, self.sizes, self.mtimes, self.inodes, self.devices, self.ctimes)


@dataclass(frozen=True, slots=True)
class Checks:
    """What later checks compare with: the identity of each file, the concatenated XXH3-128 of the pieces."""

    files: FileIdentities
    pieces: bytes
