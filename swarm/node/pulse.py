"""The pulse of one connected peer: a ping at jittered intervals for as long as the session lives."""

from __future__ import annotations

import random
from collections.abc import Callable

import trio

from swarm.errors import LinkClosed
from swarm.ids import PeerId
from swarm.net.host import Host
from swarm.net.ping_protocol import PING_PROTOCOL, Prober

INTERVAL = 5.0
"""Seconds between two pings of a peer, on average; below the 10 s after which some listeners hang up."""
QUIET_INTERVAL = 480.0
"""The longest of the intervals with a peer with which nothing moves; the link's own questions for signs of
life find the dead."""
GROWTH = 4
"""With such a peer each interval is so many times the one before. A ping opens a stream and costs some
milliseconds of the processor at each end: with 128 quiet peers and twice, it came to 1.5 % of a core."""
PATIENT_INTERVALS = 3
"""So long a peer may be silent that is only busy: the strategy asks whether it still answers."""
LOOK_SECONDS = 40.0
"""How soon it is noticed that something moves again."""
QUIET_BYTES = 64 * 1024
"""What a connection with which nothing moves still moves between two looks, both directions together."""
JITTER = 0.2
"""Each interval is stretched or shrunk by up to this share, so that pings do not fall in step."""


async def keep_pulse(
    host: Host, peer: PeerId, report: Callable[[float | None], None], rng: random.Random
) -> None:
    """Ping ``peer`` until cancelled and ``report`` each round trip in seconds, None for a lost one."""
    prober = Prober(lambda: host.open_link(peer, PING_PROTOCOL))
    calm = 0
    try:
        while True:
            try:
                elapsed = await prober.probe()
            except LinkClosed:
                elapsed = None
            report(elapsed)
            interval = min(INTERVAL * GROWTH ** max(0, calm - PATIENT_INTERVALS), QUIET_INTERVAL)
            quiet = await _rest(interval * rng.uniform(1 - JITTER, 1 + JITTER), lambda: host.traffic(peer))
            calm = calm + 1 if quiet and elapsed is not None else 0
    finally:
        await prober.aclose()


async def _rest(seconds: float, traffic: Callable[[], int]) -> bool:
    """Sleep, but not for long when something moves; says whether nothing did."""
    ends = trio.current_time() + seconds
    quiet = True
    while quiet and (left := ends - trio.current_time()) > 0:
        before = traffic()
        await trio.sleep(min(left, LOOK_SECONDS))
        quiet = traffic() - before < QUIET_BYTES
    return quiet
