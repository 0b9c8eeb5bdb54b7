"""The times of folders and links, which peers ask each other for when a fetch is complete.

They are not in an envelope: a version that does not know them would refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from swarm.content.manifest import Manifest
from swarm.content.times import FileTimes
from swarm.errors import LinkClosed, ManifestError, NoPeerReachable, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.node.catalogue import TIMES_PROTOCOL, Questions, ask_tree_times
from swarm.storage.tree_times import read_tree_times

ASKING_SECONDS: Final = 3.0
"""How long the end of a fetch may be held up by the question."""
ASKED_PEERS: Final = 8
"""Peers that are asked, one after the other."""
MAX_READ: Final = 32
"""Folders whose times are remembered."""


class TreeTimes:
    """Answers with the times of what this node has; each is read from the disk once."""

    def __init__(self) -> None:
        self._read: dict[ManifestId, bytes] = {}
        self._reading = trio.Lock()

    async def of(self, manifest: Manifest, path: Path) -> bytes:
        """Return the packed times of the folders and links at ``path``; nothing if they cannot be read."""
        async with self._reading:
            if manifest.id not in self._read:
                packed = b""
                with suppress(OSError, ManifestError):
                    packed = (await trio.to_thread.run_sync(read_tree_times, manifest, path)).packed
                self._read[manifest.id] = packed
                if len(self._read) > MAX_READ:
                    del self._read[next(iter(self._read))]
            return self._read[manifest.id]


async def find_tree_times(
    questions: Questions, manifest: Manifest, peers: Sequence[PeerId]
) -> FileTimes | None:
    """Ask connected peers for the times of folders and links; None if none of the first few tells them."""
    if not manifest.folder or not peers:
        return None
    folders = await trio.to_thread.run_sync(manifest.folder_paths)
    with trio.move_on_after(ASKING_SECONDS):
        for peer in peers[:ASKED_PEERS]:
            with suppress(LinkClosed, NoPeerReachable, RemoteError):
                async with questions.ask(peer, (), TIMES_PROTOCOL) as stream:
                    found = await ask_tree_times(stream, manifest.id, len(folders) + len(manifest.links))
                if found is not None:
                    return found
    return None
