"""What a client of a hash table knows of its nodes: who answers, who was silent, how long that takes. Pure.

Walks begin at the nodes that answered last. Nodes that are gone are named by others for a long time, so that
each walk would meet them again: those that were silent are doubted for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from swarm.ids import PeerId
from swarm.reach.kad_messages import KadPeer

MAX_ANSWERING: Final = 64
"""Nodes that answered and are remembered; of more, those that answered last."""
MAX_DOUBTED: Final = 256
"""Silent nodes that are remembered; of more, those that were silent last."""
DOUBT_SECONDS: Final = 600.0
"""For so long a node that was silent is asked last; it may have come back."""

LATE_SECONDS: Final = 0.05
LATE_TIMES: Final = 3
"""A node is late that takes so many times the median of the answers, and at least `LATE_SECONDS`."""
FIRST_PATIENCE: Final = 0.7
"""Seconds after which a node is late before any answer was timed."""
LONGEST_PATIENCE: Final = 1.5
"""Seconds after which every node is late: connection and answer take six or seven round trips of 200 ms."""
ANSWERS_TIMED: Final = 32
"""Answers whose median says what is late: the last ones."""


class KadNodes:
    """The nodes of one table that this client has met; ``known`` answered in an earlier run."""

    def __init__(self, known: Iterable[KadPeer] = ()) -> None:
        self._answering = {each.peer: each for each in tuple(known)[:MAX_ANSWERING]}
        self._doubted: dict[PeerId, float] = {}
        self._seconds: deque[float] = deque(maxlen=ANSWERS_TIMED)

    @property
    def answering(self) -> tuple[KadPeer, ...]:
        """Those that answered when they were last asked; the last one comes last."""
        return tuple(self._answering.values())

    def answered(self, node: KadPeer, seconds: float | None) -> None:
        """A node has answered a question after so many seconds of connecting and asking.

        None for one to which a connection was open: that is so much quicker that all others would be late.
        """
        self._doubted.pop(node.peer, None)
        self._answering.pop(node.peer, None)
        self._answering[node.peer] = node
        if len(self._answering) > MAX_ANSWERING:
            del self._answering[next(iter(self._answering))]
        if seconds is not None:
            self._seconds.append(seconds)

    def silent(self, peer: PeerId, now: float, *, alone: bool = True) -> None:
        """A node has not answered in time. Others have if it was ``alone``: otherwise it is not forgotten.

        Where nobody answers, this machine may have no network.
        """
        if alone:
            self._answering.pop(peer, None)
        self._doubted.pop(peer, None)
        self._doubted[peer] = now
        if len(self._doubted) > MAX_DOUBTED:
            del self._doubted[next(iter(self._doubted))]

    def doubted(self, now: float) -> frozenset[PeerId]:
        """Those that were silent a short time ago."""
        return frozenset(peer for peer, since in self._doubted.items() if now < since + DOUBT_SECONDS)

    @property
    def patience(self) -> float:
        """Seconds after which a node is late."""
        if not self._seconds:
            return FIRST_PATIENCE
        usual = sorted(self._seconds)[len(self._seconds) // 2]
        return min(LONGEST_PATIENCE, max(LATE_SECONDS, LATE_TIMES * usual))
