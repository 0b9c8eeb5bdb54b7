"""Many honest peers in one process: python -m tests.siege.crowd ADDRESS FOLDER PEERS ACTIVE RATE.

PEERS connections, each of a peer of its own, each with sessions about two of the manifests in FOLDER; the
first ACTIVE of them ask for pieces all the time, of one manifest each, and take RATE bytes a second. Prints
{"event": "gathered"} when all are in session and unchoked or waiting for it, and sums of what was received.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import trio

from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.errors import LinkClosed, NoPeerReachable
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.ping_protocol import PING_PROTOCOL, Responder
from swarm.protocol import protocol_limits as limits
from swarm.protocol.messages import Choke, Data, Interested, KeepAlive, Reject, Request, Unchoke
from swarm.transfer.connector import EXCHANGE_PROTOCOL
from tests.support.raw_peer import RawPeer

SIDE_BY_SIDE = 8


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Crowd:
    """All of them and what they have received."""

    def __init__(self, target: str, manifests: list[Manifest]) -> None:
        self.where = parse_peer_address(target)
        self.manifests = manifests
        self.size = 0
        self.doors = trio.CapacityLimiter(SIDE_BY_SIDE)

    async def attend(self, number: int, rate: int, task_status: trio.TaskStatus[None]) -> None:
        """One peer, for as long as it is let."""
        try:
            async with open_host(os.urandom(32)) as host, trio.open_nursery() as nursery:
                host.serve(PING_PROTOCOL, Responder())
                async with self.doors:
                    await host.connect(self.where.peer, [self.where.endpoint])
                    sessions = [await self.enter(host, number + offset) for offset in (0, 1)]
                task_status.started()
                nursery.start_soon(self.sit, sessions[1])
                if rate:
                    await self.drain(sessions[0], rate)
                else:
                    await self.sit(sessions[0])
        except* (LinkClosed, NoPeerReachable) as group:
            tell("lost", peer=number, why=str(group.exceptions[0]))

    async def enter(self, host: Host, number: int) -> RawPeer:
        manifest = self.manifests[number % len(self.manifests)]
        peer = RawPeer(await host.open_stream(self.where.peer, EXCHANGE_PROTOCOL), manifest)
        await peer.greet()
        return peer

    async def sit(self, peer: RawPeer) -> None:
        """Say what must be said, and listen."""
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                while True:
                    await peer.hear()

            nursery.start_soon(listen)
            while True:
                await trio.sleep(limits.KEEP_ALIVE_INTERVAL - 5)
                await peer.say(KeepAlive())

    async def drain(self, peer: RawPeer, rate: int) -> None:
        """Ask for one piece after the other and take them at a rate."""
        await peer.say(Interested())
        await peer.hear_until(Unchoke)
        count, piece = peer.manifest.piece_count, 0
        due = trio.current_time()
        while True:
            await peer.say(Request(piece))
            left = peer.manifest.layout.length(piece)
            while left:
                message = (await peer.hear()).message
                if isinstance(message, Data):
                    left -= message.size
                    self.size += message.size
                elif isinstance(message, Reject | Choke):
                    await peer.hear_until(Unchoke)
                    break
            piece = (piece + 1) % count
            due = max(due + peer.manifest.piece_length / rate, trio.current_time())
            await trio.sleep_until(due)


async def run(target: str, folder: Path, peers: int, active: int, rate: int) -> None:
    """Gather, then report twice a second."""
    found = sorted(folder.glob("*.swarm"))
    crowd = Crowd(target, [Envelope.from_bytes(path.read_bytes()).manifest for path in found])
    async with trio.open_nursery() as nursery:
        for number in range(peers):
            attend = rate if number < active else 0
            await nursery.start(lambda task_status, n=number, r=attend: crowd.attend(n, r, task_status))
        tell("gathered", peers=peers)
        while True:
            tell("drained", size=crowd.size)
            await trio.sleep(0.5)


async def shake_hands(target: str, count: int) -> None:
    """So many connections, one after the other, each closed at once."""
    where = parse_peer_address(target)
    async with open_host(os.urandom(32)) as host:
        for _ in range(count):
            await host.connect(where.peer, [where.endpoint])
            await host.disconnect(where.peer)


def main() -> int:
    """Read the command line and run."""
    target, folder, peers, active, rate = sys.argv[1:]
    trio.run(run, target, Path(folder), int(peers), int(active), int(rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
