"""Who is near this node: its source of peers in its own networks, and how far away each of them is."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from swarm.errors import LinkClosed, NoPeerReachable
from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass
from swarm.net.host import Host
from swarm.net.ping_protocol import PING_PROTOCOL, Prober
from swarm.node.catalogue import Questions
from swarm.node.keep_running import keep_running

if TYPE_CHECKING:
    from swarm.discovery.lan import LanPeers
    from swarm.discovery.lan_directory import NearPeer

MAX_MEASURED_AT_ONCE: Final = 8
"""Peers that are dialled at the same time to be measured."""
ANSWER_SECONDS: Final = 3.0
"""So long a peer has for the connection and for its answer."""
OTHERS_LATER: Final = 0.1
"""Seconds that another program's peers come later in the list: nodes of this one answer under both names."""


@dataclass(frozen=True, slots=True)
class PeerNear:
    """A peer in a network of this machine.

    ``source`` says how it was found: ``lan`` is a node of this program, ``libp2p`` another program.
    ``addresses`` are multiaddrs without ``/p2p``; ``seconds`` is the round trip, None when it did not answer.
    """

    peer: PeerId
    addresses: tuple[str, ...]
    source: str
    seconds: float | None


def begin_lan(host: Host, nursery: trio.Nursery) -> LanPeers:
    """Find peers in the networks of this machine, and be found there, until the nursery ends."""
    from swarm.discovery.lan import LanPeers

    found = LanPeers(host.peer_id, host.listening)
    nursery.start_soon(keep_running, found.run, "finding peers in the networks of this machine")
    return found


@asynccontextmanager
async def peers_near(
    lan: LanPeers, host: Host, questions: Questions, seconds: float
) -> AsyncIterator[trio.MemoryReceiveChannel[PeerNear]]:
    """A channel of everybody who is found within ``seconds``, each once and with its round trip."""
    from swarm.protocol.lan_records import LIBP2P_SERVICE, OWN_SERVICE

    send, receive = trio.open_memory_channel[PeerNear](math.inf)
    met: set[PeerId] = set()
    limiter = trio.CapacityLimiter(MAX_MEASURED_AT_ONCE)

    async def measure(near: NearPeer, source: str) -> None:
        async with limiter:
            trip = await _round_trip(host, questions, near)
        send.send_nowait(PeerNear(near.peer, tuple(map(str, near.endpoints)), source, trip))

    async def look(source: str, nursery: trio.Nursery) -> None:
        with trio.move_on_after(seconds):
            async for near in lan.near(OWN_SERVICE if source == "lan" else LIBP2P_SERVICE):
                if source != "lan":
                    # Nodes of this program are found under both names, and are to be told by their own.
                    await trio.sleep(OTHERS_LATER)
                if near.peer not in met:
                    met.add(near.peer)
                    nursery.start_soon(measure, near, source)

    async def look_everywhere() -> None:
        async with send, trio.open_nursery() as nursery:
            nursery.start_soon(look, "lan", nursery)
            nursery.start_soon(look, "libp2p", nursery)

    async with trio.open_nursery() as nursery, receive:
        nursery.start_soon(look_everywhere)
        yield receive
        nursery.cancel_scope.cancel()


async def _round_trip(host: Host, questions: Questions, near: NearPeer) -> float | None:
    with trio.move_on_after(ANSWER_SECONDS), questions.using(near.peer):
        prober = Prober(lambda: host.open_stream(near.peer, PING_PROTOCOL))
        try:
            await host.connect(near.peer, near.endpoints)
            return await prober.probe()
        except (NoPeerReachable, LinkClosed):
            return None
        finally:
            await prober.aclose()
    return None
