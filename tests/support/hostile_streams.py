"""Attacks over streams of a sound connection, by a peer that dials. Run by hostile.py.

Each runs until the victim ends it, which it sees as LinkClosed or RemoteError.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from swarm.content.manifest import Manifest
from swarm.errors import LinkClosed, RemoteError
from swarm.ids import PeerId
from swarm.net.host import Host
from swarm.net.ping_protocol import PAYLOAD_BYTES, PING_PROTOCOL
from swarm.node.catalogue import ADVERTISE_PROTOCOL, MANIFEST_PROTOCOL
from swarm.protocol.codec import HELLO, encode
from swarm.protocol.messages import ExchangedPeer, Have, Hello, Interested, KeepAlive, Peers, Request, Unchoke
from swarm.transfer.connector import EXCHANGE_PROTOCOL
from tests.support.raw_peer import RawPeer

GARBAGE_BYTES = 1 << 16
FLOOD_BATCH = 4096
FAKE_PEERS = 50


@dataclass(frozen=True, slots=True)
class Victim:
    """Whom to attack, through whose host, over which manifest."""

    host: Host
    peer: PeerId
    manifest: Manifest

    async def exchange(self) -> RawPeer:
        """A stream of the exchange protocol, nothing said yet."""
        return RawPeer(await self.host.open_stream(self.peer, EXCHANGE_PROTOCOL), self.manifest)

    async def session(self) -> RawPeer:
        """A session, greeted, interested, and unchoked."""
        peer = await self.exchange()
        await peer.greet()
        await peer.say(Interested())
        await peer.hear_until(Unchoke)
        return peer


async def requests(victim: Victim) -> None:
    """Every piece at once, far more than may be outstanding."""
    peer = await victim.session()
    await peer.say(*(Request(piece) for piece in range(victim.manifest.piece_count)))
    await peer.say(*[Request(0)] * FLOOD_BATCH)
    await peer.hear_to_the_end()
    raise LinkClosed("cut off")


async def hoard(victim: Victim) -> None:
    """As much as may be asked for, and nothing of it is ever read."""
    peer = await victim.session()
    await peer.say(*(Request(piece) for piece in range(min(256, victim.manifest.piece_count))))
    while True:
        await peer.say(KeepAlive())
        await trio.sleep(1)


async def chatter(victim: Victim) -> None:
    """Legal messages, as fast as they go."""
    peer = await victim.exchange()
    await peer.greet()
    while True:
        await peer.say(*[KeepAlive(), Interested()] * FLOOD_BATCH)


async def haves(victim: Victim) -> None:
    """Pieces announced again and again."""
    peer = await victim.exchange()
    await peer.greet()
    while True:
        await peer.say(Have((0,)))


def fake_peers() -> Peers:
    """Peers that do not exist, at addresses where nobody listens."""
    peers = []
    for _ in range(FAKE_PEERS):
        name = PeerId(ID.from_pubkey(create_new_key_pair().public_key).to_base58())
        peers.append(ExchangedPeer(name, (f"/ip4/127.0.0.1/tcp/{random.randrange(1, 1024)}",)))
    return Peers(tuple(peers), ())


async def peers(victim: Victim) -> None:
    """Names of peers that do not exist, too often."""
    peer = await victim.exchange()
    await peer.greet()
    message = fake_peers()
    while True:
        await peer.say(message)


async def rumours(victim: Victim) -> None:
    """New names of peers that do not exist, as often as is allowed."""
    peer = await victim.exchange()
    await peer.greet()
    while True:
        await peer.say(fake_peers())
        await trio.sleep(1.1)


async def noise(victim: Victim) -> None:
    """Random bytes where frames belong, on one stream after the other."""
    while True:
        peer = await victim.exchange()
        with suppress(LinkClosed):
            await peer.say(random.randbytes(GARBAGE_BYTES))
            await peer.link.read_exactly(1 << 20)


async def oversize(victim: Victim) -> None:
    """A HELLO of 4 GiB, on one stream after the other."""
    while True:
        peer = await victim.exchange()
        with suppress(LinkClosed):
            await peer.say((2**32 - 1).to_bytes(4, "big") + bytes([HELLO]))
            while True:
                await peer.say(bytes(GARBAGE_BYTES))


async def mute(victim: Victim) -> None:
    """Streams on which nothing is said, as many as the connection takes."""
    async with trio.open_nursery() as nursery:

        async def keep() -> None:
            while victim.host.connected(victim.peer):
                with suppress(LinkClosed):
                    peer = await victim.exchange()
                    await peer.link.read_exactly(1)
            raise LinkClosed("cut off")

        for _ in range(FLOOD_BATCH // 32):
            nursery.start_soon(keep)


async def slow_hello(victim: Victim) -> None:
    """A greeting of one byte a second."""
    peer = await victim.exchange()
    hello = Hello(victim.manifest.id, victim.manifest.piece_count, "slow", ())
    for byte in encode(hello):
        await peer.say(bytes([byte]))
        await trio.sleep(1)


async def pings(victim: Victim) -> None:
    """Pings without a pause, their answers read."""
    link = await victim.host.open_stream(victim.peer, PING_PROTOCOL)
    block = bytes(PAYLOAD_BYTES * FLOOD_BATCH)

    async def read() -> None:
        while True:
            await link.read_exactly(len(block))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        while True:
            await link.write(block)


async def ping_streams(victim: Victim) -> None:
    """A new stream for each ping, as fast as it goes."""
    while True:
        with suppress(LinkClosed):
            link = await victim.host.open_stream(victim.peer, PING_PROTOCOL)
            await link.write(bytes(PAYLOAD_BYTES))
            await link.read_exactly(PAYLOAD_BYTES)
            await link.reset()
        if not victim.host.connected(victim.peer):
            raise LinkClosed("cut off")


async def _ask_in_vain(victim: Victim, protocol: str, question: bytes) -> None:
    """Ask and never read, on as many streams as the connection takes."""

    async def ask() -> None:
        while True:
            if not victim.host.connected(victim.peer):
                raise LinkClosed("cut off")
            with suppress(LinkClosed):
                link = await victim.host.open_stream(victim.peer, protocol)
                await link.write(question)
                await trio.sleep(5)
                await link.reset()

    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(ask)


async def adverts(victim: Victim) -> None:
    await _ask_in_vain(victim, ADVERTISE_PROTOCOL, b"")


async def manifests(victim: Victim) -> None:
    await _ask_in_vain(victim, MANIFEST_PROTOCOL, victim.manifest.id.digest)


async def idle(victim: Victim) -> None:
    """A place is taken and nothing done with it."""
    while victim.host.connected(victim.peer):
        await trio.sleep(0.2)
    raise LinkClosed("cut off")


StreamAttack = Callable[[Victim], Awaitable[None]]

STREAM_ATTACKS: dict[str, StreamAttack] = {
    attack.__name__.replace("_", "-"): attack
    for attack in (
        requests,
        hoard,
        chatter,
        haves,
        peers,
        rumours,
        noise,
        oversize,
        mute,
        slow_hello,
        pings,
        ping_streams,
        adverts,
        manifests,
        idle,
    )
}

LEGAL = frozenset({"rumours", "hoard"})
"""What breaks no rule: it must cost little, but nobody is sent away for it at once."""

EXPECTED = (LinkClosed, RemoteError)
"""How an attack ends when the victim has had enough."""
