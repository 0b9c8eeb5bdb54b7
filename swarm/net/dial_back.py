"""Dial backs (AutoNAT v1): a meeting point tells a peer whether it can be reached from outside.

It dials the asker's own address alone, the one that the asker's connection comes from, whatever the request
names: so nobody can make it dial somebody else. Each dial is a connection of its own, from another port.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import trio

from swarm.endpoint import Endpoint
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import PeerId
from swarm.limits import TokenBucket
from swarm.net.host import Host
from swarm.net.relay_service import ip_of
from swarm.net.streams import NegotiatedStream
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.probe_messages import PROBE_PROTOCOL, ProbeAnswer, ProbeRequest, ProbeStatus

logger = logging.getLogger(__name__)

STREAMS_PER_PEER = 2
NETWORKS_REMEMBERED = 4096


class DialBackService:
    """Answers probes of everybody whom ``host`` is connected to."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._limiter = trio.CapacityLimiter(limits.PROBES_AT_ONCE)
        self._rates: OrderedDict[str, TokenBucket] = OrderedDict()
        host.serve(PROBE_PROTOCOL, self._probe, most=STREAMS_PER_PEER)

    async def _probe(self, stream: NegotiatedStream) -> None:
        request: ProbeRequest | None = None
        with trio.move_on_after(limits.HANDSHAKE_SECONDS):
            request = ProbeRequest.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
        if request is None:
            raise LinkClosed("nothing was asked in time")
        await write_message(stream, (await self._answer(request, stream)).encode())

    async def _answer(self, request: ProbeRequest, stream: NegotiatedStream) -> ProbeAnswer:
        if request.peer != stream.peer:
            return ProbeAnswer(ProbeStatus.BAD_REQUEST, "that is another peer")
        targets = dial_back_targets(request.addresses, stream.remote_address)
        if not targets:
            return ProbeAnswer(ProbeStatus.DIAL_REFUSED, "none of the addresses is the one you come from")
        if not self._rate_of(ip_of(stream.remote_address)).spend(trio.current_time()):
            return ProbeAnswer(ProbeStatus.DIAL_REFUSED, "too many requests")
        async with self._limiter:
            for target in targets:
                with trio.move_on_after(limits.PROBE_SECONDS):
                    try:
                        await self._host.knock(stream.peer, target)
                    except NoPeerReachable as error:
                        logger.debug("no way back to %s: %s", stream.peer, error)
                        continue
                    return ProbeAnswer(ProbeStatus.OK, address=target)
        return ProbeAnswer(ProbeStatus.DIAL_ERROR, "nobody answered")

    def _rate_of(self, network: str) -> TokenBucket:
        bucket = self._rates.pop(network, None)
        if bucket is None:
            bucket = TokenBucket(limits.PROBE_RATE, limits.PROBE_BURST, trio.current_time())
        self._rates[network] = bucket
        if len(self._rates) > NETWORKS_REMEMBERED:
            self._rates.popitem(last=False)
        return bucket


def dial_back_targets(addresses: Sequence[Endpoint], remote_address: str) -> tuple[Endpoint, ...]:
    """Where to dial the peer back: at its own IP address, at the ports that it names for it, at most two.

    A port that it names for another address counts, too: behind a translator it may not know its own.
    """
    seen = Endpoint.read(remote_address)
    if seen is None:
        return ()
    own = [each for each in addresses if each.same_host(seen) and each.port]
    other = [replace(seen, port=each.port) for each in addresses if each.port and each.kind == seen.kind]
    return tuple(dict.fromkeys((*own, *other)))[:2]


async def ask_dial_back(
    stream: NegotiatedStream,
    peer: PeerId,
    addresses: Sequence[Endpoint],
    seconds: float = limits.HANDSHAKE_SECONDS,
) -> bool | None:
    """Ask to be dialled back; whether that worked, None without a verdict in time. Raises LinkClosed."""
    try:
        with trio.move_on_after(seconds):
            await write_message(stream, ProbeRequest(peer, tuple(addresses)).encode())
            answer = ProbeAnswer.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
            return {ProbeStatus.OK: True, ProbeStatus.DIAL_ERROR: False}.get(ProbeStatus(answer.status))
    except (RemoteError, ValueError):
        return None
    finally:
        await stream.reset()
    return None
