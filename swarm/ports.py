"""The small interfaces between the rooms: what a transfer needs of a network, a disk, and of sources.

Each has a real implementation; `ByteStream` and `Store` also have shipped ones in memory for simulations and
unit tests.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.endpoint import Route
from swarm.errors import SwarmError
from swarm.events import Event
from swarm.ids import ManifestId, PeerId, SourceId
from swarm.lazy_dataclass import dataclass


class ByteStream(Protocol):
    """One bidirectional byte stream to one authenticated peer.

    Reads and writes may be cancelled at any point: a cancelled read loses nothing that a later
    read would have returned to nobody (the stream is to be reset), a cancelled write resets the
    stream; the connection under it stays sound. Every method raises `LinkClosed` once the stream
    or its connection has ended.
    """

    @property
    def peer(self) -> PeerId:
        """The authenticated peer at the other end."""

    @property
    def remote_address(self) -> str:
        """The multiaddr of the other end without ``/p2p``, or an empty string if unknown."""

    async def read_exactly(self, size: int) -> bytes:
        """Return exactly ``size`` bytes."""

    async def readinto_exactly(self, buffer: memoryview) -> None:
        """Fill ``buffer`` from the stream."""

    async def readinto_least(self, buffer: memoryview, least: int) -> int:
        """Wait for ``least`` bytes, and put them and what else has come into ``buffer``; return how many."""

    def read_now(self, buffer: memoryview) -> int:
        """Move into ``buffer`` what has come, without waiting; return how many bytes that is, perhaps none.

        Never raises: how a stream ended is told by the read that waits.
        """

    def hold_credit(self) -> None:
        """Let the credit for what is read wait for the next write, for `give_credit`, or a read that waits.

        For a reader that writes soon, in the same step: one record then carries both.
        """

    def give_credit(self) -> None:
        """Send the credit that was held."""

    async def read_some(self, limit: int) -> bytes:
        """Wait for data and return what has come: 1 to ``limit`` bytes, none once the peer has finished."""

    async def write(self, *data: bytes | bytearray | memoryview, within: float = math.inf) -> None:
        """Send all of ``data``, one after the other.

        Waits while the peer's window or the socket is full, but no longer than ``within`` seconds: then the
        stream is reset.
        """

    async def finish(self) -> None:
        """Finish sending; what the peer sends can still be read. Raises nothing."""

    def write_now(self, data: bytes | bytearray) -> bool:
        """Send all of ``data`` if that needs no wait; says whether it did. It is not changed afterwards.

        Never raises: how a stream ended is told by the write that waits.
        """

    async def close(self) -> None:
        """Finish sending, let the peer read what was sent, and release the stream."""

    async def reset(self) -> None:
        """Abandon the stream in both directions at once."""


class EventSink(Protocol):
    """Where events go."""

    def __call__(self, *events: Event) -> None:
        """Take events of one kind and of one transfer, or a single one; never waits."""


class Network(Protocol):
    """What a transfer needs of the node's host: connections to peers and streams over them."""

    @property
    def peer_id(self) -> PeerId:
        """This node's own id."""

    async def connect(self, peer: PeerId, where: Sequence[Route]) -> str:
        """Connect to the peer at any of the endpoints, or use an open connection.

        Returns the multiaddr that answered. Raises NoPeerReachable.
        """

    def connected(self, peer: PeerId) -> bool:
        """Whether a connection to ``peer`` is open."""

    async def open_stream(self, peer: PeerId, protocol: str) -> ByteStream:
        """Open a stream to a connected peer; raises LinkClosed."""

    async def disconnect(self, peer: PeerId) -> None:
        """Close every connection to the peer; never raises, never waits long."""

    def proven(self, peer: PeerId) -> None:
        """Pieces are exchanged with the peer: admission keeps its connection in preference to others."""


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A store has lost ``pieces`` pieces of ``size`` bytes together, or has them again.

    ``path`` is the file or folder that this happened to. ``reason`` says what happened, in one line; it is
    None when the pieces are back.
    """

    path: str
    pieces: int
    size: int
    reason: str | None


class PieceBytes(NamedTuple):
    """Where a file on this machine may hold a piece: an open descriptor, and an offset in bytes.

    ``whole``: the file may be the whole file that the piece is of.
    """

    fd: int
    offset: int
    whole: bool = False


class HeldPieces(Protocol):
    """Pieces that files on this machine may hold. To be used in any thread; it blocks, and raises nothing."""

    def places(self, piece: int) -> Iterator[PieceBytes]:
        """Where the piece may be, the likeliest place first; each is open until the next is asked for."""


class Store(Protocol):
    """The pieces of one manifest on this machine; owns which of them are stored."""

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""

    @property
    def stored(self) -> PieceSet:
        """The pieces that are verified and readable; not to be changed by callers."""

    async def put(self, piece: int, data: memoryview) -> None:
        """Verify one whole piece against the manifest's BLAKE3 and write it.

        Raises `PieceMismatch` with nothing written when the hash differs, `DiskError` when the
        file system refuses.
        """

    async def put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
        """As `put`, for many small pieces in one step; returns those whose hash differs.

        After a `DiskError` those in ``stored`` are written.
        """

    def put_now(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int] | None:
        """As `put_many`, in one step that waits for nothing; None, with nothing done, if it would."""

    async def take(self, pieces: Sequence[int], held: HeldPieces) -> list[int]:
        """Verify and write pieces that files on this machine hold, without a detour through anybody's memory.

        Returns those that are stored now. Raises `DiskError` when the file system refuses to take them.
        """

    async def get(self, piece: int) -> memoryview:
        """Read one whole stored piece, checked to be what was verified before.

        Raises `PieceWithdrawn` when it is not (the piece then leaves ``stored``), `ContentAway` when the
        whole file is away (all of its pieces leave ``stored``), `DiskError` when it cannot be read.
        """

    def get_now(self, pieces: Sequence[int], room: memoryview) -> list[memoryview]:
        """As `get`, in one step that waits for nothing: the pieces before the first that would wait, or that
        anything is wrong with. They may lie in ``room``, which is large enough for all."""

    async def get_many(self, pieces: Sequence[int]) -> list[memoryview | SwarmError]:
        """As `get`, for many small pieces in one step; the answer ends with the first error."""


@dataclass(frozen=True, slots=True)
class FoundPeer:
    """A peer that a source found. ``told_by`` is the peer that named it, if it was one.

    ``addresses`` are multiaddrs without ``/p2p``. A peer that names itself is its own ``told_by``.
    """

    peer: PeerId
    addresses: tuple[str, ...]
    told_by: PeerId | None = None


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node could tell others about its part in a swarm.

    ``addresses`` are this node's own dialable multiaddrs with ``/p2p/<id>``; ``complete`` says whether it has
    everything that it wants.
    """

    manifest: ManifestId
    addresses: tuple[str, ...]
    complete: bool


