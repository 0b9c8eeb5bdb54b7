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
JITTER = 0.2
"""Each interval is stretched or shrunk by up to this share, so that pings do not fall in step."""


async def keep_pulse(
    host: Host, peer: PeerId, report: Callable[[float | None], None], rng: random.Random
) -> None:
    """Ping ``peer`` until cancelled and ``report`` each round trip in seconds, None for a lost one."""
    prober = Prober(lambda: host.open_link(peer, PING_PROTOCOL))
    try:
        while True:
            try:
                elapsed = await prober.probe()
            except LinkClosed:
                elapsed = None
            report(elapsed)
            await trio.sleep(INTERVAL * rng.uniform(1 - JITTER, 1 + JITTER))
    finally:
        await prober.aclose()
