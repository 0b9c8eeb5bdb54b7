"""Round trips on the standard libp2p ping protocol, in float seconds.

Source: the libp2p ping specification, ``/ipfs/ping/1.0.0``: the dialer sends 32 random bytes, the
listener sends them back; the dialer keeps one stream for all its pings.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

from swarm.errors import LinkClosed, RemoteError
from swarm.ids import PeerId
from swarm.limits import TokenBucket
from swarm.net.network_limits import PING_BURST, PING_RATE
from swarm.ports import ByteStream

PING_PROTOCOL = "/ipfs/ping/1.0.0"
PAYLOAD_BYTES = 32
PROBE_DEADLINE = 5.0
"""Seconds after which a ping counts as lost."""
ANSWER_IDLE_LIMIT = 60.0
"""Seconds of silence after which a listener ends a ping stream."""
MAX_ANSWERING_PER_PEER = 2
"""Ping streams of one peer that are answered at once (the specification's number)."""


class Prober:
    """Pings one peer over one long-lived stream, opened again when it breaks."""

    def __init__(self, open_stream: Callable[[], Awaitable[ByteStream]]) -> None:
        self._open_stream = open_stream
        self._link: ByteStream | None = None

    async def probe(self, deadline: float = PROBE_DEADLINE) -> float | None:
        """Return the round trip in seconds, or None when it was lost or answered wrongly.

        Raises LinkClosed when no stream to the peer can be had.
        """
        elapsed: float | None = None
        fresh = self._link is None
        with trio.move_on_after(deadline):
            try:
                elapsed = await self._echo()
            except LinkClosed:
                await self.aclose()
                if fresh:
                    raise
                # The listener may end an idle stream: that says nothing of the peer.
                elapsed = await self._echo()
        if elapsed is None:
            # An answer that comes late would be taken for that of the next ping.
            await self.aclose()
        return elapsed

    async def _echo(self) -> float | None:
        if self._link is None:
            self._link = await self._open_stream()
        payload = secrets.token_bytes(PAYLOAD_BYTES)
        started = trio.current_time()
        await self._link.write(payload)
        answer = await self._link.read_exactly(PAYLOAD_BYTES)
        elapsed = trio.current_time() - started
        return elapsed if secrets.compare_digest(answer, payload) else None

    async def aclose(self) -> None:
        """Give the stream up."""
        if self._link is not None:
            link, self._link = self._link, None
            await link.reset()


class Responder:
    """Answers the pings of every peer, at most two streams each."""

    def __init__(self) -> None:
        self._answering: Counter[PeerId] = Counter()

    async def __call__(self, link: ByteStream) -> None:
        """Echo until the peer ends the stream or falls silent; RemoteError for a flood."""
        if self._answering[link.peer] >= MAX_ANSWERING_PER_PEER:
            await link.reset()
            return
        self._answering[link.peer] += 1
        try:
            await _echo_until_silent(link)
        finally:
            self._answering -= Counter({link.peer: 1})


async def _echo_until_silent(link: ByteStream) -> None:
    budget = TokenBucket(PING_RATE, PING_BURST, trio.current_time())
    while True:
        payload = None
        with trio.move_on_after(ANSWER_IDLE_LIMIT):
            try:
                payload = await link.read_exactly(PAYLOAD_BYTES)
                await link.write(payload)
            except LinkClosed:
                return
        if payload is None:
            await link.reset()
            return
        if not budget.spend(trio.current_time()):
            raise RemoteError("too many pings")
