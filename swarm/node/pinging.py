"""Measures round trips to a peer."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio

from swarm.errors import LinkClosed, NoPeerReachable
from swarm.lazy_dataclass import dataclass
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host
from swarm.net.network_limits import PING_RATE
from swarm.net.ping_protocol import PING_PROTOCOL, Prober
from swarm.node.catalogue import Questions


@dataclass(frozen=True, slots=True)
class PingSample:
    """One ping: the round trip in seconds, or None when it was lost."""

    address: str
    seconds: float | None


async def ping_peer(
    host: Host, questions: Questions, address: str, count: int, interval: float
) -> AsyncGenerator[PingSample, None]:
    """Ping the peer at ``address`` ``count`` times, ``interval`` seconds apart.

    Raises UsageError for a malformed address, NoPeerReachable when the peer does not answer there.
    """
    where = parse_peer_address(address)
    with questions.using(where.peer):
        await host.connect(where.peer, [where.endpoint])
        prober = Prober(lambda: host.open_stream(where.peer, PING_PROTOCOL))
        try:
            for number in range(count):
                if number:
                    await trio.sleep(max(interval, 1 / PING_RATE))
                try:
                    seconds = await prober.probe()
                except LinkClosed as error:
                    if not host.connected(where.peer) or number == 0:
                        raise NoPeerReachable(f"{address} hung up: {error}") from error
                    seconds = None
                yield PingSample(address, seconds)
        finally:
            await prober.aclose()
