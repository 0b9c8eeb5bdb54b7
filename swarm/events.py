"""What a node tells its observers: plain facts, frozen, in the order in which they happened.

`swarm.observe` folds them into a snapshot, `cli` renders them; nothing here decides anything.
Sizes are bytes, times and round trips are seconds, rates are bytes per second.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.ids import ManifestId, PeerId, SourceId, TransferId


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class TransferEvent(Event):
    """Something of one transfer of the node that tells it."""

    transfer: TransferId


@dataclass(frozen=True, slots=True)
class NodeListening(Event):
    """The node accepts connections on these dialable multiaddrs (with ``/p2p/<id>``)."""

    peer: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something the user should know that stops nothing (a skipped symbolic link, a bad hint)."""

    message: str


@dataclass(frozen=True, slots=True)
class HashingProgress(Event):
    """``done`` of ``total`` bytes of the shared path are hashed."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ManifestReady(Event):
    """The manifest of a transfer is known and checked; ``signer`` is None when unsigned."""

    manifest: ManifestId
    name: str
    size: int
    pieces: int
    piece_length: int
    files: int
    signer: PeerId | None


@dataclass(frozen=True, slots=True)
class FilesSelected(Event):
    """Only some files are fetched: how many, their pieces and their bytes."""

    manifest: ManifestId
    files: int
    pieces: int
    size: int


@dataclass(frozen=True, slots=True)
class TransferResumed(Event):
    """What earlier runs left on disk and this run believes after checking it."""

    manifest: ManifestId
    pieces: int
    size: int


@dataclass(frozen=True, slots=True)
class PeerDialing(Event):
    """A peer is being dialled, or its open connection is used; ``why`` is the ranking's reason."""

    peer: PeerId
    address: str
    why: str


@dataclass(frozen=True, slots=True)
class PeerConnected(Event):
    """An exchange session with the peer is open."""

    manifest: ManifestId
    peer: PeerId
    address: str
    inbound: bool


@dataclass(frozen=True, slots=True)
class PeerDisconnected(Event):
    """The session ended; ``reason`` is one short line."""

    manifest: ManifestId
    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class PeerFailed(Event):
    """No address of the peer could be dialled; it is tried again after ``retry_in`` seconds."""

    peer: PeerId
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class PeerBanned(Event):
    """The peer broke a rule and is not talked to again by this process."""

    peer: PeerId
    reason: str
    piece: int | None = None


@dataclass(frozen=True, slots=True)
class RoundTrip(Event):
    """A ping of the peer was answered after ``seconds``; None when it was lost."""

    peer: PeerId
    seconds: float | None


@dataclass(frozen=True, slots=True)
class PieceRequested(TransferEvent):
    """A piece was asked of a source; ``why`` names the ranking that chose the source."""

    piece: int
    source: SourceId
    why: str


@dataclass(frozen=True, slots=True)
class PieceStored(TransferEvent):
    """A piece from ``source`` was verified and written."""

    piece: int
    size: int
    source: SourceId


@dataclass(frozen=True, slots=True)
class PieceRefused(TransferEvent):
    """A piece from ``source`` did not match its hash; ``size`` bytes were wasted."""

    piece: int
    size: int
    source: SourceId


@dataclass(frozen=True, slots=True)
class PieceWasted(TransferEvent):
    """``size`` bytes of a piece that was already here or no longer wanted arrived from ``source``."""

    piece: int
    size: int
    source: SourceId


@dataclass(frozen=True, slots=True)
class BytesReceived(Event):
    """``size`` payload bytes of pieces arrived from ``peer`` (whatever became of them)."""

    manifest: ManifestId
    peer: PeerId
    size: int


@dataclass(frozen=True, slots=True)
class BytesSent(Event):
    """``size`` payload bytes of pieces were handed to the link to ``peer``."""

    manifest: ManifestId
    peer: PeerId
    size: int


@dataclass(frozen=True, slots=True)
class PieceLost(TransferEvent):
    """A piece that this node had can no longer be served (the file changed); it is withdrawn."""

    piece: int


@dataclass(frozen=True, slots=True)
class TransferComplete(Event):
    """Everything wanted is verified and, for a fetch, in place under its final name."""

    manifest: ManifestId
    path: str
    size: int
    seconds: float
