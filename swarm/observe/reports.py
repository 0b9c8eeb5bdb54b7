"""What a command found out, as events: they go into the same JSON lines as the node's own."""

from __future__ import annotations

from swarm.events import Event, TransferEvent
from swarm.ids import ManifestId, PeerId
from swarm.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class CommandStarted(Event):
    """The first line of every output: ``format`` changes when a documented field changes its meaning.

    ``time`` is UTC in ISO 8601: add ``t`` of a later line to it to date that line.
    """

    command: str
    version: str
    format: int
    time: str


@dataclass(frozen=True, slots=True)
class PathShared(Event):
    """The manifest of a shared path is written and its pieces are served from now on."""

    manifest: ManifestId
    path: str
    link: str
    name: str
    size: int
    pieces: int
    piece_length: int


@dataclass(frozen=True, slots=True)
class ReleasePublished(Event):
    """A release is published and seeded from now on.

    ``series`` is the link of the series, ``link`` that of this content. ``patch_size`` are the bytes of all
    ``patches``. ``new`` is false if it was published before.
    """

    series: str
    link: str
    name: str
    sequence: int
    manifest: ManifestId
    size: int
    patches: int
    patch_size: int
    new: bool


@dataclass(frozen=True, slots=True)
class TransferProgress(TransferEvent):
    """How one transfer stands, once a second while something changes.

    ``done`` of ``size`` bytes are here, ``pieces_done`` of ``pieces`` pieces; ``hashed`` of ``hash_total``
    bytes on the disk are hashed. ``seconds_left`` is null until the rate has settled, and while nothing
    arrives.
    """

    phase: str
    done: int
    size: int
    pieces_done: int
    pieces: int
    hashed: int
    hash_total: int
    received: int
    sent: int
    down_rate: float
    up_rate: float
    seconds_left: float | None
    peers: int
    full_peers: int


@dataclass(frozen=True, slots=True)
class LinesLost(Event):
    """Lines that stood here were left out, because nobody read them in time."""

    lines: int


@dataclass(frozen=True, slots=True)
class PathFetched(Event):
    """A fetch ended well; ``path`` is the final name."""

    manifest: ManifestId
    path: str
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PathFailed(Event):
    """One of several things could not be shared or fetched; the command goes on with the others.

    ``what`` is as the user gave it, ``exit_code`` the code that the command would have ended with.
    """

    what: str
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class FetchedSeeded(Event):
    """What was fetched is seeded from now on; ``link`` is a link with this node's addresses."""

    manifest: ManifestId
    link: str


@dataclass(frozen=True, slots=True)
class SeedingEnded(Event):
    """A command seeds no more, because it has done what ``--copies``, ``--ratio`` or ``--for`` ask."""

    reason: str


@dataclass(frozen=True, slots=True)
class PingStarted(Event):
    """``count`` pings are about to be sent to ``address``."""

    address: str
    count: int


@dataclass(frozen=True, slots=True)
class PeerPinged(Event):
    """One ping of ``address`` was answered after ``seconds``; null when it was lost."""

    address: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class PingSummary(Event):
    """All pings of one peer; the times are seconds and null when none was answered."""

    address: str
    sent: int
    lost: int
    min: float | None
    median: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class PeerSeen(Event):
    """A peer was found near. ``source`` is ``lan`` for a node of this program, ``libp2p`` for another one;
    ``seconds`` is the round trip, null when it did not answer."""

    peer: PeerId
    addresses: tuple[str, ...]
    source: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class PeerListed(Event):
    """A peer said what it advertises: so many manifests, each of which follows."""

    address: str
    manifests: int


@dataclass(frozen=True, slots=True)
class ManifestListed(Event):
    """A manifest that the peer at ``address`` advertises, and how many of its pieces it has."""

    address: str
    manifest: ManifestId
    name: str
    size: int
    pieces: int
    have: int


@dataclass(frozen=True, slots=True)
class ManifestInspected(Event):
    """What a manifest describes; a line for each file follows."""

    manifest: ManifestId
    name: str
    folder: bool
    size: int
    pieces: int
    piece_length: int
    files: int
    signer: str | None


@dataclass(frozen=True, slots=True)
class FileInspected(Event):
    """A file of a manifest; ``blake3`` is in hexadecimal."""

    path: str
    size: int
    executable: bool
    blake3: str


@dataclass(frozen=True, slots=True)
class DifferenceFound(Event):
    """Something on the disk is not what the manifest names: ``text`` is what people read."""

    text: str


@dataclass(frozen=True, slots=True)
class PathVerified(Event):
    """A path was compared with a manifest."""

    path: str
    manifest: ManifestId
    matches: bool


@dataclass(frozen=True, slots=True)
class NodeIdentified(Event):
    """The peer id of this node."""

    peer: str


@dataclass(frozen=True, slots=True)
class DaemonReady(Event):
    """A daemon answers on ``socket``, and under ``page`` if that is not empty; ``transfers`` are restored."""

    socket: str
    page: str
    transfers: int


@dataclass(frozen=True, slots=True)
class TransferAdded(Event):
    """A daemon has the transfer from now on; ``new`` unless it had it before. Null is not known yet."""

    id: str
    kind: str
    name: str
    manifest: str | None
    link: str | None
    new: bool


@dataclass(frozen=True, slots=True)
class TransferListed(Event):
    """How a transfer of a daemon stands; sizes in bytes, rates in bytes per second, times in seconds."""

    id: str
    kind: str
    state: str
    name: str
    manifest: str | None
    size: int
    done: int
    received: int
    sent: int
    down_rate: float
    up_rate: float
    seconds_left: float | None
    peers: int
    upload_limit: int | None
    download_limit: int | None
    path: str | None
    error: str | None
    series: str | None
    release: int | None
    note: str | None


@dataclass(frozen=True, slots=True)
class TransferChanged(Event):
    """A command changed a transfer of a daemon; ``state`` is what it is now, ``removed`` if it is gone."""

    id: str
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class LimitsChanged(Event):
    """The limits and rules of all transfers of a daemon together; null is no limit, or no end of seeding.

    Limits are bytes per second, ``schedule`` the lines of the limits by time of day; ``ratio``, ``copies``
    and ``seed_seconds`` say when seeding ends.
    """

    upload_limit: int | None
    download_limit: int | None
    schedule: tuple[str, ...]
    ratio: float | None
    copies: int | None
    seed_seconds: float | None


@dataclass(frozen=True, slots=True)
class FlowMeasured(Event):
    """In the demo one node received so many bytes of pieces from another."""

    sender: str
    receiver: str
    size: int


@dataclass(frozen=True, slots=True)
class CommandFailed(Event):
    """The last line of a command that failed, with the exit code that follows."""

    message: str
    exit_code: int
