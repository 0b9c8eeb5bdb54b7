"""Round trips to every peer that any transfer has a session with: one pinger for each connection."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

import trio

from swarm.ids import PeerId

INTERVAL = 5.0
"""Seconds between two pings of a peer, on average; the strategy takes a peer that answers for a busy one."""
QUIET_INTERVAL = 480.0
"""The longest interval with a peer with which nothing moves; the connection's own probe finds the dead."""
GROWTH = 4
"""With such a peer each interval is so many times the one before: a hundred quiet peers must cost nothing."""
PATIENT_INTERVALS = 3
"""Quiet intervals before they grow: a peer may be silent that is only busy."""
LOOK_SECONDS = 40.0
"""How soon it is noticed that something moves again."""
QUIET_BYTES = 64 * 1024
"""What a quiet connection still moves between two looks, both directions together."""
JITTER = 0.2
"""Each interval is stretched or shrunk by up to this share, so that pings do not fall in step."""


class Pinger(Protocol):
    """What is asked of the network."""

    async def ping(self, peer: PeerId) -> float | None:
        """Seconds of one round trip over the connection to the peer; None when it was lost."""

    def traffic(self, peer: PeerId) -> int:
        """Bytes moved so far on that connection, both directions together."""


class RoundTrips:
    """Measures each peer from `begin` to `end`, and reports every ping; None stands for a lost one."""

    def __init__(
        self,
        network: Pinger,
        report: Callable[[PeerId, float | None], None],
        nursery: trio.Nursery,
        rng: random.Random,
    ) -> None:
        self._network = network
        self._report = report
        self._nursery = nursery
        self._rng = rng
        self._scopes: dict[PeerId, trio.CancelScope] = {}

    def begin(self, peer: PeerId) -> None:
        """Measure the peer, unless that is under way."""
        if peer not in self._scopes:
            scope = self._scopes[peer] = trio.CancelScope()
            self._nursery.start_soon(self._measure, peer, scope)

    def end(self, peer: PeerId) -> None:
        """No session with the peer is left."""
        if scope := self._scopes.pop(peer, None):
            scope.cancel()

    async def _measure(self, peer: PeerId, scope: trio.CancelScope) -> None:
        calm = 0
        with scope:
            while True:
                elapsed = await self._network.ping(peer)
                self._report(peer, elapsed)
                interval = min(INTERVAL * GROWTH ** max(0, calm - PATIENT_INTERVALS), QUIET_INTERVAL)
                quiet = await self._rest(peer, interval * self._rng.uniform(1 - JITTER, 1 + JITTER))
                calm = calm + 1 if quiet and elapsed is not None else 0

    async def _rest(self, peer: PeerId, seconds: float) -> bool:
        """Sleep, but not for long when something moves; says whether nothing did."""
        ends = trio.current_time() + seconds
        quiet = True
        while quiet and (left := ends - trio.current_time()) > 0:
            before = self._network.traffic(peer)
            await trio.sleep(min(left, LOOK_SECONDS))
            quiet = self._network.traffic(peer) - before < QUIET_BYTES
        return quiet
