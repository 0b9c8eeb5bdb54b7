"""A fault of our own at every await of a handler: it costs one stream."""

from __future__ import annotations

import math
import os
import random
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import swarm.net.host
from swarm.config import NodeOptions, TransferOptions
from swarm.content.envelope import Envelope
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import PeerId
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.ping_protocol import PING_PROTOCOL, Prober
from swarm.net.streams import NegotiatedStream
from swarm.node import Node, open_node
from swarm.node.catalogue import ADVERTISE_PROTOCOL, MANIFEST_PROTOCOL, ask_adverts, ask_manifest
from swarm.protocol.messages import Goodbye, HaveAll, Interested, Reject, RejectReason, Request, Unchoke
from swarm.transfer.connector import EXCHANGE_PROTOCOL
from tests.siege.outcome import Outcome
from tests.support.raw_peer import RawPeer

NAME = "7 handler crash"
FIGURE = "an exception at every await of a handler: the host lives, other transfers finish"
MOST_AWAITS = 400
SCENE_SECONDS = 1.5
PIECE = 16384
LISTEN = ("/ip4/127.0.0.1/tcp/0",)


class Injected(RuntimeError):
    """What no code expects."""


@dataclass
class Plan:
    """Which await of whose streams fails: counted over all methods of the peer's links."""

    peer: PeerId | None = None
    fatal: int = -1
    seen: int = 0
    struck: list[str] = field(default_factory=list)

    def step(self, peer: PeerId, what: str) -> None:
        if peer != self.peer:
            return
        self.seen += 1
        if self.seen == self.fatal:
            self.struck.append(what)
            raise Injected(what)


PLAN = Plan()


class FaultyLink(NegotiatedStream):
    """A link that fails where the plan says."""

    async def readinto_least(self, buffer: memoryview, least: int) -> int:
        PLAN.step(self.peer, "before a read")
        size = await super().readinto_least(buffer, least)
        PLAN.step(self.peer, "after a read")
        return size

    def read_now(self, buffer: memoryview) -> int:
        PLAN.step(self.peer, "before a read")
        return super().read_now(buffer)

    async def read_some(self, limit: int) -> bytes:
        PLAN.step(self.peer, "before a read")
        data = await super().read_some(limit)
        PLAN.step(self.peer, "after a read")
        return data

    async def write(self, *data: Any, within: float = math.inf) -> None:
        PLAN.step(self.peer, "before a write")
        await super().write(*data, within=within)
        PLAN.step(self.peer, "after a write")

    def write_now(self, data: bytes | bytearray) -> bool:
        PLAN.step(self.peer, "before a write")
        return super().write_now(data)

    async def close(self) -> None:
        PLAN.step(self.peer, "before a close")
        await super().close()

    async def reset(self) -> None:
        PLAN.step(self.peer, "before a reset")
        await super().reset()


async def run(quick: bool) -> Outcome:
    swarm.net.host.NegotiatedStream = FaultyLink  # type: ignore[attr-defined, misc]
    try:
        with tempfile.TemporaryDirectory(prefix="siege-") as name:
            return await siege(Path(name), quick)
    finally:
        swarm.net.host.NegotiatedStream = NegotiatedStream  # type: ignore[attr-defined, misc]


Scene = Callable[[Host, PeerId, Envelope], Awaitable[None]]


async def ping(host: Host, peer: PeerId, _: Envelope) -> None:
    prober = Prober(lambda: host.open_stream(peer, PING_PROTOCOL))
    await prober.probe()
    await prober.aclose()


async def advertise(host: Host, peer: PeerId, _: Envelope) -> None:
    await ask_adverts(await host.open_stream(peer, ADVERTISE_PROTOCOL))


async def manifest(host: Host, peer: PeerId, envelope: Envelope) -> None:
    await ask_manifest(await host.open_stream(peer, MANIFEST_PROTOCOL), envelope.manifest.id)


async def exchange(host: Host, peer: PeerId, envelope: Envelope) -> None:
    raw = RawPeer(await host.open_stream(peer, EXCHANGE_PROTOCOL), envelope.manifest)
    await raw.greet()
    await raw.say(Interested())
    await raw.hear_until(Unchoke)
    await raw.say(Request(0), Request(1))
    await raw.hear_piece(0)
    await raw.hear_piece(1)
    await raw.say(Goodbye("that will do"))
    await raw.hear_to_the_end()


SCENES: tuple[Scene, ...] = (ping, advertise, manifest, exchange)


