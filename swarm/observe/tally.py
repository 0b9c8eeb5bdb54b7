"""Folds events into the state of each transfer and of the node. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swarm import events
from swarm.ids import ManifestId, PeerId
from swarm.strategy.rates import Meter


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One peer: sizes in bytes, rates in bytes per second, the last round trip in seconds.

    ``wasted`` counts refused, late and unwanted bytes; ``pieces`` only verified ones; ``why`` is
    the ranking's reason for the last request to this peer.
    """

    peer: PeerId
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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One transfer at one moment: sizes in bytes, rates in bytes per second, times in seconds.

    ``hashed`` of ``hash_total`` bytes of a shared path are hashed (0 of 0 for a fetch). ``eta`` is
    None while nothing arrives. ``resumed`` bytes were here before this run.
    """

    elapsed: float
    manifest: ManifestId | None
    name: str
    size: int
    pieces: int
    have_pieces: int
    have_size: int
    resumed: int
    hashed: int
    hash_total: int
    received: int
    sent: int
    wasted: int
    down_rate: float
    up_rate: float
    eta: float | None
    connected: int
    banned: int
    complete: bool
    peers: tuple[PeerRow, ...]


SMOOTHING = 5.0
"""Seconds after which an amount counts 1/e in a shown rate: steady enough to read, yet recent."""
MAX_PEER_ROWS = 1024
"""Peers that are kept in the table; of more than that, those that left longest ago are forgotten."""


class _Peer:
    """What is known of one peer so far."""

    def __init__(self, peer: PeerId, now: float) -> None:
        self.peer = peer
        self.address = ""
        self.connected = self.inbound = self.banned = False
        self.received = self.sent = self.pieces = self.wasted = 0
        self.down, self.up = Meter(SMOOTHING, now), Meter(SMOOTHING, now)
        self.round_trip: float | None = None
        self.why = ""

    def row(self, now: float) -> PeerRow:
        return PeerRow(
            peer=self.peer,
            address=self.address,
            connected=self.connected,
            inbound=self.inbound,
            banned=self.banned,
            received=self.received,
            sent=self.sent,
            pieces=self.pieces,
            wasted=self.wasted,
            down_rate=self.down.rate(now),
            up_rate=self.up.rate(now),
            round_trip=self.round_trip,
            why=self.why,
        )


class Tally:
    """Counts what one transfer did; ``now`` is seconds of a monotonic clock throughout."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._ended: float | None = None
        self._manifest: ManifestId | None = None
        self._name = ""
        self._size = self._pieces = 0
        self._have_pieces = self._have_size = self._resumed = 0
        self._hashed = self._hash_total = 0
        self._received = self._sent = self._wasted = 0
        self._down, self._up = Meter(SMOOTHING, now), Meter(SMOOTHING, now)
        self._peers: dict[PeerId, _Peer] = {}
        self._folds: dict[type[events.Event], Callable[[Any, float], None]] = {
            events.HashingProgress: self._hashing,
            events.ManifestReady: self._ready,
            events.FilesSelected: self._selected,
            events.TransferResumed: self._resume,
            events.PeerConnected: self._connected,
            events.PeerDisconnected: self._disconnected,
            events.PeerBanned: self._banned,
            events.RoundTrip: self._round_trip,
            events.PieceRequested: self._requested,
            events.PieceStored: self._stored,
            events.PieceRefused: self._waste,
            events.PieceWasted: self._waste,
            events.PieceLost: self._lost,
            events.BytesReceived: self._bytes_received,
            events.BytesSent: self._bytes_sent,
            events.TransferComplete: self._complete,
        }

    def add(self, event: events.Event, now: float) -> None:
        """Count one event; events that change no figure are ignored."""
        fold = self._folds.get(type(event))
        if fold is not None:
            fold(event, now)

    def snapshot(self, now: float) -> Snapshot:
        """Return how things stand at ``now``."""
        rate = self._down.rate(now)
        complete = self._ended is not None
        missing = self._size - self._have_size
        return Snapshot(
            elapsed=(now if self._ended is None else self._ended) - self._started,
            manifest=self._manifest,
            name=self._name,
            size=self._size,
            pieces=self._pieces,
            have_pieces=self._have_pieces,
            have_size=self._have_size,
            resumed=self._resumed,
            hashed=self._hashed,
            hash_total=self._hash_total,
            received=self._received,
            sent=self._sent,
            wasted=self._wasted,
            down_rate=rate,
            up_rate=self._up.rate(now),
            eta=missing / rate if rate > 1 and not complete else None,
            connected=sum(peer.connected for peer in self._peers.values()),
            banned=sum(peer.banned for peer in self._peers.values()),
            complete=complete,
            peers=tuple(peer.row(now) for peer in self._peers.values()),
        )

    def _peer(self, peer: PeerId, now: float) -> _Peer:
        found = self._peers.get(peer)
        if found is None:
            if len(self._peers) >= MAX_PEER_ROWS:
                self._forget_one()
            found = self._peers[peer] = _Peer(peer, now)
        return found

    def _forget_one(self) -> None:
        gone = next((key for key, peer in self._peers.items() if not peer.connected), None)
        del self._peers[gone if gone is not None else next(iter(self._peers))]

    def _hashing(self, event: events.HashingProgress, _now: float) -> None:
        self._hashed, self._hash_total = event.done, event.total

    def _ready(self, event: events.ManifestReady, _now: float) -> None:
        self._manifest, self._name = event.manifest, event.name
        self._size, self._pieces = event.size, event.pieces

    def _selected(self, event: events.FilesSelected, _now: float) -> None:
        self._size, self._pieces = event.size, event.pieces

    def _resume(self, event: events.TransferResumed, _now: float) -> None:
        self._have_pieces, self._have_size = event.pieces, event.size
        self._resumed = event.size

    def _connected(self, event: events.PeerConnected, now: float) -> None:
        peer = self._peer(event.peer, now)
        peer.connected, peer.inbound, peer.address = True, event.inbound, event.address

    def _disconnected(self, event: events.PeerDisconnected, _now: float) -> None:
        peer = self._peers.pop(event.peer, None)
        if peer is not None:
            peer.connected = False
            # Last in the order of the table is last to be forgotten.
            self._peers[event.peer] = peer

    def _banned(self, event: events.PeerBanned, now: float) -> None:
        self._peer(event.peer, now).banned = True

    def _round_trip(self, event: events.RoundTrip, _now: float) -> None:
        peer = self._peers.get(event.peer)
        if peer is not None and event.seconds is not None:
            peer.round_trip = event.seconds

    def _requested(self, event: events.PieceRequested, now: float) -> None:
        self._peer(PeerId(event.source), now).why = event.why

    def _stored(self, event: events.PieceStored, now: float) -> None:
        self._have_pieces += 1
        self._have_size += event.size
        self._peer(PeerId(event.source), now).pieces += 1

    def _waste(self, event: events.PieceRefused | events.PieceWasted, now: float) -> None:
        self._wasted += event.size
        self._peer(PeerId(event.source), now).wasted += event.size

    def _lost(self, _event: events.PieceLost, _now: float) -> None:
        # Its size is not told, so only the count of pieces goes down.
        self._have_pieces = max(0, self._have_pieces - 1)

    def _bytes_received(self, event: events.BytesReceived, now: float) -> None:
        peer = self._peer(event.peer, now)
        self._received += event.size
        peer.received += event.size
        self._down.add(event.size, now)
        peer.down.add(event.size, now)

    def _bytes_sent(self, event: events.BytesSent, now: float) -> None:
        peer = self._peer(event.peer, now)
        self._sent += event.size
        peer.sent += event.size
        self._up.add(event.size, now)
        peer.up.add(event.size, now)

    def _complete(self, event: events.TransferComplete, now: float) -> None:
        self._ended = now
        self._have_pieces, self._have_size = self._pieces, event.size