class PeerSource(Protocol):
    """Finds peers for manifests. One object may serve many transfers, and none of its methods may raise.

    ``provenance`` is the one word under which its peers are kept in the peer book, which gives each
    provenance a quota. `swarm.strategy.peer_book.PUBLIC` lists those that name public addresses only.

    A fetch of an id begins to read `peers` before it has the manifest: the search for it asks whoever is
    found. Once the manifest is here `peers` is read anew for the exchange.
    """

    @property
    def provenance(self) -> str:
        """One word, such as ``named`` or ``exchange``."""

    def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        """Peers that may have the manifest, as they are found; ends when there will be no more."""

    def announce(self, announcement: Announcement) -> None:
        """A transfer has begun or is complete: tell others, if that is this source's way. Never waits."""

    def withdraw(self, manifest: ManifestId) -> None:
        """The transfer has ended. Never waits."""


class PieceSource(Protocol):
    """A source of pieces that is no peer: it is asked, and gets nothing in return.

    Its pieces are picked, verified, blamed, timed and accounted for like those of peers.
    """

    @property
    def id(self) -> SourceId:
        """Its name in events and decisions; one of a kind within a transfer."""

    @property
    def description(self) -> str:
        """One short line for people."""

    async def deliver(self, desk: RequestDesk) -> None:
        """Serve the requests at ``desk`` until cancelled; returning, or an exception, ends the source.

        Offer what there is first; nothing is requested before.
        """


