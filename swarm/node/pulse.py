"""The pulse of one connected peer: a ping at jittered intervals for as long as the session lives."""

from __future__ import annotations

import random
from collections.abc import Callable

import trio

from swarm.errors import LinkClosed
from swarm.ids import PeerId
from swarm.net.host import Host
from swarm.net.ping import PING_PROTOCOL, Prober

INTERVAL = 5.0
"""Seconds between two pings of a peer, on average; below the 10 s after which some listeners hang up."""
QUIET_INTERVAL = 120.0
"""With a peer with which nothing moves each pause is twice the one before, up to this; the link's own
questions for signs of life find the dead."""
QUIET_BYTES = 64 * 1024
"""What a connection with which nothing moves still moves between two pings, both directions together."""
JITTER = 0.2
"""Each interval is stretched or shrunk by up to this share, so that pings do not fall in step."""


async def keep_pulse(
    host: Host, peer: PeerId, report: Callable[[float | None], None], rng: random.Random
) -> None:
    """Ping ``peer`` until cancelled and ``report`` each round trip in seconds, None for a lost one."""
    prober = Prober(lambda: host.open_link(peer, PING_PROTOCOL))
    pause, moved = INTERVAL, 0
    try:
        while True:
            try:
                elapsed = await prober.probe()
            except LinkClosed:
                elapsed = None
            report(elapsed)
            before, moved = moved, host.traffic(peer)
            quiet = elapsed is not None and moved - before < QUIET_BYTES
            pause = min(2 * pause, QUIET_INTERVAL) if quiet else INTERVAL
            await trio.sleep(pause * rng.uniform(1 - JITTER, 1 + JITTER))
    finally:
        await prober.aclose()
