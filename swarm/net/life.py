"""Whether the other end of a connection is still there, and how long it takes to answer."""

from __future__ import annotations

from collections.abc import Callable

import trio

from swarm.net.wire import Wire

KEEPALIVE_INTERVAL = 60.0
"""Seconds between a sign of life and the next question for one."""
LIFE_BYTES = 4096
"""What a quiet peer says for itself in that time; with more, the round trip is of interest as well."""
SECOND_PING = 1.0
"""Seconds after which the round trip is measured again, past the bustle of the beginning."""
KEEPALIVE_DEADLINE = 20.0
"""Seconds within which a peer must be heard after it was asked."""


class SignsOfLife:
    """Asks with ``ping``, given a number, when nothing was heard over ``wire`` for a while.

    ``round_trip``: seconds from a question to its answer, smoothed; 0.0 until there was one. ``gone``: why
    the peer is taken for dead, or an empty string.
    """

    def __init__(self, wire: Wire, ping: Callable[[int], None]) -> None:
        self._wire = wire
        self._ping = ping
        self._answer = trio.Event()
        self._number = 0
        self._heard = 0
        self.round_trip = 0.0
        self.gone = ""

    def answered(self) -> None:
        """The answer to the latest question is here."""
        self._answer.set()

    async def look(self) -> float:
        """Ask if need be, and wait for the answer; returns in how many seconds to look again."""
        self._number = (self._number + 1) % 2**32
        # One of the two ends asks; the other has heard it and need not.
        if self._number <= 2 or not 0 < self._wire.received_bytes - self._heard <= LIFE_BYTES:
            await self._ask()
        self._heard = self._wire.received_bytes
        return KEEPALIVE_INTERVAL if self._number > 1 else min(SECOND_PING, KEEPALIVE_INTERVAL)

    async def _ask(self) -> None:
        heard, asked = self._wire.received_bytes, trio.current_time()
        self._answer = trio.Event()
        self._ping(self._number)
        with trio.move_on_after(KEEPALIVE_DEADLINE):
            await self._answer.wait()
            seconds = trio.current_time() - asked
            self.round_trip = (self.round_trip + seconds) / 2 if self.round_trip else seconds
        if self._wire.received_bytes == heard:
            self.gone = f"the peer has not been heard for {KEEPALIVE_DEADLINE:.0f} s"
