"""A bounded cache of open descriptors: a folder of 10,000 files must not hold 10,000 of them."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

OPEN_FILES = 8
"""Descriptors kept by one store. Opening a file again costs about 10 microseconds, a descriptor is
scarce where a process has 64 of them; pieces of one file follow each other anyway."""


@dataclass(slots=True)
class _Opened:
    fd: int
    identity: tuple[int, int]
    users: int = 0
    dropped: bool = False


class OpenFiles:
    """Descriptors by file index; the least recently used is closed first, never one in use."""

    def __init__(self, close: Callable[[int], None], limit: int = OPEN_FILES) -> None:
        self._close = close
        self._limit = limit
        self._files: OrderedDict[int, _Opened] = OrderedDict()

    def identity(self, file: int) -> tuple[int, int] | None:
        """Device and inode of the descriptor held for a file, or None."""
        opened = self._files.get(file)
        return None if opened is None else opened.identity

    @contextmanager
    def use(self, file: int, open_file: Callable[[], int]) -> Iterator[int]:
        """Hold a descriptor of ``file`` for the block, from the cache or else by ``open_file``."""
        opened = self._files.get(file)
        if opened is None:
            fd = open_file()
            about = os.fstat(fd)
            opened = self._files[file] = _Opened(fd, (about.st_dev, about.st_ino))
        else:
            self._files.move_to_end(file)
        opened.users += 1
        try:
            yield opened.fd
        finally:
            opened.users -= 1
            if opened.dropped and not opened.users:
                self._close(opened.fd)
            elif len(self._files) > self._limit:
                self._evict()

    def drop(self, file: int) -> None:
        """Forget the descriptor of a file; it is closed once nobody uses it."""
        opened = self._files.pop(file, None)
        if opened is None:
            return
        opened.dropped = True
        if not opened.users:
            self._close(opened.fd)

    def close(self) -> None:
        """Forget every descriptor."""
        for file in list(self._files):
            self.drop(file)

    def _evict(self) -> None:
        for file, opened in self._files.items():
            if not opened.users:
                self.drop(file)
                return
