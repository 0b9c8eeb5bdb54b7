"""What a node tells its observers: plain facts, frozen, in the order in which they happened.

Every event about a transfer names it: `TransferEvent.transfer` is the node's number of the transfer, and
`TransferStarted` and `ManifestReady` say what that is. Sizes are bytes, times and round trips are seconds,
rates are bytes per second. docs/events.md describes the same events as JSON lines.
"""

from __future__ import annotations

from swarm.ids import ManifestId, PeerId, SourceId, TransferId
from swarm.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class TransferEvent(Event):
    """Base of the events about one transfer."""

    transfer: TransferId


# --- The node -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeListening(Event):
    """The node accepts connections on these dialable multiaddrs (with ``/p2p/<id>``)."""

    peer: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PortMapped(Event):
    """The router leads ``address`` to this node, asked by ``protocol``, for ``seconds`` and then anew.

    0 seconds is for good. If it is not ``public``, there is another router before that one.
    """

    address: str
    protocol: str
    seconds: int
    public: bool


@dataclass(frozen=True, slots=True)
class PortLost(Event):
    """The router does not lead a port to this node any more; it is asked again."""


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something the user should know that stops nothing (a skipped symbolic link, a bad hint)."""

    message: str
    transfer: TransferId | None = None


@dataclass(frozen=True, slots=True)
class RoundTrip(Event):
    """A ping over the connection to the peer was answered after ``seconds``; None when it was lost."""

    peer: PeerId
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ReachChecked(Event):
    """A meeting point has dialled this node back: ``reachable`` says whether that worked.

    ``meeting`` is the multiaddr of the meeting point.
    """

    meeting: str
    reachable: bool


# --- A transfer as a whole ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TransferStarted(TransferEvent):
    """A transfer began; ``kind`` is ``share`` or ``fetch``."""

    kind: str


@dataclass(frozen=True, slots=True)
class HashingProgress(TransferEvent):
    """``done`` of ``total`` bytes of what is on the disk are hashed, to share it or to resume."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ManifestReady(TransferEvent):
    """The manifest of a transfer is known and checked; ``signer`` is None when unsigned."""

    manifest: ManifestId
    name: str
    size: int
    pieces: int
    piece_length: int
    files: int
    signer: PeerId | None


@dataclass(frozen=True, slots=True)
class ReleaseFound(TransferEvent):
    """The newest release of a series is ``manifest``, with number ``sequence``; ``key`` is its publisher."""

    key: PeerId
    name: str
    sequence: int
    manifest: ManifestId


@dataclass(frozen=True, slots=True)
class UpdatePlanned(TransferEvent):
    """How an update gets what it lacks: ``way`` is ``patch``, ``reuse``, ``pieces`` or ``nothing``.

    ``patch_size`` are the bytes of the patch, 0 without one, ``missing`` those of the pieces that no file on
    this machine has. ``reason`` says in one line why there is no patch, or nothing.
    """

    way: str
    patch_size: int
    missing: int
    reason: str


@dataclass(frozen=True, slots=True)
class PatchProgress(TransferEvent):
    """``done`` of ``total`` bytes: a patch is fetched, or made; ``doing`` is ``fetching`` or ``making``."""

    doing: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class FilesSelected(TransferEvent):
    """Only some files are fetched: how many, their pieces and their bytes."""

    files: int
    pieces: int
    size: int


@dataclass(frozen=True, slots=True)
class TransferResumed(TransferEvent):
    """What earlier runs left on disk and this run believes after checking it."""

    pieces: int
    size: int


@dataclass(frozen=True, slots=True)
class TransferComplete(TransferEvent):
    """Everything wanted is verified and in place under its final name."""

    manifest: ManifestId
    path: str
    size: int
    seconds: float
    bytes_received: int = 0
    """Payload that came from peers and web servers in this run."""
    bytes_reused: int = 0
    """Bytes of pieces that this run took from files on this machine."""
    bytes_patched: int = 0
    """Bytes of pieces that this run made with a patch."""


@dataclass(frozen=True, slots=True)
class FilesKept(TransferEvent):
    """An update of ``path`` kept ``count`` files that are the user's: edited, or not of the old version.

    ``files`` are the paths of the first of them below ``path``, as they are now.
    """

    path: str
    files: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class TransferPaused(TransferEvent):
    """The transfer has ended its sessions and opens none until it continues."""


@dataclass(frozen=True, slots=True)
class TransferContinued(TransferEvent):
    """A paused transfer exchanges pieces again."""


