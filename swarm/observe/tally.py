"""Folds events into the state of each transfer and of the node. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, cast

from swarm import events
from swarm.ids import ManifestId, PeerId, SourceId, TransferId
from swarm.lazy_dataclass import dataclass
from swarm.observe.estimate import Estimate
from swarm.strategy.rates import Meter

SMOOTHING = 5.0
"""Time constant of shown rates, seconds: steady enough to read, yet recent."""
MAX_SOURCE_ROWS = 1024
"""Sources that are kept in the table; of more than that, those that left longest ago are forgotten."""
MAX_ENDED = 64
"""Ended transfers that are kept; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One peer, or another source: sizes in bytes, rates in bytes per second, the last round trip in seconds.

    ``pieces_held`` is how many pieces it has itself, None until it says so. ``wasted`` counts refused,
    late and unwanted bytes; ``pieces`` only verified ones; ``why`` is the reason of the last request to
    this source.
    """

    source: SourceId
    address: str
    connected: bool
    inbound: bool
    banned: bool
    received: int
    sent: int
    pieces: int
    wasted: int
    down_rate: float
    up_rate: float
    round_trip: float | None
    why: str
    pieces_held: int | None = None


@dataclass(frozen=True, slots=True)
class TransferSnapshot:
    """One transfer at one moment: sizes in bytes, rates in bytes per second, times in seconds.

    ``hashed`` of ``hash_total`` bytes that are on the disk are hashed, and that goes on while
    ``hashing``; ``eta`` is the time left, of the hashing while that goes on, None until the rate has settled
    and while nothing arrives.
    ``resumed`` bytes were here before this run. ``pieces`` are those that are wanted, ``all_pieces``
    those of the whole content. ``full_peers`` of the connected peers have every piece. ``error`` is what
    it failed with, if it did.
    """

    transfer: TransferId
    kind: str
    elapsed: float
    manifest: ManifestId | None
    name: str
    size: int
    pieces: int
    all_pieces: int
    have_pieces: int
    have_size: int
    resumed: int
    hashed: int
    hash_total: int
    hashing: bool
    received: int
    sent: int
    wasted: int
    down_rate: float
    up_rate: float
    eta: float | None
    connected: int
    banned: int
    full_peers: int
    complete: bool
    paused: bool
    ended: bool
    error: str | None
    sources: tuple[SourceRow, ...]
    reused: int = 0
    """Bytes that were taken from files on this machine."""
    patched: int = 0
    """Bytes that were made with a patch; known once it is complete."""
    patch_done: int = 0
    patch_total: int = 0
    """So many bytes of a patch are fetched, or made, of so many."""


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """A node at one moment; sizes and rates are of all its transfers together, also of those that ended."""

    peer: PeerId | None
    addresses: tuple[str, ...]
    elapsed: float
    received: int
    sent: int
    wasted: int
    down_rate: float
    up_rate: float
    transfers: tuple[TransferSnapshot, ...]


class _SourceCounts:
    """What is known of one source so far."""

    def __init__(self, source: SourceId, now: float) -> None:
        self.source = source
        self.address = ""
        self.connected = self.inbound = self.banned = False
        self.received = self.sent = self.pieces = self.wasted = 0
        self.down, self.up = Meter(SMOOTHING, now), Meter(SMOOTHING, now)
        self.round_trip: float | None = None
        self.why = ""
        self.pieces_held: int | None = None

    def row(self, now: float, *, complete: bool) -> SourceRow:
        return SourceRow(
            source=self.source,
            address=self.address,
            connected=self.connected,
            inbound=self.inbound,
            banned=self.banned,
            received=self.received,
            sent=self.sent,
            pieces=self.pieces,
            wasted=self.wasted,
            down_rate=0.0 if complete else self.down.rate(now),
            up_rate=self.up.rate(now),
            round_trip=self.round_trip,
            why=self.why,
            pieces_held=self.pieces_held,
        )


class TransferTally:
    """Counts what one transfer did; ``now`` is seconds of a monotonic clock throughout."""

    def __init__(self, transfer: TransferId, now: float) -> None:
        self.transfer = transfer
        self._kind = ""
        self._started = now
        self._completed: float | None = None
        self._manifest: ManifestId | None = None
        self._name = ""
        self._size = self._pieces = self._manifest_pieces = 0
        self._have_pieces = self._have_size = self._resumed = 0
        self._hashed = self._hash_total = 0
        self._is_hashing = False
        self._received = self._sent = self._wasted = self._reused = 0
        self._patched = self._patch_done = self._patch_total = 0
        self._paused = self._ended = False
        self._error: str | None = None
        self._down, self._up = Meter(SMOOTHING, now), Meter(SMOOTHING, now)
        self._estimate, self._hash_estimate = Estimate(), Estimate()
        self._sources: dict[SourceId, _SourceCounts] = {}
        self._folds: dict[type[events.Event], Callable[[Any, float], None]] = {
            events.TransferStarted: self._begin,
            events.HashingProgress: self._hashing,
            events.ManifestReady: self._ready,
            events.FilesSelected: self._selected,
            events.PatchProgress: self._patching,
            events.TransferResumed: self._resume,
            events.TransferPaused: self._pause,
            events.TransferContinued: self._continue,
            events.PeerConnected: self._connected,
            events.PeerDisconnected: self._disconnected,
            events.SourceJoined: self._joined,
            events.SourceLeft: self._left,
            events.SourceBanned: self._banned,
            events.RoundTrip: self._round_trip,
            events.PeerHas: self._has,
            events.PieceRequested: self._requested,
            events.PieceStored: lambda event, now: self.add_stored((event,), now),
            events.PiecesReused: self._reuse,
            events.PieceRefused: self._waste,
            events.PieceWasted: self._waste,
            events.PieceLost: self._lost,
            events.ContentWithdrawn: self._withdrawn,
            events.ContentRestored: self._restored,
            events.BytesReceived: self._bytes_received,
            events.BytesSent: self._bytes_sent,
            events.TransferComplete: self._complete,
            events.TransferEnded: self._end,
        }

    def add(self, event: events.Event, now: float) -> None:
        """Count one event of this transfer, or of a connection that it uses; others change nothing."""
        if isinstance(event, events.TransferEvent) and event.transfer != self.transfer:
            return
        fold = self._folds.get(type(event))
        if fold is not None:
            fold(event, now)

    def add_stored(self, stored: Sequence[events.PieceStored], now: float) -> None:
        """Count pieces of this transfer that are stored."""
        self._have_pieces += len(stored)
        for event in stored:
            self._have_size += event.size
            self._source(event.source, now).pieces += 1

    def snapshot(self, now: float) -> TransferSnapshot:
        """Return how things stand at ``now``."""
        complete = self._completed is not None
        return TransferSnapshot(
            transfer=self.transfer,
            kind=self._kind,
            elapsed=(now if self._completed is None else self._completed) - self._started,
            manifest=self._manifest,
            name=self._name,
            size=self._size,
            pieces=self._pieces,
            all_pieces=self._manifest_pieces,
            have_pieces=self._have_pieces,
            have_size=self._have_size,
            resumed=self._resumed,
            hashed=self._hashed,
            hash_total=self._hash_total,
            hashing=self._is_hashing,
            received=self._received,
            sent=self._sent,
            wasted=self._wasted,
            # What is complete downloads nothing, and the meter takes a while to forget.
            down_rate=0.0 if complete else self._down.rate(now),
            up_rate=self._up.rate(now),
            eta=self._seconds_left(now),
            connected=sum(source.connected for source in self._sources.values()),
            banned=sum(source.banned for source in self._sources.values()),
            full_peers=sum(source.connected and self._is_full(source) for source in self._sources.values()),
            complete=complete,
            paused=self._paused,
            ended=self._ended,
            error=self._error,
            sources=tuple(source.row(now, complete=complete) for source in self._sources.values()),
            reused=self._reused,
            patched=self._patched,
            patch_done=self._patch_done,
            patch_total=self._patch_total,
        )

    def _seconds_left(self, now: float) -> float | None:
        if self._is_hashing:
            return self._hash_estimate.seconds_left(self._hash_total - self._hashed, now)
        if self._completed is not None or self._paused:
            return None
        return self._estimate.seconds_left(self._size - self._have_size, now)

    # --- Sources ------------------------------------------------------------------------------------

    def _source(self, source: SourceId, now: float) -> _SourceCounts:
        found = self._sources.get(source)
        if found is None:
            if len(self._sources) >= MAX_SOURCE_ROWS:
                self._forget_one()
            found = self._sources[source] = _SourceCounts(source, now)
        return found

    def _forget_one(self) -> None:
        gone = next((key for key, source in self._sources.items() if not source.connected), None)
        del self._sources[gone if gone is not None else next(iter(self._sources))]

    def _connected(self, event: events.PeerConnected, now: float) -> None:
        source = self._source(event.peer, now)
        source.connected, source.inbound, source.address = True, event.inbound, event.address

    def _disconnected(self, event: events.PeerDisconnected, _now: float) -> None:
        self._gone(event.peer)

    def _joined(self, event: events.SourceJoined, now: float) -> None:
        source = self._source(event.source, now)
        source.connected, source.address = True, event.description

    def _left(self, event: events.SourceLeft, _now: float) -> None:
        self._gone(event.source)

    def _gone(self, name: SourceId) -> None:
        source = self._sources.pop(name, None)
        if source is not None:
            source.connected = False
            # Last in the order of the table is last to be forgotten.
            self._sources[name] = source

    def _banned(self, event: events.SourceBanned, now: float) -> None:
        self._source(event.source, now).banned = True

    def _round_trip(self, event: events.RoundTrip, _now: float) -> None:
        source = self._sources.get(event.peer)
        if source is not None and event.seconds is not None:
            source.round_trip = event.seconds

    def _is_full(self, source: _SourceCounts) -> bool:
        return bool(self._manifest_pieces) and source.pieces_held == self._manifest_pieces

    def _has(self, event: events.PeerHas, now: float) -> None:
        self._source(event.peer, now).pieces_held = event.pieces

    # --- The transfer -------------------------------------------------------------------------------

    def _begin(self, event: events.TransferStarted, _now: float) -> None:
        self._kind = event.kind

    def _hashing(self, event: events.HashingProgress, now: float) -> None:
        if event.done < self._hashed or event.total != self._hash_total:
            # Something else is hashed from here on.
            self._hash_estimate = Estimate()
            self._hashed = 0
        self._hash_estimate.add(event.done - self._hashed, now)
        self._hashed, self._hash_total = event.done, event.total
        self._is_hashing = event.done < event.total

    def _ready(self, event: events.ManifestReady, _now: float) -> None:
        self._manifest, self._name = event.manifest, event.name
        self._size, self._pieces = event.size, event.pieces
        self._manifest_pieces = event.pieces
        if self._kind == "share":
            self._have_pieces, self._have_size = event.pieces, event.size

    def _selected(self, event: events.FilesSelected, _now: float) -> None:
        self._size, self._pieces = event.size, event.pieces

    def _resume(self, event: events.TransferResumed, _now: float) -> None:
        self._have_pieces, self._have_size = event.pieces, event.size
        self._resumed = event.size
        self._is_hashing = False

    def _pause(self, _event: events.TransferPaused, _now: float) -> None:
        self._paused = True

    def _continue(self, _event: events.TransferContinued, _now: float) -> None:
        self._paused = False

    def _complete(self, event: events.TransferComplete, now: float) -> None:
        self._is_hashing = False
        self._completed = now
        self._have_pieces, self._have_size = self._pieces, event.size
        self._patched = event.bytes_patched

    def _patching(self, event: events.PatchProgress, _now: float) -> None:
        self._patch_done, self._patch_total = event.done, event.total

    def _end(self, event: events.TransferEnded, _now: float) -> None:
        self._ended, self._error = True, event.error
        for source in self._sources.values():
            source.connected = False

    # --- Pieces and bytes ---------------------------------------------------------------------------

    def _requested(self, event: events.PieceRequested, now: float) -> None:
        self._source(event.source, now).why = event.why

    def _reuse(self, event: events.PiecesReused, now: float) -> None:
        self._is_hashing = False
        self._have(event.pieces, event.size)
        self._reused += event.size
        self._source(event.source, now).pieces += event.pieces

    def _waste(self, event: events.PieceRefused | events.PieceWasted, now: float) -> None:
        self._wasted += event.size
        self._source(event.source, now).wasted += event.size

    def _lost(self, event: events.PieceLost, _now: float) -> None:
        self._have(-1, -event.size)

    def _withdrawn(self, event: events.ContentWithdrawn, _now: float) -> None:
        self._have(-event.pieces, -event.size)

    def _restored(self, event: events.ContentRestored, _now: float) -> None:
        self._have(event.pieces, event.size)

    def _have(self, pieces: int, size: int) -> None:
        self._have_pieces = max(0, self._have_pieces + pieces)
        self._have_size = max(0, self._have_size + size)

    def _bytes_received(self, event: events.BytesReceived, now: float) -> None:
        source = self._source(event.source, now)
        self._is_hashing = False
        if self._received:
            self._down.add(event.size, now)
        else:
            # The time before the first bytes says nothing about the rate: they start the clock.
            self._down = Meter(SMOOTHING, now)
        self._estimate.add(event.size, now)
        self._received += event.size
        source.received += event.size
        source.down.add(event.size, now)

    def _bytes_sent(self, event: events.BytesSent, now: float) -> None:
        source = self._source(event.peer, now)
        self._sent += event.size
        source.sent += event.size
        self._up.add(event.size, now)
        source.up.add(event.size, now)


class NodeTally:
    """Counts what a node did, each of its transfers apart."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._peer: PeerId | None = None
        self._addresses: tuple[str, ...] = ()
        self._received = self._sent = self._wasted = 0
        self._down, self._up = Meter(SMOOTHING, now), Meter(SMOOTHING, now)
        self._transfers: dict[TransferId, TransferTally] = {}
        self._ended: list[TransferId] = []

    def add_many(self, many: Sequence[events.Event], now: float) -> None:
        """Count events of one kind."""
        if type(many[0]) is not events.PieceStored:
            for event in many:
                self.add(event, now)
            return
        stored = cast(Sequence[events.PieceStored], many)
        for transfer, of_transfer in groupby(stored, lambda event: event.transfer):
            self._tally(transfer, now).add_stored(tuple(of_transfer), now)

    def add(self, event: events.Event, now: float) -> None:
        """Count one event."""
        match event:
            case events.NodeListening(peer, addresses):
                self._peer, self._addresses = peer, addresses
            case events.BytesReceived(size=size):
                self._received += size
                self._down.add(size, now)
            case events.BytesSent(size=size):
                self._sent += size
                self._up.add(size, now)
            case events.PieceRefused(size=size) | events.PieceWasted(size=size):
                self._wasted += size
        if isinstance(event, events.TransferEvent):
            self._tally(event.transfer, now).add(event, now)
            if isinstance(event, events.TransferEnded):
                self._forget_ended(event.transfer)
        elif isinstance(event, events.RoundTrip):
            for tally in self._transfers.values():
                tally.add(event, now)

    def transfer(self, transfer: TransferId, now: float) -> TransferSnapshot:
        """How one transfer stands at ``now``; an empty snapshot if nothing is known of it."""
        return self._tally(transfer, now).snapshot(now)

    def latest(self, now: float) -> TransferSnapshot:
        """How the transfer that began last stands; an empty one if there is none."""
        return self.of(next(reversed(self._transfers), TransferId(0)), now)

    def of(self, transfer: TransferId, now: float) -> TransferSnapshot:
        """How one transfer stands; an empty one if nothing is known of it."""
        tally = self._transfers.get(transfer) or TransferTally(transfer, self._started)
        return tally.snapshot(now)

    def snapshot(self, now: float) -> NodeSnapshot:
        """Return how things stand at ``now``."""
        return NodeSnapshot(
            peer=self._peer,
            addresses=self._addresses,
            elapsed=now - self._started,
            received=self._received,
            sent=self._sent,
            wasted=self._wasted,
            down_rate=self._down.rate(now),
            up_rate=self._up.rate(now),
            transfers=tuple(tally.snapshot(now) for tally in self._transfers.values()),
        )

    def _tally(self, transfer: TransferId, now: float) -> TransferTally:
        tally = self._transfers.get(transfer)
        if tally is None:
            tally = self._transfers[transfer] = TransferTally(transfer, now)
        return tally

    def _forget_ended(self, transfer: TransferId) -> None:
        self._ended.append(transfer)
        if len(self._ended) > MAX_ENDED:
            self._transfers.pop(self._ended.pop(0), None)
