"""Shares what is put into a folder, once it has not changed for some seconds.

Every file and folder in it is one transfer. How each looked when it was shared is kept: after a restart
nothing is shared twice, what was removed with ``swarm remove`` stays away, and what has changed meanwhile is
hashed again. What vanishes is left to its transfer, which says so: a disk may come back.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from swarm.content.paths import printable
from swarm.daemon.transfer_registry import TransferRegistry
from swarm.daemon.wishes import Wishes
from swarm.errors import SwarmError
from swarm.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from swarm.daemon.keeper import TransferKeeper

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks at what is new or changes."""
SETTLED_SECONDS: Final = 30.0
"""Between two looks at what has been shared and is large: a folder is read all through."""
UNCHANGED_SECONDS: Final = 5.0
MAX_STAMPED: Final = 1_000_000
"""Files and folders of one entry that are looked at."""
_PARTIAL: Final = (".part", ".partial", ".crdownload", ".download", ".tmp", "~")
"""How names end of what another program has not finished."""


@dataclass(frozen=True, slots=True)
class _Look:
    """How an entry looked, since when, and when it is looked at next."""

    stamp: str
    since: float
    next: float


class WatchFolder:
    """One watched folder; ``path`` is absolute."""

    def __init__(self, keeper: TransferKeeper, registry: TransferRegistry, path: Path) -> None:
        self._keeper = keeper
        self._registry = registry
        self._path = path
        self._looks: dict[str, _Look] = {}
        self._shared: dict[str, str] = {}
        self._told: str = ""
        self._refused: dict[str, str] = {}
        """What was told last of each path that is not shared."""

    async def run(self) -> None:
        """Watch until cancelled."""
        self._shared = await self._registry.watched()
        while True:
            try:
                names = await trio.to_thread.run_sync(_names, self._path)
            except OSError as error:
                # Not there yet, or not at this moment: it is looked for again.
                self._tell_once(f"{printable(str(self._path))} is not watched: {error.strerror or error}")
            else:
                self._told = ""
                await self._look(names)
            await trio.sleep(LOOK_SECONDS)

    async def _look(self, names: list[str]) -> None:
        for gone in self._looks.keys() - set(names):
            del self._looks[gone]
            self._refused.pop(str(self._path / gone), None)
        now = trio.current_time()
        due = [name for name in names if name not in self._looks or now >= self._looks[name].next]
        # All in one thread: there may be thousands.
        for name, stamp in (await trio.to_thread.run_sync(_stamps, self._path, due)).items():
            if not stamp:
                continue
            path, now, known = str(self._path / name), trio.current_time(), self._looks.get(name)
            since = now if known is None or known.stamp != stamp else known.since
            settled = self._shared.get(path) == stamp
            pause = SETTLED_SECONDS if settled and stamp.startswith("folder") else 0.0
            self._looks[name] = _Look(stamp, since, now + pause)
            if not settled and now - since >= UNCHANGED_SECONDS:
                await self._share(path, stamp)

    async def _share(self, path: str, stamp: str) -> None:
        """Share what is new, and begin anew with what has changed."""
        changed = path in self._shared
        try:
            entry, new = await self._keeper.share(path, Wishes())
            if changed and not new:
                await self._keeper.again(entry)
            # Only now: whoever is killed before this finds the transfer there, and shares nothing twice.
            await self._registry.set_watched(path, stamp)
        except SwarmError as error:
            self._refuse(path, str(error))
            return
        except Exception:
            # The one guard of an entry: a fault at one must not end the daemon.
            if self._refuse(path, "the daemon has a fault here: see its log"):
                logger.exception("the watched %s failed", printable(path))
            return
        self._shared[path] = stamp
        self._refused.pop(path, None)

    def _refuse(self, path: str, reason: str) -> bool:
        """Tell once why a path is not shared, and return whether it was told now; each look tries again."""
        if self._refused.get(path) == reason:
            return False
        self._refused[path] = reason
        self._keeper.tell(f"{printable(path)} is not shared: {reason}")
        return True

    def _tell_once(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._keeper.tell(line)


def _names(folder: Path) -> list[str]:
    """What is in the folder, without what is hidden or not finished."""
    names = (each.name for each in folder.iterdir())
    return sorted(name for name in names if not name.startswith(".") and not name.endswith(_PARTIAL))


def _stamps(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: stamp_of(str(folder / name)) for name in names}


def stamp_of(path: str) -> str:
    """A text that changes when a file, or anything in a folder, does; empty for anything else.

    Links are nothing to share: whoever can write into the folder could name any file of the daemon's user.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return ""
    if stat.S_ISREG(status.st_mode):
        return f"file {_marks(status)}"
    if not stat.S_ISDIR(status.st_mode):
        return ""
    count = size = latest = total = 0
    for folder, _, names in os.walk(path):
        for each in (folder, *(f"{folder}/{name}" for name in names)):
            try:
                found = os.lstat(each)
            except OSError:
                continue
            count += 1
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
            latest = max(latest, found.st_mtime_ns, found.st_ctime_ns)
            total = (total + found.st_mtime_ns * (found.st_ino | 1)) & ((1 << 64) - 1)
        if count > MAX_STAMPED:
            break
    return f"folder {count} {size} {latest} {total:x}"


def _marks(status: os.stat_result) -> str:
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