@dataclass(frozen=True, slots=True)
class TransferEnded(TransferEvent):
    """The last event of a transfer: its files are closed. ``error`` is None unless it failed."""

    error: str | None = None


# --- Peers and other sources --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerFound(TransferEvent):
    """A source of peers named a peer that was not known yet; ``provenance`` is the source's word."""

    peer: PeerId
    addresses: tuple[str, ...]
    provenance: str


@dataclass(frozen=True, slots=True)
class PeerDialing(TransferEvent):
    """A peer is being dialled, or its open connection is used; ``why`` is the book's reason."""

    peer: PeerId
    address: str
    why: str


@dataclass(frozen=True, slots=True)
class PeerConnected(TransferEvent):
    """An exchange session with the peer is open."""

    peer: PeerId
    address: str
    inbound: bool


@dataclass(frozen=True, slots=True)
class PeerDisconnected(TransferEvent):
    """The session ended; ``reason`` is one short line."""

    peer: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class PeerHas(TransferEvent):
    """The connected peer has ``pieces`` pieces by now; told at most once a second for each peer."""

    peer: PeerId
    pieces: int


@dataclass(frozen=True, slots=True)
class PeerFailed(TransferEvent):
    """No address of the peer could be dialled; it is tried again after ``retry_in`` seconds."""

    peer: PeerId
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class PeersAwaited(TransferEvent):
    """No peer is there from which something could be fetched; it is waited for ``seconds`` more.

    Told once when none of the peers to fetch from is there yet, and once when those that are connected have
    nothing of what is missing. ``reason`` is the most telling of why.
    """

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PeerComplete(TransferEvent):
    """The peer has every piece. ``fetched`` if it was seen to lack some before; told once for each peer."""

    peer: PeerId
    fetched: bool


@dataclass(frozen=True, slots=True)
class SourceJoined(TransferEvent):
    """A source that is no peer can be asked for pieces; ``description`` is one short line."""

    source: SourceId
    description: str


@dataclass(frozen=True, slots=True)
class SourceLeft(TransferEvent):
    """A source that is no peer can no longer be asked; ``reason`` is one short line."""

    source: SourceId
    reason: str


@dataclass(frozen=True, slots=True)
class SourceFailed(TransferEvent):
    """A source that is no peer failed; ``reason`` is one short line.

    It is asked again after ``retry_in`` seconds; None: what the reason speaks of is not asked for again.
    """

    source: SourceId
    reason: str
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class SourceBanned(TransferEvent):
    """The source broke a rule in this transfer. A peer is then refused by the whole node until it ends.

    ``piece`` is the piece that did not match its hash, if that was the reason.
    """

    source: SourceId
    reason: str
    piece: int | None = None


# --- Pieces -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PieceRequested(TransferEvent):
    """A piece was requested of a source; ``why`` names the policy that chose both."""

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
class PiecesReused(TransferEvent):
    """``pieces`` pieces of ``size`` bytes from files on this machine were verified and written."""

    source: SourceId
    pieces: int
    size: int


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
class PieceLost(TransferEvent):
    """One stored piece was found changed when it was read; a fetch that is not complete gets it again.

    In a finished file that nothing wrote to, it rotted on the disk; it is withdrawn for good.
    """

    piece: int
    size: int


@dataclass(frozen=True, slots=True)
class ContentWithdrawn(TransferEvent):
    """The file or folder ``path`` is gone or changed: ``pieces`` pieces of ``size`` bytes are withdrawn.

    ``reason`` is one short line.
    """

    path: str
    reason: str
    pieces: int
    size: int


@dataclass(frozen=True, slots=True)
class ContentRestored(TransferEvent):
    """What was withdrawn of ``path`` is back: ``pieces`` pieces of ``size`` bytes are served again."""

    path: str
    pieces: int
    size: int


@dataclass(frozen=True, slots=True)
class BytesReceived(TransferEvent):
    """``size`` payload bytes of pieces arrived from a peer or an origin (whatever became of them)."""

    source: SourceId
    size: int


@dataclass(frozen=True, slots=True)
class BytesSent(TransferEvent):
    """``size`` payload bytes of pieces were handed to the connection to ``peer``."""

    peer: PeerId
    size: int


@dataclass(frozen=True, slots=True)
class BytesSpared(TransferEvent):
    """So much of the payload exchanged with ``peer`` did not travel: it was sent in compressed form."""

    peer: PeerId
    received: int
    sent: int
