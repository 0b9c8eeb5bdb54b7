"""A node that does what a test tells it, for the commands; and the program run with it.

In process: ``invoke("ping", PEER, node=FakeNode())`` returns the exit code; capsys has the output.
As a process: ``python -m tests.support.cli_fakes SCRIPT share …`` runs the program with the node
that the script of that name (a function in this module) makes. ``FAKE_GRACE`` in the environment is how many
seconds it has to close after a signal.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from cli import interrupts, main
from cli.app import run
from cli.runtime import Runtime
from swarm.config import NodeOptions, TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.link import SwarmLink
from swarm.content.manifest import Manifest
from swarm.events import (
    BytesReceived,
    HashingProgress,
    ManifestReady,
    NodeListening,
    PieceStored,
    TransferComplete,
    TransferStarted,
    Warned,
)
from swarm.ids import ManifestId, PeerId, TransferId
from swarm.node.opening import FetchRequest
from swarm.observe.event_stream import EventStream
from swarm.protocol.advert import Advert
from swarm.storage.manifest_files import find_content
from swarm.storage.scan import ScanRules, scan

SELF = PeerId("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo")
OTHER = PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
ADDRESSES = (f"/ip4/192.0.2.7/tcp/4001/p2p/{SELF}", f"/ip4/127.0.0.1/tcp/4001/p2p/{SELF}")
PEER = f"/ip4/192.0.2.1/tcp/4001/p2p/{OTHER}"
PEER_2 = f"/ip4/192.0.2.2/tcp/4001/ipfs/{SELF}"


@dataclass
class Sample:
    address: str
    seconds: float | None


async def _nothing(*_arguments: object) -> None:
    """What a script does where the test says nothing."""


class FakeTransfer:
    """What a command sees of a share or a fetch."""

    def __init__(self, node: FakeNode, number: TransferId, envelope: Envelope | None = None) -> None:
        self.number = number
        self._node = node
        self._envelope = envelope

    async def __aenter__(self) -> FakeTransfer:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await trio.lowlevel.checkpoint()
        self._node.calls.append(("left", self.number))

    @property
    def envelope(self) -> Envelope:
        assert self._envelope is not None
        return self._envelope

    @property
    def manifest(self) -> Manifest:
        return self.envelope.manifest

    @property
    def id(self) -> ManifestId:
        return self.manifest.id

    @property
    def size(self) -> int:
        return self.manifest.total_length

    @property
    def link(self) -> str:
        return str(SwarmLink(self.id, self._node.addresses, self.manifest.name))

    async def closed(self) -> None:
        await self._node.seeding(self._node)


class FakeFetch(FakeTransfer):
    """Finds the manifest as a node does, and says that it was fetched from `OTHER`."""

    def __init__(self, node: FakeNode, number: TransferId, request: FetchRequest) -> None:
        super().__init__(node, number)
        self._request = request

    async def complete(self) -> Path:
        node, content = self._node, self._request.content
        named = await find_content(content) if isinstance(content, str) else content
        known = named.manifest if isinstance(named.manifest, Envelope) else None
        node.calls.append(("fetch", known or named.manifest, named.peers))
        await node.fetching(node)
        assert known is not None or node.manifest is not None
        self._envelope = known or Envelope(node.manifest)  # type: ignore[arg-type]
        manifest = self.manifest
        publish, number = node.event_stream.publish, self.number
        publish(
            ManifestReady(
                number,
                manifest.id,
                manifest.name,
                manifest.total_length,
                manifest.piece_count,
                manifest.piece_length,
                len(manifest.files),
                None,
            )
        )
        for piece in range(manifest.piece_count):
            size = manifest.layout.length(piece)
            publish(BytesReceived(number, OTHER, size))
            publish(PieceStored(number, piece, size, OTHER))
        path = self._request.into / manifest.name
        publish(TransferComplete(number, manifest.id, str(path), manifest.total_length, 1.5))
        return path


class FakeNode:
    """Shares with the real scan; everything else is scripted by attributes."""

    def __init__(self) -> None:
        self.peer_id = SELF
        self.addresses = ADDRESSES
        self.event_stream = EventStream()
        self.options: NodeOptions | None = None
        self.transfer_options: TransferOptions | None = None
        self.into: Path | None = None
        self.closed = False
        self.calls: list[tuple[Any, ...]] = []
        self.pings: dict[str, list[float | None] | Exception] = {}
        self.adverts: dict[str, Sequence[Advert] | Exception] = {}
        self.manifest: Manifest | None = None
        self.before_share: Callable[..., Awaitable[None]] = _nothing
        self.fetching: Callable[..., Awaitable[None]] = _nothing
        self.seeding: Callable[..., Awaitable[None]] = _nothing
        self.closing: Callable[..., Awaitable[None]] = _nothing
        self.port_decided: Callable[[], Awaitable[None]] = _nothing
        self.loading: Callable[[], None] = lambda: None
        self._numbers = 0
        self.event_stream.publish(NodeListening(self.peer_id, self.addresses))

    @asynccontextmanager
    async def open(self, options: NodeOptions, *, tell: object = None) -> AsyncIterator[FakeNode]:
        self.options = options
        try:
            yield self
        finally:
            await self.closing()
            self.closed = True

    def load(self) -> Callable[..., Any]:
        self.loading()
        return self.open

    async def share(
        self,
        path: Path,
        *,
        name: str | None = None,
        piece_length: int | None = None,
        options: TransferOptions | None = None,
    ) -> FakeTransfer:
        self.transfer_options = options
        number = self._begin("share")
        await self.before_share()
        chosen = options or TransferOptions()
        scanned = await scan(
            path,
            ScanRules(chosen.ignore, chosen.omit, chosen.skip),
            name=name,
            piece_length=piece_length,
            progress=lambda done, total: self.event_stream.publish(HashingProgress(number, done, total)),
            warn=lambda message: self.event_stream.publish(Warned(message, number)),
        )
        return FakeTransfer(self, number, Envelope(scanned.manifest))

    async def passed_on(self, transfer: FakeFetch) -> None:
        """There is no patch."""

    def fetch(self, content: str, *, into: Path, options: TransferOptions | None = None) -> FakeFetch:
        self.transfer_options, self.into = options, into
        options = options or TransferOptions()
        request = FetchRequest.read(content, into, options.peers, options)
        return FakeFetch(self, self._begin("fetch"), request)

    def _begin(self, kind: str) -> TransferId:
        self._numbers += 1
        number = TransferId(self._numbers)
        self.event_stream.publish(TransferStarted(number, kind))
        return number

    async def ping(self, address: str, *, count: int, interval: float) -> AsyncIterator[Sample]:
        self.calls.append(("ping", address, count, interval))
        script = self.pings[address]
        if isinstance(script, Exception):
            raise script
        for seconds in script:
            await trio.lowlevel.checkpoint()
            yield Sample(address, seconds)

    async def list(self, address: str) -> Sequence[Advert]:
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


def fetches_for_ever() -> FakeNode:
    """Gets nowhere with a fetch."""
    node = FakeNode()

    async def fetching(_node: FakeNode) -> None:
        _note("fetching")
        await trio.sleep_forever()

    node.fetching = fetching
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
    interrupts.GRACE_SECONDS = float(os.environ.get("FAKE_GRACE", interrupts.GRACE_SECONDS))
    main(Runtime(load_node=script().load))


if __name__ == "__main__":
    _program()
