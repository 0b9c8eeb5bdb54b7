"""A meeting point under attack: floods of registrations, places and probes, while others meet there.

The flood comes from one address. Somebody who was at that address before it stays registered and can register
more; who comes from another address (here ``::1``) finds them within the second.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import trio

from swarm.discovery.meeting_point import MeetingPoint
from swarm.endpoint import Endpoint, PeerAddress
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.node.meetings import Meetings
from swarm.ports import Announcement
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.probe_messages import PROBE_PROTOCOL, ProbeRequest
from swarm.reach.relay_messages import HopKind, HopMessage
from swarm.reach.relay_protocols import HOP_PROTOCOL
from swarm.reach.rendezvous_messages import RENDEZVOUS_PROTOCOL, Discover, Register, encode_rendezvous
from tests.siege.field import Gauge, battlefield, mib
from tests.siege.outcome import Outcome
from tests.support.relayed import LOOPBACK

NAME = "16 meeting point"
FIGURE = (
    "100,000 registrations, oversized ones, places, probes: under 20 MiB more, all found in 3 s meanwhile"
)
LIMIT = 600.0
MOST_GROWTH = 20 * 1024 * 1024
"""Of the whole process, with its connections."""
MOST_SECONDS = 1.0
"""Before and after the flood."""
MOST_SECONDS_MEANWHILE = 3.0
"""While the meeting point has one processor's work to do for strangers."""
QUICK_SECONDS = 8.0
"""The quick form runs beside other tests."""
ATTACKERS = 24
LATER = tuple(ManifestId(bytes((number,)) * 32) for number in range(1, 3))
"""Shared while the flood goes on."""
MANIFEST = ManifestId(bytes(range(32)))
STEP = 2_500
PROGRESS = "are sent"
STRANGER = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")


