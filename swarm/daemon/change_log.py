"""Which transfers have changed since a reader last looked. Pure.

A version is a word of its own and a counter. Every change moves its transfer to the end of an ordered
table, so a delta costs what has changed and not what there is: 1,000 idle transfers cost nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from swarm.lazy_dataclass import dataclass

MAX_REMOVED: Final = 1024
"""Removals that are remembered; a reader that missed more gets the whole list."""
MAX_VERSION_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new: ids of changed transfers and of removed ones. ``whole``: these are all that there are."""

    version: str
    whole: bool
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class ChangeLog:
    """Counts changes. ``word`` tells this run from others: what is known of another run is worth nothing."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._count = 0
        self._changed: dict[str, int] = {}
        self._removed: deque[tuple[int, str]] = deque()
        self._complete_since = 0

    @property
    def version(self) -> str:
        """The version of now."""
        return f"{self._word}-{self._count}"

    def touch(self, transfer: str) -> None:
        """A transfer is new, or has changed."""
        self._count += 1
        self._changed.pop(transfer, None)
        self._changed[transfer] = self._count

    def touch_node(self) -> None:
        """Something has changed that is told with every answer, and is no transfer's."""
        self._count += 1

    def remove(self, transfer: str) -> None:
        """A transfer is gone."""
        if self._changed.pop(transfer, None) is None:
            return
        self._count += 1
        self._removed.append((self._count, transfer))
        if len(self._removed) > MAX_REMOVED:
            self._complete_since = self._removed.popleft()[0]

    def since(self, version: str | None) -> Delta:
        """What has changed since ``version``; everything for one that is not known, or too old."""
        number = self._number(version)
        if number is None:
            return Delta(self.version, True, tuple(self._changed), ())
        changed = []
        for transfer in reversed(self._changed):
            if self._changed[transfer] <= number:
                break
            changed.append(transfer)
        removed = []
        for at, transfer in reversed(self._removed):
            if at <= number:
                break
            if transfer not in self._changed:
                removed.append(transfer)
        return Delta(self.version, False, tuple(reversed(changed)), tuple(dict.fromkeys(removed)))

    def _number(self, version: str | None) -> int | None:
        word, _, digits = (version or "")[:MAX_VERSION_CHARS].rpartition("-")
        if word != self._word or not (digits.isascii() and digits.isdigit()):
            return None
        number = int(digits)
        return number if self._complete_since <= number <= self._count else None
