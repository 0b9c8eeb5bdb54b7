"""A store in memory, for simulations and tests."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.bits import PieceSet
from swarm.content.fingerprints import Fingerprints, fingerprint
from swarm.content.manifest import Manifest
from swarm.errors import PieceMismatch, PieceWithdrawn, SwarmError
from swarm.ports import HeldPieces
from swarm.storage.file_layer import POSIX
from swarm.storage.hashing import piece_matches
from swarm.storage.one_by_one import get_each, put_each
from swarm.storage.taking import load_pieces


class MemoryStore:
    """A `ports.Store` that does all its work inline, so that no virtual time passes in it.

    ``data`` is the concatenation of all files; ``stored`` selects the pieces that are present, by default
    all. Without ``data`` the store starts empty. Pieces are kept by reference, so a thousand stores of one
    content share its bytes. Raises ValueError if ``data`` has the wrong length or ``stored`` is given
    without it.
    """

    def __init__(self, manifest: Manifest, data: bytes | None = None, stored: PieceSet | None = None) -> None:
        if data is not None and len(data) != manifest.total_length:
            raise ValueError(f"the content has {manifest.total_length} bytes, not {len(data)}")
        if data is None and stored is not None:
            raise ValueError("stored pieces need the content in data")
        self._manifest = manifest
        self._stored = PieceSet(manifest.piece_count)
        self._pieces: dict[int, memoryview] = {}
        self._fingerprints = Fingerprints(manifest.piece_count)
        if data is not None:
            self._fill(memoryview(data), PieceSet.all(manifest.piece_count) if stored is None else stored)

    @property
    def manifest(self) -> Manifest:
        """The manifest that the pieces belong to."""
        return self._manifest

    @property
    def stored(self) -> PieceSet:
        """The pieces that are verified and readable; callers must not change it."""
        return self._stored

    async def put(self, piece: int, data: memoryview) -> None:
        """Verify and keep one whole piece; raises `PieceMismatch`, with nothing kept."""
        if not piece_matches(data, self._manifest.piece_hash(piece)):
            raise PieceMismatch(f"piece {piece} does not match the hash in the manifest")
        self._keep(piece, data if isinstance(data.obj, bytes) else memoryview(bytes(data)))

    async def put_many(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int]:
        """As `put`, for many; returns those whose hash differs."""
        return await put_each(self, pieces)

    def put_now(self, pieces: Sequence[tuple[int, memoryview]]) -> list[int] | None:
        """As `put_many` where that need not wait; None: it is not made for that."""
        return None if pieces else []

    async def take(self, pieces: Sequence[int], held: HeldPieces) -> list[int]:
        """Keep pieces that files on this machine hold; returns those that are stored now."""
        for piece, data, _ in load_pieces(self._manifest, POSIX, pieces, held):
            self._keep(piece, data)
        return [piece for piece in pieces if piece in self._stored]

    async def get_many(self, pieces: Sequence[int]) -> list[memoryview | SwarmError]:
        """As `get`, for many; what fails is the last of the answer."""
        return await get_each(self, pieces)

    def get_now(self, pieces: Sequence[int], room: memoryview) -> list[memoryview]:  # noqa: ARG002
        """As `get` where that need not wait: it is not made for that."""
        return []

    async def get(self, piece: int) -> memoryview:
        """Return a stored piece; raises `PieceWithdrawn` if it is not stored or was damaged."""
        if piece not in self._stored:
            raise PieceWithdrawn(f"piece {piece} is not stored here")
        data = self._pieces[piece]
        if fingerprint(data) != self._fingerprints[piece]:
            self._stored.discard(piece)
            raise PieceWithdrawn(f"piece {piece} is withdrawn: its bytes have changed")
        return data

    def damage(self, piece: int) -> None:
        """Flip one bit of a stored piece, like bit rot."""
        rotten = bytearray(self._pieces[piece])
        rotten[0] ^= 1
        self._pieces[piece] = memoryview(bytes(rotten))

    def content(self) -> bytes:
        """Return the concatenation of all files; raises KeyError unless every piece is stored."""
        return b"".join(self._pieces[piece] for piece in range(self._manifest.piece_count))

    def _fill(self, data: memoryview, stored: PieceSet) -> None:
        start = 0
        for piece in range(self._manifest.piece_count):
            end = start + self._manifest.layout.length(piece)
            if piece in stored:
                self._keep(piece, data[start:end])
            start = end

    def _keep(self, piece: int, data: memoryview) -> None:
        self._pieces[piece] = data
        self._fingerprints[piece] = fingerprint(data)
        self._stored.add(piece)
