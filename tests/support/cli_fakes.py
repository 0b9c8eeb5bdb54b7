"""A node that does what a test tells it, for the commands; and the program run with it.

In process: ``invoke("ping", PEER, node=FakeNode())`` returns the exit code; capsys has the output.
As a process: ``python -m tests.support.cli_fakes SCRIPT share …`` runs the program with the node
that the script of that name (a function in this module) makes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from cli import main
from cli.app import run
from cli.runtime import Runtime
from swarm.config import NodeConfig
from swarm.content.envelope import Envelope
from swarm.content.link import SwarmLink
from swarm.content.manifest import Manifest
from swarm.events import BytesReceived, ManifestReady, PieceStored, TransferComplete
from swarm.ids import ManifestId, PeerId
from swarm.observe.event_stream import EventStream
from swarm.protocol.advert import Advert
from swarm.storage.scan import scan

SELF = PeerId("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo")
OTHER = PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
ADDRESSES = (f"/ip4/192.0.2.7/tcp/4001/p2p/{SELF}", f"/ip4/127.0.0.1/tcp/4001/p2p/{SELF}")
PEER = f"/ip4/192.0.2.1/tcp/4001/p2p/{OTHER}"
PEER_2 = f"/ip4/192.0.2.2/tcp/4001/ipfs/{SELF}"


@dataclass
class Shared:
    envelope: Envelope
    manifest: Manifest
    link: SwarmLink


@dataclass
class Fetched:
    path: Path
    size: int
    seconds: float
    manifest: Manifest


@dataclass
class Sample:
    address: str
    seconds: float | None


async def _nothing(*_arguments: object) -> None:
    """What a script does where the test says nothing."""


class FakeNode:
    """Shares with the real scan; everything else is scripted by attributes."""

    def __init__(self) -> None:
        self.peer_id = SELF
        self.addresses = ADDRESSES
        self.events = EventStream()
        self.config: NodeConfig | None = None
        self.closed = False
        self.calls: list[tuple[Any, ...]] = []
        self.only: tuple[str, ...] | None = None
        self.pings: dict[str, list[float | None] | Exception] = {}
        self.adverts: dict[str, Sequence[Advert] | Exception] = {}
        self.manifest: Manifest | None = None
        self.before_share: Callable[..., Awaitable[None]] = _nothing
        self.fetching: Callable[..., Awaitable[None]] = _nothing
        self.seeding: Callable[..., Awaitable[None]] = _nothing
        self.closing: Callable[..., Awaitable[None]] = _nothing
        self.loading: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def open(self, config: NodeConfig) -> AsyncIterator[FakeNode]:
        self.config = config
        try:
            yield self
        finally:
            await self.closing()
            self.closed = True

    def load(self) -> Callable[[NodeConfig], Any]:
        self.loading()
        return self.open

    async def share(
        self,
        path: Path,
        piece_length: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> Shared:
        await self.before_share()
        scanned = await scan(path, piece_length=piece_length, progress=on_progress, warn=on_warning)
        manifest = scanned.manifest
        return Shared(Envelope(manifest), manifest, SwarmLink(manifest.id, self.addresses, manifest.name))

    async def fetch(
        self,
        manifest: Envelope | ManifestId,
        peers: list[str],
        output: Path,
        *,
        only: tuple[str, ...] = (),
        trusted: tuple[str, ...] = (),
        seed: bool = False,
        on_progress: object = None,
    ) -> Fetched:
        self.calls.append(("fetch", manifest, peers, output, seed))
        self.only = only
        self.trusted = trusted
        await self.fetching(self)
        content = manifest.manifest if isinstance(manifest, Envelope) else self.manifest
        assert content is not None
        self.events.publish(
            ManifestReady(content.id, content.name, content.total_length, content.piece_count, 16384, 1, None)
        )
        for piece in range(content.piece_count):
            self.events.publish(BytesReceived(content.id, OTHER, content.layout.length(piece)))
            self.events.publish(PieceStored(content.id, piece, content.layout.length(piece), OTHER))
        path = output / content.name
        self.events.publish(TransferComplete(content.id, str(path), content.total_length, 1.5))
        return Fetched(path, content.total_length, 1.5, content)

    async def seed_forever(self) -> None:
        await self.seeding(self)

    async def ping(self, address: str, count: int, interval: float) -> AsyncIterator[Sample]:
        self.calls.append(("ping", address, count, interval))
        script = self.pings[address]
        if isinstance(script, Exception):
            raise script
        for seconds in script:
            await trio.lowlevel.checkpoint()
            yield Sample(address, seconds)

    async def list_manifests(self, address: str) -> Sequence[Advert]:
        script = self.adverts[address]
        if isinstance(script, Exception):
            raise script
        return script


def invoke(*arguments: str | Path, node: FakeNode | None = None) -> int:
    """Run the program in this process and return its exit code."""
    return run(list(map(str, arguments)), Runtime(load_node=(node or FakeNode()).load))


def _note(name: str) -> None:
    Path(name).touch()


def seeds_and_closes_cleanly() -> FakeNode:
    """Seeds until cancelled; leaves a file `closed` behind when it was closed in order."""
    node = FakeNode()

    async def seeding(_node: FakeNode) -> None:
        await trio.sleep_forever()

    async def closing() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)
        _note("closed")

    node.seeding, node.closing = seeding, closing
    return node


def hashes_without_listening() -> FakeNode:
    """Hashes in a thread that nothing can stop."""
    node = FakeNode()

    async def hashing() -> None:
        _note("hashing")
        await trio.to_thread.run_sync(time.sleep, 30)

    node.before_share = hashing
    return node


def imports_slowly() -> FakeNode:
    """Takes its time before there is a node at all."""
    node = FakeNode()

    def loading() -> None:
        _note("loading")
        time.sleep(30)

    node.loading = loading
    return node


def closes_slowly() -> FakeNode:
    """Needs longer to close than anybody wants to wait."""
    node = seeds_and_closes_cleanly()

    async def closing() -> None:
        _note("closing")
        with trio.CancelScope(shield=True):
            await trio.sleep(30)

    node.closing = closing
    return node


def _program() -> None:
    script: Callable[[], FakeNode] = globals()[sys.argv.pop(1)]
    main(Runtime(load_node=script().load))


if __name__ == "__main__":
    _program()
