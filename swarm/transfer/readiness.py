"""Makes what a session uses first before a peer comes: a share waits for peers anyway.

The methods of a lazy dataclass are made when it is first used, some 0.1 ms each. A session that serves uses
some thirty of them before its first piece leaves, one after the other, with the peer waiting. A fetch has no
such time: what is made while it dials delays its own dial.
"""

from __future__ import annotations

from typing import Final

import trio

from swarm import lazy_dataclass

SERVING: Final = (
    "swarm.discovery.peer_exchange",
    "swarm.events",
    "swarm.mux",
    "swarm.net",
    "swarm.ports",
    "swarm.protocol",
    "swarm.storage.piece_files",
    "swarm.strategy",
    "swarm.transfer",
)
"""The packages and modules whose classes a session uses that serves pieces."""

PAUSE: Final = 0.001
"""Seconds between two classes: whatever comes meanwhile goes first."""


async def make_ready() -> None:
    """Make the methods of all those classes, one in each turn of the event loop."""
    for each in lazy_dataclass.incomplete(*SERVING):
        await trio.sleep(PAUSE)
        lazy_dataclass.complete(each)