async def siege(folder: Path, quick: bool) -> Outcome:
    os.environ["SWARM_HOME"] = str(folder / "home")
    source = folder / "content.bin"
    source.write_bytes(random.Random(5).randbytes((8 if quick else 24) << 20))
    limited = NodeOptions(listen=LISTEN, upload_limit=4 << 20)
    async with open_node(limited) as seeder, open_node(NodeOptions(listen=LISTEN)) as leecher:
        shared = await seeder.share(source, piece_length=PIECE)
        done = trio.Event()

        async def fetch() -> None:
            options = TransferOptions(peers=seeder.addresses)
            async with leecher.fetch(shared.envelope, into=folder / "out", options=options) as transfer:
                await transfer.complete()
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            struck = await strike_handlers(seeder, shared.envelope, 5 if quick else 1)
            struck += await strike_dialled(folder, 9 if quick else 1)
            with trio.fail_after(60):
                await done.wait()
        alive = await answers_pings(seeder)
    exact = (folder / "out" / "content.bin").read_bytes() == source.read_bytes()
    return Outcome(
        alive and exact and len(struck) > (10 if quick else 60),
        f"{len(struck)} awaits struck ({', '.join(sorted(set(struck)))}) in handlers of four protocols and "
        f"in a dialled session: the host {'lives' if alive else 'is DEAD'}, the other transfer finished",
    )


async def strike_handlers(seeder: Node, envelope: Envelope, stride: int) -> list[str]:
    """Each await of each handler of the seeder, one after the other."""
    struck: list[str] = []
    for scene in SCENES:
        for fatal in range(1, MOST_AWAITS, stride):
            if not await strike_one(seeder, envelope, scene, fatal, struck):
                break
    return struck


async def strike_one(seeder: Node, envelope: Envelope, scene: Scene, fatal: int, struck: list[str]) -> bool:
    """Play one scene with one fault; False when the scene has no such await."""
    where = parse_peer_address(seeder.addresses[0])
    async with open_host(os.urandom(32)) as host:
        PLAN.__init__(host.peer_id, fatal)  # type: ignore[attr-defined, misc]
        await host.connect(where.peer, [where.endpoint])
        with trio.move_on_after(SCENE_SECONDS), suppress(LinkClosed, RemoteError):
            await scene(host, where.peer, envelope)
    if not await answers_pings(seeder):
        raise RuntimeError(f"the host is gone after {PLAN.struck} in {scene.__name__}")
    struck += PLAN.struck
    return bool(PLAN.struck)


async def strike_dialled(folder: Path, stride: int) -> list[str]:
    """The same in sessions that our side has dialled: a fetch whose other source is sound finishes."""
    small = folder / "small.bin"
    small.write_bytes(random.Random(6).randbytes(40 * PIECE))
    struck: list[str] = []
    config = NodeOptions(listen=LISTEN, upload_limit=1 << 20)
    async with open_node(config) as sound, open_host(os.urandom(32), LISTEN) as other:
        shared = await sound.share(small, piece_length=PIECE)

        async def serve(link: Any) -> None:
            raw = RawPeer(link, shared.manifest)
            await raw.hear()
            await raw.greet(HaveAll())
            await raw.say(Unchoke())
            while True:
                frame = await raw.hear()
                if isinstance(frame.message, Request):
                    await raw.say(Reject(frame.message.piece, RejectReason.BUSY))

        other.serve(EXCHANGE_PROTOCOL, serve)
        for fatal in range(1, 40, stride):
            PLAN.__init__(other.peer_id, fatal)  # type: ignore[attr-defined, misc]
            async with open_node(NodeOptions(listen=LISTEN)) as leecher:
                options = TransferOptions(peers=(*sound.addresses, *other.addresses))
                into = folder / f"dialled{fatal}"
                with trio.fail_after(30):
                    async with leecher.fetch(shared.envelope, into=into, options=options) as transfer:
                        await transfer.complete()
            struck += PLAN.struck
    PLAN.__init__()  # type: ignore[attr-defined, misc]
    return struck


async def answers_pings(node: Node) -> bool:
    """Whether a stranger is answered."""
    where = parse_peer_address(node.addresses[0])
    async with open_host(os.urandom(32)) as host:
        try:
            await host.connect(where.peer, [where.endpoint])
            prober = Prober(lambda: host.open_stream(where.peer, PING_PROTOCOL))
            return await prober.probe() is not None
        except (LinkClosed, NoPeerReachable):
            return False
