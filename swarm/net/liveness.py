"""Round trips and liveness of one connection, both measured with Yamux pings."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

CHECK_INTERVAL = 60.0
"""Seconds between two checks of a peer."""
SECOND_CHECK_DELAY = 1.0
"""Seconds after the first check at which the round trip is measured again, once the start-up is over."""
QUIET_BYTES = 4096
"""Bytes received between two checks. A peer that sent some, but at most this many, is alive and quiet and
needs no ping; a busy peer is pinged to keep the round trip up to date."""
PING_DEADLINE = 20.0
"""Seconds after a ping within which something must be received from the peer."""

_VALUE_BITS = 32


class _Ping:
    """One ping that waits for its answer; ``seconds`` is its round trip."""

    __slots__ = ("seconds", "sent", "settled")

    def __init__(self, sent: float) -> None:
        self.sent = sent
        self.seconds: float | None = None
        self.settled = trio.Event()


class OutstandingPings:
    """The pings of one connection that wait for an answer. ``send(value)`` sends one.

    Each ping has a random value, so a peer cannot answer a ping before it has received it. ``round_trip`` is
    the smoothed round trip in seconds, 0.0 until the first answer.
    Source: hashicorp/yamux `spec.md`, "Ping".
    """

    def __init__(self, send: Callable[[int], None], rng: random.Random) -> None:
        self._send = send
        self._rng = rng
        self._waiting: dict[int, _Ping] = {}
        self._ended = False
        self.round_trip = 0.0

    async def ping(self, deadline: float) -> float | None:
        """Send a ping and return its round trip in seconds.

        Returns None when no answer arrives within ``deadline`` seconds, or when the connection ends.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        value = self._unused_value()
        ping = _Ping(trio.current_time())
        if not self._ended:
            self._waiting[value] = ping
            try:
                self._send(value)
                with trio.move_on_after(deadline):
                    await ping.settled.wait()
            finally:
                if self._waiting.get(value) is ping:
                    del self._waiting[value]
        if ping.seconds is None or ping.seconds > deadline:
            await trio.lowlevel.checkpoint()
            return None
        self.round_trip = (self.round_trip + ping.seconds) / 2 if self.round_trip else ping.seconds
        return ping.seconds

    def answered(self, value: int) -> None:
        """Record an answer of the peer; a forged, duplicate or late one has no effect."""
        ping = self._waiting.pop(value, None)
        if ping is not None:
            ping.seconds = trio.current_time() - ping.sent
            ping.settled.set()

    def end(self) -> None:
        """The connection has ended: every ping, now and later, is lost."""
        self._ended = True
        for ping in self._waiting.values():
            ping.settled.set()

    def _unused_value(self) -> int:
        while (value := self._rng.getrandbits(_VALUE_BITS)) in self._waiting:
            pass
        return value


class LivenessProbe:
    """Checks that a peer is alive, with a ping when necessary.

    ``received_bytes()`` is the number of bytes received from the peer so far; ``ping(deadline)`` sends a
    ping and waits for the answer. ``failure``: why the peer counts as dead, or an empty string.
    """

    def __init__(
        self, received_bytes: Callable[[], int], ping: Callable[[float], Awaitable[float | None]]
    ) -> None:
        self._received_bytes = received_bytes
        self._ping = ping
        self._checks = 0
        self._received_before = 0
        self.failure = ""

    async def check(self, *, surely: bool = False) -> float:
        """Ping the peer if necessary and wait for the answer; return the seconds until the next check.

        ``surely``: there is a reason to doubt that it is still there, whatever it sent before.
        """
        self._checks += 1
        received = self._received_bytes() - self._received_before
        # A ping from the peer is a sign of life too, so only one of the two ends needs to ping.
        if surely or self._checks <= 2 or not 0 < received <= QUIET_BYTES:
            await self._ping_peer()
        self._received_before = self._received_bytes()
        return CHECK_INTERVAL if self._checks > 1 else min(SECOND_CHECK_DELAY, CHECK_INTERVAL)

    async def _ping_peer(self) -> None:
        before = self._received_bytes()
        await self._ping(PING_DEADLINE)
        if self._received_bytes() == before:
            self.failure = f"nothing was received from the peer for {PING_DEADLINE:.0f} s"
