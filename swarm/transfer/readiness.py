"""Makes what a session uses first before it is needed, while this end waits for the other one.

The methods of a lazy dataclass are made when it is first used. A session uses some thirty of them before its
first piece has gone over, one after the other. A share makes them while it waits for peers; a fetch, once a
peer is connected and is yet to greet. Earlier, a fetch would only delay its own dial.
"""

from __future__ import annotations

from typing import Final

import trio

from swarm import lazy_dataclass

FETCHING: Final = (
    "swarm.discovery.peer_exchange",
    "swarm.protocol.messages",
    "swarm.storage.piece_files",
    "swarm.strategy",
    "swarm.transfer",
)
"""The packages and modules whose classes a session uses that fetches pieces."""

SERVING: Final = (*FETCHING, "swarm.events", "swarm.mux", "swarm.net", "swarm.ports", "swarm.protocol")
"""Those that one uses which serves pieces. A share has the time to make all events."""

PAUSE: Final = 0.001
"""Seconds between two classes that a share makes: whatever comes meanwhile goes first."""


async def be_ready_to_serve() -> None:
    """Make the methods of the classes that serving takes, one at a time."""
    for each in lazy_dataclass.incomplete(*SERVING):
        await trio.sleep(PAUSE)
        lazy_dataclass.complete(each)


async def be_ready_to_fetch() -> None:
    """Make the methods of the classes that fetching takes, one in each turn of the event loop."""
    for each in lazy_dataclass.incomplete(*FETCHING):
        await trio.lowlevel.checkpoint()
        lazy_dataclass.complete(each)