@runtime_checkable
class LocalSource(PieceSource, Protocol):
    """A source of pieces on this machine: while it offers a piece, nobody else is asked for it.

    Pieces are requested of it in ascending order. What it refuses is asked of others at once, and not of it
    again.
    """

    @property
    def local(self) -> bool:
        """True."""

    @property
    def patched(self) -> bool:
        """Whether its bytes count as made with a patch; otherwise they count as reused."""


@runtime_checkable
class SharedSource(PieceSource, Protocol):
    """A source of pieces that every member of a swarm can ask, such as a web server: they share it in turns.

    One wrong piece does not end it. Its ``desk`` is an `OriginDesk`.
    """

    def piece_refused(self, piece: int) -> None:
        """The piece did not match its hash: its file is not to be taken from here any more."""


class RequestDesk(Protocol):
    """Where a `PieceSource` meets one transfer: requests are taken here, and answered one piece at a time."""

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""

    def offer(self, pieces: PieceSet) -> None:
        """Say which pieces can be asked for from now on."""

    async def next_request(self) -> int:
        """The next piece that is wanted, in the order of asking; waits until there is one."""

    async def supply(self, piece: int, data: memoryview) -> None:
        """Answer a request with the whole piece, or be ignored if it is no longer wanted.

        The memory may be reused once this returns. Waits for piece memory and for the download limit.
        """

    def refuse(self, piece: int) -> None:
        """Answer a request with the news that the piece is not there; it will not be asked for soon."""


@runtime_checkable
class LocalDesk(RequestDesk, Protocol):
    """The desk of a `LocalSource` whose pieces the store can take by itself, from files on this machine."""

    async def next_batch(self, most: int) -> list[int]:
        """The next pieces that are wanted, in the order of asking: at most ``most`` bytes, or one."""

    async def take(self, pieces: Sequence[int], held: HeldPieces) -> None:
        """Answer requests: the store takes the pieces from ``held``; those that are not there are refused."""


@runtime_checkable
class OriginDesk(RequestDesk, Protocol):
    """The desk of a `SharedSource`: runs of requests, received straight into the memory of pieces."""

    async def next_run(self, most: int) -> range:
        """The next pieces that are wanted, which lie in a row in one file; at most ``most`` bytes, or one."""

    def wants(self, piece: int) -> bool:
        """Whether a piece that was taken from here is still to be supplied."""

    async def begin(self, piece: int) -> memoryview | None:
        """Memory for the whole piece; None if it is no longer wanted, or is being received already.

        Waits for piece memory.
        """

    def begin_now(self, piece: int) -> memoryview | None:
        """As `begin`, without waiting; None, with nothing done, also if it would."""

    async def received(self, piece: int, size: int) -> None:
        """``size`` more bytes of the piece are in its memory. Waits for the download limit."""

    @property
    def slice_bytes(self) -> int:
        """How many bytes to receive at most before `received` is told."""

    def deliver(self, pieces: Sequence[int]) -> None:
        """All bytes of these pieces are in their memory; at most one of them, or 1 MiB together."""

    def abandon(self, piece: int) -> None:
        """The piece will not be whole: give its memory back, and refuse it."""

    def pause(self) -> None:
        """Take no requests until `unpause`; what was requested and not taken is given back."""

    def unpause(self) -> None:
        """Take requests again."""

    def trouble(self, reason: str, retry_in: float | None) -> None:
        """Tell observers what went wrong; it is tried again after ``retry_in`` seconds, None: not at all."""
