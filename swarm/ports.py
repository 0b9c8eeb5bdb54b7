"""The small interfaces between the rooms: what a session needs of a network, a disk, a clock.

Each has a real implementation (`swarm.net`, `swarm.storage`) and a shipped one in memory for
simulations and unit tests.
"""

from __future__ import annotations

from typing import Protocol

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.ids import PeerId


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

    async def write(self, *data: bytes | bytearray | memoryview) -> None:
        """Hand all of ``data``, one after the other, to the link.

        Waits while the peer's window or the socket is full.
        """

    async def close(self) -> None:
        """Finish sending, let the peer read what was sent, and release the stream."""

    async def reset(self) -> None:
        """Abandon the stream in both directions at once."""


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

    async def get(self, piece: int) -> memoryview:
        """Read one whole stored piece, checked to be what was verified before.

        Raises `PieceWithdrawn` when it is not (the piece then leaves ``stored``), `DiskError`
        when it cannot be read.
        """
