"""Peers that come, do something and go: python -m tests.siege.visitor ADDRESS MANIFEST CYCLES.

A cycle is one connection: it greets, asks for pieces, takes some, cancels some, and ends with
a word, without one, by a reset of the stream or by closing the socket under everything.
"""

from __future__ import annotations

import os
import random
import sys
from contextlib import suppress
from pathlib import Path

import trio

from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.endpoint import PeerAddress
from swarm.errors import LinkClosed, NoPeerReachable
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.ping_protocol import PING_PROTOCOL, Prober
from swarm.protocol.messages import Cancel, Goodbye, Interested, Request, Unchoke
from swarm.transfer.connector import EXCHANGE_PROTOCOL
from tests.support.raw_peer import RawPeer

SIDE_BY_SIDE = 14
PATIENCE = 20
VISITS = 25
"""Of one identity: making a host costs more than a visit."""


async def cycle(host: Host, where: PeerAddress, manifest: Manifest, rng: random.Random) -> None:
    """One visit."""
    await host.connect(where.peer, [where.endpoint])
    if rng.random() < 0.3:
        prober = Prober(lambda: host.open_stream(where.peer, PING_PROTOCOL))
        await prober.probe()
        await prober.aclose()
    link = await host.open_stream(where.peer, EXCHANGE_PROTOCOL)
    with suppress(LinkClosed):
        await converse(RawPeer(link, manifest), rng)
    if rng.random() < 0.5:
        await link.reset()


async def converse(peer: RawPeer, rng: random.Random) -> None:
    """Greet, ask, take, cancel, and stop at some point of it."""
    await peer.greet()
    if rng.random() < 0.1:
        return
    await peer.say(Interested())
    await peer.hear_until(Unchoke)
    pieces = rng.sample(range(peer.manifest.piece_count), 12)
    await peer.say(*map(Request, pieces))
    if rng.random() < 0.2:
        return
    for _ in range(rng.randrange(len(pieces))):
        await peer.hear()
    await peer.say(*map(Cancel, pieces[6:]))
    if rng.random() < 0.5:
        await peer.say(Goodbye("that will do"))


async def visit(address: str, manifest: Manifest, cycles: int) -> int:
    """All cycles, a few side by side; returns how many were not let in."""
    where = parse_peer_address(address)
    rng = random.Random(cycles)
    left, refused = cycles, 0

    async def go_on() -> None:
        nonlocal left, refused
        while left > 0:
            async with open_host(rng.randbytes(32)) as host:
                for _ in range(VISITS):
                    if left <= 0:
                        return
                    left -= 1
                    try:
                        with trio.fail_after(PATIENCE):
                            await cycle(host, where, manifest, rng)
                    except (NoPeerReachable, LinkClosed, trio.TooSlowError):
                        refused += 1
                    await host.disconnect(where.peer)

    async with trio.open_nursery() as nursery:
        for _ in range(SIDE_BY_SIDE):
            nursery.start_soon(go_on)
    return refused


def main() -> int:
    """Read the command line and run; 3 when one visit in ten or more was refused."""
    address, manifest, cycles = sys.argv[1:]
    what = Envelope.from_bytes(Path(manifest).read_bytes()).manifest
    refused = trio.run(visit, address, what, int(cycles))
    print(f"{cycles} cycles, {refused} refused", flush=True)
    return 3 if refused * 10 >= int(cycles) else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