class Flood:
    """What was thrown at the meeting point so far."""

    def __init__(self, where: PeerAddress, wanted: int) -> None:
        self.where = where
        self.wanted = wanted
        self.sent = 0
        self.cut_off = 0

    async def run(self) -> None:
        """Attack with one identity after the other, several at a time, until enough was sent."""
        async with trio.open_nursery() as nursery:
            for _ in range(ATTACKERS):
                nursery.start_soon(self._attack)

    async def _attack(self) -> None:
        while self.sent < self.wanted:
            try:
                async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host:
                    await host.connect(self.where.peer, [self.where.endpoint])
                    await self._everything(host)
            except* (LinkClosed, NoPeerReachable, RemoteError):
                self.cut_off += 1
                await trio.sleep(0.2)

    async def _everything(self, host: Host) -> None:
        await self._ask(host, PROBE_PROTOCOL, ProbeRequest(STRANGER, (self.where.endpoint,)).encode())
        await self._ask(host, HOP_PROTOCOL, HopMessage(HopKind.RESERVE).encode())
        await self._ask(host, HOP_PROTOCOL, HopMessage(HopKind.CONNECT, STRANGER).encode())
        for _ in range(limits.WAITING_PER_PEER):
            # Some are ended at once: one address has only so many.
            with contextlib.suppress(LinkClosed):
                waiting = await host.open_stream(self.where.peer, RENDEZVOUS_PROTOCOL)
                await write_message(waiting, encode_rendezvous(Discover(secrets.token_hex(16), wait=60)))
        stream = await host.open_stream(self.where.peer, RENDEZVOUS_PROTOCOL)
        record = host.seal([Endpoint("ip4", "192.0.2.1", "tcp", n + 1) for n in range(8)], self.sent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_all, stream)
            for _ in range(1000):
                namespace = secrets.token_hex(limits.MAX_NAMESPACE_BYTES // 2)
                message = Register(namespace, record, limits.MAX_TTL)
                await write_message(stream, encode_rendezvous(message))
                self.sent += 1
                if self.sent >= self.wanted:
                    break
            # And one that is longer than any may be.
            await write_message(stream, bytes(limits.MAX_REQUEST_BYTES + 1))
            nursery.cancel_scope.cancel()

    async def _read_all(self, stream: object) -> None:
        try:
            while True:
                await read_message(stream, limits.MAX_RENDEZVOUS_BYTES)  # type: ignore[arg-type]
        except LinkClosed:
            return

    async def _ask(self, host: Host, protocol: str, message: bytes) -> None:
        stream = await host.open_stream(self.where.peer, protocol)
        await write_message(stream, message)
        with trio.move_on_after(2):
            await read_message(stream, limits.MAX_MESSAGE_BYTES)
        await stream.reset()


@asynccontextmanager
async def visitor(address: str) -> AsyncIterator[tuple[Host, MeetingPoint]]:
    """Somebody honest."""
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host, trio.open_nursery() as nursery:
        points = Meetings(host, nursery, lambda _event: None, random.Random(), relay_data=False).at([address])
        yield host, points[0]
        nursery.cancel_scope.cancel()


async def found_after(address: str, there: PeerId, manifest: ManifestId = MANIFEST) -> float:
    """How long it takes somebody who comes to find the peer that is there; infinite if that fails."""
    async with visitor(address) as (_, watcher):
        began = trio.current_time()
        with trio.move_on_after(30):
            async with aclosing(watcher.peers(manifest)) as peers:
                async for found in peers:
                    if found.peer == there:
                        return trio.current_time() - began
        return math.inf


async def run(quick: bool) -> Outcome:
    """Attack, and look whether two honest peers still meet."""
    with battlefield() as (processes, _):
        server = await trio.to_thread.run_sync(lambda: _started(processes))
        address = server.address()
        elsewhere = await trio.to_thread.run_sync(lambda: server.line(r"libp2p node address: (/ip6/\S+)")[1])
        async with visitor(address) as (host, point):
            point.announce(Announcement(MANIFEST, host.addresses, complete=True))
            clean = await found_after(elsewhere, host.peer_id)
            gauge = Gauge(server.pid)
            await trio.sleep(1)
            before = gauge.peak_rss
            slowest = 0.0
            # In a process of its own: what is measured is the meeting point, and not the flood's own loop.
            argv = [sys.executable, "-m", __name__, address, str(2_000 if quick else 100_000)]
            flood = processes.command(argv, name="flood")
            later = list(LATER)
            while flood.exit_code is None:
                await trio.sleep(1)
                slowest = max(slowest, await found_after(elsewhere, host.peer_id))
                if later and (quick or len(flood.lines(PROGRESS)) > 3):
                    more = later.pop()
                    point.announce(Announcement(more, host.addresses, complete=True))
                    slowest = max(slowest, await found_after(elsewhere, host.peer_id, more))
            after = await found_after(elsewhere, host.peer_id)
            for more in LATER:
                after = max(after, await found_after(elsewhere, host.peer_id, more))
        growth = gauge.peak_rss - before
        alive = server.exit_code is None
        gauge.stop()
        figures = (
            f"{flood.lines()[-1]}: "
            f"{mib(growth)} more than {mib(before)}; "
            f"found within {clean:.2f} s before, {slowest:.2f} s during, {after:.2f} s after"
        )
        worst, meanwhile = (QUICK_SECONDS,) * 2 if quick else (MOST_SECONDS, MOST_SECONDS_MEANWHILE)
        passed = alive and growth <= MOST_GROWTH and max(clean, after) <= worst and slowest <= meanwhile
        return Outcome(passed and not later and flood.exit_code == 0, figures)


def _started(processes: object) -> object:
    return processes.swarm("meet", "-l", LOOPBACK, "-l", "/ip6/::1/tcp/0")  # type: ignore[attr-defined]


async def _flood(address: str, wanted: int) -> None:
    flood = Flood(parse_peer_address(address), wanted)
    async with trio.open_nursery() as nursery:

        async def report() -> None:
            for step in itertools.count(1):
                while flood.sent < step * STEP:
                    await trio.sleep(0.1)
                print(f"{step * STEP} {PROGRESS}", flush=True)

        nursery.start_soon(report)
        await flood.run()
        nursery.cancel_scope.cancel()
    print(f"{flood.sent} registrations, cut off {flood.cut_off} times", flush=True)


if __name__ == "__main__":
    trio.run(_flood, sys.argv[1], int(sys.argv[2]))
